//! The networks of the paper, and small ones, as text.
//!
//! A preset is nothing but a name for a text in the language that users write.

/// A named network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preset {
    /// Lower case with dashes.
    pub name: String,
    /// Where it comes from.
    pub about: String,
    /// The network in the algebra's language.
    pub spec: String,
}

impl Preset {
    fn new(name: impl Into<String>, about: impl Into<String>, spec: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            about: about.into(),
            spec: spec.into(),
        }
    }
}

/// The six named modules of the paper (§3.1).
pub const PAPER_MODULES: [&str; 6] = ["2-way", "poly-2", "mpoly-2", "3-way", "poly-3", "mpoly-3"];

/// Every preset, the paper's final networks first.
pub fn all() -> Vec<Preset> {
    let mut presets = very_deep();
    presets.extend(inception_resnets());
    presets.extend(inceptions());
    presets.extend(resnets());
    presets.extend(multi_residual());
    presets.extend(post_activation_resnets());
    presets.extend(stage_studies());
    presets.extend(mixed_studies());
    presets.extend(small());
    presets
}

/// The preset called `name`.
pub fn find(name: &str) -> Option<Preset> {
    all().into_iter().find(|preset| preset.name == name)
}

/// The preset whose name is most like `name`, if one is like it at all.
pub fn nearest(name: &str) -> Option<String> {
    let presets = all();
    let names = presets.iter().map(|preset| preset.name.as_str());
    polynet_algebra::nearest(name, names).map(str::to_owned)
}

fn very_deep() -> Vec<Preset> {
    let stages = "A: 2-way x10; B: (poly-3 -> 2-way) x10; C: (poly-3 -> 2-way) x5; input = 331";
    vec![
        Preset::new(
            "very-deep-polynet",
            "Very Deep PolyNet as released (paper §3.4)",
            format!("{stages}; sharing = release; scale = release"),
        ),
        Preset::new(
            "very-deep-polynet-full",
            "Very Deep PolyNet with the paper's full sharing and residual scaling",
            format!("{stages}; sharing = full"),
        ),
    ]
}

fn residual_stages(a: usize, b: usize, c: usize) -> String {
    format!("A: (I + F) x{a}; B: (I + F) x{b}; C: (I + F) x{c}")
}

fn inception_resnets() -> Vec<Preset> {
    let about = |text: &str| format!("Inception-ResNet with the paper's widths{text}");
    [
        (3, 6, 3, ""),
        (5, 10, 5, ": its Inception-ResNet-v2"),
        (6, 12, 6, ""),
        (10, 20, 10, ""),
        (20, 56, 20, ": Very Deep Inception-ResNet"),
    ]
    .into_iter()
    .map(|(a, b, c, text)| {
        let name = format!("ir-{a}-{b}-{c}");
        Preset::new(name, about(text), residual_stages(a, b, c))
    })
    .collect()
}

/// The Inception networks of Szegedy et al. 2016 with the widths of their public weights.
fn inceptions() -> Vec<Preset> {
    vec![
        Preset::new(
            "inception-v4",
            "Inception-v4",
            "family = inception-v4; A: F x4; B: F x7; C: F x3",
        ),
        Preset::new(
            "inception-resnet-v2",
            "Inception-ResNet-v2 with the widths of its public weights",
            "family = inception-resnet-v2; A: (I + F) x10; B: (I + F) x20; C: (I + F) x10",
        ),
    ]
}

/// Fig. 6: one stage of IR 3-6-3 replaced by each of the six modules.
fn stage_studies() -> Vec<Preset> {
    let mut presets = Vec::new();
    for (stage, replaced) in ["A", "B", "C"].into_iter().enumerate() {
        for module in PAPER_MODULES {
            let mut text = [("A", 3), ("B", 6), ("C", 3)]
                .map(|(label, count)| format!("{label}: (I + F) x{count}"));
            text[stage] = format!("{replaced}: {module} x{}", [3, 6, 3][stage]);
            presets.push(Preset::new(
                format!("ir-3-6-3-{}-{module}", replaced.to_lowercase()),
                format!("IR 3-6-3 with {module} in stage {replaced} (Fig. 6)"),
                text.join("; "),
            ));
        }
    }
    presets
}

/// Fig. 8: stage B of IR 6-12-6 uniform and mixed; its baseline is `ir-6-12-6` itself.
fn mixed_studies() -> Vec<Preset> {
    [
        ("3-way", "3-way x12"),
        ("mpoly-3", "mpoly-3 x12"),
        ("poly-3", "poly-3 x12"),
        ("mixed", "(3-way -> mpoly-3 -> poly-3) x4"),
    ]
    .into_iter()
    .map(|(name, stage)| {
        Preset::new(
            format!("ir-6-12-6-b-{name}"),
            format!("IR 6-12-6 with {name} in stage B (Fig. 8)"),
            format!("A: (I + F) x6; B: {stage}; C: (I + F) x6"),
        )
    })
    .collect()
}

fn small() -> Vec<Preset> {
    let about = |text: &str| format!("{text} for images of 32 to 96 px");
    vec![
        Preset::new(
            "small-polynet",
            about("the smallest PolyNet"),
            "family = small; width = 0.25; A: 2-way; B: poly-3 -> 2-way; C: poly-3 -> 2-way",
        ),
        Preset::new(
            "small-ir-1-2-1",
            about("the smallest Inception-ResNet"),
            "family = small; width = 0.25; A: I + F; B: (I + F) x2; C: I + F",
        ),
        Preset::new(
            "small-polynet-deep",
            about("a PolyNet of 10 modules"),
            "family = small; width = 0.25; A: 2-way x2; B: (poly-3 -> 2-way) x2; \
             C: (poly-3 -> 2-way) x2",
        ),
        Preset::new(
            "small-ir-3-6-3",
            about("IR 3-6-3"),
            "family = small; width = 0.25; A: (I + F) x3; B: (I + F) x6; C: (I + F) x3",
        ),
        Preset::new(
            "tiny-polynet",
            "the PolyNet in the box, for images of about 32 px",
            "family = tiny; width = 0.25; block-width = 0.75; A: 2-way; B: 2-way; C: 2-way",
        ),
    ]
}

/// The stages of a ResNet with `units` in each. The first unit of a stage changes size or channels
/// and is not a polynomial; the others are `module`.
fn resnet_stages(units: [usize; 4], module: &str) -> String {
    let stages = units.iter().enumerate();
    let stages: Vec<String> = stages
        .map(|(stage, units)| format!("{}: {module} x{}", stage + 1, units - 1))
        .collect();
    stages.join("; ")
}

fn resnets() -> Vec<Preset> {
    [
        (50, [3, 4, 6, 3], ""),
        (101, [3, 4, 23, 3], ""),
        (152, [3, 8, 36, 3], ""),
        (200, [3, 24, 36, 3], ""),
        (269, [3, 30, 48, 8], ""),
        (
            500,
            [6, 56, 89, 15],
            "; the split of its 166 units is ours, the paper's is unpublished",
        ),
    ]
    .into_iter()
    .map(|(depth, units, note)| {
        Preset::new(
            format!("resnet-{depth}"),
            format!("pre-activation ResNet-{depth}{note}"),
            format!("family = resnet; {}", resnet_stages(units, "(I + F)")),
        )
    })
    .collect()
}

/// The Multi-Residual Network (Abdi and Nahavandi 2016, arXiv 1609.05672) is k residual functions
/// beside one identity: k-way of a pre-activation unit.
fn multi_residual() -> Vec<Preset> {
    vec![Preset::new(
        "multi-resnet-101",
        "Multi-Residual Network: pre-activation ResNet-101 with 2-way in every unit but a stage's first",
        format!("family = resnet; {}", resnet_stages([3, 4, 23, 3], "2-way")),
    )]
}

fn post_activation_resnets() -> Vec<Preset> {
    [
        (50, [3, 4, 6, 3]),
        (101, [3, 4, 23, 3]),
        (152, [3, 8, 36, 3]),
    ]
    .into_iter()
    .map(|(depth, units)| {
        Preset::new(
            format!("resnet-v1-{depth}"),
            format!("post-activation ResNet-{depth}, as torchvision has it"),
            format!("family = resnet-v1; {}", resnet_stages(units, "(I + F)")),
        )
    })
    .collect()
}

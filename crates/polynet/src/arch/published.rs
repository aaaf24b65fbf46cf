//! The networks of the paper's Table 1 and Figure 2: published errors, and agreement with public
//! implementations.
//!
//! `docs/networks.md` is [`markdown`] of this table (`polynet list --markdown`); tests keep the two
//! equal, and check every parity bound and every count that is stated here.

use super::{ArchError, Architecture};
use std::fmt::Write;

/// Error of a classifier in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Errors {
    /// Share of images whose class is not the best-scored one.
    pub top1: f64,
    /// Share of images whose class is not among the five best-scored.
    pub top5: f64,
}

/// Published errors on ILSVRC-2012's validation images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// One crop an image.
    pub single_crop: Errors,
    /// The protocol of the source for many crops.
    pub multi_crop: Option<Errors>,
    /// Decimals that were published.
    pub digits: usize,
    /// Where the figures stand.
    pub source: &'static str,
}

impl Published {
    /// Single-crop top-1 / top-5 in percent.
    pub fn single_crop_text(&self) -> String {
        self.text(self.single_crop)
    }

    /// Multi-crop top-1 / top-5 in percent, or nothing.
    pub fn multi_crop_text(&self) -> String {
        let errors = self.multi_crop.map(|errors| self.text(errors));
        errors.unwrap_or_default()
    }

    fn text(&self, Errors { top1, top5 }: Errors) -> String {
        let digits = self.digits;
        format!("{top1:.digits$} / {top5:.digits$}")
    }
}

/// How a network was compared with a public implementation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Parity {
    /// Equal weights give equal logits.
    Tested {
        /// Whose implementation.
        reference: &'static str,
        /// Largest deviation of a logit of the processor's engine in f32 from the reference's in
        /// f64, relative to the largest logit; tested.
        bound: f64,
    },
    /// No public implementation agrees in structure.
    None {
        /// Why.
        reason: &'static str,
    },
}

impl Parity {
    /// The tested bound.
    pub fn bound(self) -> Option<f64> {
        match self {
            Self::Tested { bound, .. } => Some(bound),
            Self::None { .. } => None,
        }
    }
}

/// A network of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PublishedNetwork {
    /// Its preset here.
    pub preset: &'static str,
    /// Its name in the literature.
    pub name: &'static str,
    /// Its errors, where they were published for this structure.
    pub published: Option<Published>,
    /// Agreement with a public implementation.
    pub parity: Parity,
}

const TORCHVISION: &str = "torchvision, IMAGENET1K_V1";
/// What transformed convolutions may round; the tests print what each instruction set reaches.
const BOUND: f64 = 1e-5;
const TIMM_DEPTHS: &str = "timm `ResNetV2` with these depths, at width 0.25";

const fn errors(
    source: &'static str,
    digits: usize,
    single: [f64; 2],
    multi: [f64; 2],
) -> Option<Published> {
    Some(Published {
        single_crop: Errors {
            top1: single[0],
            top5: single[1],
        },
        multi_crop: Some(Errors {
            top1: multi[0],
            top5: multi[1],
        }),
        digits,
        source,
    })
}

/// From the paper's Table 1.
const fn of_paper(single: [f64; 2], multi: [f64; 2]) -> Option<Published> {
    errors("PolyNet paper", 2, single, multi)
}

/// From tables 2 to 5 of the Inception-v4 paper.
const fn of_szegedy(single: [f64; 2], multi: [f64; 2]) -> Option<Published> {
    errors(
        "arXiv 1602.07261, multi-crop with 144 crops",
        1,
        single,
        multi,
    )
}

const fn single_crop_errors(source: &'static str, top1: f64, top5: f64) -> Option<Published> {
    Some(Published {
        single_crop: Errors { top1, top5 },
        multi_crop: None,
        digits: 2,
        source,
    })
}

const fn tested(reference: &'static str, bound: f64) -> Parity {
    Parity::Tested { reference, bound }
}

const fn network(
    preset: &'static str,
    name: &'static str,
    published: Option<Published>,
    parity: Parity,
) -> PublishedNetwork {
    PublishedNetwork {
        preset,
        name,
        published,
        parity,
    }
}

const NETWORKS: [PublishedNetwork; 15] = [
    network(
        "resnet-50",
        "ResNet-50, pre-activation",
        None,
        tested("timm `resnetv2_50`", BOUND),
    ),
    network(
        "resnet-101",
        "ResNet-101, pre-activation",
        None,
        tested(TIMM_DEPTHS, BOUND),
    ),
    network(
        "resnet-152",
        "ResNet-152, pre-activation",
        of_paper([20.93, 5.54], [18.50, 3.97]),
        tested("timm `resnetv2_152`", BOUND),
    ),
    network(
        "resnet-200",
        "ResNet-200, pre-activation",
        None,
        tested(TIMM_DEPTHS, BOUND),
    ),
    network(
        "resnet-269",
        "ResNet-269, pre-activation",
        of_paper([19.78, 4.89], [17.54, 3.55]),
        tested(TIMM_DEPTHS, BOUND),
    ),
    network(
        "resnet-500",
        "ResNet-500, pre-activation (the split of its units is ours)",
        of_paper([19.66, 4.78], [17.59, 3.63]),
        tested(TIMM_DEPTHS, BOUND),
    ),
    network(
        "multi-resnet-101",
        "Multi-Residual Network, 2-way",
        None,
        Parity::None {
            reason: "no public implementation",
        },
    ),
    network(
        "inception-v4",
        "Inception-v4",
        of_szegedy([20.0, 5.0], [17.7, 3.8]),
        tested("timm `inception_v4`", BOUND),
    ),
    network(
        "inception-resnet-v2",
        "Inception-ResNet-v2, public weights",
        of_szegedy([19.9, 4.9], [17.8, 3.7]),
        tested("timm `inception_resnet_v2`", BOUND),
    ),
    network(
        "ir-5-10-5",
        "Inception-ResNet-v2, the paper's",
        of_paper([20.05, 5.05], [18.41, 3.98]),
        Parity::None {
            reason: "not released; its layers are those of Very Deep PolyNet",
        },
    ),
    network(
        "ir-20-56-20",
        "Very Deep Inception-ResNet",
        of_paper([19.10, 4.48], [17.39, 3.56]),
        Parity::None {
            reason: "not released; its layers are those of Very Deep PolyNet",
        },
    ),
    network(
        "very-deep-polynet",
        "Very Deep PolyNet",
        of_paper([18.71, 4.25], [17.36, 3.45]),
        tested("pretrainedmodels `polynet`", BOUND),
    ),
    network(
        "resnet-v1-50",
        "ResNet-50, post-activation",
        single_crop_errors(TORCHVISION, 23.87, 7.14),
        tested("torchvision `resnet50`", BOUND),
    ),
    network(
        "resnet-v1-101",
        "ResNet-101, post-activation",
        single_crop_errors(TORCHVISION, 22.63, 6.45),
        tested("torchvision `resnet101`", BOUND),
    ),
    network(
        "resnet-v1-152",
        "ResNet-152, post-activation",
        single_crop_errors(TORCHVISION, 21.69, 5.95),
        tested("torchvision `resnet152`", BOUND),
    ),
];

/// Every network of the table, the last three beside the paper's.
pub fn networks() -> &'static [PublishedNetwork] {
    &NETWORKS
}

/// The row of the preset called `preset`.
pub fn network_of(preset: &str) -> Option<&'static PublishedNetwork> {
    NETWORKS.iter().find(|network| network.preset == preset)
}

/// The table as a document.
///
/// # Errors
/// If a preset is no network: a fault of this table.
pub fn markdown() -> Result<String, ArchError> {
    let mut text = String::from(INTRODUCTION);
    let _ = writeln!(
        text,
        "| network | preset | parameters | GMAC | input | single crop | multi-crop | source of the \
         errors | parity |\n|---|---|---:|---:|---:|---|---|---|---|"
    );
    for network in networks() {
        let architecture: Architecture = network.preset.parse()?;
        let cost = architecture.cost()?;
        let [single, multi, source] = error_columns(network.published);
        let _ = writeln!(
            text,
            "| {} | `{}` | {} | {:.3} | {} | {single} | {multi} | {source} | {} |",
            network.name,
            network.preset,
            super::cost::grouped(cost.parameters.total(), ','),
            cost.macs as f64 / 1e9,
            architecture.input_size,
            match network.parity {
                Parity::Tested { reference, bound } => format!("{bound:.0e}, {reference}"),
                Parity::None { reason } => format!("none: {reason}"),
            },
        );
    }
    text.push_str(NOTES);
    for network in networks() {
        let architecture: Architecture = network.preset.parse()?;
        for claim in super::claims::about(network.preset, &architecture.cost()?) {
            let verdict = if claim.matches() { "match" } else { "mismatch" };
            let (statement, computed) = (claim.statement, claim.computed);
            let _ = write!(
                text,
                "- `{}`: {statement}, here {computed:.3}: {verdict}",
                network.preset
            );
            let _ = match claim.note {
                "" => writeln!(text, "."),
                note => writeln!(text, "; {note}."),
            };
        }
    }
    Ok(text)
}

/// Single-crop and multi-crop errors and their source.
fn error_columns(published: Option<Published>) -> [String; 3] {
    match published {
        Some(published) => [
            published.single_crop_text(),
            published.multi_crop_text(),
            published.source.to_owned(),
        ],
        None => Default::default(),
    }
}

const INTRODUCTION: &str = "\
# Networks of the paper

Made by `polynet list --markdown`; a test keeps it true. `polynet inspect PRESET` shows any of them.

Errors are published top-1 / top-5 in percent on the validation images of ILSVRC-2012; nothing here was
trained to reproduce them. Parameters and multiply-accumulates (of convolutions and the classifier, one
image) follow from the structure; where a public implementation exists, a test finds exactly its counts.

Parity is the largest deviation of a logit, computed here in f32 by the processor's engine, from the public
implementation's in f64 with the same weights, relative to the largest logit; the test allows no more than
this figure on any instruction set of its machine. Weights, batch-norm statistics and input come from a
formula (`peers/fixtures_networks.py`). A plain interpreter of the graph in f64, which judges the engine's
training steps, agrees with the public implementations at the end of every stage, and for shallow networks of
every family on the gradient of every parameter.

";

const NOTES: &str = "
The Multi-Residual Network (arXiv 1609.05672) puts k residual functions beside one identity, which is
k-way of a residual unit: `multi-resnet-101` is ResNet-101 with `2-way` in place of `I + F`. Any other
polynomial works over any block, for example `resnet-50; 3: mpoly-3 x5` or `inception-v4; A: I + F x4`.

ResNet-500's 166 units are published, their split over the stages is not: 6/56/89/15 is ResNet-269's
3/30/48/8, scaled.

Published sizes:

";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::presets;

    #[test]
    fn every_network_is_a_preset_and_named_once() {
        for network in networks() {
            assert!(
                presets::find(network.preset).is_some(),
                "{}",
                network.preset
            );
            let rows = networks().iter().filter(|row| row.preset == network.preset);
            assert_eq!(rows.count(), 1, "{}", network.preset);
        }
    }

    #[test]
    fn the_papers_results_are_those_of_its_table() {
        let single = |preset| network_of(preset).unwrap().published.unwrap().single_crop;
        assert_eq!(single("very-deep-polynet").top5, 4.25);
        // The order of the paper's Table 1 by single-crop top-5 error.
        let order = [
            "resnet-152",
            "ir-5-10-5",
            "inception-v4",
            "resnet-269",
            "resnet-500",
            "ir-20-56-20",
            "very-deep-polynet",
        ];
        assert!(
            order
                .map(|preset| single(preset).top5)
                .is_sorted_by(|a, b| a > b)
        );
    }
}

//! Names of Inception-v4 and Inception-ResNet-v2.

use super::bn;
use crate::arch::Architecture;

/// timm's `inception_v4`: one list of features.
pub(super) fn v4(architecture: &Architecture, layer: &[&str]) -> Option<String> {
    let [part, inner @ .., kind] = layer else {
        return None;
    };
    if (*part, *kind) == ("head", "linear") {
        return Some("last_linear".to_owned());
    }
    // The stem has six features, every module and every reduction one.
    let count = |stage: usize| {
        architecture
            .stages
            .get(stage)
            .map_or(0, |s| s.modules.len())
    };
    let (feature, inner) = match (*part, inner) {
        ("stem", ["3", "branch1"]) => (3, vec!["conv"]),
        ("stem", ["5", "branch0"]) => (5, vec!["conv"]),
        ("stem", [index, inner @ ..]) => (index.parse().ok()?, inner.to_vec()),
        ("reduction_a", inner) => (6 + count(0), inner.to_vec()),
        ("reduction_b", inner) => (7 + count(0) + count(1), inner.to_vec()),
        ("stage_a", [module, "F", inner @ ..]) => (6 + index(module)?, inner.to_vec()),
        ("stage_b", [module, "F", inner @ ..]) => (7 + count(0) + index(module)?, inner.to_vec()),
        ("stage_c", [module, "F", inner @ ..]) => {
            let feature = 8 + count(0) + count(1) + index(module)?;
            (feature, parted(inner))
        }
        _ => return None,
    };
    let inner: String = inner.iter().map(|name| format!(".{name}")).collect();
    Some(format!("features.{feature}{inner}.{}", bn(kind)))
}

fn index(text: &str) -> Option<usize> {
    text.parse().ok()
}

/// Block C's branches that part once more are no chains there: `branch2.3.branch1` is `branch2_3b`.
fn parted<'a>(inner: &[&'a str]) -> Vec<&'a str> {
    const NAMES: [(&[&str], &str); 8] = [
        (&["branch1", "0"], "branch1_0"),
        (&["branch1", "1", "branch0"], "branch1_1a"),
        (&["branch1", "1", "branch1"], "branch1_1b"),
        (&["branch2", "0"], "branch2_0"),
        (&["branch2", "1"], "branch2_1"),
        (&["branch2", "2"], "branch2_2"),
        (&["branch2", "3", "branch0"], "branch2_3a"),
        (&["branch2", "3", "branch1"], "branch2_3b"),
    ];
    match NAMES.iter().find(|(here, _)| *here == inner) {
        Some((_, there)) => vec![there],
        None => inner.to_vec(),
    }
}

/// timm's `inception_resnet_v2`.
pub(super) fn resnet_v2(architecture: &Architecture, layer: &[&str]) -> Option<String> {
    match layer {
        ["head", "linear"] => Some("classif".to_owned()),
        ["closing", kind] => Some(format!("conv2d_7b.{}", bn(kind))),
        ["stem", "7", inner @ .., kind] => Some(branch("mixed_5b", inner, kind)),
        ["stem", index, kind] => {
            let place = match *index {
                "0" => "conv2d_1a",
                "1" => "conv2d_2a",
                "2" => "conv2d_2b",
                "4" => "conv2d_3b",
                "5" => "conv2d_4a",
                _ => return None,
            };
            Some(branch(place, &[], kind))
        }
        ["reduction_a", inner @ .., kind] => Some(branch("mixed_6a", inner, kind)),
        ["reduction_b", inner @ .., kind] => Some(branch("mixed_7a", inner, kind)),
        [stage, module, "F", place @ ..] => {
            let base = repeated(architecture, stage, index(module)?)?;
            match place {
                ["0", inner @ .., kind] => Some(branch(&base, inner, kind)),
                ["1", "conv"] => Some(format!("{base}.conv2d")),
                _ => None,
            }
        }
        _ => None,
    }
}

/// As pretrainedmodels has it.
pub(super) fn pretrained_resnet_v2(architecture: &Architecture, layer: &[&str]) -> Option<String> {
    match layer {
        ["head", "linear"] => Some("last_linear".to_owned()),
        _ => resnet_v2(architecture, layer),
    }
}

fn branch(base: &str, inner: &[&str], kind: &str) -> String {
    let inner: String = inner.iter().map(|name| format!(".{name}")).collect();
    format!("{base}{inner}.{}", bn(kind))
}

/// The module of a stage; the network's last one stands apart.
fn repeated(architecture: &Architecture, stage: &str, module: usize) -> Option<String> {
    let last = architecture.stages.last()?;
    match stage {
        "stage_a" => Some(format!("repeat.{module}")),
        "stage_b" => Some(format!("repeat_1.{module}")),
        "stage_c" if module + 1 == last.modules.len() => Some("block8".to_owned()),
        "stage_c" => Some(format!("repeat_2.{module}")),
        _ => None,
    }
}

//! Names of ResNets.

use super::bn;
use crate::arch::Architecture;

/// Where a layer stands in a ResNet: in the first unit of a stage or in one of its modules.
struct Unit {
    /// From 0.
    stage: usize,
    /// From 0; the first unit of the stage is 0.
    unit: usize,
}

impl Unit {
    /// Splits a layer's path into its unit and the rest: `stage_3.0.F.2` is unit 1 of stage 2.
    fn of<'a, 'b>(layer: &'a [&'b str]) -> Option<(Self, &'a [&'b str])> {
        let stage = layer.first()?.strip_prefix("stage_")?;
        if let Some(label) = stage.strip_suffix("_entry") {
            let stage = label.parse::<usize>().ok()?.checked_sub(1)?;
            return Some((Self { stage, unit: 0 }, &layer[1..]));
        }
        let stage = stage.parse::<usize>().ok()?.checked_sub(1)?;
        match layer {
            [_, module, "F", rest @ ..] => {
                let unit = module.parse::<usize>().ok()? + 1;
                Some((Self { stage, unit }, rest))
            }
            _ => None,
        }
    }
}

/// timm's `resnetv2_50`, with batch norm: pre-activation.
pub(super) fn timm_v2(_: &Architecture, layer: &[&str]) -> Option<String> {
    match layer {
        ["head", "linear"] => return Some("head.fc".to_owned()),
        ["closing", "norm"] => return Some("norm".to_owned()),
        ["stem", "0", "conv"] => return Some("stem.conv".to_owned()),
        _ => {}
    }
    let (Unit { stage, unit }, place) = Unit::of(layer)?;
    let inner = match place {
        ["0", "norm"] => "norm1".to_owned(),
        ["1", "branch0", "conv"] => "downsample.conv".to_owned(),
        ["1", "branch1", index, "conv"] => format!("conv{}", index.parse::<usize>().ok()? + 1),
        ["1", "branch1", index, "norm"] => format!("norm{}", index.parse::<usize>().ok()? + 2),
        [index, "conv"] => format!("conv{index}"),
        [index, "norm"] => format!("norm{}", index.parse::<usize>().ok()? + 1),
        _ => return None,
    };
    Some(format!("stages.{stage}.blocks.{unit}.{inner}"))
}

/// torchvision's `resnet50`: post-activation.
pub(super) fn torchvision(_: &Architecture, layer: &[&str]) -> Option<String> {
    match layer {
        ["head", "linear"] => return Some("fc".to_owned()),
        ["stem", "0", kind] => return Some(format!("{}1", bn(kind))),
        _ => {}
    }
    let (Unit { stage, unit }, place) = Unit::of(layer)?;
    let inner = match place {
        ["branch0", "conv"] => "downsample.0".to_owned(),
        ["branch0", "norm"] => "downsample.1".to_owned(),
        ["branch1", index, kind] | [index, kind] => {
            format!("{}{}", bn(kind), index.parse::<usize>().ok()? + 1)
        }
        _ => return None,
    };
    Some(format!("layer{}.{unit}.{inner}", stage + 1))
}

//! How a training step computes its gradients.

use super::{Frozen, Paths};
use std::fmt;
use std::str::FromStr;

/// How the loss is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossOptions {
    /// Share of the target spread evenly over all classes; the paper uses none (0).
    pub label_smoothing: f64,
}

/// Nothing is frozen.
static NOTHING: Frozen = Frozen::NOTHING;

/// How a step computes its gradients.
#[derive(Clone, Copy, Debug)]
pub struct StepOptions<'a> {
    /// The loss.
    pub loss: LossOptions,
    /// The paths that take part.
    pub paths: &'a Paths,
    /// What is left alone.
    pub frozen: &'a Frozen,
    /// What is kept for the backward pass.
    pub activations: Activations,
    /// What convolutions are computed in.
    pub precision: Precision,
}

impl<'a> StepOptions<'a> {
    /// All is trained, every value is kept, in `f32`.
    pub fn new(loss: LossOptions, paths: &'a Paths) -> Self {
        Self {
            loss,
            paths,
            frozen: &NOTHING,
            activations: Activations::Kept,
            precision: Precision::F32,
        }
    }
}

/// What the backward pass finds of the forward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// Every feature map that it reads.
    #[default]
    Kept,
    /// The inputs of the network's parts (stem, reductions, modules); a part is computed again when
    /// its turn comes. The gradients are the same, bit for bit; a step takes about a forward pass
    /// longer.
    Recomputed,
}

/// The numbers that feature maps and convolutions are computed in. Weights, batch norm, the
/// classifier, the loss and the gradients of the weights are `f32` in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the exponent of `f32`.
    Bf16,
}

impl Precision {
    /// Every precision with its name.
    pub const NAMES: [(&str, Self); 2] = [("f32", Self::F32), ("bf16", Self::Bf16)];
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter();
        let name = names.clone().find(|(_, precision)| precision == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

/// The name is no precision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown precision `{0}`: expected f32 or bf16")]
pub struct UnknownPrecision(String);

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(text: &str) -> Result<Self, UnknownPrecision> {
        let named = Self::NAMES.into_iter().find(|(name, _)| *name == text);
        named
            .map(|(_, precision)| precision)
            .ok_or_else(|| UnknownPrecision(text.to_owned()))
    }
}

/// Target distributions in row-major order: `1 − ε` on the label and `ε / classes` on every class.
pub(crate) fn targets(labels: &[usize], classes: usize, label_smoothing: f64) -> Vec<f32> {
    let mut targets = vec![(label_smoothing / classes as f64) as f32; labels.len() * classes];
    for (row, &label) in targets.chunks_exact_mut(classes).zip(labels) {
        row[label] += (1.0 - label_smoothing) as f32;
    }
    targets
}

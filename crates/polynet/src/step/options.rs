//! How a training step computes its gradients.

use super::{Frozen, Paths, Precision};

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

/// Target distributions in row-major order: `1 − ε` on the label and `ε / classes` on every class.
pub(crate) fn targets(labels: &[usize], classes: usize, label_smoothing: f64) -> Vec<f32> {
    let mut targets = vec![(label_smoothing / classes as f64) as f32; labels.len() * classes];
    for (row, &label) in targets.chunks_exact_mut(classes).zip(labels) {
        row[label] += (1.0 - label_smoothing) as f32;
    }
    targets
}

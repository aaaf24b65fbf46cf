//! Gradients of a batch in parts whose batch norms have their statistics in common: every batch norm
//! uses the mean and variance over all images of the step, wherever they are computed, and its backward
//! pass the sums over all of them (Peng et al. 2018, MegDet, "cross-GPU batch normalization").
//!
//! Law: what comes out is the same to the bit however the parts are shared out, and up to rounding that
//! of one part with all images (but for dropout, which each part draws for itself).

use super::network::Network;
use super::processor;
use super::training::{NormStatistics, Precision, StepOptions};
use burn::tensor::{DType, Device, Tensor};
use rand_chacha::ChaCha8Rng;

/// A part of a batch.
pub struct BatchPart<'a> {
    /// `[images, 3, height, width]`.
    pub images: Tensor<4>,
    /// The class of each image.
    pub labels: &'a [usize],
    /// What its dropout is drawn from.
    pub rng: ChaCha8Rng,
}

/// A step whose parts may be computed in several places, as one of them sees it.
pub trait SharedStep {
    /// Why the others cannot be reached.
    type Error;

    /// Images of every part of the step, in the order of the parts. None is empty.
    fn images(&self) -> &[usize];

    /// The rows of all parts of the step in their order, from those of the parts that are computed
    /// here; each has `length` numbers. Everywhere the same calls are made in the same order, also
    /// where no part is computed.
    ///
    /// # Errors
    /// If the others cannot be reached.
    fn gather(&mut self, own: Vec<Vec<f64>>, length: usize) -> Result<Vec<Vec<f64>>, Self::Error>;

    /// Is shown a tensor's gradients of the parts that are computed here, as soon as they are final,
    /// everywhere in the same order. Added up over all parts they are the gradient of the mean loss of
    /// the step's images.
    fn observe(&mut self, tensor: usize, gradients: &[Vec<f32>]);
}

/// What a part of a step has computed besides its gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct PartOutput {
    /// Mean loss of its images.
    pub loss: f64,
    /// `[images × classes]` in row-major order.
    pub logits: Vec<f32>,
}

/// What a step has computed besides its gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct SynchronisedOutput {
    /// Of each part that is computed here.
    pub parts: Vec<PartOutput>,
    /// What each batch norm saw of all parts, in the order of evaluation; the same everywhere.
    pub statistics: Vec<NormStatistics>,
}

impl Network {
    /// Computes parts of a step, possibly none, and shows their gradients to `shared`. The network
    /// stays as it is. Feature maps of all parts are in memory at the same time.
    ///
    /// Ranks that are threads of one process must not call it from within a thread pool that they
    /// share: one would keep from another the thread that it waits for.
    ///
    /// # Errors
    /// Those of `shared`.
    ///
    /// # Panics
    /// If the network is not on the processor, `f32` is not asked for, there are not as many labels as
    /// images, a label is no class, or everything is frozen.
    pub fn synchronised_gradients<S: SharedStep>(
        &mut self,
        parts: Vec<BatchPart<'_>>,
        options: &StepOptions<'_>,
        shared: &mut S,
    ) -> Result<SynchronisedOutput, S::Error> {
        let is_f32 = |part: &BatchPart<'_>| part.images.dtype() == DType::F32;
        assert!(
            self.device == Device::flex()
                && options.precision == Precision::F32
                && parts.iter().all(is_f32),
            "only the processor's training steps share statistics, in f32"
        );
        processor::synchronised_gradients(self, parts, options, shared)
    }
}

#[cfg(test)]
mod tests;

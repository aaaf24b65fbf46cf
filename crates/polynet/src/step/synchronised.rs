//! Gradients of a batch in parts whose batch norms have their statistics in common: every batch norm
//! uses the mean and variance over all images of the step, wherever they are computed, and its backward
//! pass the sums over all of them (Peng et al. 2018, MegDet, "cross-GPU batch normalization").
//!
//! Law: what comes out is the same to the bit however the parts are shared out, and up to rounding that
//! of one part with all images (but for dropout, which each part draws for itself).

use super::NormStatistics;
use rand_chacha::ChaCha8Rng;

/// A part of a batch, or all of it.
pub struct BatchPart<'a> {
    /// Preprocessed images, `[images, 3, height, width]` in row-major order.
    pub images: &'a [f32],
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

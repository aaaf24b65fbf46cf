//! What a training step is asked, and what it gives.
//!
//! Whoever computes gradients, [our kernels](crate::cpu) or a GPU, is asked by [`StepOptions`] and answers with
//! [`Gradients`]: all in the host's memory, by the tensor indices of
//! [`Graph::tensors`](crate::arch::Graph::tensors).

mod dropout;
mod frozen;
mod gradients;
mod options;
mod paths;
mod synchronised;

pub(crate) use dropout::factors as dropout_factors;
pub use frozen::Frozen;
pub use gradients::{GradientObserver, Gradients, NormStatistics};
pub(crate) use options::targets;
pub use options::{Activations, LossOptions, Precision, StepOptions, UnknownPrecision};
pub use paths::{PathCount, Paths};
pub use synchronised::{BatchPart, PartOutput, SharedStep, SynchronisedOutput};

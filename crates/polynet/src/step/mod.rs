//! What a training step is asked, and what it gives.
//!
//! Whoever computes gradients, [our kernels](crate::cpu) or a GPU, is asked by [`StepOptions`] and answers with
//! [`Gradients`]: all in the host's memory, by the tensor indices of
//! [`Graph::tensors`](crate::arch::Graph::tensors).

#[cfg(feature = "train")]
mod dropout;
mod frozen;
mod gradients;
#[cfg(feature = "train")]
mod options;
#[cfg(feature = "train")]
mod paths;
mod precision;
#[cfg(feature = "train")]
mod synchronised;

#[cfg(feature = "train")]
pub(crate) use dropout::factors as dropout_factors;
pub use frozen::Frozen;
pub use gradients::{GradientObserver, Gradients, NormStatistics};
#[cfg(feature = "train")]
pub(crate) use options::targets;
#[cfg(feature = "train")]
pub use options::{Activations, LossOptions, StepOptions};
#[cfg(feature = "train")]
pub use paths::{PathCount, Paths};
pub use precision::{Precision, UnknownPrecision};
#[cfg(feature = "train")]
pub use synchronised::{BatchPart, PartOutput, SharedStep, SynchronisedOutput};

//! The trainable network on a Burn device.
//!
//! [`Network`] holds the tensors that a [`Graph`](crate::arch::Graph) names, and interprets it. It
//! has no hidden mode: [`Network::forward`] predicts with the running statistics, and
//! [`Network::training_pass`] computes with the statistics of the batch and returns them beside
//! the logits; nothing changes behind the caller's back.
//!
//! ```
//! use burn::tensor::Tensor;
//! use polynet::arch::Architecture;
//! use polynet::nn::{DeviceName, Network};
//! let architecture: Architecture = "small-polynet".parse()?;
//! let device = DeviceName::Cpu.open();
//! let network = Network::init(architecture.graph()?, 0, &device);
//! let images = Tensor::<4>::zeros([2, 3, 32, 32], &device);
//! assert_eq!(network.forward(images).dims(), [2, 10]);
//! # Ok::<(), polynet::arch::ArchError>(())
//! ```

mod conv_norm;
mod device;
mod frozen;
mod init;
mod interpret;
mod network;
mod paths;
mod processor;
mod recompute;
mod synchronised;
mod training;

pub use device::{DeviceName, UnknownDevice};
pub use frozen::Frozen;
pub(crate) use init::values as initial_values;
pub use network::{HostTensor, Network, TensorMismatch};
pub(crate) use network::{host_values, on_device};
pub use paths::{PathCount, Paths};
pub use synchronised::{BatchPart, PartOutput, SharedStep, SynchronisedOutput};
pub use training::{
    Activations, GradientObserver, Gradients, LossOptions, NormStatistics, Precision, StepOptions,
    TrainingPass, UnknownPrecision,
};

/// Share of the batch's statistics in the running ones, as in the released model.
pub const NORM_MOMENTUM: f64 = 0.1;

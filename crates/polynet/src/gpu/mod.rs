//! GPUs, through Burn: another way to run a [`Graph`](crate::arch::Graph) on the host's
//! [`Params`](crate::params::Params). Nothing outside this room names Burn.
//!
//! A graph is [walked over](interpret), operation by operation, for [prediction](Predictor) and for a
//! [training step](TrainingEngine), which Burn differentiates; whoever asks sees only what is in the
//! host's memory.
//!
//! Law: what comes out is what the processor's programs give, up to rounding.
//!
//! # What a training step moves
//!
//! Optimizer, averages and collectives are the host's, so that every step carries all parameters to
//! the GPU and their gradients back: 4 bytes a parameter each way, beside the images. That is 2 × 309 MB
//! for Very Deep PolyNet's 77 million parameters, whatever the batch. A predictor carries its tensors
//! over once.

mod conv_norm;
mod device;
mod interpret;
mod predict;
mod segments;
mod training;
mod transfer;

pub use device::{Gpu, NoGpu};
pub(crate) use predict::Predictor;
pub(crate) use training::TrainingEngine;

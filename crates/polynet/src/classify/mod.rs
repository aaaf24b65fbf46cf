//! Prediction on the processor at full speed: a network compiled with its weights.
//!
//! [`Classifier`] folds batch norm into the convolutions, packs their weights once for the
//! processor's instruction set, and runs a fixed list of kernel calls on memory that is planned
//! ahead. It computes what [`Network::forward`](crate::nn::Network::forward) computes, to rounding: of
//! `f32`, or of `bf16` where that is asked for.
//!
//! ```
//! use polynet::arch::Architecture;
//! use polynet::classify::{Classifier, CompileOptions};
//! use polynet::nn::{DeviceName, Network};
//!
//! let architecture: Architecture = "small-polynet; width = 0.125".parse()?;
//! let network = Network::init(architecture.graph()?, 1, &DeviceName::Cpu.open());
//! let mut classifier = Classifier::new(&network, CompileOptions::default());
//! let logits = classifier.logits(&vec![0.5; 2 * 3 * 32 * 32]);
//! assert_eq!(logits.len(), 2 * 10);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod classifier;
mod compiler;
mod memory;
mod predictor;
mod program;

pub use classifier::{Classifier, CompileOptions};
pub use polynet_kernels::{Isa, UnknownIsa};
pub use predictor::{ModelPredictor, Predictor};

//! Image classifiers whose structure is written as algebra.
//!
//! Data flows `&str → Ast → Polynomial → Plan → Architecture → Graph → Params + Program → Trainer | Model`.
//!
//! Open a trained model and classify a photograph:
//!
//! ```no_run
//! let mut model = polynet::Model::open("runs/first/model")?;
//! let classes = model.classify(&image::open("photo.jpg")?, 5)?;
//! println!("{}", classes[0].class);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Write a structure and see what it costs:
//!
//! ```
//! use polynet::Architecture;
//!
//! let network: Architecture = "A: 2-way x10; B: (poly-3 -> 2-way) x10; C: (poly-3 -> 2-way) x5; input = 331".parse()?;
//! assert_eq!(network.cost()?.parameters.total(), 77_213_000);
//! # Ok::<(), polynet::ArchError>(())
//! ```
//!
//! Models, their parameters, and the devices and steps that compute with them are here at the root. What
//! more there is to a subject has a module: structures in [`arch`], pictures and data sets in [`data`].
//! With the feature `train`, which is on by default, there are also training in `train`, evaluation in
//! `eval`, models in 8 bits in `quantize`, growing in `grow`, what runs leave behind in `report`, and ranks in `distributed`.

// Of what only training uses a build that only predicts has the parts that need no other crate.
#![cfg_attr(not(feature = "train"), allow(dead_code, unused_imports))]

pub mod arch;
#[cfg(feature = "train")]
mod bytes;
mod cpu;
pub mod data;
#[cfg(feature = "train")]
pub mod distributed;
mod engine;
#[cfg(feature = "train")]
pub mod eval;
#[cfg(feature = "train")]
pub mod export;
#[cfg(feature = "train")]
mod files;
#[cfg(feature = "gpu")]
mod gpu;
#[cfg(feature = "train")]
pub mod grow;
mod model;
mod params;
#[cfg(feature = "train")]
mod protobuf;
#[cfg(feature = "train")]
pub mod quantize;
#[cfg(feature = "train")]
mod random;
#[cfg(feature = "train")]
pub mod report;
#[cfg(feature = "train")]
pub mod search;
mod step;
#[cfg(feature = "train")]
pub mod study;
#[cfg(feature = "train")]
pub mod train;

pub use arch::{ArchError, Architecture, Graph};
#[cfg(feature = "train")]
pub use cpu::Memory;
pub use cpu::{
    CompileOptions, Isa, Numbers, PrecisionChoice, Prediction, UnknownIsa, UnknownPrecisionChoice,
};
#[cfg(feature = "train")]
pub use engine::TrainingEngine;
pub use engine::{Device, DeviceError, Predictor};
#[cfg(feature = "gpu")]
pub use engine::{Gpu, NoGpu};
#[cfg(feature = "train")]
pub use files::{
    FolderLock, LockError, NewFile, WriteError, make_folder, try_target, write_atomically,
    write_text,
};
pub use model::{Explanation, Model, ModelOptions, Ranked, probabilities, ranked};
pub use params::{
    HostTensor, Library, ModelConfig, ModelFolder, Naming, Params, Quantization, QuantizedLayer,
    TensorMap, TensorMismatch, TensorRef, TensorSource, WeightError, WeightFile,
    default_class_names, port_names, read_config, read_safetensors,
};
#[cfg(feature = "train")]
pub use params::{Imported, import_weights, open_weights, write_safetensors};
#[cfg(feature = "train")]
pub use step::{
    Activations, BatchPart, LossOptions, PartOutput, PathCount, Paths, SharedStep, StepOptions,
    SynchronisedOutput,
};
pub use step::{Frozen, GradientObserver, Gradients, NormStatistics, Precision, UnknownPrecision};
#[cfg(feature = "train")]
pub use train::{Outcome, Recipe, TrainError, Trainer};

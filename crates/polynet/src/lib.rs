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
//! # Ok::<(), polynet::arch::ArchError>(())
//! ```

// Of what only training uses a build that only predicts has the parts that need no other crate.
#![cfg_attr(not(feature = "train"), allow(dead_code, unused_imports))]

pub mod arch;
#[cfg(feature = "train")]
mod bytes;
pub mod cpu;
pub mod data;
#[cfg(feature = "train")]
pub mod distributed;
pub mod engine;
#[cfg(feature = "train")]
pub mod eval;
#[cfg(feature = "train")]
pub mod files;
#[cfg(feature = "gpu")]
mod gpu;
#[cfg(feature = "train")]
pub mod grow;
mod model;
pub mod params;
#[cfg(feature = "train")]
mod random;
#[cfg(feature = "train")]
pub mod report;
pub mod step;
#[cfg(feature = "train")]
pub mod study;
#[cfg(feature = "train")]
pub mod train;

pub use arch::Architecture;
pub use engine::Device;
pub use model::{Model, ModelOptions, Ranked, ranked};
pub use params::{ModelConfig, ModelFolder, Params};
pub use step::Precision;
#[cfg(feature = "train")]
pub use train::{Recipe, Trainer};

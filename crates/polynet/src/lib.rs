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
//! assert_eq!(network.cost()?.parameters.total(), 77_212_840);
//! # Ok::<(), polynet::arch::ArchError>(())
//! ```

pub mod arch;
mod bytes;
pub mod cpu;
pub mod data;
pub mod distributed;
pub mod engine;
pub mod eval;
pub mod files;
#[cfg(feature = "gpu")]
mod gpu;
pub mod grow;
mod model;
pub mod params;
mod random;
pub mod report;
pub mod step;
pub mod train;

pub use arch::Architecture;
pub use engine::Device;
pub use model::{Model, ModelOptions, Ranked, ranked};
pub use params::{ModelConfig, ModelFolder, Params};
pub use step::Precision;
pub use train::{Recipe, Trainer};

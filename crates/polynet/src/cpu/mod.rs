//! The processor: networks compiled to calls of our own kernels on planned memory.
//!
//! A graph is lowered to a list of steps on buffers, for [prediction](Classifier) or for a
//! [training step](TrainingEngine), and one planner gives the buffers of either their places. A plain interpreter of
//! the graph in `f64` judges both in the tests.

mod buffers;
#[cfg(feature = "train")]
mod calibrate;
mod lower;
#[cfg(feature = "train")]
mod memory;
mod precision;
mod predict;
mod program;
mod quantized;
mod shared;
#[cfg(feature = "train")]
mod train;
mod weights;

#[cfg(feature = "train")]
pub(crate) use calibrate::Calibrator;
#[cfg(feature = "train")]
pub use memory::Memory;
/// Tiles where the processor has none, for tests of what is above.
#[cfg(all(test, feature = "train"))]
pub(crate) use polynet_kernels::emulator;
pub use polynet_kernels::{Isa, UnknownIsa};
pub use precision::{Numbers, PrecisionChoice, UnknownPrecisionChoice};
pub(crate) use predict::Classifier;
pub use predict::{CompileOptions, Prediction};
#[cfg(feature = "train")]
pub(crate) use train::TrainingEngine;

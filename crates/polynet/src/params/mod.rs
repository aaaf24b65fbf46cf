//! The tensors of a network ([`Params`]), weights in files, and models in folders.
//!
//! A model is a folder of three files:
//!
//! | file | content |
//! |---|---|
//! | `config.json` | architecture, class names, preprocessing ([`ModelConfig`]) |
//! | `model.safetensors` | every tensor by the names of [`Graph::tensors`](crate::arch::Graph::tensors) |
//! | `README.md` | a model card for people |
//!
//! In a [quantized](Quantization) model the weights of convolutions are 8-bit numbers with scales beside them.
//!
//! [`import_weights`] makes one from a public weight file.

mod affine;
mod classes;
mod error;
mod file;
#[cfg(feature = "train")]
mod import;
#[cfg(feature = "train")]
mod init;
mod model;
mod names;
pub(crate) mod pretrained;
#[cfg(feature = "train")]
mod pytorch;
mod quantization;
mod tensors;
mod writing;

pub(crate) use affine::norm_affine;
pub use classes::default_class_names;
pub use error::WeightError;
#[cfg(feature = "train")]
pub use file::open_weights;
pub use file::{TensorSource, WeightFile, read_safetensors};
#[cfg(feature = "train")]
pub use import::{Imported, import_weights};
#[cfg(feature = "train")]
pub(crate) use init::values as initial_values;
#[cfg(feature = "train")]
pub(crate) use model::{MODEL_FILES, digest_of_file, digest_of_model, write_new_model};
pub use model::{ModelConfig, ModelFolder, read_config};
pub use names::{Library, Naming, port_names};
pub use quantization::{Quantization, QuantizedLayer};
pub use tensors::{HostTensor, Params, TensorMap, TensorMismatch};
pub use writing::TensorRef;
#[cfg(feature = "train")]
pub use writing::write_safetensors;

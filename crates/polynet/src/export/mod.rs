//! Models in the formats of other programs.
//!
//! [`write_onnx`] writes what ONNX Runtime, OpenVINO, tract and others run, [`write_pytorch`] what public
//! implementations in PyTorch load.
//!
//! Law: what is written computes what the model computes; what a format cannot say is an error.

mod onnx;
mod pickle;
mod pytorch;

pub use onnx::{BatchNormForm, OnnxInput, OnnxOptions, write_onnx};
pub use pytorch::write_pytorch;

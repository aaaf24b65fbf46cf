//! A plain interpreter of the graph in f64, held to PyTorch, and the engines, held to it.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

mod onnx;
mod prediction;
mod pytorch;
mod tiles;
mod training;

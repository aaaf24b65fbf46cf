//! Convolution with its epilogue: bias, ReLU, and a scaled sum with another map.
//!
//! [`Conv`] holds weights that are packed once for an instruction set. It reads any list of views as
//! one concatenated input and writes any list of views, so that a concatenation is never made.

mod ahead;
mod amx;
mod direct;
mod division;
mod gradient;
mod input_gradient;
mod job;
mod layer;
mod naive;
mod pack;
mod places;
mod quantized;
mod stores;
mod tile;
mod toom;
mod winograd;

pub use crate::window::Window;
pub use ahead::NextWeights;
pub use amx::{AmxConv, QuantizedAmxConv};
pub use direct::Conv;
pub use gradient::weight_gradient;
pub use input_gradient::{GradientMemory, InputGradient};
pub use naive::convolve;
pub use quantized::{
    QuantizedConv, QuantizedStores, QuantizedSum, QuantizedValue, QuantizedWeights, Rounded,
};
pub use stores::{Stores, Sum, Value};
pub use winograd::Winograd;

#[cfg(test)]
mod edge_tests;
#[cfg(test)]
mod error_tests;
#[cfg(test)]
mod tests;

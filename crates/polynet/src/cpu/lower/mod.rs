//! From a graph to the steps of a [`Program`](super::program::Program): what is fused, merged, shared and kept is
//! decided here.
//!
//! A concatenation is never a copy: a value is the list of its parts' buffers. Beyond that,
//!
//! - [`prediction()`] folds batch norm into the convolutions, makes 1×1 convolutions of one map one, and lets
//!   convolutions add their results to sums as they store them;
//! - [`tiled_prediction()`] lets feature maps lie as tiles of bf16 are read;
//! - [`quantized()`] does the same but for sums of convolutions, and lets convolutions read maps of bytes, which
//!   [`tiled()`] lets lie as tiles are read;
//! - [`training()`] keeps one map a convolution, its result, and makes the normalized one again when the
//!   backward pass needs it.

#[cfg(feature = "train")]
mod backward;
#[cfg(feature = "train")]
mod forward;
mod prediction;
mod quantized;
#[cfg(feature = "train")]
mod training;

use crate::arch::graph::{Graph, Pool, PoolWindow};
use polynet_kernels::{conv, pool};

pub(super) use prediction::{Prediction, prediction, tiled_prediction};
pub(super) use quantized::{StepsDiffer, quantized, tiled};
#[cfg(feature = "train")]
pub(super) use quantized::{candidates, parts, unrounded};
#[cfg(feature = "train")]
pub(super) use training::{Training, training};

impl From<PoolWindow> for conv::Window {
    fn from(window: PoolWindow) -> Self {
        Self {
            kernel: window.kernel_size,
            stride: window.stride,
            padding: window.padding,
        }
    }
}

impl From<Pool> for pool::Pool {
    fn from(pool: Pool) -> Self {
        match pool {
            Pool::Max => Self::Max,
            Pool::Mean => Self::Mean,
        }
    }
}

/// The window of a convolution of the graph.
fn window(graph: &Graph, weight: usize, stride: [usize; 2], padding: [usize; 2]) -> conv::Window {
    let [_, _, rows, columns] = graph.convs[weight].shape;
    conv::Window {
        kernel: [rows, columns],
        stride,
        padding,
    }
}

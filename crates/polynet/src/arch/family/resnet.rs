//! ResNets of bottleneck units: pre-activation (He et al. 2016, arXiv 1603.05027), which the paper
//! compares with, and post-activation (He et al. 2015, arXiv 1512.03385), whose public weights are
//! the most common ones.
//!
//! Both have the stride of a stage in the 3×3 convolution of its first unit, as public
//! implementations have it. That unit changes size or channels, so it cannot be a polynomial: it is
//! the entry of its stage, and the modules are the units after it.

use super::Width;
use crate::arch::cell::{Activation, Cell, Padding};

/// The pool after the first convolution.
fn pool() -> Cell {
    Cell::MaxPool {
        kernel_size: 3,
        stride: 2,
        padding: Padding::Same,
    }
}

/// Step of the first unit of a stage.
fn entry_stride(stage: usize) -> usize {
    if stage == 0 { 1 } else { 2 }
}

/// 7×7 stride 2 and a pool, without normalization: the first unit's pre-activation does that.
pub(super) fn stem(w: Width) -> Cell {
    Cell::chain([Cell::bare_conv(w.of(64), 7, 2), pool()])
}

/// 1×1, 3×3 (with the stride), 1×1: the path of a pre-activation unit after its pre-activation.
fn path(stage: usize, stride: usize, w: Width, inner: Width) -> [Cell; 3] {
    let middle = inner.of(64 << stage);
    [
        Cell::conv(middle, [1, 1]),
        Cell::strided_conv(middle, 3, stride),
        Cell::bare_conv(w.of(256 << stage), 1, 1),
    ]
}

/// The residual function of a pre-activation unit.
pub(super) fn block(stage: usize, w: Width, inner: Width) -> Cell {
    Cell::chain(std::iter::once(Cell::Norm).chain(path(stage, 1, w, inner)))
}

/// The first pre-activation unit of a stage: a projection beside the path, both after the unit's
/// pre-activation.
pub(super) fn entry(stage: usize, w: Width, inner: Width) -> Cell {
    let stride = entry_stride(stage);
    Cell::chain([
        Cell::Norm,
        Cell::Sum {
            terms: vec![
                Cell::bare_conv(w.of(256 << stage), 1, stride),
                Cell::chain(path(stage, stride, w, inner)),
            ],
            activation: Activation::Identity,
        },
    ])
}

/// 7×7 stride 2 with batch norm and ReLU, and a pool.
pub(super) fn post_activation_stem(w: Width) -> Cell {
    Cell::chain([Cell::strided_conv(w.of(64), 7, 2), pool()])
}

/// 1×1, 3×3 (with the stride), 1×1 without ReLU: the path of a post-activation unit.
fn post_activation_path(stage: usize, stride: usize, w: Width, inner: Width) -> Cell {
    let middle = inner.of(64 << stage);
    Cell::chain([
        Cell::conv(middle, [1, 1]),
        Cell::strided_conv(middle, 3, stride),
        Cell::linear_conv(w.of(256 << stage), 1),
    ])
}

/// The residual function of a post-activation unit.
pub(super) fn post_activation_block(stage: usize, w: Width, inner: Width) -> Cell {
    post_activation_path(stage, 1, w, inner)
}

/// The first post-activation unit of a stage: a projection with batch norm beside the path.
pub(super) fn post_activation_entry(stage: usize, w: Width, inner: Width) -> Cell {
    let stride = entry_stride(stage);
    Cell::Sum {
        terms: vec![
            Cell::linear_conv(w.of(256 << stage), stride),
            post_activation_path(stage, stride, w, inner),
        ],
        activation: Activation::Relu,
    }
}

//! Inception-ResNet-v2 as its public weights have it: the structure of TensorFlow-Slim.
//!
//! It differs from the paper's Inception-ResNets (the family `imagenet`) in its light stem, in its
//! widths (320, 1088, 2080), in a bias instead of batch norm at the end of every block, and in the
//! 1×1 convolution to 1536 channels before the pooling. All widths are multiples of 16, and the
//! setting `width` goes in steps of 1/16.

use super::Width;
use crate::arch::cell::{Activation, Cell, ConvLayer, Normalization, Padding};

/// Channels at a width multiplier, in steps of 1/16.
fn scaled(w: Width, channels: usize) -> usize {
    w.in_steps_of(16, channels)
}

/// 3 → 320 channels, stride 8: the stem, then the first mixed layer (`mixed_5b`).
pub(super) fn stem(w: Width) -> Cell {
    let c = |channels| scaled(w, channels);
    Cell::chain([
        Cell::conv_valid(c(32), 2),
        Cell::conv_valid(c(32), 1),
        Cell::conv(c(64), [3, 3]),
        Cell::max_pool(),
        Cell::conv(c(80), [1, 1]),
        Cell::conv_valid(c(192), 1),
        Cell::max_pool(),
        Cell::concat([
            Cell::conv(c(96), [1, 1]),
            Cell::chain([Cell::conv(c(48), [1, 1]), Cell::conv(c(64), [5, 5])]),
            Cell::chain([
                Cell::conv(c(64), [1, 1]),
                Cell::conv(c(96), [3, 3]),
                Cell::conv(c(96), [3, 3]),
            ]),
            Cell::chain([
                Cell::AveragePool { kernel_size: 3 },
                Cell::conv(c(64), [1, 1]),
            ]),
        ]),
    ])
}

/// The last convolution of a block: 1×1 with a bias, no batch norm, no ReLU.
fn last_conv(out_channels: usize) -> Cell {
    Cell::Conv(ConvLayer {
        out_channels,
        kernel_size: [1, 1],
        stride: 1,
        padding: Padding::Same,
        normalization: Normalization::Bias,
        activation: Activation::Identity,
    })
}

/// 320 → 320 channels (`block35`).
pub(super) fn block_a(w: Width, inner: Width) -> Cell {
    let c = |channels| scaled(inner, channels);
    Cell::chain([
        Cell::concat([
            Cell::conv(c(32), [1, 1]),
            Cell::chain([Cell::conv(c(32), [1, 1]), Cell::conv(c(32), [3, 3])]),
            Cell::chain([
                Cell::conv(c(32), [1, 1]),
                Cell::conv(c(48), [3, 3]),
                Cell::conv(c(64), [3, 3]),
            ]),
        ]),
        last_conv(scaled(w, 320)),
    ])
}

/// 320 → 1088 channels (`mixed_6a`).
pub(super) fn reduction_a(w: Width) -> Cell {
    let c = |channels| scaled(w, channels);
    Cell::concat([
        Cell::conv_valid(c(384), 2),
        Cell::chain([
            Cell::conv(c(256), [1, 1]),
            Cell::conv(c(256), [3, 3]),
            Cell::conv_valid(c(384), 2),
        ]),
        Cell::max_pool(),
    ])
}

/// 1088 → 1088 channels (`block17`).
pub(super) fn block_b(w: Width, inner: Width) -> Cell {
    let c = |channels| scaled(inner, channels);
    Cell::chain([
        Cell::concat([
            Cell::conv(c(192), [1, 1]),
            Cell::chain([
                Cell::conv(c(128), [1, 1]),
                Cell::conv(c(160), [1, 7]),
                Cell::conv(c(192), [7, 1]),
            ]),
        ]),
        last_conv(scaled(w, 1088)),
    ])
}

/// 1088 → 2080 channels (`mixed_7a`).
pub(super) fn reduction_b(w: Width) -> Cell {
    let c = |channels| scaled(w, channels);
    let branch = |out_channels| {
        Cell::chain([
            Cell::conv(c(256), [1, 1]),
            Cell::conv_valid(c(out_channels), 2),
        ])
    };
    Cell::concat([
        branch(384),
        branch(288),
        Cell::chain([
            Cell::conv(c(256), [1, 1]),
            Cell::conv(c(288), [3, 3]),
            Cell::conv_valid(c(320), 2),
        ]),
        Cell::max_pool(),
    ])
}

/// 2080 → 2080 channels (`block8`).
pub(super) fn block_c(w: Width, inner: Width) -> Cell {
    let c = |channels| scaled(inner, channels);
    Cell::chain([
        Cell::concat([
            Cell::conv(c(192), [1, 1]),
            Cell::chain([
                Cell::conv(c(192), [1, 1]),
                Cell::conv(c(224), [1, 3]),
                Cell::conv(c(256), [3, 1]),
            ]),
        ]),
        last_conv(scaled(w, 2080)),
    ])
}

/// 2080 → 1536 channels (`conv2d_7b`).
pub(super) fn closing(w: Width) -> Cell {
    Cell::conv(scaled(w, 1536), [1, 1])
}

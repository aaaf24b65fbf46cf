//! Stem, blocks and reductions of the released PolyNet, and the stems for small images.

use super::Width;
use crate::arch::cell::{Cell, Padding};

/// 3 → 384 channels, stride 8.
pub(super) fn stem(w: Width) -> Cell {
    let pooled = 2 * w.of(96);
    Cell::chain([
        Cell::conv_valid(w.of(32), 2),
        Cell::conv_valid(w.of(32), 1),
        Cell::conv(w.of(64), [3, 3]),
        Cell::concat([Cell::max_pool(), Cell::conv_valid(w.of(96), 2)]),
        Cell::concat([
            Cell::chain([Cell::conv(w.of(64), [1, 1]), Cell::conv_valid(w.of(96), 1)]),
            Cell::chain([
                Cell::conv(w.of(64), [1, 1]),
                Cell::conv(w.of(64), [7, 1]),
                Cell::conv(w.of(64), [1, 7]),
                Cell::conv_valid(w.of(96), 1),
            ]),
        ]),
        Cell::concat([
            Cell::max_pool(),
            Cell::conv_valid(stage_channels(0, w) - pooled, 2),
        ]),
    ])
}

/// 3 → 384 channels, stride 2: one 3×3 convolution, then a reduction as the full stem has them.
pub(super) fn light_stem(w: Width) -> Cell {
    let reduced = stage_channels(0, w) - w.of(128);
    Cell::chain([
        Cell::conv(w.of(128), [3, 3]),
        Cell::concat([
            Cell::MaxPool {
                kernel_size: 3,
                stride: 2,
                padding: Padding::Same,
            },
            Cell::strided_conv(reduced, 3, 2),
        ]),
    ])
}

/// 3 → 384 channels, stride 2: two 3×3 convolutions at the input's size, then max pooling.
pub(super) fn full_size_stem(w: Width) -> Cell {
    Cell::chain([
        Cell::conv(w.of(128), [3, 3]),
        Cell::conv(stage_channels(0, w), [3, 3]),
        Cell::MaxPool {
            kernel_size: 3,
            stride: 2,
            padding: Padding::Same,
        },
    ])
}

pub(super) fn block_a(w: Width, inner: Width) -> Cell {
    Cell::chain([
        Cell::concat([
            Cell::chain([
                Cell::conv(inner.of(32), [1, 1]),
                Cell::conv(inner.of(48), [3, 3]),
                Cell::conv(inner.of(64), [3, 3]),
            ]),
            Cell::chain([
                Cell::conv(inner.of(32), [1, 1]),
                Cell::conv(inner.of(32), [3, 3]),
            ]),
            Cell::conv(inner.of(32), [1, 1]),
        ]),
        Cell::linear_conv(stage_channels(0, w), 1),
    ])
}

pub(super) fn block_b(w: Width, inner: Width) -> Cell {
    Cell::chain([
        Cell::concat([
            Cell::chain([
                Cell::conv(inner.of(128), [1, 1]),
                Cell::conv(inner.of(160), [1, 7]),
                Cell::conv(inner.of(192), [7, 1]),
            ]),
            Cell::conv(inner.of(192), [1, 1]),
        ]),
        Cell::linear_conv(stage_channels(1, w), 1),
    ])
}

pub(super) fn block_c(w: Width, inner: Width) -> Cell {
    Cell::chain([
        Cell::concat([
            Cell::chain([
                Cell::conv(inner.of(192), [1, 1]),
                Cell::conv(inner.of(224), [1, 3]),
                Cell::conv(inner.of(256), [3, 1]),
            ]),
            Cell::conv(inner.of(192), [1, 1]),
        ]),
        Cell::linear_conv(stage_channels(2, w), 1),
    ])
}

/// Channels of stage A, B and C. The stem's last convolution makes up for what its pool lacks, and
/// the later stages follow from what the reductions concatenate, so that any width multiplier fits.
fn stage_channels(stage: usize, w: Width) -> usize {
    // Below a width of about 1/20 the stem's pool alone would have as many.
    let a = w.of(384).max(2 * w.of(96) + 8);
    match stage {
        0 => a,
        1 => reduction_a(w).out_channels(a),
        _ => reduction_b(w).out_channels(reduction_a(w).out_channels(a)),
    }
}

/// 384 → 1152 channels.
pub(super) fn reduction_a(w: Width) -> Cell {
    Cell::concat([
        Cell::chain([
            Cell::conv(w.of(256), [1, 1]),
            Cell::conv(w.of(256), [3, 3]),
            Cell::conv_valid(w.of(384), 2),
        ]),
        Cell::conv_valid(w.of(384), 2),
        Cell::max_pool(),
    ])
}

/// 1152 → 2048 channels.
pub(super) fn reduction_b(w: Width) -> Cell {
    let branch = |out_channels| {
        Cell::chain([
            Cell::conv(w.of(256), [1, 1]),
            Cell::conv_valid(w.of(out_channels), 2),
        ])
    };
    Cell::concat([
        Cell::chain([
            Cell::conv(w.of(256), [1, 1]),
            Cell::conv(w.of(256), [3, 3]),
            Cell::conv_valid(w.of(256), 2),
        ]),
        branch(256),
        branch(384),
        Cell::max_pool(),
    ])
}

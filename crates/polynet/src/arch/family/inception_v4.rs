//! Inception-v4 (Szegedy et al. 2016, arXiv 1602.07261, figures 3 to 9), with which the paper compares.
//!
//! Its blocks have no identity beside them: a module is `F` alone. Any other polynomial over them
//! works too, as blocks keep size and channels. All widths are multiples of 32, and the setting
//! `width` goes in steps of 1/32.

use super::Width;
use crate::arch::cell::Cell;

/// Channels at a width multiplier, in steps of 1/32.
fn scaled(w: Width, channels: usize) -> usize {
    w.in_steps_of(32, channels)
}

/// 3 → 384 channels, stride 8.
pub(super) fn stem(w: Width) -> Cell {
    let c = |channels| scaled(w, channels);
    Cell::chain([
        Cell::conv_valid(c(32), 2),
        Cell::conv_valid(c(32), 1),
        Cell::conv(c(64), [3, 3]),
        Cell::concat([Cell::max_pool(), Cell::conv_valid(c(96), 2)]),
        Cell::concat([
            Cell::chain([Cell::conv(c(64), [1, 1]), Cell::conv_valid(c(96), 1)]),
            Cell::chain([
                Cell::conv(c(64), [1, 1]),
                Cell::conv(c(64), [1, 7]),
                Cell::conv(c(64), [7, 1]),
                Cell::conv_valid(c(96), 1),
            ]),
        ]),
        Cell::concat([Cell::conv_valid(c(192), 2), Cell::max_pool()]),
    ])
}

/// A mean over 3×3 pixels, then a 1×1 convolution.
fn pooled(out_channels: usize) -> Cell {
    Cell::chain([
        Cell::AveragePool { kernel_size: 3 },
        Cell::conv(out_channels, [1, 1]),
    ])
}

/// 384 → 384 channels.
pub(super) fn block_a(w: Width, inner: Width) -> Cell {
    let c = |channels| scaled(w, channels);
    let i = |channels| scaled(inner, channels);
    Cell::concat([
        Cell::conv(c(96), [1, 1]),
        Cell::chain([Cell::conv(i(64), [1, 1]), Cell::conv(c(96), [3, 3])]),
        Cell::chain([
            Cell::conv(i(64), [1, 1]),
            Cell::conv(i(96), [3, 3]),
            Cell::conv(c(96), [3, 3]),
        ]),
        pooled(c(96)),
    ])
}

/// 384 → 1024 channels.
pub(super) fn reduction_a(w: Width) -> Cell {
    let c = |channels| scaled(w, channels);
    Cell::concat([
        Cell::conv_valid(c(384), 2),
        Cell::chain([
            Cell::conv(c(192), [1, 1]),
            Cell::conv(c(224), [3, 3]),
            Cell::conv_valid(c(256), 2),
        ]),
        Cell::max_pool(),
    ])
}

/// 1024 → 1024 channels.
pub(super) fn block_b(w: Width, inner: Width) -> Cell {
    let c = |channels| scaled(w, channels);
    let i = |channels| scaled(inner, channels);
    Cell::concat([
        Cell::conv(c(384), [1, 1]),
        Cell::chain([
            Cell::conv(i(192), [1, 1]),
            Cell::conv(i(224), [1, 7]),
            Cell::conv(c(256), [7, 1]),
        ]),
        Cell::chain([
            Cell::conv(i(192), [1, 1]),
            Cell::conv(i(192), [7, 1]),
            Cell::conv(i(224), [1, 7]),
            Cell::conv(i(224), [7, 1]),
            Cell::conv(c(256), [1, 7]),
        ]),
        pooled(c(128)),
    ])
}

/// 1024 → 1536 channels.
pub(super) fn reduction_b(w: Width) -> Cell {
    let c = |channels| scaled(w, channels);
    Cell::concat([
        Cell::chain([Cell::conv(c(192), [1, 1]), Cell::conv_valid(c(192), 2)]),
        Cell::chain([
            Cell::conv(c(256), [1, 1]),
            Cell::conv(c(256), [1, 7]),
            Cell::conv(c(320), [7, 1]),
            Cell::conv_valid(c(320), 2),
        ]),
        Cell::max_pool(),
    ])
}

/// 1536 → 1536 channels. Two branches part once more at their end.
pub(super) fn block_c(w: Width, inner: Width) -> Cell {
    let c = |channels| scaled(w, channels);
    let i = |channels| scaled(inner, channels);
    let parted = || Cell::concat([Cell::conv(c(256), [1, 3]), Cell::conv(c(256), [3, 1])]);
    Cell::concat([
        Cell::conv(c(256), [1, 1]),
        Cell::chain([Cell::conv(i(384), [1, 1]), parted()]),
        Cell::chain([
            Cell::conv(i(384), [1, 1]),
            Cell::conv(i(448), [3, 1]),
            Cell::conv(i(512), [1, 3]),
            parted(),
        ]),
        pooled(c(256)),
    ])
}

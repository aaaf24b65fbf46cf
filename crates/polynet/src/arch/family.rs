//! The network families: what surrounds and fills the modules.
//!
//! A family fixes the stem, the block of every stage, the entry of every stage (the reductions)
//! and what closes the network. The algebra fills the stages with modules over these blocks.
//!
//! - `imagenet`: the widths of the released PolyNet, for inputs of 299 or 331 pixels.
//! - `small`: the same three stages and block shapes behind a light stem that halves the size
//!   once, for inputs of 32 to 96 pixels; made narrow with the setting `width`.
//! - `resnet`: pre-activation residual networks of bottleneck units (He et al. 2016), which the
//!   paper compares with.

use super::cell::{Activation, Cell, ConvLayer, Normalization, Padding};

/// A family of networks that share stem, blocks and reductions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// The released PolyNet's stem, blocks and widths.
    Imagenet,
    /// The same blocks behind a light stem, for small images.
    Small,
    /// Pre-activation ResNets of bottleneck units.
    Resnet,
}

impl Family {
    /// Every family, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::Imagenet, Self::Small, Self::Resnet];

    /// The name used in specifications.
    pub fn name(self) -> &'static str {
        match self {
            Self::Imagenet => "imagenet",
            Self::Small => "small",
            Self::Resnet => "resnet",
        }
    }

    /// The labels of the stages, in order.
    pub fn stage_labels(self) -> &'static [&'static str] {
        match self {
            Self::Imagenet | Self::Small => &["A", "B", "C"],
            Self::Resnet => &["1", "2", "3", "4"],
        }
    }

    /// Input size in pixels where a specification gives none.
    pub fn default_input_size(self) -> usize {
        match self {
            Self::Imagenet => 299,
            Self::Small => 32,
            Self::Resnet => 224,
        }
    }

    /// Number of classes where a specification gives none.
    pub fn default_classes(self) -> usize {
        match self {
            Self::Imagenet | Self::Resnet => 1000,
            Self::Small => 10,
        }
    }

    /// Residual scale where a specification gives none: β = 0.3 (paper §4) for the Inception
    /// families, plain addition for ResNets.
    pub fn default_residual_scale(self) -> f64 {
        match self {
            Self::Imagenet | Self::Small => 0.3,
            Self::Resnet => 1.0,
        }
    }

    /// Dropout probability before the classifier where a specification gives none.
    pub fn default_dropout(self) -> f64 {
        match self {
            Self::Imagenet | Self::Small => 0.2,
            Self::Resnet => 0.0,
        }
    }

    /// What follows the sum of a module. Pre-activation networks keep the sum as it is.
    pub fn activation_after_sum(self) -> Activation {
        match self {
            Self::Imagenet | Self::Small => Activation::Relu,
            Self::Resnet => Activation::Identity,
        }
    }

    /// The stem, from the image to the first stage.
    pub fn stem(self, width: Width) -> Cell {
        match self {
            Self::Imagenet => inception_stem(width),
            Self::Small => light_stem(width),
            Self::Resnet => resnet_stem(width),
        }
    }

    /// What stands before the modules of stage `stage` (0-based): a reduction, or nothing.
    pub fn entry(self, stage: usize, width: Width) -> Option<Cell> {
        match (self, stage) {
            (Self::Imagenet | Self::Small, 1) => Some(reduction_a(width)),
            (Self::Imagenet | Self::Small, 2) => Some(reduction_b(width)),
            (Self::Resnet, _) => Some(bottleneck_entry(stage, width)),
            _ => None,
        }
    }

    /// The block `F` of stage `stage` (0-based).
    pub fn block(self, stage: usize, width: Width) -> Cell {
        match (self, stage) {
            (Self::Imagenet | Self::Small, 0) => block_a(width),
            (Self::Imagenet | Self::Small, 1) => block_b(width),
            (Self::Imagenet | Self::Small, _) => block_c(width),
            (Self::Resnet, _) => bottleneck(stage, width),
        }
    }

    /// What stands between the last module and the pooling: the closing batch norm and ReLU of a
    /// pre-activation network.
    pub fn closing(self) -> Option<Cell> {
        match self {
            Self::Imagenet | Self::Small => None,
            Self::Resnet => Some(Cell::Norm),
        }
    }
}

/// A multiplier of all channel counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Width(pub f64);

impl Width {
    /// The published widths.
    pub const FULL: Self = Self(1.0);

    /// `channels` times the multiplier, to the nearest multiple of 8 and at least 8. A multiplier
    /// of 1 leaves the channels as they are.
    pub fn of(self, channels: usize) -> usize {
        if self == Self::FULL {
            return channels;
        }
        let eights = (channels as f64 * self.0 / 8.0).round() as usize;
        eights.max(1) * 8
    }
}

/// 3 → 384 channels, stride 8.
fn inception_stem(w: Width) -> Cell {
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
        Cell::concat([Cell::max_pool(), Cell::conv_valid(w.of(192), 2)]),
    ])
}

/// 3 → 384 channels, stride 2: one 3×3 convolution, then a reduction as the full stem has them.
fn light_stem(w: Width) -> Cell {
    let reduced = w.of(384) - w.of(128);
    Cell::chain([
        Cell::conv(w.of(128), [3, 3]),
        Cell::concat([
            Cell::MaxPool {
                kernel_size: 3,
                stride: 2,
                padding: Padding::Same,
            },
            Cell::Conv(ConvLayer {
                out_channels: reduced,
                kernel_size: [3, 3],
                stride: 2,
                padding: Padding::Same,
                normalization: Normalization::Batch,
                activation: Activation::Relu,
            }),
        ]),
    ])
}

fn block_a(w: Width) -> Cell {
    Cell::chain([
        Cell::concat([
            Cell::chain([
                Cell::conv(w.of(32), [1, 1]),
                Cell::conv(w.of(48), [3, 3]),
                Cell::conv(w.of(64), [3, 3]),
            ]),
            Cell::chain([Cell::conv(w.of(32), [1, 1]), Cell::conv(w.of(32), [3, 3])]),
            Cell::conv(w.of(32), [1, 1]),
        ]),
        Cell::linear_conv(stage_channels(0, w)),
    ])
}

fn block_b(w: Width) -> Cell {
    Cell::chain([
        Cell::concat([
            Cell::chain([
                Cell::conv(w.of(128), [1, 1]),
                Cell::conv(w.of(160), [1, 7]),
                Cell::conv(w.of(192), [7, 1]),
            ]),
            Cell::conv(w.of(192), [1, 1]),
        ]),
        Cell::linear_conv(stage_channels(1, w)),
    ])
}

fn block_c(w: Width) -> Cell {
    Cell::chain([
        Cell::concat([
            Cell::chain([
                Cell::conv(w.of(192), [1, 1]),
                Cell::conv(w.of(224), [1, 3]),
                Cell::conv(w.of(256), [3, 1]),
            ]),
            Cell::conv(w.of(192), [1, 1]),
        ]),
        Cell::linear_conv(stage_channels(2, w)),
    ])
}

/// Channels of stage A, B and C of the Inception families. The later ones follow from what the
/// reductions concatenate, so that any width multiplier fits.
fn stage_channels(stage: usize, w: Width) -> usize {
    let a = w.of(384);
    match stage {
        0 => a,
        1 => reduction_a(w).out_channels(a),
        _ => reduction_b(w).out_channels(reduction_a(w).out_channels(a)),
    }
}

/// 384 → 1152 channels.
fn reduction_a(w: Width) -> Cell {
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
fn reduction_b(w: Width) -> Cell {
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

/// 7×7 stride 2 and a pool, without normalization: the first unit's pre-activation does that.
fn resnet_stem(w: Width) -> Cell {
    Cell::chain([
        bare_conv(w.of(64), 7, 2),
        Cell::MaxPool {
            kernel_size: 3,
            stride: 2,
            padding: Padding::Same,
        },
    ])
}

/// A convolution with neither normalization nor activation.
fn bare_conv(out_channels: usize, kernel_size: usize, stride: usize) -> Cell {
    Cell::Conv(ConvLayer {
        out_channels,
        kernel_size: [kernel_size; 2],
        stride,
        padding: Padding::Same,
        normalization: Normalization::None,
        activation: Activation::Identity,
    })
}

/// 1×1, 3×3 (with the stride), 1×1: the path of a bottleneck unit after its pre-activation.
fn bottleneck_path(stage: usize, stride: usize, w: Width) -> [Cell; 3] {
    let middle = w.of(64 << stage);
    [
        Cell::conv(middle, [1, 1]),
        Cell::Conv(ConvLayer {
            out_channels: middle,
            kernel_size: [3, 3],
            stride,
            padding: Padding::Same,
            normalization: Normalization::Batch,
            activation: Activation::Relu,
        }),
        bare_conv(w.of(256 << stage), 1, 1),
    ]
}

/// The residual function of a pre-activation bottleneck unit.
fn bottleneck(stage: usize, w: Width) -> Cell {
    Cell::chain(std::iter::once(Cell::Norm).chain(bottleneck_path(stage, 1, w)))
}

/// The first unit of a stage, where size and channels change: a projection beside the path, both
/// after the unit's pre-activation.
fn bottleneck_entry(stage: usize, w: Width) -> Cell {
    let stride = if stage == 0 { 1 } else { 2 };
    Cell::chain([
        Cell::Norm,
        Cell::Sum(vec![
            bare_conv(w.of(256 << stage), 1, stride),
            Cell::chain(bottleneck_path(stage, stride, w)),
        ]),
    ])
}

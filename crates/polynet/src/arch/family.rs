//! The network families: what surrounds and fills the modules.
//!
//! A family fixes the stem, the block of every stage, the entry of every stage (the reductions)
//! and what closes the network. The algebra fills the stages with modules over these blocks: any
//! polynomial works over any block, because a block keeps size and channels.
//!
//! - `imagenet`: the widths of the released PolyNet, for inputs of 299 or 331 pixels.
//! - `small`: the same three stages and block shapes behind a light stem that halves the size
//!   once, for inputs of 32 to 96 pixels; made narrow with the setting `width`.
//! - `tiny`: the same behind two convolutions at the input's own size and a max pool, for inputs of about
//!   32 pixels, where a stride so early costs accuracy.
//! - `resnet`: pre-activation residual networks of bottleneck units (He et al. 2016), which the
//!   paper compares with.
//! - `resnet-v1`: post-activation residual networks of bottleneck units (He et al. 2015).
//! - `inception-v4`: the blocks of Inception-v4 (Szegedy et al. 2016), which have no identity.
//! - `inception-resnet-v2`: Inception-ResNet-v2 as its public weights have it.

mod inception_resnet_v2;
mod inception_v4;
mod polynet;
mod resnet;

use super::ResidualScale;
use super::cell::{Activation, Cell};

/// A family of networks that share stem, blocks and reductions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// The released PolyNet's stem, blocks and widths.
    Imagenet,
    /// The same blocks behind a light stem, for small images.
    Small,
    /// The same blocks behind a stem that halves the size only after two convolutions, for tiny images.
    Tiny,
    /// Pre-activation ResNets of bottleneck units.
    Resnet,
    /// Post-activation ResNets of bottleneck units.
    ResnetV1,
    /// Inception-v4.
    InceptionV4,
    /// Inception-ResNet-v2 with the structure of its public weights.
    InceptionResnetV2,
}

impl Family {
    /// Every family, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::Imagenet,
        Self::Small,
        Self::Tiny,
        Self::Resnet,
        Self::ResnetV1,
        Self::InceptionV4,
        Self::InceptionResnetV2,
    ];

    /// The name used in specifications.
    pub fn name(self) -> &'static str {
        match self {
            Self::Imagenet => "imagenet",
            Self::Small => "small",
            Self::Tiny => "tiny",
            Self::Resnet => "resnet",
            Self::ResnetV1 => "resnet-v1",
            Self::InceptionV4 => "inception-v4",
            Self::InceptionResnetV2 => "inception-resnet-v2",
        }
    }

    /// Whether the stages are those of ResNets, each of which begins with a unit of its own.
    pub fn is_resnet(self) -> bool {
        matches!(self, Self::Resnet | Self::ResnetV1)
    }

    /// The labels of the stages, in order.
    pub fn stage_labels(self) -> &'static [&'static str] {
        if self.is_resnet() {
            &["1", "2", "3", "4"]
        } else {
            &["A", "B", "C"]
        }
    }

    /// Input size in pixels where a specification gives none.
    pub fn default_input_size(self) -> usize {
        match self {
            Self::Imagenet | Self::InceptionV4 | Self::InceptionResnetV2 => 299,
            Self::Small | Self::Tiny => 32,
            Self::Resnet | Self::ResnetV1 => 224,
        }
    }

    /// Number of classes where a specification gives none.
    pub fn default_classes(self) -> usize {
        match self {
            Self::Small | Self::Tiny => 10,
            _ => 1000,
        }
    }

    /// Residual scale where a specification gives none: β = 0.3 (paper §4) for the Inception
    /// families, plain addition for ResNets, the public schedule for Inception-ResNet-v2.
    pub fn default_residual_scale(self) -> ResidualScale {
        match self {
            Self::Imagenet | Self::Small | Self::Tiny | Self::InceptionV4 => {
                ResidualScale::Constant(0.3)
            }
            Self::Resnet | Self::ResnetV1 => ResidualScale::Constant(1.0),
            Self::InceptionResnetV2 => ResidualScale::Slim,
        }
    }

    /// Dropout probability before the classifier where a specification gives none.
    pub fn default_dropout(self) -> f64 {
        if self.is_resnet() { 0.0 } else { 0.2 }
    }

    /// Batch norm's ε: that of the public weights, which TensorFlow's networks have larger.
    pub fn norm_epsilon(self) -> f64 {
        match self {
            Self::InceptionV4 | Self::InceptionResnetV2 => 1e-3,
            _ => 1e-5,
        }
    }

    /// What follows the sum of a module. Pre-activation networks keep the sum as it is; the blocks
    /// of Inception-v4 end with ReLUs of their own.
    pub fn activation_after_sum(self) -> Activation {
        match self {
            Self::Resnet | Self::InceptionV4 => Activation::Identity,
            _ => Activation::Relu,
        }
    }

    /// What follows the sum of the network's last module: nothing in the public
    /// Inception-ResNet-v2, elsewhere as after any other.
    pub fn activation_after_last_sum(self) -> Activation {
        match self {
            Self::InceptionResnetV2 => Activation::Identity,
            _ => self.activation_after_sum(),
        }
    }

    /// The stem, from the image to the first stage.
    pub fn stem(self, width: Width) -> Cell {
        match self {
            Self::Imagenet => polynet::stem(width),
            Self::Small => polynet::light_stem(width),
            Self::Tiny => polynet::full_size_stem(width),
            Self::Resnet => resnet::stem(width),
            Self::ResnetV1 => resnet::post_activation_stem(width),
            Self::InceptionV4 => inception_v4::stem(width),
            Self::InceptionResnetV2 => inception_resnet_v2::stem(width),
        }
    }

    /// What stands before the modules of stage `stage` (0-based): a reduction, or nothing; in ResNets
    /// a unit, which is as wide within as the blocks.
    pub fn entry(self, stage: usize, width: Width, inner: Width) -> Option<Cell> {
        let [a, b] = match self {
            Self::Resnet => return Some(resnet::entry(stage, width, inner)),
            Self::ResnetV1 => return Some(resnet::post_activation_entry(stage, width, inner)),
            Self::Imagenet | Self::Small | Self::Tiny => {
                [polynet::reduction_a, polynet::reduction_b]
            }
            Self::InceptionV4 => [inception_v4::reduction_a, inception_v4::reduction_b],
            Self::InceptionResnetV2 => [
                inception_resnet_v2::reduction_a,
                inception_resnet_v2::reduction_b,
            ],
        };
        match stage {
            1 => Some(a(width)),
            2 => Some(b(width)),
            _ => None,
        }
    }

    /// The block `F` of stage `stage` (0-based), with `inner` times the published channels between
    /// its ends.
    pub fn block(self, stage: usize, width: Width, inner: Width) -> Cell {
        let [a, b, c] = match self {
            Self::Resnet => return resnet::block(stage, width, inner),
            Self::ResnetV1 => return resnet::post_activation_block(stage, width, inner),
            Self::Imagenet | Self::Small | Self::Tiny => {
                [polynet::block_a, polynet::block_b, polynet::block_c]
            }
            Self::InceptionV4 => [
                inception_v4::block_a,
                inception_v4::block_b,
                inception_v4::block_c,
            ],
            Self::InceptionResnetV2 => [
                inception_resnet_v2::block_a,
                inception_resnet_v2::block_b,
                inception_resnet_v2::block_c,
            ],
        };
        match stage {
            0 => a(width, inner),
            1 => b(width, inner),
            _ => c(width, inner),
        }
    }

    /// What stands between the last module and the pooling: the closing batch norm and ReLU of a
    /// pre-activation network, the last convolution of Inception-ResNet-v2.
    pub fn closing(self, width: Width) -> Option<Cell> {
        match self {
            Self::Resnet => Some(Cell::Norm),
            Self::InceptionResnetV2 => Some(inception_resnet_v2::closing(width)),
            _ => None,
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

    /// `channels`, a multiple of `step`, times the multiplier rounded to a multiple of `1/step`.
    /// Sums of widths keep their sum at any multiplier, as concatenations need it.
    pub fn in_steps_of(self, step: usize, channels: usize) -> usize {
        let scaled_step = (step as f64 * self.0).round() as usize;
        channels / step * scaled_step.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_their_channels_at_any_width() {
        for family in Family::ALL {
            let widths = [0.02, 0.0625, 0.3, 0.5, 0.77, 1.0, 1.9].map(Width);
            for (&width, &inner) in widths.iter().zip(widths.iter().rev()) {
                let mut channels = family.stem(width).out_channels(3);
                for (stage, label) in family.stage_labels().iter().enumerate() {
                    if let Some(entry) = family.entry(stage, width, inner) {
                        channels = entry.out_channels(channels);
                    }
                    let out_channels = family.block(stage, width, inner).out_channels(channels);
                    assert_eq!(out_channels, channels, "{family:?} {width:?} {label}");
                }
            }
        }
    }
}

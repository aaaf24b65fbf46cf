//! The crops of multi-crop evaluation (paper §5), as data.
//!
//! At a scale, the shorter side of the picture becomes `scale` pixels and the aspect ratio is kept.
//! Of the result, squares of that side are looked at: the first, centre and last one along the longer
//! side (left, centre, right; or top, middle, bottom). Of a square, six parts are: its four corners
//! and its centre of the network's input size, and the whole square resized to that size. Each is
//! seen as it is and mirrored.
//!
//! | protocol | scales | squares | parts | mirrored | crops |
//! |---|---|---|---|---|---|
//! | `10` | 1 | centre | corners, centre | both | 10 |
//! | `12` | 1 | centre | corners, centre, whole | both | 12 |
//! | `144` | 4 | first, centre, last | corners, centre, whole | both | 144 |
//! | `288` | 8 | first, centre, last | corners, centre, whole | both | 288 |
//!
//! Deviation: the paper does not publish its 8 scales. For an input of 224 pixels they are 256, 272, …
//! 368 here, for others in proportion; `144` takes GoogLeNet's 256, 288, 320 and 352.
//!
//! ```
//! use polynet::eval::crops::{CropPlan, Protocol};
//!
//! let plan = CropPlan::new(Protocol::Crops288, 331, None)?;
//! assert_eq!(plan.scales(), [378, 402, 426, 449, 473, 496, 520, 544]);
//! assert_eq!(plan.crops(500, 375).len(), 288);
//! # Ok::<(), polynet::eval::crops::CropPlanError>(())
//! ```

use crate::data::centre_offset;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The input size that the default scales are stated for, in pixels.
const REFERENCE_INPUT: f64 = 224.0;

/// The largest scale that is taken, in pixels.
const MAX_SCALE: usize = 4096;

/// How many crops of an image are looked at, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// Corners and centre of the centre square at one scale, mirrored too.
    #[serde(rename = "10")]
    Crops10,
    /// The same and the whole square.
    #[serde(rename = "12")]
    Crops12,
    /// Three squares at each of GoogLeNet's four scales.
    #[serde(rename = "144")]
    Crops144,
    /// Three squares at each of eight scales: the paper's.
    #[serde(rename = "288")]
    Crops288,
}

/// Which square of the resized picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Square {
    /// The left or top one.
    First,
    /// The middle one.
    Centre,
    /// The right or bottom one.
    Last,
}

/// Which part of a square.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The upper left corner.
    TopLeft,
    /// The upper right corner.
    TopRight,
    /// The lower left corner.
    BottomLeft,
    /// The lower right corner.
    BottomRight,
    /// The middle.
    Centre,
    /// All of it, resized to the input size.
    Whole,
}

/// Whether a crop is mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flip {
    /// As it is.
    Upright,
    /// Left and right exchanged.
    Mirrored,
}

/// One crop, in pixels of the picture resized to its scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CropRectangle {
    /// The shorter side of the resized picture.
    pub scale: usize,
    /// Which square it lies in.
    pub square: Square,
    /// Which part of the square it is.
    pub part: Part,
    /// Whether it is mirrored.
    pub flip: Flip,
    /// Distance from the left edge.
    pub left: usize,
    /// Distance from the top edge.
    pub top: usize,
    /// Width and height; larger than the input size for [`Part::Whole`] alone.
    pub side: usize,
}

/// Scales that make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CropPlanError {
    /// A scale is smaller than a crop or far too large.
    #[error(
        "expected scales between the model's input size {input_size} and {MAX_SCALE} pixels, got \
         {scale}: give the shorter side of the resized image"
    )]
    Scale {
        /// The model's input size.
        input_size: usize,
        /// The scale.
        scale: usize,
    },
    /// No scale, or the wrong number of them.
    #[error("--crops {protocol} takes {expected} scales, got {found}")]
    Count {
        /// Which protocol.
        protocol: Protocol,
        /// How many it takes.
        expected: usize,
        /// How many came.
        found: usize,
    },
}

/// The crops of a protocol for a network's input size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CropPlan {
    protocol: Protocol,
    input_size: usize,
    scales: Vec<usize>,
}

impl Protocol {
    /// The scales for an input of 224 pixels.
    fn reference_scales(self) -> &'static [usize] {
        match self {
            Self::Crops10 | Self::Crops12 => &[256],
            Self::Crops144 => &[256, 288, 320, 352],
            Self::Crops288 => &[256, 272, 288, 304, 320, 336, 352, 368],
        }
    }

    /// The scales for an input of `input_size` pixels: those for 224 in proportion, halves to the
    /// even number.
    pub fn default_scales(self, input_size: usize) -> Vec<usize> {
        let scaled = |&scale: &usize| {
            let exact = (scale * input_size) as f64 / REFERENCE_INPUT;
            (exact.round_ties_even() as usize).max(input_size)
        };
        self.reference_scales().iter().map(scaled).collect()
    }

    /// The squares of a scale.
    pub fn squares(self) -> &'static [Square] {
        match self {
            Self::Crops10 | Self::Crops12 => &[Square::Centre],
            Self::Crops144 | Self::Crops288 => &[Square::First, Square::Centre, Square::Last],
        }
    }

    /// The parts of a square.
    pub fn parts(self) -> &'static [Part] {
        const ALL: [Part; 6] = [
            Part::TopLeft,
            Part::TopRight,
            Part::BottomLeft,
            Part::BottomRight,
            Part::Centre,
            Part::Whole,
        ];
        match self {
            Self::Crops10 => &ALL[..5],
            Self::Crops12 | Self::Crops144 | Self::Crops288 => &ALL,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Crops10 => "10",
            Self::Crops12 => "12",
            Self::Crops144 => "144",
            Self::Crops288 => "288",
        })
    }
}

impl CropPlan {
    /// The crops of `protocol` for inputs of `input_size` pixels, at `scales` (shorter sides in
    /// pixels) or the default ones. Another number of scales than the protocol's is an error,
    /// because it would be another number of crops.
    ///
    /// # Errors
    /// If there are not as many scales as the protocol has, or one is smaller than the input.
    pub fn new(
        protocol: Protocol,
        input_size: usize,
        scales: Option<Vec<usize>>,
    ) -> Result<Self, CropPlanError> {
        let scales = scales.unwrap_or_else(|| protocol.default_scales(input_size));
        let expected = protocol.reference_scales().len();
        if scales.len() != expected {
            return Err(CropPlanError::Count {
                protocol,
                expected,
                found: scales.len(),
            });
        }
        let sensible = |scale: &usize| (input_size..=MAX_SCALE.max(input_size)).contains(scale);
        if let Some(&scale) = scales.iter().find(|scale| !sensible(scale)) {
            return Err(CropPlanError::Scale { input_size, scale });
        }
        Ok(Self {
            protocol,
            input_size,
            scales,
        })
    }

    /// The protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Width and height of a crop as the network sees it, in pixels.
    pub fn input_size(&self) -> usize {
        self.input_size
    }

    /// The shorter sides of the resized pictures, in pixels.
    pub fn scales(&self) -> &[usize] {
        &self.scales
    }

    /// Crops of one square.
    pub fn crops_per_square(&self) -> usize {
        2 * self.protocol.parts().len()
    }

    /// Crops of one scale.
    pub fn crops_per_scale(&self) -> usize {
        self.protocol.squares().len() * self.crops_per_square()
    }

    /// Crops of one image.
    pub fn crops_per_image(&self) -> usize {
        self.scales.len() * self.crops_per_scale()
    }

    /// Squares of one image, at all scales.
    pub fn squares_per_image(&self) -> usize {
        self.scales.len() * self.protocol.squares().len()
    }

    /// All crops of a picture of `width`×`height` pixels, in the order of their scores: by scale,
    /// square and part, upright before mirrored.
    pub fn crops(&self, width: u32, height: u32) -> Vec<CropRectangle> {
        (0..self.squares_per_image())
            .flat_map(|number| self.crops_of_square(number, width, height))
            .collect()
    }

    /// The crops of the `number`th square of a picture.
    pub(super) fn crops_of_square(
        &self,
        number: usize,
        width: u32,
        height: u32,
    ) -> impl Iterator<Item = CropRectangle> + use<'_> {
        let (scale, square, left, top) = self.square(number, width, height);
        let input = self.input_size;
        let (rest, middle) = (scale - input, centre_offset(input, scale));
        let parts = self.protocol.parts().iter().map(move |&part| {
            let (x, y, side) = match part {
                Part::TopLeft => (0, 0, input),
                Part::TopRight => (rest, 0, input),
                Part::BottomLeft => (0, rest, input),
                Part::BottomRight => (rest, rest, input),
                Part::Centre => (middle, middle, input),
                Part::Whole => (0, 0, scale),
            };
            (part, left + x, top + y, side)
        });
        parts.flat_map(move |(part, left, top, side)| {
            [Flip::Upright, Flip::Mirrored].map(|flip| CropRectangle {
                scale,
                square,
                part,
                flip,
                left,
                top,
                side,
            })
        })
    }

    /// Scale, place and upper left corner of the `number`th square of a picture.
    pub(super) fn square(
        &self,
        number: usize,
        width: u32,
        height: u32,
    ) -> (usize, Square, usize, usize) {
        let squares = self.protocol.squares();
        let scale = self.scales[number / squares.len()];
        let square = squares[number % squares.len()];
        let (resized_width, resized_height) = resized(scale, width, height);
        let offset = |length: usize| match square {
            Square::First => 0,
            Square::Centre => centre_offset(scale, length),
            Square::Last => length - scale,
        };
        (scale, square, offset(resized_width), offset(resized_height))
    }
}

/// Width and height of a picture whose shorter side becomes `scale` pixels; the longer one is rounded
/// down, as torchvision does.
pub(super) fn resized(scale: usize, width: u32, height: u32) -> (usize, usize) {
    let (width, height) = (width.max(1) as usize, height.max(1) as usize);
    let shorter = width.min(height);
    (scale * width / shorter, scale * height / shorter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [(Protocol, usize); 4] = [
        (Protocol::Crops10, 10),
        (Protocol::Crops12, 12),
        (Protocol::Crops144, 144),
        (Protocol::Crops288, 288),
    ];

    #[test]
    fn the_default_scales_are_those_for_224_in_proportion() {
        let scales = |protocol: Protocol, input| protocol.default_scales(input);
        assert_eq!(scales(Protocol::Crops144, 224), [256, 288, 320, 352]);
        assert_eq!(
            scales(Protocol::Crops288, 331),
            [378, 402, 426, 449, 473, 496, 520, 544]
        );
        assert_eq!(scales(Protocol::Crops10, 331), [378]);
    }

    #[test]
    fn a_wide_picture_has_its_squares_side_by_side_and_a_high_one_below_each_other() {
        let plan = CropPlan::new(Protocol::Crops144, 224, None).unwrap();
        // 500×250 at 256 is 512×256: squares at 0, 128 and 256.
        let squares = [0, 1, 2].map(|n| plan.square(n, 500, 250));
        assert_eq!(
            squares.map(|s| (s.0, s.2, s.3)),
            [(256, 0, 0), (256, 128, 0), (256, 256, 0)]
        );
        let squares = [0, 1, 2].map(|n| plan.square(n, 250, 500));
        assert_eq!(squares.map(|s| (s.2, s.3)), [(0, 0), (0, 128), (0, 256)]);
        let crops = plan.crops(500, 250);
        let corner = crops[2 * 12 + 2 * 3]; // last square, lower right corner
        assert_eq!(
            (corner.part, corner.left, corner.top),
            (Part::BottomRight, 288, 32)
        );
    }

    #[test]
    fn scales_that_make_no_sense_are_refused() {
        let plan = |scales| CropPlan::new(Protocol::Crops12, 224, Some(scales));
        let told = |scales| plan(scales).unwrap_err().to_string();
        assert!(told(vec![223]).contains("got 223"));
        assert!(told(vec![usize::MAX]).contains("4096"));
        assert!(told(vec![]).contains("takes 1 scales, got 0"));
        assert!(plan(vec![224]).is_ok());
    }

    proptest! {
        #[test]
        fn every_crop_lies_in_its_picture(
            width in 1u32..3000, height in 1u32..3000, input in 1usize..400, which in 0usize..4,
        ) {
            let (protocol, count) = ALL[which];
            let plan = CropPlan::new(protocol, input, None).unwrap();
            let crops = plan.crops(width, height);
            prop_assert_eq!(crops.len(), count);
            prop_assert_eq!(plan.crops_per_image(), count);
            for crop in crops {
                let (w, h) = resized(crop.scale, width, height);
                prop_assert!(crop.left + crop.side <= w && crop.top + crop.side <= h);
                let whole = crop.part == Part::Whole;
                prop_assert_eq!(crop.side, if whole { crop.scale } else { input });
            }
        }
    }
}

//! How a training picture is varied: the paper's multi-area crop, or pad and crop for small
//! images.
//!
//! ```
//! use polynet::data::{Augmentation, Preprocessing, sample_rng};
//!
//! let recipe = r#"kind = "multi-area-crop""#;
//! let augmentation: Augmentation = toml::from_str(recipe).unwrap();
//! assert_eq!(augmentation, Augmentation::multi_area_crop());
//!
//! let photo = image::RgbImage::new(64, 48);
//! let preprocessing = Preprocessing::imagenet(32);
//! let pixels = augmentation.apply(&photo, &preprocessing, &mut sample_rng(7, 0, 12));
//! assert_eq!(pixels.len(), 3 * 32 * 32);
//! ```
//!
//! Law: what happens to a sample depends on (seed, epoch, its number in the data set) alone, so
//! it is the same in any order, batch size or number of threads.

use image::RgbImage;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::{
    decode::decode,
    excerpt::{Target, decode_region},
    preprocessing::Preprocessing,
    resample::Region,
};
use crate::data::error::DataError;

/// Draws before a multi-area crop falls back to the centre.
const ATTEMPTS: usize = 10;

/// How a training picture is varied.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Augmentation {
    /// Not at all: the picture as evaluation sees it.
    None,
    /// A part of the picture, of any area from `min_area` to 1 (uniform) and any aspect ratio
    /// of a range, from 3/4 to 4/3 in the paper, resized to the input size (paper §4). The paper gives only the range of
    /// the ratio; it is drawn uniformly in its logarithm, so that wide and tall parts are
    /// equally likely. After ten draws that don't fit, the largest part in the centre that has
    /// an allowed ratio.
    MultiAreaCrop {
        /// The smallest share of the picture's area.
        #[serde(default = "paper_min_area")]
        min_area: f64,
        /// The narrowest and the widest ratio of width to height.
        #[serde(default = "paper_aspect")]
        aspect: [f64; 2],
        /// The chance that the picture is mirrored left to right.
        #[serde(default = "paper_flip")]
        flip: f64,
    },
    /// The evaluation's view shifted by up to `padding` pixels each way: for small images.
    PadCrop {
        /// The furthest shift, in pixels of the input.
        padding: usize,
        /// What fills the pixels that come in from outside.
        #[serde(default)]
        fill: PadFill,
        /// The chance that the picture is mirrored left to right.
        #[serde(default = "paper_flip")]
        flip: f64,
        /// Side, in pixels of the input, of a square about a random pixel that gets the mean colour
        /// (DeVries and Taylor 2017); 0 for none.
        #[serde(default)]
        cutout: usize,
    },
}

/// What fills the pixels outside a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PadFill {
    /// The picture mirrored at its edge; the edge itself isn't repeated.
    #[default]
    Reflect,
    /// The mean colour, which is zero after normalisation.
    Mean,
}

fn paper_min_area() -> f64 {
    0.08
}

fn paper_aspect() -> [f64; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}

fn paper_flip() -> f64 {
    0.5
}

impl Augmentation {
    /// The paper's (§4): area 8 % to 100 %, mirrored with chance 0.5.
    pub fn multi_area_crop() -> Self {
        Self::MultiAreaCrop {
            min_area: paper_min_area(),
            aspect: paper_aspect(),
            flip: paper_flip(),
        }
    }

    /// Shifts of up to `padding` pixels with mirrored edges, mirrored with chance 0.5.
    pub fn pad_crop(padding: usize) -> Self {
        Self::PadCrop {
            padding,
            fill: PadFill::Reflect,
            flip: paper_flip(),
            cutout: 0,
        }
    }

    /// Checks that the description makes sense for inputs of `input_size` pixels a side.
    ///
    /// # Errors
    /// Names the key, what it is and what it may be.
    pub fn validate(&self, input_size: usize) -> Result<(), DataError> {
        let flip = match *self {
            Self::None => return Ok(()),
            Self::MultiAreaCrop {
                min_area,
                aspect: [narrowest, widest],
                flip,
            } => {
                if !(narrowest > 0.0 && narrowest <= widest && widest.is_finite()) {
                    return Err(DataError::configuration(format!(
                        "augmentation: expected two positive numbers in aspect, the smaller \
                         first, got [{narrowest}, {widest}]"
                    )));
                }
                if !(min_area > 0.0 && min_area <= 1.0) {
                    return Err(DataError::configuration(format!(
                        "augmentation: expected min_area above 0 and at most 1, got {min_area}"
                    )));
                }
                flip
            }
            Self::PadCrop { padding, flip, .. } => {
                if padding >= input_size {
                    return Err(DataError::configuration(format!(
                        "augmentation: expected padding below the input size {input_size}, \
                         got {padding}"
                    )));
                }
                flip
            }
        };
        if (0.0..=1.0).contains(&flip) {
            return Ok(());
        }
        Err(DataError::configuration(format!(
            "augmentation: expected flip from 0 to 1, got {flip}"
        )))
    }

    /// A varied input, `[3, input_size, input_size]`, normalised as `preprocessing` says. A
    /// multi-area crop is resized with its interpolation (bilinear in the paper).
    pub fn apply(
        &self,
        image: &RgbImage,
        preprocessing: &Preprocessing,
        rng: &mut impl Rng,
    ) -> Vec<f32> {
        let mut out = vec![0.0; preprocessing.input_len()];
        self.apply_into(image, preprocessing, rng, &mut out);
        out
    }

    /// [`Self::apply`] into memory of the caller's.
    ///
    /// # Panics
    /// If `out` has not exactly [`Preprocessing::input_len`] numbers, or if a description that
    /// [`Self::validate`] refuses is used.
    pub fn apply_into(
        &self,
        image: &RgbImage,
        preprocessing: &Preprocessing,
        rng: &mut impl Rng,
        out: &mut [f32],
    ) {
        let (width, height) = image.dimensions();
        let size = preprocessing.input_size;
        let unmoved: Vec<_> = (0..size).map(Some).collect();
        match *self {
            Self::None => preprocessing.apply_into(image, out),
            Self::MultiAreaCrop {
                min_area,
                aspect,
                flip,
            } => {
                let region = multi_area_region(min_area, aspect, width, height, rng);
                let columns = mirrored(unmoved.clone(), flip, rng);
                preprocessing.render(image, region, &unmoved, &columns, out);
            }
            Self::PadCrop {
                padding,
                fill,
                flip,
                cutout,
            } => {
                let region = preprocessing.region(width, height);
                let rows = shifted(size, padding, fill, rng);
                let columns = mirrored(shifted(size, padding, fill, rng), flip, rng);
                preprocessing.render(image, region, &rows, &columns, out);
                cut_out(cutout, size, out, rng);
            }
        }
    }
}

impl Augmentation {
    /// [`Self::apply_into`] from an image file's bytes. Of a JPEG only what a multi-area crop
    /// needs is decoded, smaller where the crop is much larger than the input.
    ///
    /// # Errors
    /// As [`decode`].
    ///
    /// # Panics
    /// As [`Self::apply_into`].
    pub fn decode_into(
        &self,
        bytes: &[u8],
        preprocessing: &Preprocessing,
        rng: &mut impl Rng,
        out: &mut [f32],
    ) -> Result<(), DataError> {
        let Self::MultiAreaCrop {
            min_area,
            aspect,
            flip,
        } = *self
        else {
            self.apply_into(&decode(bytes)?, preprocessing, rng, out);
            return Ok(());
        };
        let size = preprocessing.input_size;
        let target = Target {
            size,
            interpolation: preprocessing.interpolation,
        };
        let excerpt = decode_region(bytes, &target, |width, height| {
            multi_area_region(min_area, aspect, width, height, rng)
        })?;
        let rows: Vec<_> = (0..size).map(Some).collect();
        let columns = mirrored(rows.clone(), flip, rng);
        preprocessing.render(&excerpt.image, excerpt.region, &rows, &columns, out);
        Ok(())
    }
}

/// The part of a `width`×`height` picture that one multi-area crop takes.
fn multi_area_region(
    min_area: f64,
    [narrowest, widest]: [f64; 2],
    width: u32,
    height: u32,
    rng: &mut impl Rng,
) -> Region {
    let (width, height) = (f64::from(width), f64::from(height));
    for _ in 0..ATTEMPTS {
        let area = width * height * rng.random_range(min_area..=1.0);
        let ratio = rng.random_range(narrowest.ln()..=widest.ln()).exp();
        let (crop_width, crop_height) = ((area * ratio).sqrt(), (area / ratio).sqrt());
        if crop_width <= width && crop_height <= height {
            return Region {
                left: (width - crop_width) * rng.random::<f64>(),
                top: (height - crop_height) * rng.random::<f64>(),
                width: crop_width,
                height: crop_height,
            };
        }
    }
    let crop_width = width.min(height * widest);
    let crop_height = height.min(width / narrowest);
    Region {
        left: (width - crop_width) / 2.0,
        top: (height - crop_height) / 2.0,
        width: crop_width,
        height: crop_height,
    }
}

/// `size` positions moved by the same random number of pixels, at most `padding` either way.
fn shifted(size: usize, padding: usize, fill: PadFill, rng: &mut impl Rng) -> Vec<Option<usize>> {
    let shift = rng.random_range(0..=2 * padding);
    let last = size - 1;
    (0..size)
        .map(|position| {
            // `padded` counts from the outer edge of the padding.
            let padded = position + shift;
            match (padded.checked_sub(padding), fill) {
                (Some(inside), _) if inside <= last => Some(inside),
                (_, PadFill::Mean) => None,
                (None, PadFill::Reflect) => Some(padding - padded),
                (Some(beyond), PadFill::Reflect) => Some(2 * last - beyond),
            }
        })
        .collect()
}

fn mirrored(
    mut columns: Vec<Option<usize>>,
    chance: f64,
    rng: &mut impl Rng,
) -> Vec<Option<usize>> {
    if rng.random_bool(chance) {
        columns.reverse();
    }
    columns
}

/// Sets a square of `side` pixels about a random one to the mean, which is zero; what of it lies
/// outside the picture is not there.
fn cut_out(side: usize, size: usize, out: &mut [f32], rng: &mut impl Rng) {
    if side == 0 {
        return;
    }
    let mut span = || {
        let end = rng.random_range(0..size) + side.div_ceil(2);
        end.saturating_sub(side)..end.min(size)
    };
    let (rows, columns) = (span(), span());
    for plane in out.chunks_exact_mut(size * size) {
        for row in plane.chunks_exact_mut(size).take(rows.end).skip(rows.start) {
            row[columns.clone()].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests;

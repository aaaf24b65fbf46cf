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
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::data::{sample_images::gradient, sample_rng};

    #[test]
    fn multi_area_crops_keep_to_the_papers_ranges_and_use_all_of_them() {
        let (width, height) = (640, 480);
        let draws: Vec<_> = (0..20_000)
            .map(|index| {
                multi_area_region(
                    0.08,
                    paper_aspect(),
                    width,
                    height,
                    &mut sample_rng(1, 0, index),
                )
            })
            .collect();
        let areas: Vec<_> = draws
            .iter()
            .map(|r| r.width * r.height / (640.0 * 480.0))
            .collect();
        let ratios: Vec<_> = draws.iter().map(|r| r.width / r.height).collect();
        let within = |values: &[f64], low: f64, high: f64| {
            values
                .iter()
                .all(|v| (low - 1e-9..=high + 1e-9).contains(v))
        };
        assert!(within(&areas, 0.08, 1.0) && within(&ratios, 0.75, 4.0 / 3.0));
        assert!(
            draws
                .iter()
                .all(|r| r.left >= 0.0 && r.left + r.width <= 640.0 + 1e-9)
        );
        assert!(
            draws
                .iter()
                .all(|r| r.top >= 0.0 && r.top + r.height <= 480.0 + 1e-9)
        );

        // A part of area a and ratio r is as high as the picture at a = r · 480/640, so up to
        // 3/4 · 3/4 = 9/16 every draw fits and the area must be uniform: equal thirds.
        let count =
            |low: f64, high: f64| areas.iter().filter(|a| (low..high).contains(a)).count() as f64;
        let thirds = [count(0.08, 0.24), count(0.24, 0.40), count(0.40, 0.56)];
        let mean = thirds.iter().sum::<f64>() / 3.0;
        assert!(
            thirds.iter().all(|n| (n / mean - 1.0).abs() < 0.06),
            "{thirds:?}"
        );
        // Wide and tall are equally likely where both fit.
        let small: Vec<_> = areas
            .iter()
            .zip(&ratios)
            .filter(|(a, _)| **a < 0.5)
            .collect();
        let wide = small.iter().filter(|(_, r)| **r > 1.0).count() as f64 / small.len() as f64;
        assert!((wide - 0.5).abs() < 0.02, "{wide}");
        assert!(areas.iter().any(|a| *a > 0.95) && areas.iter().any(|a| *a < 0.09));
    }

    #[test]
    fn the_range_of_aspect_ratios_is_kept() {
        for index in 0..200 {
            let square = multi_area_region(0.08, [1.0; 2], 640, 480, &mut sample_rng(1, 0, index));
            assert!((square.width / square.height - 1.0).abs() < 1e-9);
            let wide = multi_area_region(0.08, [2.0, 3.0], 640, 480, &mut sample_rng(1, 0, index));
            assert!((2.0 - 1e-9..=3.0 + 1e-9).contains(&(wide.width / wide.height)));
        }
    }

    #[test]
    fn decoding_a_part_changes_nothing_but_rounding() {
        let bytes = crate::data::picture::agreement::fixture("photo.jpg");
        let image = decode(&bytes).unwrap();
        let preprocessing = Preprocessing::imagenet(64);
        let augmentation = Augmentation::multi_area_crop();
        let mut part = vec![0.0; preprocessing.input_len()];
        for index in 0..30 {
            let rng = || sample_rng(4, 0, index);
            augmentation
                .decode_into(&bytes, &preprocessing, &mut rng(), &mut part)
                .unwrap();
            let whole = augmentation.apply(&image, &preprocessing, &mut rng());
            // One step of a byte is 1 / 255 / 0.224 = 0.0175.
            let furthest = whole
                .iter()
                .zip(&part)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(furthest < 0.018, "{index}: {furthest}");
        }
    }

    #[test]
    fn a_picture_in_which_nothing_fits_gives_its_centre() {
        // 100 × 2: the tallest allowed part is 2 high, 8/3 wide, 2.7 % of the area.
        let region = multi_area_region(0.08, paper_aspect(), 100, 2, &mut sample_rng(0, 0, 0));
        assert!((region.width - 8.0 / 3.0).abs() < 1e-9 && (region.height - 2.0).abs() < 1e-9);
        assert!((region.left - (50.0 - 4.0 / 3.0)).abs() < 1e-9 && region.top == 0.0);
    }

    #[test]
    fn a_cut_out_square_lies_about_any_pixel_and_changes_nothing_else() {
        let side = 5;
        let mut seen = BTreeSet::new();
        for index in 0..2_000 {
            let mut pixels = vec![1.0; 3 * 8 * 8];
            cut_out(side, 8, &mut pixels, &mut sample_rng(1, 0, index));
            let (first, others) = pixels.split_at(64);
            assert!(others.chunks_exact(64).all(|plane| plane == first));
            let is_zero = |y: usize, x: usize| first[8 * y + x] == 0.0;
            let rows: Vec<_> = (0..8).filter(|&y| (0..8).any(|x| is_zero(y, x))).collect();
            let columns: Vec<_> = (0..8).filter(|&x| (0..8).any(|y| is_zero(y, x))).collect();
            let zeros = first.iter().filter(|&&pixel| pixel == 0.0).count();
            assert_eq!(zeros, rows.len() * columns.len());
            assert!(rows.iter().zip(&rows[1..]).all(|(a, b)| a + 1 == *b));
            seen.insert((rows[0], rows.len()));
        }
        // About pixel 0 to 7: two to each side where there is room.
        let expected = [
            (0, 3),
            (0, 4),
            (0, 5),
            (1, 5),
            (2, 5),
            (3, 5),
            (4, 4),
            (5, 3),
        ];
        assert_eq!(seen, BTreeSet::from(expected));
    }

    #[test]
    fn pad_crop_reflects_or_fills_with_the_mean() {
        // Of 4 positions with padding 2 there are 5 shifts.
        let draw = |fill| -> BTreeSet<Vec<Option<usize>>> {
            (0..200)
                .map(|i| shifted(4, 2, fill, &mut sample_rng(3, 1, i)))
                .collect()
        };
        let some = |positions: [usize; 4]| positions.map(Some).to_vec();
        let reflected = [
            [2, 1, 0, 1],
            [1, 0, 1, 2],
            [0, 1, 2, 3],
            [1, 2, 3, 2],
            [2, 3, 2, 1],
        ];
        assert_eq!(draw(PadFill::Reflect), reflected.map(some).into());
        let (o, x) = (None, Some);
        let filled = [
            vec![o, o, x(0), x(1)],
            vec![o, x(0), x(1), x(2)],
            vec![x(0), x(1), x(2), x(3)],
            vec![x(1), x(2), x(3), o],
            vec![x(2), x(3), o, o],
        ];
        assert_eq!(draw(PadFill::Mean), filled.into());
    }

    #[test]
    fn half_of_the_pictures_are_mirrored() {
        let image = gradient(8, 8);
        let preprocessing = Preprocessing::small(8);
        let augmentation = Augmentation::pad_crop(0);
        let straight = preprocessing.apply(&image);
        let mirror: Vec<f32> = straight
            .chunks(8)
            .flat_map(|row| row.iter().rev().copied())
            .collect();
        let mut mirrored = 0;
        for index in 0..1000 {
            let got = augmentation.apply(&image, &preprocessing, &mut sample_rng(5, 0, index));
            assert!(got == straight || got == mirror);
            mirrored += usize::from(got == mirror);
        }
        assert!((430..570).contains(&mirrored), "{mirrored}");
    }

    #[test]
    fn no_augmentation_is_the_evaluations_view() {
        let image = gradient(40, 30);
        let preprocessing = Preprocessing::imagenet(16);
        let got = Augmentation::None.apply(&image, &preprocessing, &mut sample_rng(0, 0, 0));
        assert_eq!(got, preprocessing.apply(&image));
    }

    #[test]
    fn recipes_say_which_and_leave_the_rest_to_the_paper() {
        let cases = [
            ("kind = 'none'", Augmentation::None),
            ("kind = 'multi-area-crop'", Augmentation::multi_area_crop()),
            (
                "kind = 'multi-area-crop'\nmin_area = 0.25\nflip = 0.0",
                Augmentation::MultiAreaCrop {
                    min_area: 0.25,
                    aspect: paper_aspect(),
                    flip: 0.0,
                },
            ),
            ("kind = 'pad-crop'\npadding = 4", Augmentation::pad_crop(4)),
            (
                "kind = 'pad-crop'\npadding = 2\nfill = 'mean'",
                Augmentation::PadCrop {
                    padding: 2,
                    fill: PadFill::Mean,
                    flip: 0.5,
                    cutout: 0,
                },
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(toml::from_str::<Augmentation>(text).unwrap(), expected);
        }
        let error = toml::from_str::<Augmentation>("kind = 'pad-crop'\npading = 4").unwrap_err();
        assert!(error.to_string().contains("pading"), "{error}");
    }

    #[test]
    fn nonsense_is_refused_with_its_key() {
        let cases = [
            (
                "min_area",
                Augmentation::MultiAreaCrop {
                    min_area: 0.0,
                    aspect: paper_aspect(),
                    flip: 0.5,
                },
            ),
            (
                "min_area",
                Augmentation::MultiAreaCrop {
                    min_area: f64::NAN,
                    aspect: paper_aspect(),
                    flip: 0.5,
                },
            ),
            (
                "flip",
                Augmentation::MultiAreaCrop {
                    min_area: 0.1,
                    aspect: paper_aspect(),
                    flip: 1.5,
                },
            ),
            ("padding", Augmentation::pad_crop(32)),
            (
                "aspect",
                Augmentation::MultiAreaCrop {
                    min_area: 0.1,
                    aspect: [2.0, 1.0],
                    flip: 0.5,
                },
            ),
        ];
        for (key, augmentation) in cases {
            let error = augmentation.validate(32).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        Augmentation::pad_crop(31).validate(32).unwrap();
    }

    proptest! {
        #[test]
        fn any_picture_can_be_varied(
            width in 1u32..120, height in 1u32..120, input_size in 1usize..40, index: usize,
            padding in 0usize..39, min_area in 0.001f64..=1.0,
        ) {
            let image = gradient(width, height);
            let preprocessing = Preprocessing::imagenet(input_size);
            for augmentation in [
                Augmentation::pad_crop(padding.min(input_size - 1)),
                Augmentation::MultiAreaCrop { min_area, aspect: paper_aspect(), flip: 0.5 },
            ] {
                let mut rng = sample_rng(1, 2, index);
                let got = augmentation.apply(&image, &preprocessing, &mut rng);
                prop_assert!(got.iter().all(|v| v.abs() < 3.0));
            }
        }
    }
}

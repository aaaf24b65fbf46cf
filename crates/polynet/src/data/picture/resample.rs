//! Resizing any part of a picture, antialiased as Pillow does it.
//!
//! Law: rows are resized first, then columns, and each is rounded to bytes. The bytes are those of Pillow's
//! `resize` with the region as its `box`, where it begins with the rows, too: up to version 12 unless a picture is
//! more than 100 times as high as wide, from 13 on unless its height shrinks by more than twice as many pixels as its
//! width. We always do, so that a region's bytes don't depend on how much of the picture is decoded around it.
//!
//! Pillow keeps a box's edges and their distances as 32-bit floats, we keep them as 64-bit ones: where these differ,
//! bytes may.
//!
//! ```
//! use polynet::data::Region;
//!
//! // The middle half of a 100×60 picture.
//! let middle = Region { left: 25.0, top: 15.0, width: 50.0, height: 30.0 };
//! assert_ne!(middle, Region::whole(100, 60));
//! ```

use std::{cell::RefCell, f64::consts::PI};

use image::RgbImage;
use polynet_kernels::{
    Isa,
    resample::{Resampler, Taps, WEIGHT_BITS},
};
use serde::{Deserialize, Serialize};

/// How new pixels are made from old ones. All of them widen their filter when shrinking
/// (antialiasing), as Pillow does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    /// Triangle filter; the paper's (§4).
    #[default]
    Bilinear,
    /// Cubic filter with a = −0.5.
    Bicubic,
    /// Lanczos filter with three lobes.
    Lanczos,
}

impl Interpolation {
    /// How far a new pixel looks, in old pixels where the picture isn't shrunk.
    pub(crate) fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    /// What an old pixel counts at a distance from the new one, before all are made to sum to 1.
    fn weight(self, distance: f64) -> f64 {
        let x = distance.abs();
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { x.sin() / x };
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
            Self::Lanczos if x < 3.0 => sinc(x * PI) * sinc(x / 3.0 * PI),
            _ => 0.0,
        }
    }
}

/// A part of a picture, in pixels of the picture; edges may lie between pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// Distance from the left edge.
    pub left: f64,
    /// Distance from the top edge.
    pub top: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

impl Region {
    /// All of a picture.
    pub fn whole(width: u32, height: u32) -> Self {
        Self {
            left: 0.0,
            top: 0.0,
            width: f64::from(width),
            height: f64::from(height),
        }
    }

    /// The same region of a picture that is smaller by `factor`.
    pub(crate) fn divided_by(self, factor: f64) -> Self {
        Self {
            left: self.left / factor,
            top: self.top / factor,
            width: self.width / factor,
            height: self.height / factor,
        }
    }

    /// The part of it that lies within a picture, so that rounding can't step outside.
    fn within(self, width: u32, height: u32) -> Self {
        let (picture_width, picture_height) = (f64::from(width), f64::from(height));
        let left = self.left.clamp(0.0, picture_width);
        let top = self.top.clamp(0.0, picture_height);
        Self {
            left,
            top,
            width: self.width.clamp(0.0, picture_width - left),
            height: self.height.clamp(0.0, picture_height - top),
        }
    }
}

/// What a thread keeps from image to image.
#[derive(Default)]
struct Canvas {
    resampler: Resampler,
    across: Taps,
    down: Taps,
    weights: Vec<f64>,
    pixels: Vec<u8>,
}

/// Calls `then` with `region` resized to `width`×`height`, as `[height, width, 3]` bytes. A picture
/// without pixels counts as black.
///
/// Beside the result it takes about 100 bytes for each row and column of the region, and 200 for each of the result,
/// at most: the weights, sixteen rows that are resized at once, and the resized rows that one new row looks at.
pub(crate) fn with_resized<T>(
    image: &RgbImage,
    region: Region,
    [width, height]: [usize; 2],
    interpolation: Interpolation,
    then: impl FnOnce(&[u8]) -> T,
) -> T {
    thread_local! {
        static CANVAS: RefCell<Canvas> = RefCell::default();
    }
    let (picture_width, picture_height) = image.dimensions();
    let region = region.within(picture_width, picture_height);
    CANVAS.with_borrow_mut(|canvas| {
        canvas.pixels.clear();
        canvas.pixels.resize(3 * width * height, 0);
        if !image.is_empty() {
            let Canvas { weights, .. } = canvas;
            let (across, down) = (
                (region.left, region.width, picture_width),
                (region.top, region.height, picture_height),
            );
            write_taps(interpolation, across, width, weights, &mut canvas.across);
            write_taps(interpolation, down, height, weights, &mut canvas.down);
            canvas.resampler.run(
                Isa::best(),
                (image.as_raw(), picture_width as usize),
                [&canvas.across, &canvas.down],
                &mut canvas.pixels,
            );
        }
        then(&canvas.pixels)
    })
}

/// The windows and weights of `count` new pixels, of `length` old ones from `start` on, in a row of
/// `limit`. What lies beyond an end doesn't count, and the rest counts the more.
///
/// The order of every operation is Pillow's (`precompute_coeffs` in its `Resample.c`), and so are the bits.
fn write_taps(
    interpolation: Interpolation,
    (start, length, limit): (f64, f64, u32),
    count: usize,
    weights: &mut Vec<f64>,
    taps: &mut Taps,
) {
    let scale = length / count as f64;
    let stretch = scale.max(1.0);
    let shrink = 1.0 / stretch;
    let support = interpolation.support() * stretch;
    let limit = limit as usize;
    taps.clear();
    for index in 0..count {
        let centre = start + (index as f64 + 0.5) * scale;
        // These round down, and up to 0.
        let first = ((centre - support + 0.5) as usize).min(limit - 1);
        let end = ((centre + support + 0.5) as usize).clamp(first + 1, limit);
        let distance = |pixel: usize| (pixel as f64 - centre + 0.5) * shrink;
        weights.clear();
        weights.extend((first..end).map(|pixel| interpolation.weight(distance(pixel))));
        let total: f64 = weights.iter().sum();
        taps.push(first, weights.iter().map(|weight| fixed(weight / total)));
    }
}

/// A weight in the kernel's units, rounded; halves away from zero.
fn fixed(weight: f64) -> i32 {
    let units = weight * f64::from(1 << WEIGHT_BITS);
    (units + 0.5_f64.copysign(units)) as i32
}

#[cfg(test)]
mod tests {
    use image::Rgb;
    use proptest::prelude::*;

    use super::*;
    use crate::data::{
        Resize,
        sample_images::{byte_values, pattern, unnormalised},
    };

    const KINDS: [Interpolation; 3] = [
        Interpolation::Bilinear,
        Interpolation::Bicubic,
        Interpolation::Lanczos,
    ];

    /// Name, width, height, how, and the red channel of the 4×4 result.
    type Case = (&'static str, u32, u32, Resize, Interpolation, [i32; 16]);

    // Computed by Pillow 13.0:
    //   from PIL import Image
    //   image = lambda w, h: Image.frombytes("RGB", (w, h), byte_values((x * 37 + y * 91 + c * 53
    //       + x * y * 11) % 256 for y in range(h) for x in range(w) for c in range(3)))
    //   red = lambda i: list(i.getchannel(0).tobytes())
    //   red(image(7, 5).resize((4, 4), Image.BILINEAR)), and so on for the next four
    //   red(image(20, 12).resize((8, 8), Image.BILINEAR).crop((2, 2, 6, 6)))
    //   red(image(20, 12).resize((10, 6), Image.BILINEAR).crop((3, 1, 7, 5)))
    //   red(image(9, 6).crop((2, 1, 6, 5)))
    const PILLOW: &[Case] = &[
        (
            "shrunk, bilinear",
            7,
            5,
            Resize::None,
            Interpolation::Bilinear,
            [
                43, 106, 133, 177, 151, 153, 121, 105, 115, 137, 128, 132, 117, 95, 115, 75,
            ],
        ),
        (
            "shrunk, bicubic",
            7,
            5,
            Resize::None,
            Interpolation::Bicubic,
            [
                28, 106, 132, 185, 160, 158, 121, 97, 111, 139, 131, 136, 116, 94, 115, 67,
            ],
        ),
        (
            "shrunk, lanczos",
            13,
            11,
            Resize::None,
            Interpolation::Lanczos,
            [
                117, 137, 108, 104, 120, 119, 147, 107, 145, 136, 123, 142, 131, 136, 132, 133,
            ],
        ),
        (
            "enlarged, bilinear",
            3,
            2,
            Resize::Exact { size: 4 },
            Interpolation::Bilinear,
            [
                0, 23, 51, 74, 23, 48, 78, 102, 68, 97, 131, 159, 91, 121, 157, 187,
            ],
        ),
        (
            "enlarged, bicubic",
            3,
            2,
            Resize::Exact { size: 4 },
            Interpolation::Bicubic,
            [
                0, 12, 44, 66, 18, 41, 75, 100, 70, 98, 138, 166, 96, 127, 169, 200,
            ],
        ),
        (
            "exact, then centre",
            20,
            12,
            Resize::Exact { size: 8 },
            Interpolation::Bilinear,
            [
                129, 147, 117, 144, 132, 124, 123, 127, 128, 125, 143, 138, 129, 126, 131, 114,
            ],
        ),
        (
            "shorter side, then centre",
            20,
            12,
            Resize::ShorterSide { size: 6 },
            Interpolation::Bilinear,
            [
                135, 136, 97, 142, 148, 125, 130, 123, 133, 118, 139, 144, 134, 143, 124, 105,
            ],
        ),
        (
            "centre alone",
            9,
            6,
            Resize::ShorterSide { size: 6 },
            Interpolation::Bilinear,
            [
                187, 235, 27, 75, 44, 103, 162, 221, 157, 227, 41, 111, 14, 95, 176, 1,
            ],
        ),
    ];

    #[test]
    fn resizing_agrees_with_pillow_to_the_bit() {
        for &(name, width, height, resize, interpolation, expected) in PILLOW {
            let preprocessing = unnormalised(4, resize, interpolation);
            let got = byte_values(&preprocessing.apply(&pattern(width, height))[..16]);
            assert_eq!(got, expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_region_of_any_picture_can_be_resized(
            width in 1u32..90, height in 1u32..90, size in proptest::array::uniform2(1usize..40),
            corners in proptest::array::uniform4(0.0f64..=1.0), whole_pixels: bool, kind in 0usize..3,
        ) {
            let interpolation = KINDS[kind];
            let scale = |share: f64, side: u32| {
                let position = share * f64::from(side);
                if whole_pixels { position.round() } else { position }
            };
            let [left, right] = [corners[0], corners[1]].map(|x| scale(x, width));
            let [top, bottom] = [corners[2], corners[3]].map(|y| scale(y, height));
            let region = Region {
                left: left.min(right),
                top: top.min(bottom),
                width: (right - left).abs(),
                height: (bottom - top).abs(),
            };
            let flat = RgbImage::from_pixel(width, height, Rgb([9, 99, 199]));
            with_resized(&flat, region, size, interpolation, |pixels| {
                assert_eq!(pixels.len(), 3 * size[0] * size[1]);
                assert!(pixels.chunks_exact(3).all(|pixel| pixel == [9, 99, 199]));
            });
        }

        #[test]
        fn a_whole_picture_resized_to_its_size_is_itself(
            width in 1u32..60, height in 1u32..60, kind in 0usize..3,
        ) {
            let image = pattern(width, height);
            let size = [width, height].map(|side| side as usize);
            let whole = Region::whole(width, height);
            with_resized(&image, whole, size, KINDS[kind], |pixels| {
                assert_eq!(pixels, image.as_raw().as_slice());
            });
        }
    }

    #[test]
    fn a_picture_without_pixels_is_black() {
        let none = RgbImage::new(0, 3);
        let whole = Region::whole(0, 3);
        with_resized(&none, whole, [2, 1], Interpolation::Bilinear, |pixels| {
            assert_eq!(pixels, [0; 6]);
        });
    }
}

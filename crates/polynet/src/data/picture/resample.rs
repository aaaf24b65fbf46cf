//! Resizing any part of a picture to a square, antialiased as Pillow does it.
//!
//! ```
//! use polynet::data::Region;
//!
//! // The middle half of a 100×60 picture.
//! let middle = Region { left: 25.0, top: 15.0, width: 50.0, height: 30.0 };
//! assert_ne!(middle, Region::whole(100, 60));
//! ```

use std::cell::RefCell;

use fast_image_resize::{
    FilterType, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::U8x3,
};
use image::RgbImage;
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
    resizer: Resizer,
    pixels: Vec<u8>,
    between: Vec<u8>,
}

/// One call of the resizer: a region of what came before to `width`×`height`.
struct Step {
    region: Region,
    width: u32,
    height: u32,
}

/// RGB bytes, `[height, width, 3]`.
#[derive(Clone, Copy)]
struct Picture<'a> {
    bytes: &'a [u8],
    width: u32,
    height: u32,
}

/// Calls `then` with `region` resized to `size`×`size`, as `[size, size, 3]` bytes.
pub(crate) fn with_resized<T>(
    image: &RgbImage,
    region: Region,
    size: usize,
    interpolation: Interpolation,
    then: impl FnOnce(&[u8]) -> T,
) -> T {
    thread_local! {
        static CANVAS: RefCell<Canvas> = RefCell::default();
    }
    let (width, height) = image.dimensions();
    let region = region.within(width, height);
    let side = u32::try_from(size).expect("an input size fits 32 bits");
    let picture = Picture {
        bytes: image.as_raw(),
        width,
        height,
    };
    CANVAS.with_borrow_mut(|canvas| {
        match interpolation {
            Interpolation::Bilinear => canvas.at_once(picture, region, side),
            Interpolation::Bicubic => {
                canvas.in_two_steps(picture, region, side, FilterType::CatmullRom);
            }
            Interpolation::Lanczos => {
                canvas.in_two_steps(picture, region, side, FilterType::Lanczos3);
            }
        }
        then(&canvas.pixels)
    })
}

impl Canvas {
    fn at_once(&mut self, picture: Picture<'_>, region: Region, side: u32) {
        let step = Step {
            region,
            width: side,
            height: side,
        };
        step.take(
            &mut self.resizer,
            FilterType::Bilinear,
            picture,
            &mut self.pixels,
        );
    }

    /// fast_image_resize 6.1 does both directions at once on the columns from the first to the
    /// last output pixel's. Where an inner zero of these filters lets another output pixel reach
    /// further, it reads outside its buffer. One direction at a time, it reads the whole
    /// picture. The triangle of the bilinear filter has no inner zeros.
    fn in_two_steps(
        &mut self,
        picture: Picture<'_>,
        region: Region,
        side: u32,
        filter: FilterType,
    ) {
        let Picture { width, height, .. } = picture;
        // The longer side shrinks first: a thin picture asks for little in between.
        let down_first = height >= width;
        let (between_width, between_height) = if down_first {
            (width, side)
        } else {
            (side, height)
        };
        let across = |region: Region, height: u32| Region {
            top: 0.0,
            height: f64::from(height),
            ..region
        };
        let down = |region: Region, width: u32| Region {
            left: 0.0,
            width: f64::from(width),
            ..region
        };
        let (first, second) = if down_first {
            (down(region, width), across(region, side))
        } else {
            (across(region, height), down(region, side))
        };
        let first = Step {
            region: first,
            width: between_width,
            height: between_height,
        };
        first.take(&mut self.resizer, filter, picture, &mut self.between);
        let between = Picture {
            bytes: &self.between,
            width: between_width,
            height: between_height,
        };
        let second = Step {
            region: second,
            width: side,
            height: side,
        };
        second.take(&mut self.resizer, filter, between, &mut self.pixels);
    }
}

impl Step {
    fn take(
        &self,
        resizer: &mut Resizer,
        filter: FilterType,
        from: Picture<'_>,
        into: &mut Vec<u8>,
    ) {
        let Self {
            region,
            width,
            height,
        } = *self;
        into.clear();
        into.resize(3 * width as usize * height as usize, 0);
        // Typed images: the others would compile the resizer for every kind of pixel.
        let source = TypedImageRef::<U8x3>::from_buffer(from.width, from.height, from.bytes)
            .expect("an RGB image has three bytes a pixel");
        let mut target = TypedImage::<U8x3>::from_buffer(width, height, into)
            .expect("the target has three bytes a pixel");
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(filter))
            .crop(region.left, region.top, region.width, region.height);
        resizer
            .resize_typed(&source, &mut target, &options)
            .expect("the region lies within the picture");
    }
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
    fn resizing_agrees_with_pillow() {
        for &(name, width, height, resize, interpolation, expected) in PILLOW {
            let preprocessing = unnormalised(4, resize, interpolation);
            let got = byte_values(&preprocessing.apply(&pattern(width, height))[..16]);
            let furthest = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).max();
            assert!(
                furthest <= Some(1),
                "{name}: {got:?}, Pillow gives {expected:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_region_of_any_picture_can_be_resized(
            width in 1u32..90, height in 1u32..90, size in 1usize..40,
            corners in proptest::array::uniform4(0.0f64..=1.0), whole_pixels: bool, kind in 0usize..3,
        ) {
            let interpolation =
                [Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::Lanczos][kind];
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
            let has_area = region.width > 0.0 && region.height > 0.0;
            with_resized(&flat, region, size, interpolation, |pixels| {
                let close = |pixel: &[u8]| {
                    pixel.iter().zip([9u8, 99, 199]).all(|(a, b)| a.abs_diff(b) <= 1)
                };
                assert_eq!(pixels.len(), 3 * size * size);
                assert!(!has_area || pixels.chunks_exact(3).all(close));
            });
        }
    }
}

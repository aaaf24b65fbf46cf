//! Of a JPEG only what a crop needs: a part of the picture, smaller where the crop shrinks anyway.
//!
//! Law: resizing the excerpt's region gives what resizing the picture's region gives. Without
//! shrinking that is exact but for rounding; shrinking changes pixels by 1/255 on average.

use image::{RgbImage, metadata::Orientation};

use super::{
    decode::{decode, decode_any, usual_jpeg},
    jpeg::{Jpeg, Part, Shrink},
    resample::{Interpolation, Region},
};
use crate::data::error::DataError;

/// A picture that holds a region of another.
pub(crate) struct Excerpt {
    pub(crate) image: RgbImage,
    /// The region, in pixels of `image`.
    pub(crate) region: Region,
}

/// How a region is going to be used.
pub(crate) struct Target {
    /// Width and height that it is resized to.
    pub(crate) size: usize,
    pub(crate) interpolation: Interpolation,
}

/// How many times smaller than a region its resized picture must be, beyond the shrinking that
/// the decoder does. At 3 the result differs from that of the full picture by 1/255 on average.
const SHRINK_MARGIN: f64 = 3.0;

/// Decodes what resizing a region needs: a part of the picture, smaller where the region is much
/// larger than the target. `choose` is called once, with the width and height of the picture.
///
/// # Errors
/// As [`decode`], but damage outside the region may go unnoticed.
pub(crate) fn decode_region(
    bytes: &[u8],
    target: &Target,
    choose: impl FnOnce(u32, u32) -> Region,
) -> Result<Excerpt, DataError> {
    let upright = |jpeg: &Jpeg<'_>| jpeg.orientation() == Orientation::NoTransforms;
    let Some(jpeg) = usual_jpeg(bytes).filter(upright) else {
        let image = decode(bytes)?;
        let region = choose(image.width(), image.height());
        return Ok(Excerpt { image, region });
    };
    let (width, height) = jpeg.dimensions();
    let region = choose(width, height);
    match excerpt(&jpeg, region, target) {
        Some(excerpt) => Ok(excerpt),
        None => Ok(Excerpt {
            image: decode_any(bytes)?,
            region,
        }),
    }
}

fn excerpt(jpeg: &Jpeg<'_>, region: Region, target: &Target) -> Option<Excerpt> {
    let scale = region.width.min(region.height) / target.size as f64;
    let fits = |shrink: &Shrink| scale >= SHRINK_MARGIN * f64::from(*shrink as u8);
    let shrink = Shrink::ALL.into_iter().find(fits).unwrap_or(Shrink::Full);
    let (width, height) = jpeg.shrunk_dimensions(shrink);
    let region = region.divided_by(f64::from(shrink as u8));
    let (left, part_width) = reach(region.left, region.width, width, target);
    let (top, part_height) = reach(region.top, region.height, height, target);
    let part = Part {
        left,
        top,
        width: part_width,
        height: part_height,
    };
    let pixels = jpeg.decode(shrink, part)?;
    Some(Excerpt {
        image: RgbImage::from_raw(part_width as u32, part_height as u32, pixels)?,
        region: Region {
            left: region.left - left as f64,
            top: region.top - top as f64,
            ..region
        },
    })
}

/// The first pixel and the number of pixels that resizing `length` from `start` on looks at.
fn reach(start: f64, length: f64, limit: usize, target: &Target) -> (usize, usize) {
    let scale = (length / target.size as f64).max(1.0);
    let margin = target.interpolation.support() * scale + 1.0;
    let first = ((start - margin).max(0.0) as usize).min(limit - 1);
    let end = ((start + length + margin).ceil() as usize).clamp(first + 1, limit);
    (first, end - first)
}

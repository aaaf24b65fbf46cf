//! Of a JPEG only what a crop needs: a part of the picture, smaller where the crop shrinks anyway.
//!
//! Law: resizing the excerpt's region gives what resizing the picture's region gives. Without
//! shrinking that is exact; shrinking changes pixels by 1/255 on average.

use image::{RgbImage, metadata::Orientation};

use super::{
    decode::{decode_jpeg, decode_within, guarded, parse_jpeg},
    jpeg::{Jpeg, Part, Shrink},
    limits::Limits,
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
/// As [`decode`](super::decode), but damage outside the region may go unnoticed.
pub(crate) fn decode_region(
    bytes: &[u8],
    target: &Target,
    choose: impl FnOnce(u32, u32) -> Region,
) -> Result<Excerpt, DataError> {
    let limits = Limits::of_process()?;
    let upright = |jpeg: &Jpeg<'_>| jpeg.orientation() == Orientation::NoTransforms;
    match guarded(|| parse_jpeg(bytes))?.filter(upright) {
        Some(jpeg) => {
            let (width, height) = jpeg.dimensions();
            let region = choose(width, height);
            guarded(|| excerpt(&jpeg, region, target, limits))
        }
        None => {
            let image = decode_within(bytes, limits)?;
            let region = choose(image.width(), image.height());
            Ok(Excerpt { image, region })
        }
    }
}

fn excerpt(
    jpeg: &Jpeg<'_>,
    region: Region,
    target: &Target,
    limits: Limits,
) -> Result<Excerpt, DataError> {
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
    Ok(Excerpt {
        image: decode_jpeg(jpeg, shrink, part, limits)?,
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

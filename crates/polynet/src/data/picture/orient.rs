//! Turning a picture the way its camera was held.

use image::metadata::Orientation;

use super::limits::reserved;
use crate::data::error::DataError;

/// Pixels of a picture, `[height, width, 3]`.
pub(super) struct Pixels {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) rgb: Vec<u8>,
}

impl Pixels {
    /// The picture as it is seen upright.
    pub(super) fn upright(self, orientation: Orientation) -> Result<Self, DataError> {
        let (width, height) = (self.width, self.height);
        let lies = matches!(
            orientation,
            Orientation::Rotate90
                | Orientation::Rotate270
                | Orientation::Rotate90FlipH
                | Orientation::Rotate270FlipH
        );
        let (new_width, new_height) = if lies {
            (height, width)
        } else {
            (width, height)
        };
        // Where the pixel comes from that is seen in column x of row y.
        let from = |x: usize, y: usize| match orientation {
            Orientation::NoTransforms => (x, y),
            Orientation::FlipHorizontal => (width - 1 - x, y),
            Orientation::Rotate180 => (width - 1 - x, height - 1 - y),
            Orientation::FlipVertical => (x, height - 1 - y),
            Orientation::Rotate90FlipH => (y, x),
            Orientation::Rotate90 => (y, height - 1 - x),
            Orientation::Rotate270FlipH => (width - 1 - y, height - 1 - x),
            Orientation::Rotate270 => (width - 1 - y, x),
        };
        if orientation == Orientation::NoTransforms {
            return Ok(self);
        }
        let mut rgb = reserved(self.rgb.len())?;
        for y in 0..new_height {
            for x in 0..new_width {
                let (column, row) = from(x, y);
                rgb.extend_from_slice(&self.rgb[3 * (row * width + column)..][..3]);
            }
        }
        Ok(Self {
            width: new_width,
            height: new_height,
            rgb,
        })
    }
}

/// The orientation that Exif data state (TIFF 6.0, tag 0x0112 of the first directory), if they do.
pub(super) fn stated(exif: &[u8]) -> Option<Orientation> {
    let exif = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    let is_big_endian = match exif.get(..4)? {
        b"MM\0*" => true,
        b"II*\0" => false,
        _ => return None,
    };
    let number = |start: usize, length: usize| {
        let bytes = exif.get(start..start.checked_add(length)?)?;
        let push = |number: usize, byte: &u8| number << 8 | usize::from(*byte);
        Some(match is_big_endian {
            true => bytes.iter().fold(0, push),
            false => bytes.iter().rev().fold(0, push),
        })
    };
    let directory = number(4, 4)?;
    let entries = (0..number(directory, 2)?).map(|entry| directory.saturating_add(2 + 12 * entry));
    for entry in entries {
        if number(entry, 2)? == 0x0112 {
            return Orientation::from_exif(u8::try_from(number(entry.saturating_add(8), 2)?).ok()?);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, RgbImage};

    use super::*;
    use crate::data::sample_images::pattern;

    #[test]
    fn every_orientation_turns_as_the_crate_image_does() {
        for exif in 1..=8 {
            let orientation = Orientation::from_exif(exif).unwrap();
            let picture = pattern(7, 4);
            let pixels = Pixels {
                width: 7,
                height: 4,
                rgb: picture.as_raw().clone(),
            };
            let ours = pixels.upright(orientation).unwrap();
            let ours = RgbImage::from_raw(ours.width as u32, ours.height as u32, ours.rgb);
            let mut theirs = DynamicImage::from(picture);
            theirs.apply_orientation(orientation);
            assert_eq!(ours.unwrap(), theirs.into_rgb8(), "{exif}");
        }
    }
}

//! PNG by the crate `png`: whatever it holds becomes 8-bit RGB. Of 16 bits the upper 8 are used and
//! transparency is dropped, as Pillow does it. Profiles and texts are passed by unread, so that they
//! cost no memory.

use std::io::Cursor;

use image::RgbImage;
use image::metadata::Orientation;
use png::{BitDepth, ColorType, Decoder, DecodingError, Encoder, Reader, Transformations};

use super::limits::{Limits, reserved};
use super::orient;
use crate::data::error::{DataError, DataErrorKind};

/// A PNG whose header was read.
pub(super) struct Png<'a> {
    reader: Reader<Cursor<&'a [u8]>>,
    limits: Limits,
}

impl<'a> Png<'a> {
    /// Reads everything up to the picture's data.
    pub(super) fn parse(bytes: &'a [u8], limits: Limits) -> Result<Self, DataError> {
        let memory = usize::try_from(limits.memory).unwrap_or(usize::MAX);
        let mut decoder =
            Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: memory });
        decoder.set_ignore_iccp_chunk(true);
        decoder.set_ignore_text_chunk(true);
        decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
        let reader = decoder.read_info().map_err(|error| wrong(&error))?;
        Ok(Self { reader, limits })
    }

    /// Width and height in pixels.
    pub(super) fn dimensions(&self) -> (u32, u32) {
        self.reader.info().size()
    }

    /// How the picture is to be turned to be seen upright.
    pub(super) fn orientation(&self) -> Orientation {
        let exif = self.reader.info().exif_metadata.as_deref();
        let stated = exif.and_then(orient::stated);
        stated.unwrap_or(Orientation::NoTransforms)
    }

    pub(super) fn is_grey(&self) -> bool {
        let colours = self.reader.info().color_type;
        matches!(colours, ColorType::Grayscale | ColorType::GrayscaleAlpha)
    }

    pub(super) fn has_alpha(&self) -> bool {
        let (colours, _) = self.reader.output_color_type();
        matches!(colours, ColorType::Rgba | ColorType::GrayscaleAlpha)
    }

    pub(super) fn is_deep(&self) -> bool {
        self.reader.info().bit_depth == BitDepth::Sixteen
    }

    pub(super) fn is_animated(&self) -> bool {
        self.reader.info().animation_control.is_some()
    }

    /// Its pixels, `[height, width, 3]`.
    pub(super) fn decode(mut self) -> Result<Vec<u8>, DataError> {
        let (width, height) = self.dimensions();
        let pixels = u64::from(width) * u64::from(height);
        let channels = self.reader.output_color_type().0.samples() as u64;
        let out = if channels == 3 { 0 } else { 3 * pixels };
        self.limits
            .expect((width, height), channels * pixels + out)?;
        let mut decoded = reserved((channels * pixels) as usize)?;
        decoded.resize((channels * pixels) as usize, 0);
        self.reader
            .next_frame(&mut decoded)
            .map_err(|error| wrong(&error))?;
        if channels == 3 {
            return Ok(decoded);
        }
        let mut rgb = reserved(3 * pixels as usize)?;
        for pixel in decoded.chunks_exact(channels as usize) {
            match *pixel {
                [grey] | [grey, _] => rgb.extend([grey; 3]),
                [red, green, blue, ..] => rgb.extend([red, green, blue]),
                [] => {}
            }
        }
        Ok(rgb)
    }
}

/// A picture as the bytes of a PNG file.
///
/// # Panics
/// If it has no pixel.
pub fn encode(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, picture.width(), picture.height());
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(picture.as_raw())?;
        writer.finish()
    });
    written.expect("a picture with a pixel is a PNG, and memory takes it");
    bytes
}

fn wrong(error: &DecodingError) -> DataError {
    match error {
        DecodingError::LimitsExceeded => DataError::new(
            DataErrorKind::TooLarge,
            format!(
                "its PNG asks for more memory than a picture may; {}",
                Limits::HELP
            ),
        ),
        _ => DataError::new(DataErrorKind::Decode, format!("can't be decoded: {error}")),
    }
}

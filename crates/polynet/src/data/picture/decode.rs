//! Bytes of a JPEG or PNG file to an RGB image, `[height, width, 3]`, 8 bits a channel.
//!
//! The format is told by the content, never by the name. Grey becomes RGB, 16 bits become 8,
//! alpha is dropped (as PyTorch's image folders do), CMYK JPEGs are converted as Pillow does it, and an EXIF
//! orientation is applied, so that a picture reaches the network the way a viewer shows it
//! (PyTorch's image folders ignore it). A JPEG that ends early is refused rather than padded
//! with grey.
//!
//! ```
//! let error = polynet::data::decode(b"GIF89a...").unwrap_err();
//! assert!(error.to_string().contains("expected a JPEG or PNG"));
//! ```

use std::{fs::File, io::Read, panic::AssertUnwindSafe, panic::catch_unwind, path::Path};

use image::{ImageFormat, RgbImage, metadata::Orientation};

use super::{
    jpeg::{Fault, Jpeg, Part, Shrink},
    limits::Limits,
    orient::Pixels,
    png::Png,
};
use crate::data::error::{DataError, DataErrorKind};

/// The most bytes an image file may have: 256 MiB.
pub const MAX_FILE_BYTES: u64 = 256 << 20;

/// Decodes a JPEG or PNG within the limits of the process.
///
/// # Errors
/// As [`decode_within`], and if the limits are badly written.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, DataError> {
    decode_within(bytes, Limits::of_process()?)
}

/// Decodes a JPEG or PNG.
///
/// # Errors
/// [`DataErrorKind::Decode`] for anything that is not a whole JPEG or PNG or that is coded in a way
/// that is not read, [`DataErrorKind::TooLarge`] for what takes more memory than allowed.
pub fn decode_within(bytes: &[u8], limits: Limits) -> Result<RgbImage, DataError> {
    guarded(|| {
        let (pixels, orientation) = match recognise(bytes)? {
            Format::Jpeg => {
                let jpeg = Jpeg::parse(bytes).map_err(jpeg_error)?;
                (whole(&jpeg, limits)?, jpeg.orientation())
            }
            Format::Png => {
                let png = Png::parse(bytes, limits)?;
                let ((width, height), orientation) = (png.dimensions(), png.orientation());
                let pixels = Pixels {
                    width: width as usize,
                    height: height as usize,
                    rgb: png.decode()?,
                };
                (pixels, orientation)
            }
        };
        if orientation != Orientation::NoTransforms {
            let size = (pixels.width as u32, pixels.height as u32);
            limits.expect(size, 2 * pixels.rgb.len() as u64)?;
        }
        picture(pixels.upright(orientation)?)
    })
}

/// What a decoder answers; if it crashes, an error that costs this file and nothing else.
pub(super) fn guarded<T>(decoder: impl FnOnce() -> Result<T, DataError>) -> Result<T, DataError> {
    let crashed = |_| Err(broken("its decoder crashed on it; please report the file"));
    catch_unwind(AssertUnwindSafe(decoder)).unwrap_or_else(crashed)
}

/// A JPEG, or nothing for what has no JPEG's content.
pub(super) fn parse_jpeg(bytes: &[u8]) -> Result<Option<Jpeg<'_>>, DataError> {
    match recognise(bytes)? {
        Format::Jpeg => Jpeg::parse(bytes).map(Some).map_err(jpeg_error),
        Format::Png => Ok(None),
    }
}

/// A part of a JPEG.
pub(super) fn decode_jpeg(
    jpeg: &Jpeg<'_>,
    shrink: Shrink,
    part: Part,
    limits: Limits,
) -> Result<RgbImage, DataError> {
    limits.expect(jpeg.dimensions(), jpeg.memory(shrink, part))?;
    picture(Pixels {
        width: part.width,
        height: part.height,
        rgb: jpeg.decode(shrink, part).map_err(jpeg_error)?,
    })
}

fn whole(jpeg: &Jpeg<'_>, limits: Limits) -> Result<Pixels, DataError> {
    let (width, height) = jpeg.dimensions();
    let part = Part {
        left: 0,
        top: 0,
        width: width as usize,
        height: height as usize,
    };
    limits.expect((width, height), jpeg.memory(Shrink::Full, part))?;
    Ok(Pixels {
        width: part.width,
        height: part.height,
        rgb: jpeg.decode(Shrink::Full, part).map_err(jpeg_error)?,
    })
}

fn picture(pixels: Pixels) -> Result<RgbImage, DataError> {
    RgbImage::from_raw(pixels.width as u32, pixels.height as u32, pixels.rgb)
        .ok_or_else(|| broken("it has fewer pixels than it says"))
}

fn jpeg_error(fault: Fault) -> DataError {
    let kind = match fault {
        Fault::Memory => DataErrorKind::TooLarge,
        _ => DataErrorKind::Decode,
    };
    DataError::new(kind, fault.to_string())
}

/// What is known of a picture without decoding it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traits {
    pub(crate) format: Format,
    /// Grey, with or without transparency.
    pub(crate) is_grey: bool,
    /// Ink colours.
    pub(crate) is_ink: bool,
    /// 16 bits a channel.
    pub(crate) is_deep: bool,
    pub(crate) has_alpha: bool,
    pub(crate) is_animated: bool,
    /// Turned by its EXIF orientation.
    pub(crate) is_turned: bool,
}

/// The format of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Jpeg,
    Png,
}

/// Reads what comes before a picture's data.
///
/// # Errors
/// As [`decode`].
pub(crate) fn traits(bytes: &[u8]) -> Result<Traits, DataError> {
    guarded(|| match recognise(bytes)? {
        Format::Jpeg => {
            let jpeg = Jpeg::parse(bytes).map_err(jpeg_error)?;
            Ok(Traits {
                format: Format::Jpeg,
                is_grey: jpeg.channels() == 1,
                is_ink: jpeg.channels() == 4,
                is_deep: false,
                has_alpha: false,
                is_animated: false,
                is_turned: jpeg.orientation() != Orientation::NoTransforms,
            })
        }
        Format::Png => {
            let png = Png::parse(bytes, Limits::of_process()?)?;
            Ok(Traits {
                format: Format::Png,
                is_grey: png.is_grey(),
                is_ink: false,
                is_deep: png.is_deep(),
                has_alpha: png.has_alpha(),
                is_animated: png.is_animated(),
                is_turned: png.orientation() != Orientation::NoTransforms,
            })
        }
    })
}

/// Reads and decodes one image file.
///
/// # Errors
/// As [`decode`], and [`DataErrorKind::Io`]; each names the path.
pub fn read_image(path: &Path) -> Result<RgbImage, DataError> {
    let location = path.display().to_string();
    read_file(path)
        .and_then(|bytes| decode(&bytes))
        .map_err(|error| error.at(location))
}

/// Reads a whole file, unless it is beyond [`MAX_FILE_BYTES`].
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, DataError> {
    let location = path.display().to_string();
    let io = |error: &std::io::Error| DataError::io(location.clone(), error);
    let file = File::open(path).map_err(|error| io(&error))?;
    let size = file.metadata().map_err(|error| io(&error))?.len();
    check_file_size(size).map_err(|error| error.at(location.clone()))?;
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // A pipe or a growing file has no size to trust, so the limit holds while reading too.
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| io(&error))?;
    check_file_size(bytes.len() as u64).map_err(|error| error.at(location.clone()))?;
    Ok(bytes)
}

/// Refuses what is beyond [`MAX_FILE_BYTES`].
pub(crate) fn check_file_size(size: u64) -> Result<(), DataError> {
    if size <= MAX_FILE_BYTES {
        return Ok(());
    }
    Err(DataError::new(
        DataErrorKind::TooLarge,
        format!("expected an image file of at most {MAX_FILE_BYTES} bytes, it has {size}"),
    ))
}

fn recognise(bytes: &[u8]) -> Result<Format, DataError> {
    if bytes.is_empty() {
        return Err(broken("the file is empty, expected a JPEG or PNG"));
    }
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => Ok(Format::Jpeg),
        Ok(ImageFormat::Png) => Ok(Format::Png),
        Ok(other) => Err(broken(format!(
            "expected a JPEG or PNG, the content is {other:?}; convert it first"
        ))),
        Err(_) => Err(broken(
            "expected a JPEG or PNG, the content is neither; convert it first",
        )),
    }
}

fn broken(message: impl Into<String>) -> DataError {
    DataError::new(DataErrorKind::Decode, message)
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, ImageBuffer, Luma, Rgb, Rgba};

    use super::*;
    use crate::data::sample_images::{encode, gradient};

    /// A 16x16 CMYK JPEG, all one orange (0 %, 50 %, 100 %, 0 %), written by Pillow 13.0:
    /// `Image.new("CMYK", (16, 16), (0, 128, 255, 0)).save("cmyk.jpg", quality=50)`.
    const CMYK: &[u8] = include_bytes!("../fixtures/cmyk.jpg");

    #[test]
    fn grey_alpha_and_16_bit_images_become_rgb8() {
        let grey = ImageBuffer::from_pixel(3, 2, Luma([128u8])).into();
        let deep_grey = ImageBuffer::from_pixel(3, 2, Luma([0x8080u16])).into();
        let alpha = ImageBuffer::from_pixel(3, 2, Rgba([10u8, 20, 30, 0])).into();
        let deep = ImageBuffer::from_pixel(3, 2, Rgb([0x0A0Au16, 0x1414, 0x1E1E])).into();
        let cases: [(&str, DynamicImage, [u8; 3]); 4] = [
            ("grey", grey, [128, 128, 128]),
            ("16-bit grey", deep_grey, [128, 128, 128]),
            ("transparent", alpha, [10, 20, 30]),
            ("16-bit colour", deep, [10, 20, 30]),
        ];
        for (name, image, expected) in cases {
            let decoded = decode(&encode(&image, ImageFormat::Png)).unwrap();
            assert_eq!(decoded.dimensions(), (3, 2), "{name}");
            assert!(decoded.pixels().all(|pixel| pixel.0 == expected), "{name}");
        }
    }

    #[test]
    fn a_grey_jpeg_becomes_rgb() {
        let grey: DynamicImage = ImageBuffer::from_pixel(9, 7, Luma([90u8])).into();
        let decoded = decode(&encode(&grey, ImageFormat::Jpeg)).unwrap();
        assert_eq!(decoded.dimensions(), (9, 7));
        assert!(
            decoded
                .pixels()
                .all(|p| p[0] == p[1] && p[0].abs_diff(90) <= 2)
        );
    }

    #[test]
    fn a_cmyk_jpeg_is_converted() {
        let decoded = decode(CMYK).unwrap();
        assert_eq!(decoded.dimensions(), (16, 16));
        let [red, green, blue] = decoded.get_pixel(8, 8).0;
        assert!(
            red > 245 && green.abs_diff(127) < 10 && blue < 10,
            "{red} {green} {blue}"
        );
    }

    #[test]
    fn the_exif_orientation_is_applied() {
        // Orientation 6: the camera was turned, so the viewer turns a quarter clockwise.
        let exif = b"\xFF\xE1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let jpeg = encode(&gradient(20, 10).into(), ImageFormat::Jpeg);
        let turned: Vec<u8> = [&jpeg[..2], exif.as_slice(), &jpeg[2..]].concat();
        assert_eq!(decode(&jpeg).unwrap().dimensions(), (20, 10));
        assert_eq!(decode(&turned).unwrap().dimensions(), (10, 20));
    }

    #[test]
    fn a_jpeg_cut_anywhere_is_an_error() {
        let jpeg = encode(&gradient(24, 24).into(), ImageFormat::Jpeg);
        for end in 0..jpeg.len() {
            let error = decode(&jpeg[..end]).unwrap_err();
            assert_eq!(error.kind(), DataErrorKind::Decode, "cut at {end}");
        }
    }

    #[test]
    fn a_png_cut_anywhere_in_its_data_is_an_error() {
        let png = encode(&gradient(24, 24).into(), ImageFormat::Png);
        // The last 16 bytes are the checksum and the closing chunk, without which it is whole.
        for end in 0..png.len() - 16 {
            assert!(decode(&png[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn other_content_is_named_whatever_the_file_is_called() {
        for (bytes, expected) in [
            (b"".as_slice(), "the file is empty"),
            (b"GIF89a\x01\0\x01\0", "the content is Gif"),
            (b"hello, this is text", "the content is neither"),
        ] {
            let error = decode(bytes).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn absurd_dimensions_are_refused_before_memory_is_asked_for() {
        let mut png = encode(&gradient(4, 4).into(), ImageFormat::Png);
        png[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]); // 65536 x 65536
        let checksum = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&checksum.to_be_bytes());
        let error = decode(&png).unwrap_err();
        assert_eq!(error.kind(), DataErrorKind::TooLarge, "{error}");
    }

    #[test]
    fn profiles_and_texts_of_a_png_are_passed_by_unread() {
        let png = encode(&gradient(8, 8).into(), ImageFormat::Png);
        let header = 8 + 25;
        let mut with_chunks = png[..header].to_vec();
        for (kind, content) in [
            (b"iCCP", b"name\0\0no profile".as_slice()),
            (b"zTXt", b"key\0\0no text at"),
        ] {
            with_chunks.extend((content.len() as u32).to_be_bytes());
            let chunk = [kind.as_slice(), content].concat();
            with_chunks.extend(&chunk);
            with_chunks.extend(crc32(&chunk).to_be_bytes());
        }
        with_chunks.extend(&png[header..]);
        assert_eq!(decode(&with_chunks).unwrap(), decode(&png).unwrap());
    }

    #[test]
    fn a_picture_beyond_the_limit_of_memory_is_refused_with_what_to_do() {
        let picture = gradient(40, 30).into();
        for format in [ImageFormat::Jpeg, ImageFormat::Png] {
            let bytes = encode(&picture, format);
            assert!(decode_within(&bytes, Limits { memory: 1 << 20 }).is_ok());
            let error = decode_within(&bytes, Limits { memory: 3000 }).unwrap_err();
            assert_eq!(error.kind(), DataErrorKind::TooLarge);
            let text = error.to_string();
            assert!(text.contains("POLYNET_IMAGE_MEMORY"), "{text}");
        }
    }

    #[test]
    fn a_decoder_that_crashes_costs_its_file_alone() {
        let crashed = guarded::<()>(|| panic!("a decoder's fault"));
        assert_eq!(crashed.unwrap_err().kind(), DataErrorKind::Decode);
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
            })
        })
    }

    proptest::proptest! {
        #[test]
        fn damaged_files_never_panic(position in 0usize..2000, value: u8, png: bool) {
            let format = if png { ImageFormat::Png } else { ImageFormat::Jpeg };
            let mut bytes = encode(&gradient(16, 16).into(), format);
            let position = position % bytes.len();
            bytes[position] = value;
            if let Err(error) = decode(&bytes) {
                proptest::prop_assert!(!error.to_string().contains("crashed"), "{}", error);
            }
        }
    }
}

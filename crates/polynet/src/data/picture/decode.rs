//! Bytes of a JPEG or PNG file to an RGB image, `[height, width, 3]`, 8 bits a channel.
//!
//! The format is told by the content, never by the name. Grey becomes RGB, 16 bits become 8,
//! alpha is dropped (as PyTorch's image folders do), CMYK JPEGs are converted, and an EXIF
//! orientation is applied, so that a picture reaches the network the way a viewer shows it
//! (PyTorch's image folders ignore it). A JPEG that ends early is refused rather than padded
//! with grey.
//!
//! ```
//! let error = polynet::data::decode(b"GIF89a...").unwrap_err();
//! assert!(error.to_string().contains("expected a JPEG or PNG"));
//! ```

use std::{fs::File, io::Cursor, io::Read, path::Path};

use image::{
    DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage, metadata::Orientation,
};

use super::jpeg::{Jpeg, Part, Shrink};
use crate::data::error::{DataError, DataErrorKind};

/// The most pixels an image may have: 100 million, 300 MB as RGB. More is refused before any
/// memory for them is asked for.
pub const MAX_PIXELS: u64 = 100_000_000;

/// The most bytes an image file may have: 256 MiB.
pub const MAX_FILE_BYTES: u64 = 256 << 20;

/// The most memory a decoder may ask for: an image of [`MAX_PIXELS`] with 16-bit alpha.
const MAX_DECODER_BYTES: u64 = 8 * MAX_PIXELS;

/// Decodes a JPEG or PNG.
///
/// # Errors
/// [`DataErrorKind::Decode`] for anything that is not a whole JPEG or PNG,
/// [`DataErrorKind::TooLarge`] beyond [`MAX_PIXELS`].
pub fn decode(bytes: &[u8]) -> Result<RgbImage, DataError> {
    match usual_jpeg(bytes).and_then(|jpeg| whole(&jpeg)) {
        Some(image) => Ok(image),
        None => decode_any(bytes),
    }
}

/// A JPEG that our own decoder knows.
pub(super) fn usual_jpeg(bytes: &[u8]) -> Option<Jpeg<'_>> {
    let jpeg = Jpeg::parse(bytes)?;
    let (width, height) = jpeg.dimensions();
    (u64::from(width) * u64::from(height) <= MAX_PIXELS).then_some(jpeg)
}

fn whole(jpeg: &Jpeg<'_>) -> Option<RgbImage> {
    let (width, height) = jpeg.dimensions();
    let part = Part {
        left: 0,
        top: 0,
        width: width as usize,
        height: height as usize,
    };
    let image = RgbImage::from_raw(width, height, jpeg.decode(Shrink::Full, part)?)?;
    let orientation = jpeg.orientation();
    if orientation == Orientation::NoTransforms {
        return Some(image);
    }
    let mut image = DynamicImage::from(image);
    image.apply_orientation(orientation);
    Some(image.into_rgb8())
}

/// [`decode`] by the crate `image`, which knows every kind of JPEG and PNG.
pub(super) fn decode_any(bytes: &[u8]) -> Result<RgbImage, DataError> {
    let format = recognise(bytes)?;
    if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
        return Err(broken("the file ends before its JPEG image does"));
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    reader.limits(limits);

    let mut decoder = reader.into_decoder().map_err(|error| unreadable(&error))?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(DataError::new(
            DataErrorKind::TooLarge,
            format!(
                "expected at most {MAX_PIXELS} pixels, the image says {width}x{height}; \
                 shrink it first"
            ),
        ));
    }
    let orientation = decoder.orientation().map_err(|error| unreadable(&error))?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| unreadable(&error))?;
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
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

fn recognise(bytes: &[u8]) -> Result<ImageFormat, DataError> {
    if bytes.is_empty() {
        return Err(broken("the file is empty, expected a JPEG or PNG"));
    }
    match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Jpeg | ImageFormat::Png)) => Ok(format),
        Ok(other) => Err(broken(format!(
            "expected a JPEG or PNG, the content is {other:?}; convert it first"
        ))),
        Err(_) => Err(broken(
            "expected a JPEG or PNG, the content is neither; convert it first",
        )),
    }
}

/// Whether the last scan (`FF DA`) is followed by an end marker (`FF D9`). Neither pair can occur
/// inside compressed data, where every `FF` is followed by `00` or a restart marker. The decoder
/// itself would fill the missing part with grey.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let last = |code: u8| bytes.windows(2).rposition(|pair| pair == [0xFF, code]);
    match (last(0xDA), last(0xD9)) {
        (Some(scan), Some(end)) => end > scan,
        (None, _) => true, // no image data at all: the decoder says so better
        (Some(_), None) => false,
    }
}

fn broken(message: impl Into<String>) -> DataError {
    DataError::new(DataErrorKind::Decode, message)
}

fn unreadable(error: &image::ImageError) -> DataError {
    match error {
        image::ImageError::Limits(_) => DataError::new(
            DataErrorKind::TooLarge,
            format!("expected at most {MAX_PIXELS} pixels; {error}"),
        ),
        _ => broken(format!("can't be decoded: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use image::{ImageBuffer, Luma, Rgb, Rgba};

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
            let _ = decode(&bytes);
        }
    }
}

//! Small images and data sets for the tests of this room.

use std::{fs, io::Cursor, path::Path};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

use super::{Crop, Interpolation, Preprocessing, Resize};

/// A smooth picture in which every pixel differs from its neighbours.
pub(crate) fn gradient(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([
            (x * 255 / width.max(2)) as u8,
            (y * 255 / height.max(2)) as u8,
            ((x + y) * 7 % 256) as u8,
        ])
    })
}

/// The image as a file's bytes.
pub(crate) fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A PNG of one colour.
pub(crate) fn flat_png(side: u32, value: u8) -> Vec<u8> {
    encode(
        &RgbImage::from_pixel(side, side, Rgb([value, value, value])).into(),
        ImageFormat::Png,
    )
}

/// Writes `files` below `root`, with their folders.
pub(crate) fn write_files(root: &Path, files: &[(String, Vec<u8>)]) {
    for (name, bytes) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// `{split}/{class}/{n}.png` for every split, class and count; every image has its own colour.
pub(crate) fn picture_set(prefix: &str, classes: &[(&str, usize)]) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for (class, count) in classes {
        for n in 0..*count {
            let value = (files.len() * 5 % 256) as u8;
            files.push((format!("{prefix}{class}/{n:03}.png"), flat_png(12, value)));
        }
    }
    files
}

/// The files as an uncompressed archive.
pub(crate) fn write_tar(path: &Path, files: &[(String, Vec<u8>)]) {
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, bytes.as_slice())
            .unwrap();
    }
    archive.finish().unwrap();
}

/// A rough picture that Python can draw too (see the Pillow fixture).
pub(crate) fn pattern(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([0, 1, 2].map(|c| ((x * 37 + y * 91 + c * 53 + x * y * 11) % 256) as u8))
    })
}

/// A description whose results are the pixels' values in 0…1.
pub(crate) fn unnormalised(
    input_size: usize,
    resize: Resize,
    interpolation: Interpolation,
) -> Preprocessing {
    Preprocessing {
        input_size,
        resize,
        interpolation,
        crop: Crop::Centre,
        mean: [0.0; 3],
        std: [1.0; 3],
    }
}

/// Values in 0…1 as the bytes they were.
pub(crate) fn byte_values(values: &[f32]) -> Vec<i32> {
    values.iter().map(|v| (v * 255.0).round() as i32).collect()
}

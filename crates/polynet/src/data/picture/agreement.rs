//! Our pixels beside Pillow's. Its files are made by `peers/fixtures_images.py`, `fixtures_jpeg.py` and
//! `fixtures_resample.py`.

use std::{fs, path::PathBuf};

use image::RgbImage;

use super::{
    decode::decode,
    excerpt::{Target, decode_region},
    resample::{Interpolation, Region, with_resized},
};
use crate::{data::sample_images::pattern, random::fnv1a};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/data/fixtures/images")
}

/// A committed image file.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap()
}

/// Mean and largest difference of two pictures' bytes.
fn differences(a: &[u8], b: &[u8]) -> (f64, u8) {
    assert_eq!(a.len(), b.len());
    let each = || a.iter().zip(b).map(|(a, b)| a.abs_diff(*b));
    let total: f64 = each().map(f64::from).sum();
    (total / a.len() as f64, each().max().unwrap())
}

#[test]
fn every_kind_of_image_decodes_as_with_pillow_to_the_bit() {
    let jpegs = [
        "444.jpg",
        "422.jpg",
        "420.jpg",
        "coarse.jpg",
        "finest.jpg",
        "restarts.jpg",
        "grey.jpg",
        "progressive.jpg",
        "cmyk.jpg",
        "ycck.jpg",
        "rgb.jpg",
    ];
    let pngs = [
        "grey.png",
        "palette.png",
        "alpha.png",
        "animated.png",
        "deep.png",
    ];
    let turned: Vec<String> = (2..=8).map(|n| format!("turned-{n}.jpg")).collect();
    let turned = turned.iter().map(String::as_str);
    let mut wrong = Vec::new();
    for name in jpegs.into_iter().chain(pngs).chain(turned) {
        let ours = decode(&fixture(name)).unwrap();
        let pillows = decode(&fixture(&format!("{name}.expected.png"))).unwrap();
        assert_eq!(ours.dimensions(), pillows.dimensions(), "{name}");
        if ours != pillows {
            let (mean, most) = differences(&ours, &pillows);
            wrong.push(format!("{name}: mean {mean:.3}, largest {most}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_that_end_early_are_refused_as_by_pillow() {
    for name in [
        "444.jpg",
        "420.jpg",
        "grey.jpg",
        "progressive.jpg",
        "cmyk.jpg",
    ] {
        let bytes = fixture(name);
        for cut in [bytes.len() - 2, bytes.len() / 2] {
            assert!(decode(&bytes[..cut]).is_err(), "{name} cut at {cut}");
        }
    }
}

#[test]
fn regions_resize_as_with_pillow_to_the_bit_and_of_a_smaller_decoded_picture_within_one_of_255() {
    let photo = fixture("photo.jpg");
    let image = decode(&photo).unwrap();
    let mut seen = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(numbers) = name
            .strip_prefix("photo.")
            .and_then(|n| n.strip_suffix(".png"))
        else {
            continue;
        };
        let numbers: Vec<f64> = numbers.split('-').map(|n| n.parse().unwrap()).collect();
        let &[left, top, width, height, size] = numbers.as_slice() else {
            panic!("{name}");
        };
        seen += 1;
        let region = Region {
            left,
            top,
            width,
            height,
        };
        let target = Target {
            size: size as usize,
            interpolation: Interpolation::Bilinear,
        };
        let pillows = decode(&fixture(&name)).unwrap();
        let resized = |image: &RgbImage, region| {
            with_resized(
                image,
                region,
                [target.size; 2],
                target.interpolation,
                <[u8]>::to_vec,
            )
        };
        let pillows = pillows.into_raw();
        assert!(resized(&image, region) == pillows, "{name}, all decoded");
        let excerpt = decode_region(&photo, &target, |_, _| region).unwrap();
        let (mean, most) = differences(&resized(&excerpt.image, excerpt.region), &pillows);
        assert!(mean < 1.0, "{name}, decoded in part: {mean}");
        let shrinks = width.min(height) / size >= 6.0;
        assert!(shrinks || most == 0, "{name}, decoded in part: {most}");
        let pixels = |image: &RgbImage| image.width() * image.height();
        assert_eq!(
            shrinks,
            pixels(&excerpt.image) * 3 < (width * height) as u32,
            "{name}"
        );
    }
    assert_eq!(seen, 6);
}

#[test]
fn several_hundred_pictures_are_resized_as_with_pillow_to_the_bit() {
    let cases = include_str!("../fixtures/resample.txt");
    let mut wrong = Vec::new();
    for case in cases.lines() {
        let (kind, rest) = case.split_once(' ').unwrap();
        let (numbers, hash) = rest.rsplit_once(' ').unwrap();
        let numbers: Vec<f64> = numbers.split(' ').map(|n| n.parse().unwrap()).collect();
        let &[
            picture_width,
            picture_height,
            left,
            top,
            width,
            height,
            columns,
            rows,
        ] = numbers.as_slice()
        else {
            panic!("{case}");
        };
        let region = Region {
            left,
            top,
            width,
            height,
        };
        let interpolation = match kind {
            "bilinear" => Interpolation::Bilinear,
            "bicubic" => Interpolation::Bicubic,
            _ => Interpolation::Lanczos,
        };
        let image = pattern(picture_width as u32, picture_height as u32);
        let size = [columns as usize, rows as usize];
        let got = with_resized(&image, region, size, interpolation, |pixels| {
            fnv1a(pixels.iter().copied())
        });
        if format!("{got:016x}") != hash {
            wrong.push(case);
        }
    }
    assert_eq!(cases.lines().count(), 400);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A picture of `fixtures/jpeg.bin`.
struct Combination {
    name: String,
    hash: u64,
    width: u32,
    height: u32,
    jpeg: Vec<u8>,
}

/// All of them, as `peers/fixtures_jpeg.py` has written them.
fn combinations() -> Vec<Combination> {
    let bytes = include_bytes!("../fixtures/jpeg.bin");
    let mut rest = bytes.as_slice();
    let mut take = |count: usize| {
        let (taken, after) = rest.split_at(count.min(rest.len()));
        rest = after;
        taken
    };
    let mut all = Vec::new();
    while let [length] = *take(1) {
        let name = String::from_utf8(take(length.into()).to_vec()).unwrap();
        let hash = u64::from_le_bytes(take(8).try_into().unwrap());
        let mut number = || u16::from_le_bytes(take(2).try_into().unwrap());
        let (width, height, length) = (number(), number(), number());
        all.push(Combination {
            name,
            hash,
            width: width.into(),
            height: height.into(),
            jpeg: take(length.into()).to_vec(),
        });
    }
    all
}

#[test]
fn all_samplings_scans_restarts_and_colours_decode_as_with_pillow_to_the_bit() {
    let combinations = combinations();
    assert_eq!(combinations.len(), 149);
    let mut wrong = Vec::new();
    for Combination {
        name,
        hash,
        width,
        height,
        jpeg,
    } in &combinations
    {
        match decode(jpeg) {
            Ok(image) => {
                assert_eq!(image.dimensions(), (*width, *height), "{name}");
                if fnv1a(image.into_raw()) != *hash {
                    wrong.push(format!("{name}: other pixels"));
                }
            }
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn of_all_combinations_a_part_is_the_part_of_the_whole() {
    for Combination {
        name,
        width,
        jpeg,
        height,
        ..
    } in combinations()
    {
        let whole = decode(&jpeg).unwrap();
        let target = Target {
            size: 64,
            interpolation: Interpolation::Bilinear,
        };
        let region = Region {
            left: f64::from(width / 2),
            top: f64::from(height / 2),
            width: f64::from(width.div_ceil(4)),
            height: f64::from(height.div_ceil(4)),
        };
        let part = decode_region(&jpeg, &target, |_, _| region).unwrap();
        let (left, top) = (
            (region.left - part.region.left) as u32,
            (region.top - part.region.top) as u32,
        );
        for (x, y, pixel) in part.image.enumerate_pixels() {
            assert_eq!(
                pixel,
                whole.get_pixel(left + x, top + y),
                "{name}: {x}, {y}"
            );
        }
    }
}

#[test]
fn a_picture_that_ends_early_is_refused_whatever_its_scans_are() {
    for Combination { name, jpeg, .. } in combinations().iter().step_by(7) {
        for end in (0..jpeg.len()).step_by(13) {
            assert!(decode(&jpeg[..end]).is_err(), "{name} cut at {end}");
        }
    }
}

//! Our pixels beside Pillow's. Its files are made by `peers/fixtures_images.py`.

use std::{fs, path::PathBuf};

use image::RgbImage;

use super::{
    decode::decode,
    excerpt::{Target, decode_region},
    resample::{Interpolation, Region, with_resized},
};

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
fn regions_resize_as_with_pillow_within_one_of_255_on_average() {
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
                target.size,
                target.interpolation,
                <[u8]>::to_vec,
            )
        };
        let (mean, _) = differences(&resized(&image, region), &pillows);
        assert!(mean < 0.5, "{name}, all decoded: {mean}");
        let excerpt = decode_region(&photo, &target, |_, _| region).unwrap();
        let (mean, _) = differences(&resized(&excerpt.image, excerpt.region), &pillows);
        assert!(mean < 1.0, "{name}, decoded in part: {mean}");
        let shrinks = width.min(height) / size >= 6.0;
        let pixels = |image: &RgbImage| image.width() * image.height();
        assert_eq!(
            shrinks,
            pixels(&excerpt.image) * 3 < (width * height) as u32,
            "{name}"
        );
    }
    assert_eq!(seen, 6);
}

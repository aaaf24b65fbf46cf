use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::data::{sample_images::gradient, sample_rng};

#[test]
fn multi_area_crops_keep_to_the_papers_ranges_and_use_all_of_them() {
    let (width, height) = (640, 480);
    let draws: Vec<_> = (0..20_000)
        .map(|index| {
            multi_area_region(
                0.08,
                paper_aspect(),
                width,
                height,
                &mut sample_rng(1, 0, index),
            )
        })
        .collect();
    let areas: Vec<_> = draws
        .iter()
        .map(|r| r.width * r.height / (640.0 * 480.0))
        .collect();
    let ratios: Vec<_> = draws.iter().map(|r| r.width / r.height).collect();
    let within = |values: &[f64], low: f64, high: f64| {
        values
            .iter()
            .all(|v| (low - 1e-9..=high + 1e-9).contains(v))
    };
    assert!(within(&areas, 0.08, 1.0) && within(&ratios, 0.75, 4.0 / 3.0));
    assert!(
        draws
            .iter()
            .all(|r| r.left >= 0.0 && r.left + r.width <= 640.0 + 1e-9)
    );
    assert!(
        draws
            .iter()
            .all(|r| r.top >= 0.0 && r.top + r.height <= 480.0 + 1e-9)
    );

    // A part of area a and ratio r is as high as the picture at a = r · 480/640, so up to
    // 3/4 · 3/4 = 9/16 every draw fits and the area must be uniform: equal thirds.
    let count =
        |low: f64, high: f64| areas.iter().filter(|a| (low..high).contains(a)).count() as f64;
    let thirds = [count(0.08, 0.24), count(0.24, 0.40), count(0.40, 0.56)];
    let mean = thirds.iter().sum::<f64>() / 3.0;
    assert!(
        thirds.iter().all(|n| (n / mean - 1.0).abs() < 0.06),
        "{thirds:?}"
    );
    // Wide and tall are equally likely where both fit.
    let small: Vec<_> = areas
        .iter()
        .zip(&ratios)
        .filter(|(a, _)| **a < 0.5)
        .collect();
    let wide = small.iter().filter(|(_, r)| **r > 1.0).count() as f64 / small.len() as f64;
    assert!((wide - 0.5).abs() < 0.02, "{wide}");
    assert!(areas.iter().any(|a| *a > 0.95) && areas.iter().any(|a| *a < 0.09));
}

#[test]
fn the_range_of_aspect_ratios_is_kept() {
    for index in 0..200 {
        let square = multi_area_region(0.08, [1.0; 2], 640, 480, &mut sample_rng(1, 0, index));
        assert!((square.width / square.height - 1.0).abs() < 1e-9);
        let wide = multi_area_region(0.08, [2.0, 3.0], 640, 480, &mut sample_rng(1, 0, index));
        assert!((2.0 - 1e-9..=3.0 + 1e-9).contains(&(wide.width / wide.height)));
    }
}

#[test]
fn decoding_a_part_changes_nothing_but_rounding() {
    let bytes = crate::data::picture::agreement::fixture("photo.jpg");
    let image = decode(&bytes).unwrap();
    let preprocessing = Preprocessing::imagenet(64);
    let augmentation = Augmentation::multi_area_crop();
    let mut part = vec![0.0; preprocessing.input_len()];
    for index in 0..30 {
        let rng = || sample_rng(4, 0, index);
        augmentation
            .decode_into(&bytes, &preprocessing, &mut rng(), &mut part)
            .unwrap();
        let whole = augmentation.apply(&image, &preprocessing, &mut rng());
        // One step of a byte is 1 / 255 / 0.224 = 0.0175.
        let furthest = whole
            .iter()
            .zip(&part)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(furthest < 0.018, "{index}: {furthest}");
    }
}

#[test]
fn a_picture_in_which_nothing_fits_gives_its_centre() {
    // 100 × 2: the tallest allowed part is 2 high, 8/3 wide, 2.7 % of the area.
    let region = multi_area_region(0.08, paper_aspect(), 100, 2, &mut sample_rng(0, 0, 0));
    assert!((region.width - 8.0 / 3.0).abs() < 1e-9 && (region.height - 2.0).abs() < 1e-9);
    assert!((region.left - (50.0 - 4.0 / 3.0)).abs() < 1e-9 && region.top == 0.0);
}

#[test]
fn a_cut_out_square_lies_about_any_pixel_and_changes_nothing_else() {
    let side = 5;
    let mut seen = BTreeSet::new();
    for index in 0..2_000 {
        let mut pixels = vec![1.0; 3 * 8 * 8];
        cut_out(side, 8, &mut pixels, &mut sample_rng(1, 0, index));
        let (first, others) = pixels.split_at(64);
        assert!(others.chunks_exact(64).all(|plane| plane == first));
        let is_zero = |y: usize, x: usize| first[8 * y + x] == 0.0;
        let rows: Vec<_> = (0..8).filter(|&y| (0..8).any(|x| is_zero(y, x))).collect();
        let columns: Vec<_> = (0..8).filter(|&x| (0..8).any(|y| is_zero(y, x))).collect();
        let zeros = first.iter().filter(|&&pixel| pixel == 0.0).count();
        assert_eq!(zeros, rows.len() * columns.len());
        assert!(rows.iter().zip(&rows[1..]).all(|(a, b)| a + 1 == *b));
        seen.insert((rows[0], rows.len()));
    }
    // About pixel 0 to 7: two to each side where there is room.
    let expected = [
        (0, 3),
        (0, 4),
        (0, 5),
        (1, 5),
        (2, 5),
        (3, 5),
        (4, 4),
        (5, 3),
    ];
    assert_eq!(seen, BTreeSet::from(expected));
}

#[test]
fn pad_crop_reflects_or_fills_with_the_mean() {
    // Of 4 positions with padding 2 there are 5 shifts.
    let draw = |fill| -> BTreeSet<Vec<Option<usize>>> {
        (0..200)
            .map(|i| shifted(4, 2, fill, &mut sample_rng(3, 1, i)))
            .collect()
    };
    let some = |positions: [usize; 4]| positions.map(Some).to_vec();
    let reflected = [
        [2, 1, 0, 1],
        [1, 0, 1, 2],
        [0, 1, 2, 3],
        [1, 2, 3, 2],
        [2, 3, 2, 1],
    ];
    assert_eq!(draw(PadFill::Reflect), reflected.map(some).into());
    let (o, x) = (None, Some);
    let filled = [
        vec![o, o, x(0), x(1)],
        vec![o, x(0), x(1), x(2)],
        vec![x(0), x(1), x(2), x(3)],
        vec![x(1), x(2), x(3), o],
        vec![x(2), x(3), o, o],
    ];
    assert_eq!(draw(PadFill::Mean), filled.into());
}

#[test]
fn half_of_the_pictures_are_mirrored() {
    let image = gradient(8, 8);
    let preprocessing = Preprocessing::small(8);
    let augmentation = Augmentation::pad_crop(0);
    let straight = preprocessing.apply(&image);
    let mirror: Vec<f32> = straight
        .chunks(8)
        .flat_map(|row| row.iter().rev().copied())
        .collect();
    let mut mirrored = 0;
    for index in 0..1000 {
        let got = augmentation.apply(&image, &preprocessing, &mut sample_rng(5, 0, index));
        assert!(got == straight || got == mirror);
        mirrored += usize::from(got == mirror);
    }
    assert!((430..570).contains(&mirrored), "{mirrored}");
}

#[test]
fn no_augmentation_is_the_evaluations_view() {
    let image = gradient(40, 30);
    let preprocessing = Preprocessing::imagenet(16);
    let got = Augmentation::None.apply(&image, &preprocessing, &mut sample_rng(0, 0, 0));
    assert_eq!(got, preprocessing.apply(&image));
}

#[test]
fn recipes_say_which_and_leave_the_rest_to_the_paper() {
    let cases = [
        ("kind = 'none'", Augmentation::None),
        ("kind = 'multi-area-crop'", Augmentation::multi_area_crop()),
        (
            "kind = 'multi-area-crop'\nmin_area = 0.25\nflip = 0.0",
            Augmentation::MultiAreaCrop {
                min_area: 0.25,
                aspect: paper_aspect(),
                flip: 0.0,
            },
        ),
        ("kind = 'pad-crop'\npadding = 4", Augmentation::pad_crop(4)),
        (
            "kind = 'pad-crop'\npadding = 2\nfill = 'mean'",
            Augmentation::PadCrop {
                padding: 2,
                fill: PadFill::Mean,
                flip: 0.5,
                cutout: 0,
            },
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(toml::from_str::<Augmentation>(text).unwrap(), expected);
    }
    let error = toml::from_str::<Augmentation>("kind = 'pad-crop'\npading = 4").unwrap_err();
    assert!(error.to_string().contains("pading"), "{error}");
}

#[test]
fn nonsense_is_refused_with_its_key() {
    let cases = [
        (
            "min_area",
            Augmentation::MultiAreaCrop {
                min_area: 0.0,
                aspect: paper_aspect(),
                flip: 0.5,
            },
        ),
        (
            "min_area",
            Augmentation::MultiAreaCrop {
                min_area: f64::NAN,
                aspect: paper_aspect(),
                flip: 0.5,
            },
        ),
        (
            "flip",
            Augmentation::MultiAreaCrop {
                min_area: 0.1,
                aspect: paper_aspect(),
                flip: 1.5,
            },
        ),
        ("padding", Augmentation::pad_crop(32)),
        (
            "aspect",
            Augmentation::MultiAreaCrop {
                min_area: 0.1,
                aspect: [2.0, 1.0],
                flip: 0.5,
            },
        ),
    ];
    for (key, augmentation) in cases {
        let error = augmentation.validate(32).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
    Augmentation::pad_crop(31).validate(32).unwrap();
}

proptest! {
    #[test]
    fn any_picture_can_be_varied(
        width in 1u32..120, height in 1u32..120, input_size in 1usize..40, index: usize,
        padding in 0usize..39, min_area in 0.001f64..=1.0,
    ) {
        let image = gradient(width, height);
        let preprocessing = Preprocessing::imagenet(input_size);
        for augmentation in [
            Augmentation::pad_crop(padding.min(input_size - 1)),
            Augmentation::MultiAreaCrop { min_area, aspect: paper_aspect(), flip: 0.5 },
        ] {
            let mut rng = sample_rng(1, 2, index);
            let got = augmentation.apply(&image, &preprocessing, &mut rng);
            prop_assert!(got.iter().all(|v| v.abs() < 3.0));
        }
    }
}

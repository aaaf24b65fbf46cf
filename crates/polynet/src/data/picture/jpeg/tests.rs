use proptest::prelude::*;

use super::*;
use crate::data::picture::agreement::fixture;

const NAMES: [&str; 10] = [
    "444.jpg",
    "422.jpg",
    "420.jpg",
    "finest.jpg",
    "restarts.jpg",
    "grey.jpg",
    "progressive.jpg",
    "cmyk.jpg",
    "ycck.jpg",
    "rgb.jpg",
];

fn whole(jpeg: &Jpeg<'_>, shrink: Shrink) -> Part {
    let (width, height) = jpeg.shrunk_dimensions(shrink);
    Part {
        left: 0,
        top: 0,
        width,
        height,
    }
}

#[test]
fn what_is_not_decoded_is_refused_by_name() {
    let whole = fixture("420.jpg");
    let frame = whole
        .windows(2)
        .position(|pair| pair == [0xFF, 0xC0])
        .unwrap();
    let changed = |position: usize, value: u8| {
        let mut bytes = whole.clone();
        bytes[position] = value;
        bytes
    };
    for (bytes, expected) in [
        (changed(frame + 1, 0xC9), "arithmetic coding"),
        (changed(frame + 1, 0xCA), "arithmetic coding"),
        (changed(frame + 1, 0xC3), "lossless coding"),
        (changed(frame + 1, 0xC5), "hierarchical coding"),
        (changed(frame + 4, 12), "12 bits a sample"),
        (
            changed(frame + 9, 2),
            "neither 1 nor 3 nor 4 colour channels",
        ),
        (changed(frame + 11, 0x51), "sampling factors that can't be"),
        (fixture("alpha.png"), "expected a JPEG"),
    ] {
        let refused = Jpeg::parse(&bytes).err().map(|fault| fault.to_string());
        let refused = refused.unwrap_or_default();
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn a_photograph_of_200_megapixels_is_within_the_limit() {
    for (name, marker) in [
        ("444.jpg", 0xC0),
        ("420.jpg", 0xC0),
        ("progressive.jpg", 0xC2),
    ] {
        let mut bytes = fixture(name);
        let frame = bytes
            .windows(2)
            .position(|pair| pair == [0xFF, marker])
            .unwrap();
        let (height, width) = (12_240u16, 16_320u16);
        bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
        bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
        let jpeg = Jpeg::parse(&bytes).unwrap();
        let memory = jpeg.memory(Shrink::Full, whole(&jpeg, Shrink::Full));
        assert!(memory >= 3 * 12_240 * 16_320, "{name}: {memory}");
        assert!(
            memory <= crate::data::DecodeLimits::default().memory,
            "{name}: {memory}"
        );
        // There is no memory asked for where the file can't hold as much.
        let decoded = jpeg.decode(Shrink::Full, whole(&jpeg, Shrink::Full));
        assert_eq!(decoded, Err(Fault::EndsEarly), "{name}");
    }
}

#[test]
fn a_shrunk_picture_shows_the_means_of_the_full_one() {
    for name in NAMES {
        let bytes = fixture(name);
        let jpeg = Jpeg::parse(&bytes).unwrap();
        let full = jpeg
            .decode(Shrink::Full, whole(&jpeg, Shrink::Full))
            .unwrap();
        for shrink in [Shrink::Half, Shrink::Quarter, Shrink::Eighth] {
            let part = whole(&jpeg, shrink);
            let small = jpeg.decode(shrink, part).unwrap();
            let k = shrink as usize;
            let mean = |x: usize, y: usize, c: usize| {
                let at = |i: usize| {
                    let (row, column) = (k * y + i / k, k * x + i % k);
                    f64::from(full[3 * (row * jpeg.width + column) + c])
                };
                (0..k * k).map(at).sum::<f64>() / (k * k) as f64
            };
            let (mut here, mut beside) = (0.0, 0.0);
            for (y, x) in
                (0..jpeg.height / k).flat_map(|y| (1..jpeg.width / k).map(move |x| (y, x)))
            {
                for c in 0..3 {
                    let value = f64::from(small[3 * (y * part.width + x) + c]);
                    here += (mean(x, y, c) - value).abs();
                    beside += (mean(x - 1, y, c) - value).abs();
                }
            }
            // A low-pass filter and a mean differ, but much less than neighbours do.
            assert!(here < 0.4 * beside, "{name} {shrink:?}: {here} {beside}");
        }
    }
}

proptest! {
    #[test]
    fn a_part_is_the_part_of_the_whole(
        name in 0..NAMES.len(), shrink in 0usize..4, corners in proptest::array::uniform4(0.0f64..1.0),
    ) {
        let bytes = fixture(NAMES[name]);
        let jpeg = Jpeg::parse(&bytes).unwrap();
        let shrink = Shrink::ALL[shrink];
        let all = whole(&jpeg, shrink);
        let full = jpeg.decode(shrink, all).unwrap();
        let left = (corners[0] * all.width as f64) as usize;
        let top = (corners[1] * all.height as f64) as usize;
        let width = 1 + (corners[2] * (all.width - left - 1) as f64) as usize;
        let height = 1 + (corners[3] * (all.height - top - 1) as f64) as usize;
        let part = jpeg.decode(shrink, Part { left, top, width, height }).unwrap();
        for (y, row) in part.chunks_exact(3 * width).enumerate() {
            let from = 3 * ((top + y) * all.width + left);
            prop_assert_eq!(row, &full[from..from + 3 * width]);
        }
    }

    #[test]
    fn damaged_files_never_panic(
        name in 0..NAMES.len(), position: prop::sample::Index, value: u8, shrink in 0usize..4,
    ) {
        let mut bytes = fixture(NAMES[name]);
        let position = position.index(bytes.len());
        bytes[position] = value;
        if let Some(jpeg) = Jpeg::parse(&bytes).ok().filter(|j| j.width * j.height < 1 << 20) {
            let shrink = Shrink::ALL[shrink];
            let _ = jpeg.decode(shrink, whole(&jpeg, shrink));
        }
    }
}

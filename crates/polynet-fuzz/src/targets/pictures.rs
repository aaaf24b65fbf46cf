//! Photographs.

use super::{KIB, MIB, Target};
use crate::Allowance;
use image::codecs::jpeg::JpegDecoder;
use image::{ImageDecoder as _, RgbImage};
use polynet::data::{
    Augmentation, DataError, DecodeLimits, Preprocessing, decode_within, sample_rng,
};
use std::io::Cursor;

/// What a picture may take here.
const LIMITS: DecodeLimits = DecodeLimits {
    memory: 32 * MIB as u64,
};
const MEMORY: Allowance = Allowance {
    fixed: 33 * MIB,
    per_byte: 16,
};

pub(super) const JPEG: Target = Target {
    name: "jpeg",
    read: jpeg,
    seeds: jpegs,
    words: JPEG_WORDS,
    memory: MEMORY,
};

/// The part of a picture that training looks at; the limit of memory is the process's.
pub(super) const CROP: Target = Target {
    name: "crop",
    read: crop,
    seeds: jpegs,
    words: JPEG_WORDS,
    memory: Allowance {
        fixed: 2100 * MIB,
        per_byte: 16,
    },
};

pub(super) const PNG: Target = Target {
    name: "png",
    read: png,
    seeds: || {
        let fixtures: [&[u8]; 3] = [
            include_bytes!("../../../polynet/src/data/fixtures/images/palette.png"),
            include_bytes!("../../../polynet/src/data/fixtures/images/grey.png"),
            include_bytes!("../../../polynet/src/data/fixtures/images/photo.8-4-300-230-9.png"),
        ];
        fixtures.map(<[u8]>::to_vec).to_vec()
    },
    words: &[
        "IHDR", "PLTE", "IDAT", "IEND", "tRNS", "eXIf", "acTL", "fcTL", "fdAT", "iCCP", "gAMA",
    ],
    memory: MEMORY,
};

/// What cameras write into a picture, as a JPEG and as a PNG has it.
pub(super) const EXIF: Target = Target {
    name: "exif",
    read: exif,
    seeds: || {
        let turned = include_bytes!("../../../polynet/src/data/fixtures/images/turned-6.jpg");
        // Behind the two markers, the length and `Exif\0\0`.
        let of_jpeg =
            find(turned, b"Exif\0\0").map_or(vec![], |start| turned[start + 6..][..64].to_vec());
        let big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        vec![of_jpeg, big.to_vec()]
    },
    words: &["II*\0", "MM\0*", "\x01\x12", "\x12\x01", "\0\x03"],
    memory: MEMORY,
};

const JPEG_WORDS: &[&str] = &["JFIF\0", "Exif\0\0", "Adobe\0", "ICC_PROFILE\0"];

fn jpegs() -> Vec<Vec<u8>> {
    let fixtures: [&[u8]; 9] = [
        include_bytes!("../../../polynet/src/data/fixtures/images/420.jpg"),
        include_bytes!("../../../polynet/src/data/fixtures/images/422.jpg"),
        include_bytes!("../../../polynet/src/data/fixtures/images/coarse.jpg"),
        include_bytes!("../../../polynet/src/data/fixtures/images/grey.jpg"),
        include_bytes!("../../../polynet/src/data/fixtures/images/progressive.jpg"),
        include_bytes!("../../../polynet/src/data/fixtures/images/restarts.jpg"),
        include_bytes!("../../../polynet/src/data/fixtures/images/rgb.jpg"),
        include_bytes!("../../../polynet/src/data/fixtures/images/turned-6.jpg"),
        include_bytes!("../../../polynet/src/data/fixtures/images/ycck.jpg"),
    ];
    fixtures.map(<[u8]>::to_vec).to_vec()
}

fn decode(input: &[u8]) -> Result<RgbImage, DataError> {
    decode_within(input, LIMITS)
}

/// Another decoder sees a picture of the same size. Of damaged ones the pixels are not the same in any two
/// decoders, and of whole ones the library's own tests compare them.
fn jpeg(input: &[u8]) {
    let Ok(ours) = decode(input) else { return };
    // It knows fewer ways of coding.
    if let Ok(other) = JpegDecoder::new(Cursor::new(input)) {
        let (width, height) = other.dimensions();
        let size = ours.dimensions();
        assert!(
            size == (width, height) || size == (height, width),
            "{size:?}, by another decoder {width}x{height}"
        );
    }
}

fn png(input: &[u8]) {
    drop(decode(input));
    drop(decode(&with_sums(input)));
}

/// A PNG whose chunks have the sums of what is in them, so that it is looked at what that is.
fn with_sums(input: &[u8]) -> Vec<u8> {
    let mut png = input.to_vec();
    let mut start = 8;
    while let Some(word) = png.get(start..start + 4) {
        let length = u32::from_be_bytes([word[0], word[1], word[2], word[3]]) as usize;
        let end = start + 8 + length;
        if end + 4 > png.len() {
            break;
        }
        let sum = crc32fast::hash(&png[start + 4..end]).to_be_bytes();
        png[end..end + 4].copy_from_slice(&sum);
        start = end + 4;
    }
    png
}

fn crop(input: &[u8]) {
    let preprocessing = Preprocessing::imagenet(16);
    let mut out = vec![0.0; preprocessing.input_len()];
    for number in 0..2 {
        let mut random = sample_rng(0, 0, number);
        let augmentation = Augmentation::multi_area_crop();
        drop(augmentation.decode_into(input, &preprocessing, &mut random, &mut out));
    }
}

fn exif(input: &[u8]) {
    let coarse: &[u8] = include_bytes!("../../../polynet/src/data/fixtures/images/coarse.jpg");
    let content = [b"Exif\0\0", &input[..input.len().min(60 * KIB)]].concat();
    let length = (content.len() as u16 + 2).to_be_bytes();
    let jpeg = [&coarse[..2], &[0xff, 0xe1], &length, &content, &coarse[2..]].concat();
    decode(&jpeg).expect("a picture whatever its EXIF says");
    let grey: &[u8] = include_bytes!("../../../polynet/src/data/fixtures/images/grey.png");
    let header = 8 + 25;
    let content = [b"eXIf", input].concat();
    let length = (input.len() as u32).to_be_bytes();
    // The sum is wrong: an ancillary chunk's is not looked at, or the chunk is left out.
    let png = [&grey[..header], &length, &content, &[0; 4], &grey[header..]].concat();
    drop(decode(&png));
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

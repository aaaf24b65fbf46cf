//! Inputs from seeds.

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

/// No input is longer.
const LONGEST: usize = 1 << 16;
/// Numbers that lie where readers count wrongly.
const NUMBERS: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 40,
    i64::MAX as u64,
    u64::MAX,
];
/// What bytes are replaced by that count decimally, as in texts and the headers of archives.
const DIGITS: [&str; 8] = [
    "0",
    "-1",
    "1e9",
    "65536",
    "4294967296",
    "18446744073709551615",
    "99999999999999999999999",
    "0.0000001",
];

/// The input of this number: a seed after a few changes.
///
/// # Panics
/// If there is no seed.
pub fn mutant(seeds: &[Vec<u8>], words: &[&str], number: u64) -> Vec<u8> {
    let mut random = ChaCha8Rng::seed_from_u64(number);
    let any = |random: &mut ChaCha8Rng| &seeds[random.random_range(0..seeds.len())];
    let mut input = any(&mut random).clone();
    let changes = 1 << random.random_range(0..5);
    for _ in 0..changes {
        let other = any(&mut random);
        change(&mut input, other, words, &mut random);
        input.truncate(LONGEST);
    }
    input
}

fn change(input: &mut Vec<u8>, other: &[u8], words: &[&str], random: &mut ChaCha8Rng) {
    if input.is_empty() {
        input.extend_from_slice(other);
    }
    let at = random.random_range(0..=input.len());
    let span = |random: &mut ChaCha8Rng, bytes: &[u8]| {
        // Short ones more often than long ones.
        let longest = (bytes.len()).min(1 << random.random_range(0..12));
        let length = random.random_range(0..=longest);
        let start = random.random_range(0..=bytes.len() - length);
        start..start + length
    };
    match random.random_range(0..11) {
        0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
        1 if at < input.len() => input[at] = random.random(),
        2 => input.truncate(at),
        3 => {
            let span = span(random, input);
            input.drain(span);
        }
        4 => {
            let copy = input[span(random, input)].to_vec();
            input.splice(at..at, copy);
        }
        5 => {
            let copy = &other[span(random, other)];
            let end = (at + copy.len()).min(input.len());
            input.splice(at..end, copy.iter().copied());
        }
        6 => {
            let number = NUMBERS[random.random_range(0..NUMBERS.len())];
            let length = 1 << random.random_range(0..4);
            let bytes = match random.random() {
                true => number.to_le_bytes()[..length].to_vec(),
                false => number.to_be_bytes()[8 - length..].to_vec(),
            };
            let end = (at + length).min(input.len());
            input.splice(at..end, bytes);
        }
        7 => {
            let digits = DIGITS[random.random_range(0..DIGITS.len())];
            let end = at
                + input[at..]
                    .iter()
                    .take_while(|byte| byte.is_ascii_digit())
                    .count();
            input.splice(at..end, digits.bytes());
        }
        8 => {
            // A piece again and again: depth and length.
            let copy = input[span(random, input)].to_vec();
            let times = 1 << random.random_range(0..8);
            let copies = copy.repeat((LONGEST / copy.len().max(1)).min(times));
            input.splice(at..at, copies);
        }
        _ if !words.is_empty() => {
            let word = words[random.random_range(0..words.len())];
            let replaced = random.random_range(0..=word.len());
            let end = (at + replaced).min(input.len());
            input.splice(at..end, word.bytes());
        }
        _ => input.push(random.random()),
    }
}

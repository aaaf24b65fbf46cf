//! The keys of random draws: what a number is for decides it, not when it is asked for.
//!
//! | drawn | key |
//! |---|---|
//! | the order of an epoch | seed, epoch, 0, 0 |
//! | the view of a sample | seed, epoch, 1, number of the sample |
//! | the paths that a step drops | seed, step, `paths`, 0 |
//! | dropout of a part of a step | seed, step, `dropout`, number of the part |
//! | the images that growing compares | seed, 0, `images`, 0 |
//! | an attempt at a candidate of a search | seed, rung, `search`, candidate; the attempt is the stream |
//! | a tensor's first values | seed xor FNV-1a of the tensor's name |
//!
//! ```
//! use polynet::data::sample_rng;
//! use rand::RngExt;
//!
//! // Sample 12 in epoch 3 of the run with seed 7.
//! let (mut one, mut other) = (sample_rng(7, 3, 12), sample_rng(7, 3, 12));
//! assert_eq!(one.random::<u64>(), other.random::<u64>());
//! ```

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

/// The random numbers of one sample in one epoch.
///
/// `index` is the sample's number in its [`Dataset`](crate::data::Dataset).
pub fn sample_rng(seed: u64, epoch: u64, index: usize) -> ChaCha8Rng {
    stream([seed, epoch, 1, index as u64])
}

/// The random numbers of one epoch's order.
pub(crate) fn order_rng(seed: u64, epoch: u64) -> ChaCha8Rng {
    stream([seed, epoch, 0, 0])
}

/// The random numbers that choose the paths which a step (from 0) drops.
pub(crate) fn paths_rng(seed: u64, step: u64) -> ChaCha8Rng {
    stream([seed, step, word(b"paths\0\0\0"), 0])
}

/// The random numbers of the dropout of one part of one step (both from 0).
pub(crate) fn dropout_rng(seed: u64, step: u64, part: u64) -> ChaCha8Rng {
    stream([seed, step, word(b"dropout\0"), part])
}

/// The random numbers of the images by which a grown network is compared with its model.
pub(crate) fn compared_images_rng(seed: u64) -> ChaCha8Rng {
    stream([seed, 0, word(b"images\0\0"), 0])
}

/// The random numbers of one attempt at a candidate of a search.
pub(crate) fn search_rng(seed: u64, rung: u64, candidate: u64, attempt: u64) -> ChaCha8Rng {
    let mut rng = stream([seed, rung, word(b"search\0\0"), candidate]);
    rng.set_stream(attempt);
    rng
}

/// The random numbers of one tensor's first values, whatever else the network has.
pub(crate) fn tensor_rng(seed: u64, name: &str) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed ^ fnv1a(name.bytes()))
}

/// FNV-1a of 64 bits: Fowler, Noll and Vo's hash, the same on every machine.
pub(crate) fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

const fn word(letters: &[u8; 8]) -> u64 {
    u64::from_le_bytes(*letters)
}

/// Different keys give unrelated streams: they are the keys of a cipher.
fn stream(words: [u64; 4]) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::RngExt;

    use super::*;

    #[test]
    fn everything_drawn_has_its_own_random_numbers() {
        let streams = [
            sample_rng(0, 0, 0),
            sample_rng(1, 0, 0),
            sample_rng(0, 1, 0),
            sample_rng(0, 0, 1),
            order_rng(0, 0),
            order_rng(0, 1),
            paths_rng(0, 0),
            search_rng(0, 0, 0, 0),
            search_rng(0, 0, 1, 0),
            search_rng(0, 0, 0, 1),
            paths_rng(0, 1),
            dropout_rng(0, 0, 0),
            dropout_rng(0, 0, 1),
            dropout_rng(0, 1, 0),
            compared_images_rng(0),
            tensor_rng(0, "a"),
            tensor_rng(0, "b"),
            tensor_rng(1, "a"),
        ];
        let first: BTreeSet<u64> = streams.clone().map(|mut rng| rng.random()).into();
        assert_eq!(first.len(), streams.len());
        let again = |mut rng: ChaCha8Rng| rng.random::<u64>();
        assert_eq!(again(sample_rng(9, 8, 7)), again(sample_rng(9, 8, 7)));
    }

    #[test]
    fn hashes_are_those_of_the_authors() {
        // From the tables of draft-eastlake-fnv.
        for (text, hash) in [
            ("", 0xCBF2_9CE4_8422_2325),
            ("a", 0xAF63_DC4C_8601_EC8C),
            ("foobar", 0x8594_4171_F739_67E8),
        ] {
            assert_eq!(fnv1a(text.bytes()), hash, "{text}");
        }
    }
}

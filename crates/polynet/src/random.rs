//! Random numbers that depend on what they are for, not on when they are asked for.
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
    stream(seed, epoch, 1, index as u64)
}

/// The random numbers of one epoch's order.
pub(crate) fn order_rng(seed: u64, epoch: u64) -> ChaCha8Rng {
    stream(seed, epoch, 0, 0)
}

/// Different arguments give unrelated streams: they are the key of a cipher.
fn stream(seed: u64, epoch: u64, purpose: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, number) in key.chunks_exact_mut(8).zip([seed, epoch, purpose, index]) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::RngExt;

    use super::*;

    #[test]
    fn samples_epochs_and_seeds_have_their_own_random_numbers() {
        let first = |seed, epoch, index| sample_rng(seed, epoch, index).random::<u64>();
        let all = [
            first(0, 0, 0),
            first(1, 0, 0),
            first(0, 1, 0),
            first(0, 0, 1),
        ];
        assert_eq!(BTreeSet::from(all).len(), 4);
        assert_eq!(first(9, 8, 7), first(9, 8, 7));
        assert_ne!(order_rng(0, 0).random::<u64>(), first(0, 0, 0));
    }
}

//! Which images are learned from and which are held out.
//!
//! ```
//! use polynet::data::Splitting;
//!
//! let splitting: Splitting = toml::from_str("validation_fraction = 0.2").unwrap();
//! assert_eq!(splitting, Splitting { validation_fraction: 0.2, seed: 0 });
//! ```

use serde::{Deserialize, Serialize};

use crate::{data::error::DataError, random::fnv1a};

/// Which part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// The images to learn from: `train`.
    Train,
    /// The images held out: the first of `val`, `valid`, `validation` and `test` that is there.
    Validation,
    /// All images.
    All,
}

/// How one folder without splits is divided, class by class.
///
/// Which images are held out depends on the seed and on each file's own name and class, so
/// it is the same on any machine, and adding a file moves at most one other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Splitting {
    /// The share of each class's images held out, between 0 and 1. It is rounded, but every
    /// class of two images or more keeps at least one on either side.
    pub validation_fraction: f64,
    /// Which images are held out.
    pub seed: u64,
}

impl Default for Splitting {
    fn default() -> Self {
        Self {
            validation_fraction: 0.1,
            seed: 0,
        }
    }
}

impl Splitting {
    pub(crate) fn validate(&self) -> Result<(), DataError> {
        let fraction = self.validation_fraction;
        if fraction > 0.0 && fraction < 1.0 {
            return Ok(());
        }
        Err(DataError::configuration(format!(
            "expected validation_fraction above 0 and below 1, got {fraction}"
        )))
    }

    /// How many of `count` images of a class are held out.
    pub(crate) fn held_out(&self, count: usize) -> usize {
        let wanted = (count as f64 * self.validation_fraction).round() as usize;
        match count {
            0 | 1 => 0,
            _ => wanted.clamp(1, count - 1),
        }
    }

    /// A number that orders the images of a class at random: FNV-1a of seed and path, mixed.
    pub(crate) fn rank(&self, path: &str) -> u64 {
        let bytes = self.seed.to_le_bytes().into_iter().chain(path.bytes());
        let hash = fnv1a(bytes);
        let hash = (hash ^ (hash >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        hash ^ (hash >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_two_or_more_keeps_images_on_both_sides() {
        let cases = [
            (0.1, [0, 0, 1, 1, 10]),
            (0.5, [0, 0, 1, 2, 50]),
            (0.99, [0, 0, 1, 2, 99]),
        ];
        for (validation_fraction, expected) in cases {
            let splitting = Splitting {
                validation_fraction,
                seed: 0,
            };
            assert_eq!(
                [0, 1, 2, 3, 100].map(|count| splitting.held_out(count)),
                expected
            );
        }
    }

    #[test]
    fn a_fraction_that_leaves_nothing_is_refused() {
        for validation_fraction in [0.0, 1.0, -0.5, f64::NAN] {
            let error = Splitting {
                validation_fraction,
                seed: 0,
            }
            .validate()
            .unwrap_err();
            assert!(error.to_string().contains("validation_fraction"), "{error}");
        }
    }
}

//! Durations: one rule for every length of time in a recipe.
//!
//! ```text
//! duration = number unit
//! unit     = "step" | "steps" | "epoch" | "epochs" | "image" | "images"
//! number   = digits [ "." digits ] [ "K" | "M" ]      (K = 1000, M = 1000000)
//! ```
//!
//! Steps and images are whole numbers once the suffix is applied; epochs may be fractions. A
//! duration becomes optimizer steps by this law, where an [`Epoch`] has
//! `steps = floor(images / batch size)` because an incomplete last batch is dropped:
//!
//! | duration   | steps                                                    |
//! |------------|----------------------------------------------------------|
//! | `n steps`  | `n`                                                      |
//! | `e epochs` | `e × steps of an epoch`, to the nearest, a half goes up  |
//! | `n images` | `n / batch size`, rounded up                             |
//!
//! and a duration that is more than nothing is at least one step.
//!
//! ```
//! use polynet::train::{Duration, Epoch};
//!
//! let epoch = Epoch::new(50_000, 128)?;
//! let duration: Duration = "1.5M images".parse()?;
//! assert_eq!(duration.steps(&epoch), 11_719);
//! assert_eq!("0.5 epochs".parse::<Duration>()?.steps(&epoch), 195);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// The largest count of steps, images or epochs in a duration: whole numbers up to here are exact.
const LARGEST: u64 = 1 << 53;

/// A length of training in steps, epochs or images. See the [module](self) for its text and law.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Duration {
    /// Optimizer steps.
    Steps(u64),
    /// Passes over the training set; fractions are allowed, never negative or infinite.
    Epochs(f64),
    /// Training images shown, counted with repetition.
    Images(u64),
}

impl Duration {
    /// The number of optimizer steps, by the law of the [module](self).
    pub fn steps(&self, epoch: &Epoch) -> u64 {
        let steps = match *self {
            Self::Steps(steps) => steps,
            // A cast of a float to an integer saturates, so the largest durations stay the largest.
            Self::Epochs(epochs) => (epochs * epoch.steps() as f64).round() as u64,
            Self::Images(images) => images.div_ceil(epoch.batch_size()),
        };
        if self.is_zero() { 0 } else { steps.max(1) }
    }

    /// Whether a recipe can say this duration: finite, not negative, and at most 2^53.
    pub fn is_sayable(&self) -> bool {
        match *self {
            Self::Steps(count) | Self::Images(count) => count <= LARGEST,
            Self::Epochs(epochs) => (0.0..=LARGEST as f64).contains(&epochs),
        }
    }

    /// Whether this is no time at all.
    pub fn is_zero(&self) -> bool {
        match *self {
            Self::Steps(count) | Self::Images(count) => count == 0,
            Self::Epochs(epochs) => epochs == 0.0,
        }
    }
}

/// Prints the text that parses back to the same duration, e.g. `560000 steps`.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Steps(1) => write!(f, "1 step"),
            Self::Steps(steps) => write!(f, "{steps} steps"),
            Self::Epochs(1.0) => write!(f, "1 epoch"),
            Self::Epochs(epochs) => write!(f, "{epochs} epochs"),
            Self::Images(1) => write!(f, "1 image"),
            Self::Images(images) => write!(f, "{images} images"),
        }
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a duration such as \"560000 steps\", \"90 epochs\" or \"1.5M images\", came {text:?}{reason}"
)]
pub struct DurationError {
    text: String,
    reason: &'static str,
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |reason| DurationError {
            // A hostile text is quoted only so far.
            text: text.chars().take(60).collect(),
            reason,
        };
        let (number, unit) = text
            .trim()
            .split_once(char::is_whitespace)
            .ok_or_else(|| fail(": a number, a space and a unit are needed"))?;
        let count = || whole(number).map_err(fail);
        match unit.trim_start() {
            "step" | "steps" => Ok(Self::Steps(count()?)),
            "image" | "images" => Ok(Self::Images(count()?)),
            "epoch" | "epochs" => Ok(Self::Epochs(fraction(number).map_err(fail)?)),
            _ => Err(fail(": the unit is none of steps, epochs, images")),
        }
    }
}

/// Digits before the point, digits after it, and the power of ten of the suffix.
fn number_parts(number: &str) -> Result<(&str, &str, usize), &'static str> {
    const NOT_A_NUMBER: &str = ": the number is not of the form 12, 1.5, 10K or 1.5M";
    let (digits, zeros) = match number.as_bytes().last() {
        Some(b'K' | b'k') => (&number[..number.len() - 1], 3),
        Some(b'M' | b'm') => (&number[..number.len() - 1], 6),
        _ => (number, 0),
    };
    let (whole, fraction) = match digits.split_once('.') {
        Some((_, "")) => return Err(NOT_A_NUMBER),
        Some(parts) => parts,
        None => (digits, ""),
    };
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return Err(NOT_A_NUMBER);
    }
    Ok((whole, fraction, zeros))
}

/// A whole number, exactly: `1.5M` is 1500000, `1.5` is refused.
fn whole(number: &str) -> Result<u64, &'static str> {
    let (whole, fraction, zeros) = number_parts(number)?;
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > zeros {
        return Err(": steps and images are whole numbers");
    }
    let digits = format!("{whole}{fraction:0<zeros$}");
    match digits.parse::<u64>() {
        Ok(count) if count <= LARGEST => Ok(count),
        _ => Err(": the number is too large"),
    }
}

/// A decimal fraction, to the nearest `f64`.
fn fraction(number: &str) -> Result<f64, &'static str> {
    let (whole, fraction, zeros) = number_parts(number)?;
    match format!("{whole}.{fraction}e{zeros}").parse::<f64>() {
        Ok(value) if value <= LARGEST as f64 => Ok(value),
        _ => Err(": the number is too large"),
    }
}

/// One pass over the training set: how many images, in batches of how many.
///
/// Every batch is complete: batch normalization wants batches of one size, so the images that are
/// left over after the last complete batch of a pass wait for another shuffle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    images: u64,
    batch_size: u64,
}

/// Fewer training images than one batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected at least one batch of {batch_size} training images, came {images}: \
     set training.batch_size to {images} or less"
)]
pub struct IncompleteBatch {
    images: u64,
    batch_size: u64,
}

impl Epoch {
    /// An epoch over `images` training images in batches of `batch_size`.
    ///
    /// # Errors
    /// When there is not a single complete batch.
    pub fn new(images: u64, batch_size: u64) -> Result<Self, IncompleteBatch> {
        if batch_size == 0 || images < batch_size {
            return Err(IncompleteBatch { images, batch_size });
        }
        Ok(Self { images, batch_size })
    }

    /// Images in the training set.
    pub fn images(&self) -> u64 {
        self.images
    }

    /// Images in one batch.
    pub fn batch_size(&self) -> u64 {
        self.batch_size
    }

    /// Optimizer steps in one pass, at least 1.
    pub fn steps(&self) -> u64 {
        self.images / self.batch_size
    }

    /// How many epochs `steps` finished steps are, as a fraction: the `epoch` of every record.
    pub fn epochs(&self, steps: u64) -> f64 {
        steps as f64 / self.steps() as f64
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_duration_reads_steps_epochs_and_images_with_suffixes() {
        for (text, duration) in [
            ("560000 steps", Duration::Steps(560_000)),
            ("560K steps", Duration::Steps(560_000)),
            ("1 step", Duration::Steps(1)),
            ("0 steps", Duration::Steps(0)),
            ("90 epochs", Duration::Epochs(90.0)),
            (" 0.1  epochs ", Duration::Epochs(0.1)),
            ("2k epochs", Duration::Epochs(2000.0)),
            ("1.5M images", Duration::Images(1_500_000)),
            ("2.50K steps", Duration::Steps(2_500)),
        ] {
            assert_eq!(text.parse::<Duration>(), Ok(duration), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "a number, a space and a unit"),
            ("90", "a number, a space and a unit"),
            ("90epochs", "a number, a space and a unit"),
            ("90 hours", "none of steps, epochs, images"),
            ("1.5 steps", "whole numbers"),
            ("1.2345K images", "whole numbers"),
            ("-3 epochs", "not of the form"),
            ("1e9 steps", "not of the form"),
            ("inf epochs", "not of the form"),
            (". epochs", "not of the form"),
            ("1. epochs", "not of the form"),
            ("K steps", "not of the form"),
            ("99999999999999999999 images", "too large"),
            ("99999999999999999999 epochs", "too large"),
        ] {
            let error = text.parse::<Duration>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
        let hostile = "9".repeat(1 << 20) + " epochs";
        assert!(hostile.parse::<Duration>().unwrap_err().to_string().len() < 300);
    }

    #[test]
    fn durations_become_steps_by_the_rounding_law() {
        // 1000 images in batches of 128: 7 steps an epoch, 104 images left over.
        let epoch = Epoch::new(1000, 128).unwrap();
        for (text, steps) in [
            ("12 steps", 12),
            ("1 epoch", 7),
            ("90 epochs", 630),
            ("0.5 epochs", 4), // 3.5: a half goes up
            ("0.2 epochs", 1), // 1.4
            ("0.01 epochs", 1),
            ("0 epochs", 0),
            ("128 images", 1),
            ("129 images", 2),
            ("1K images", 8),
            ("0 images", 0),
        ] {
            assert_eq!(
                text.parse::<Duration>().unwrap().steps(&epoch),
                steps,
                "{text}"
            );
        }
        assert_eq!(epoch.epochs(14), 2.0);
        assert!(Epoch::new(127, 128).is_err());
        assert!(Epoch::new(0, 0).is_err());
    }

    pub(crate) fn any_duration() -> impl Strategy<Value = Duration> {
        prop_oneof![
            (0..=LARGEST).prop_map(Duration::Steps),
            (0..=LARGEST).prop_map(Duration::Images),
            (0.0..1e6).prop_map(Duration::Epochs),
            (0..1000_u32).prop_map(|epochs| Duration::Epochs(f64::from(epochs) / 8.0)),
        ]
    }

    proptest! {
        #[test]
        fn a_duration_prints_what_parses_back_to_it(duration in any_duration()) {
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn any_text_is_a_duration_or_an_error(text in "\\PC{0,20}") {
            if let Ok(duration) = text.parse::<Duration>() {
                prop_assert_eq!(duration.to_string().parse(), Ok(duration));
            }
        }

        #[test]
        fn a_longer_duration_is_never_fewer_steps(
            epochs in 0.0..1e4_f64, more in 0.0..1e4_f64, images in 1..100_000_u64, batch in 1..512_u64,
        ) {
            if let Ok(epoch) = Epoch::new(images, batch) {
                let (short, long) = (Duration::Epochs(epochs), Duration::Epochs(epochs + more));
                prop_assert!(short.steps(&epoch) <= long.steps(&epoch));
            }
        }
    }
}

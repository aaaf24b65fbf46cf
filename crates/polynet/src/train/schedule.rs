//! The learning rate as a pure function of the step.
//!
//! `step` counts from 0 and names the step about to be taken; `total_steps` is the length of the
//! whole run. Nothing is remembered between calls, so a resumed run continues exactly.
//!
//! ```
//! use polynet::train::Schedule;
//!
//! // The paper (§4): 0.45, ×0.1 every 160 K of 560 K iterations.
//! let paper = Schedule::Steps { learning_rate: 0.45, every: 160_000, factor: 0.1 };
//! assert_eq!(paper.learning_rate(159_999, 560_000), 0.45);
//! assert!((paper.learning_rate(160_000, 560_000) - 0.045).abs() < 1e-15);
//! ```

use std::f64::consts::PI;

/// A learning-rate schedule whose durations are resolved to steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// Always the same.
    Constant {
        /// The learning rate.
        learning_rate: f64,
    },
    /// `learning_rate × factor^floor(step / every)`: the paper's (§4).
    Steps {
        /// The first learning rate.
        learning_rate: f64,
        /// Steps between two drops, at least 1.
        every: u64,
        /// What a drop multiplies by.
        factor: f64,
    },
    /// A linear warm-up, then half a cosine from the peak down to the final rate.
    Cosine {
        /// The peak, reached at step `warm_up`.
        learning_rate: f64,
        /// Steps of warm-up: step `s` of them has `(s + 1) / (warm_up + 1)` of the peak.
        warm_up: u64,
        /// The rate of the last step.
        final_learning_rate: f64,
    },
    /// A triangle: the same linear warm-up, then linearly from the peak down to the final rate.
    OneCycle {
        /// The peak, reached at step `warm_up`.
        learning_rate: f64,
        /// Steps of warm-up, as for the cosine.
        warm_up: u64,
        /// The rate of the last step.
        final_learning_rate: f64,
    },
}

impl Schedule {
    /// The learning rate of `step` (from 0) in a run of `total_steps`.
    ///
    /// Past the end of the run, cosine and one-cycle stay at their final rate.
    pub fn learning_rate(&self, step: u64, total_steps: u64) -> f64 {
        match *self {
            Self::Constant { learning_rate } => learning_rate,
            Self::Steps {
                learning_rate,
                every,
                factor,
            } => {
                let drops = i32::try_from(step / every.max(1)).unwrap_or(i32::MAX);
                learning_rate * factor.powi(drops)
            }
            Self::Cosine {
                learning_rate: peak,
                warm_up,
                final_learning_rate: end,
            } => rise(step, warm_up, peak).unwrap_or_else(|| {
                let progress = descent(step, warm_up, total_steps);
                end + (peak - end) * 0.5 * (1.0 + (PI * progress).cos())
            }),
            Self::OneCycle {
                learning_rate: peak,
                warm_up,
                final_learning_rate: end,
            } => rise(step, warm_up, peak).unwrap_or_else(|| {
                let progress = descent(step, warm_up, total_steps);
                peak * (1.0 - progress) + end * progress
            }),
        }
    }
}

/// The rate during the warm-up; none after it. The first step is above zero and step `warm_up`
/// would be the peak itself, so the rate has no jump there.
fn rise(step: u64, warm_up: u64, peak: f64) -> Option<f64> {
    (step < warm_up).then(|| peak * (step + 1) as f64 / (warm_up + 1) as f64)
}

/// How much of the way down is done: 0 at step `warm_up`, 1 at the last step and after it.
fn descent(step: u64, warm_up: u64, total_steps: u64) -> f64 {
    let last = total_steps.saturating_sub(1);
    if step >= last {
        return if last > warm_up || step > last {
            1.0
        } else {
            0.0
        };
    }
    (step - warm_up) as f64 / (last - warm_up) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rates(schedule: &Schedule, steps: &[u64], total_steps: u64) -> Vec<f64> {
        steps
            .iter()
            .map(|step| schedule.learning_rate(*step, total_steps))
            .collect()
    }

    fn assert_close(actual: &[f64], expected: &[f64]) {
        assert_eq!(actual.len(), expected.len());
        for (a, e) in actual.iter().zip(expected) {
            assert!(
                (a - e).abs() <= 1e-12 * e.abs().max(1e-3),
                "{actual:?} is not {expected:?}"
            );
        }
    }

    #[test]
    fn the_paper_drops_to_a_tenth_every_160_thousand_steps() {
        let paper = Schedule::Steps {
            learning_rate: 0.45,
            every: 160_000,
            factor: 0.1,
        };
        assert_close(
            &rates(
                &paper,
                &[0, 159_999, 160_000, 319_999, 320_000, 480_000, 559_999],
                560_000,
            ),
            &[0.45, 0.45, 0.045, 0.045, 0.0045, 0.000_45, 0.000_45],
        );
    }

    #[test]
    fn cosine_warms_up_linearly_and_ends_at_the_final_rate() {
        // warm-up 3: 1/4, 2/4, 3/4; peak at 3; then cos over steps 3..=9 by sixths of a half turn.
        let cosine = Schedule::Cosine {
            learning_rate: 0.8,
            warm_up: 3,
            final_learning_rate: 0.0,
        };
        let root = 3.0_f64.sqrt() / 2.0;
        assert_close(
            &rates(&cosine, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 10),
            &[
                0.2,
                0.4,
                0.6,
                0.8,
                0.4 * (1.0 + root),
                0.6,
                0.4,
                0.2,
                0.4 * (1.0 - root),
                0.0,
                0.0,
            ],
        );
    }

    #[test]
    fn one_cycle_is_a_triangle() {
        let cycle = Schedule::OneCycle {
            learning_rate: 1.0,
            warm_up: 1,
            final_learning_rate: 0.2,
        };
        assert_close(
            &rates(&cycle, &[0, 1, 2, 3, 4, 5, 6], 6),
            &[0.5, 1.0, 0.8, 0.6, 0.4, 0.2, 0.2],
        );
    }

    #[test]
    fn without_a_warm_up_the_first_step_has_the_peak() {
        let cosine = Schedule::Cosine {
            learning_rate: 0.1,
            warm_up: 0,
            final_learning_rate: 0.01,
        };
        assert_close(&rates(&cosine, &[0, 1, 2], 3), &[0.1, 0.055, 0.01]);
        // A run of a single step takes it at the peak.
        assert_close(&rates(&cosine, &[0], 1), &[0.1]);
        let constant = Schedule::Constant { learning_rate: 0.3 };
        assert_close(&rates(&constant, &[0, 1_000_000], 2), &[0.3, 0.3]);
    }

    proptest! {
        #[test]
        fn every_rate_lies_between_zero_and_the_peak(
            step in 0..2000_u64, total in 0..1000_u64, warm_up in 0..1500_u64,
        ) {
            let (peak, end) = (0.5, 0.001);
            for schedule in [
                Schedule::Cosine { learning_rate: peak, warm_up, final_learning_rate: end },
                Schedule::OneCycle { learning_rate: peak, warm_up, final_learning_rate: end },
            ] {
                let rate = schedule.learning_rate(step, total);
                prop_assert!(rate > 0.0 && rate <= peak, "{rate}");
            }
        }
    }
}

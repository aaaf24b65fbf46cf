//! From the scores of an image's crops to one score a class (paper §5).
//!
//! Top-share pooling: per class, the mean of the best share of a scale's scores, then the mean over
//! the scales. The paper takes 30 % of 36.
//!
//! Deviation: 0.3 · 36 is 10.8; the paper does not say how it rounds. Here it is rounded to the nearest
//! number and at least 1, so 11. Nor does it say whether logits or probabilities are pooled; logits
//! are the default.
//!
//! ```
//! use polynet::eval::pooling::{Pooling, Pooled, PoolingRule};
//!
//! let rule = PoolingRule { pooling: Pooling::TopShare(0.5), of: Pooled::Logits };
//! // One scale of 4 crops, two classes.
//! let scores = [1.0, 0.0, 5.0, 0.0, 3.0, 0.0, 2.0, 8.0];
//! assert_eq!(rule.pool(&scores, 4, 2), [4.0, 4.0]);
//! ```

use serde::Serialize;

/// How the scores of crops become one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The mean of all.
    Mean,
    /// Per class, the mean of the best share of a scale's crops, then over the scales.
    TopShare(f64),
}

/// What is pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooled {
    /// What the network gives, before the softmax.
    Logits,
    /// After the softmax.
    Probabilities,
}

/// A rule of pooling.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PoolingRule {
    /// How.
    pub pooling: Pooling,
    /// Of what.
    pub of: Pooled,
}

impl PoolingRule {
    /// How many of `crops` scores are taken: the share of them, rounded to the nearest number, at
    /// least one.
    pub fn taken(self, crops: usize) -> usize {
        match self.pooling {
            Pooling::Mean => crops,
            Pooling::TopShare(share) => {
                ((share * crops as f64).round() as usize).clamp(1, crops.max(1))
            }
        }
    }

    /// Pools an image's logits `[crops, classes]`, of which each scale has `crops_per_scale`, to
    /// `[classes]`. Pooled probabilities come as their logarithms, so that the result is a logit in
    /// either case.
    pub fn pool(self, logits: &[f32], crops_per_scale: usize, classes: usize) -> Vec<f32> {
        let per_scale = (crops_per_scale * classes).max(1);
        let scales = logits.len() / per_scale;
        let taken = self.taken(crops_per_scale);
        let mut sums = vec![0.0_f64; classes];
        let mut column = vec![0.0_f64; crops_per_scale];
        for scale in logits.chunks_exact(per_scale) {
            let scores = self.scores(scale, classes);
            for (class, sum) in sums.iter_mut().enumerate() {
                for (value, row) in column.iter_mut().zip(scores.chunks_exact(classes)) {
                    *value = row[class];
                }
                column.sort_unstable_by(|a, b| b.total_cmp(a));
                *sum += column[..taken].iter().sum::<f64>() / taken as f64;
            }
        }
        let result = |sum: f64| match self.of {
            Pooled::Logits => sum / scales as f64,
            Pooled::Probabilities => (sum / scales as f64).max(f64::MIN_POSITIVE).ln(),
        };
        sums.into_iter().map(|sum| result(sum) as f32).collect()
    }

    fn scores(self, logits: &[f32], classes: usize) -> Vec<f64> {
        let mut scores: Vec<f64> = logits.iter().copied().map(f64::from).collect();
        if self.of == Pooled::Probabilities {
            scores.chunks_exact_mut(classes).for_each(softmax);
        }
        scores
    }
}

fn softmax(row: &mut [f64]) {
    let highest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    row.iter_mut()
        .for_each(|value| *value = (*value - highest).exp());
    let sum: f64 = row.iter().sum();
    row.iter_mut().for_each(|value| *value /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(pooling: Pooling, of: Pooled) -> PoolingRule {
        PoolingRule { pooling, of }
    }

    #[test]
    fn thirty_percent_of_36_are_11() {
        let taken = |share, crops| rule(Pooling::TopShare(share), Pooled::Logits).taken(crops);
        assert_eq!(
            (taken(0.3, 36), taken(0.01, 12), taken(1.0, 36)),
            (11, 1, 36)
        );
    }

    #[test]
    fn the_best_are_taken_at_each_scale() {
        // Two scales of two crops: the best of each, 4 and 10, though 9 is better than 4.
        let pooled =
            rule(Pooling::TopShare(0.5), Pooled::Logits).pool(&[4.0, 1.0, 9.0, 10.0], 2, 1);
        assert_eq!(pooled, [7.0]);
    }

    #[test]
    fn probabilities_are_pooled_after_the_softmax() {
        // (1/2 + 4/5) / 2 = 0.65 and (1/2 + 1/5) / 2 = 0.35.
        let logits = [0.0, 0.0, 4.0_f32.ln(), 0.0];
        let pooled = rule(Pooling::Mean, Pooled::Probabilities).pool(&logits, 2, 2);
        assert!((pooled[0].exp() - 0.65).abs() < 1e-6 && (pooled[1].exp() - 0.35).abs() < 1e-6);
        let extreme = rule(Pooling::Mean, Pooled::Probabilities).pool(&[0.0, 1e9], 1, 2);
        assert!(extreme.iter().all(|logit| logit.is_finite()));
    }

    proptest! {
        #[test]
        fn all_of_them_are_the_mean(logits in prop::collection::vec(-9.0_f32..9.0, 24)) {
            let all = rule(Pooling::TopShare(1.0), Pooled::Logits).pool(&logits, 4, 3);
            let mean = rule(Pooling::Mean, Pooled::Logits).pool(&logits, 4, 3);
            prop_assert_eq!(&all, &mean);
            for (class, pooled) in mean.iter().enumerate() {
                let sum: f32 = logits.iter().skip(class).step_by(3).sum();
                prop_assert!((pooled - sum / 8.0).abs() < 1e-5);
            }
        }
    }
}

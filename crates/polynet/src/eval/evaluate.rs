//! A network on a data set.

use super::{CacheError, EvalReport, Scores, ScoresError};
use crate::classify::Predictor;
use crate::data::{Batch, DataError, Loader};
use serde::Serialize;

/// Why a network could not be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// An image could not be had.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The network's output could not be scored.
    #[error(transparent)]
    Scores(#[from] ScoresError),
    /// The cache of scores could not be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Scores a model on every image of a loader, whose labels count `classes`. `observe` sees each
/// batch once it is scored.
///
/// # Errors
/// If an image cannot be loaded (unless the loader skips such), or a logit is not finite.
pub fn evaluate(
    predictor: &mut Predictor,
    classes: &[String],
    loader: &Loader,
    observe: impl FnMut(&Batch),
) -> Result<EvalReport, EvalError> {
    Ok(score(predictor, classes, loader, observe)?.report())
}

/// As [`evaluate`], with scores that can be added to those of other images.
///
/// # Errors
/// As [`evaluate`].
pub fn score(
    predictor: &mut Predictor,
    classes: &[String],
    loader: &Loader,
    mut observe: impl FnMut(&Batch),
) -> Result<Scores, EvalError> {
    let mut scores = Scores::new(classes);
    for batch in loader.epoch(0, 0) {
        let mut batch = batch?;
        if !batch.is_empty() {
            let shape = batch.shape();
            let logits = predictor.logits(std::mem::take(&mut batch.images), shape);
            scores.add(&logits, &batch.labels)?;
        }
        observe(&batch);
    }
    Ok(scores)
}

/// A class and its probability.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ranked {
    /// The class's name.
    pub class: String,
    /// Softmax of its logit.
    pub probability: f64,
}

/// The `top` most probable classes of one image, the best first; equal ones in the order of the
/// classes.
///
/// ```
/// let classes = ["cat".to_owned(), "dog".to_owned()];
/// let best = polynet::eval::ranked(&[0.0, 3.0_f32.ln()], &classes, 1);
/// assert_eq!(best[0].class, "dog");
/// assert!((best[0].probability - 0.75).abs() < 1e-6);
/// ```
pub fn ranked(logits: &[f32], classes: &[String], top: usize) -> Vec<Ranked> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits
        .iter()
        .map(|logit| f64::from(logit - highest).exp())
        .collect();
    let sum: f64 = weights.iter().sum();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
    order
        .into_iter()
        .take(top)
        .map(|index| Ranked {
            class: classes[index].clone(),
            probability: weights[index] / sum,
        })
        .collect()
}

/// How many rows of `logits` (`[labels × classes]`) are highest at their label; of equal logits the
/// first counts.
pub fn count_correct(logits: &[f32], labels: &[usize]) -> u64 {
    let classes = logits.len() / labels.len().max(1);
    let best = |row: &[f32]| {
        let first_best = |best, (index, &logit)| if logit > row[best] { index } else { best };
        row.iter().enumerate().fold(0, first_best)
    };
    logits
        .chunks_exact(classes.max(1))
        .zip(labels)
        .filter(|(row, label)| best(row) == **label)
        .count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correct_rows_are_counted_and_the_first_of_equals_wins() {
        let logits = [1.0, 2.0, 0.0, 5.0, 5.0, 0.0, 0.0, 0.0, 1.0];
        assert_eq!(count_correct(&logits, &[1, 0, 2]), 3);
        assert_eq!(count_correct(&logits, &[1, 1, 0]), 1);
        assert_eq!(count_correct(&[], &[]), 0);
    }

    #[test]
    fn probabilities_of_large_logits_are_finite_and_sum_to_one() {
        let classes: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        let ranked = ranked(&[1000.0, 999.0, -1000.0], &classes, 5);
        let sum: f64 = ranked.iter().map(|class| class.probability).sum();
        assert!((sum - 1.0).abs() < 1e-12);
        assert_eq!(ranked[0].class, "a");
    }
}

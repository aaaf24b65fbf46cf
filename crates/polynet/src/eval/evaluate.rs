//! A network on a data set.

use super::{CacheError, Scores, ScoresError};
use crate::data::{Batch, DataError, Loader};
use crate::engine::Predictor;
use crate::report::EvalReport;

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
        let batch = batch?;
        if !batch.is_empty() {
            let logits = predictor.logits(&batch.images);
            scores.add(&logits, &batch.labels)?;
        }
        observe(&batch);
    }
    Ok(scores)
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
}

//! Scores of a classifier, accumulated row by row without keeping the logits.
//!
//! A class is among the best `k` of a row when fewer than `k` classes beat it, where a class beats
//! another by a larger logit, or by the same logit and a lower index. Top-5 means the best
//! `min(5, classes)`. The loss is the mean cross-entropy `ln Σ exp(logit) − logit of the label`, in
//! nats.
//!
//! ```
//! use polynet::eval::Scores;
//!
//! let mut scores = Scores::new(&["cat", "dog", "fox"].map(String::from));
//! scores.add(&[2.0, 1.0, 0.0, 0.5, 0.1, 0.3], &[0, 2])?;
//! let report = scores.report();
//! assert_eq!((report.images, report.top1, report.top5), (2, Some(0.5), Some(1.0)));
//! # Ok::<(), polynet::eval::ScoresError>(())
//! ```

use crate::report::{ClassReport, ConfusionMatrix, EvalReport};

#[cfg(test)]
mod tests;

/// Running scores over a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    classes: Vec<String>,
    images: u64,
    loss_sum: LossSum,
    in_top5: Vec<u64>,
    confusion: ConfusionMatrix,
}

/// A sum of losses in steps of 2⁻⁶⁴ nats, so that it is the same in any order; it ends at 2⁶⁴ nats.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct LossSum(u128);

impl LossSum {
    const STEPS: f64 = (1_u128 << 64) as f64;

    fn add(&mut self, loss: f64) {
        // The conversion takes what is below zero by rounding for zero, and ends at the largest.
        self.0 = self.0.saturating_add((loss * Self::STEPS) as u128);
    }

    fn nats(self) -> f64 {
        self.0 as f64 / Self::STEPS
    }
}

/// Logits and labels that can't be scored.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScoresError {
    /// The logits are not a whole number of rows.
    #[error("expected {expected} logits for {rows} labels and {classes} classes, came {came}")]
    Shape {
        /// Rows times classes.
        expected: usize,
        /// Labels.
        rows: usize,
        /// Classes.
        classes: usize,
        /// Logits.
        came: usize,
    },
    /// A label names no class.
    #[error("image {image}: expected a label below {classes}, came {label}")]
    Label {
        /// Which image, from 0 and through all that were added.
        image: u64,
        /// The label.
        label: usize,
        /// Classes.
        classes: usize,
    },
    /// A logit is NaN or infinite.
    #[error(
        "image {image}: expected finite logits, class {class} has {logit}: the model's weights are \
         damaged or its training diverged"
    )]
    NotFinite {
        /// Which image, from 0 and through all that were added.
        image: u64,
        /// Which class.
        class: usize,
        /// Its logit.
        logit: f32,
    },
}

impl Scores {
    /// No images yet, for classes of these names.
    pub fn new(classes: &[String]) -> Self {
        Self {
            classes: classes.to_vec(),
            images: 0,
            loss_sum: LossSum::default(),
            in_top5: vec![0; classes.len()],
            confusion: ConfusionMatrix::new(classes.len()),
        }
    }

    /// Adds a batch: `logits` `[batch, classes]` row by row, `labels` `[batch]`.
    ///
    /// # Errors
    /// When the shapes don't fit, a label names no class, or a logit is not finite. Nothing of such
    /// a batch is counted.
    pub fn add(&mut self, logits: &[f32], labels: &[usize]) -> Result<(), ScoresError> {
        let classes = self.classes.len();
        let (rows, came) = (labels.len(), logits.len());
        let expected = rows * classes;
        if came != expected {
            return Err(ScoresError::Shape {
                expected,
                rows,
                classes,
                came,
            });
        }
        let pairs = || {
            logits
                .chunks_exact(classes.max(1))
                .zip(labels.iter().copied())
        };
        for (image, (row, label)) in (self.images..).zip(pairs()) {
            check(image, row, label)?;
        }
        // With no class at all, the first label was refused only if there was a row to look at.
        if let (0, Some(&label)) = (classes, labels.first()) {
            let image = self.images;
            return Err(ScoresError::Label {
                image,
                label,
                classes,
            });
        }
        for (row, label) in pairs() {
            self.images += 1;
            self.loss_sum.add(cross_entropy(row, label));
            self.in_top5[label] += u64::from(rank(row, label) < 5);
            self.confusion.add(label, best(row));
        }
        Ok(())
    }

    /// Images so far.
    pub fn images(&self) -> u64 {
        self.images
    }

    /// No images, for the same classes.
    pub(super) fn cleared(&self) -> Self {
        Self::new(&self.classes)
    }

    /// All counts, for [`Scores::add_words`] of another process: images, the low and the high half of
    /// the loss's sum, then each class's images in the best five, then the confusion matrix by rows.
    pub(super) fn to_words(&self) -> Vec<u64> {
        let LossSum(sum) = self.loss_sum;
        let mut words = vec![self.images, sum as u64, (sum >> 64) as u64];
        words.extend(&self.in_top5);
        words.extend(self.confusion.counts());
        words
    }

    /// Adds the images that [`Scores::to_words`] of scores for the same classes has counted. Nothing
    /// is added if there are not as many words.
    pub(super) fn add_words(&mut self, words: &[u64]) -> Option<()> {
        let [images, low, high, counts @ ..] = words else {
            return None;
        };
        if counts.len() != self.in_top5.len() + self.confusion.counts().len() {
            return None;
        }
        self.images += images;
        let LossSum(sum) = &mut self.loss_sum;
        *sum = sum.saturating_add(u128::from(*high) << 64 | u128::from(*low));
        let own = self.in_top5.iter_mut().chain(self.confusion.counts_mut());
        for (own, count) in own.zip(counts) {
            *own += count;
        }
        Some(())
    }

    /// The scores so far.
    pub fn report(&self) -> EvalReport {
        let right: u64 = (0..self.classes.len())
            .map(|class| self.confusion.count(class, class))
            .sum();
        EvalReport {
            images: self.images,
            loss: share(self.loss_sum.nats(), self.images),
            top1: share(right as f64, self.images),
            top5: share(self.in_top5.iter().sum::<u64>() as f64, self.images),
            classes: self.class_reports(),
            confusion: self.confusion.clone(),
        }
    }

    fn class_reports(&self) -> Vec<ClassReport> {
        let of_class = |(class, name): (usize, &String)| {
            let images = self.confusion.row(class).iter().sum();
            let correct = self.confusion.count(class, class);
            ClassReport {
                name: name.clone(),
                images,
                correct,
                top1: share(correct as f64, images),
                top5: share(self.in_top5[class] as f64, images),
            }
        };
        self.classes.iter().enumerate().map(of_class).collect()
    }
}

fn share(sum: f64, images: u64) -> Option<f64> {
    (images > 0).then(|| sum / images as f64)
}

fn check(image: u64, row: &[f32], label: usize) -> Result<(), ScoresError> {
    let classes = row.len();
    if label >= classes {
        return Err(ScoresError::Label {
            image,
            label,
            classes,
        });
    }
    match row.iter().position(|logit| !logit.is_finite()) {
        Some(class) => {
            let logit = row[class];
            Err(ScoresError::NotFinite {
                image,
                class,
                logit,
            })
        }
        None => Ok(()),
    }
}

/// How many classes beat `class`.
fn rank(row: &[f32], class: usize) -> usize {
    let own = row[class];
    let beats =
        |(index, logit): &(usize, &f32)| **logit > own || (**logit == own && *index < class);
    row.iter().enumerate().filter(beats).count()
}

/// The class that no other beats.
fn best(row: &[f32]) -> usize {
    let larger = |best: usize, class: usize| if row[class] > row[best] { class } else { best };
    (0..row.len()).fold(0, larger)
}

/// `ln Σ exp(logit) − logit of the label`, with the largest logit taken out so that nothing overflows.
fn cross_entropy(row: &[f32], label: usize) -> f64 {
    let largest = f64::from(row[best(row)]);
    let sum: f64 = row
        .iter()
        .map(|logit| (f64::from(*logit) - largest).exp())
        .sum();
    sum.ln() + largest - f64::from(row[label])
}

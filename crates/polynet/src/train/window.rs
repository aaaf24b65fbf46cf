//! Sums over training steps, from which the means of a record come.

use serde::{Deserialize, Serialize};

/// Sums over training steps, from which a [`TrainRecord`]'s means come.
///
/// A checkpoint that falls between two records keeps the sums, so that the next record of a resumed
/// run has all of its steps.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Window {
    images: u64,
    correct: u64,
    loss_sum: f64,
}

impl Window {
    /// Adds a step of `images` images with this mean loss, `correct` of them right.
    pub fn add(&mut self, images: u64, correct: u64, mean_loss: f64) {
        self.images += images;
        self.correct += correct;
        self.loss_sum += mean_loss * images as f64;
    }

    /// Images of all steps.
    pub fn images(&self) -> u64 {
        self.images
    }

    /// Mean loss per image; NaN without any.
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.images as f64
    }

    /// Share of images that were right; NaN without any.
    pub fn top1(&self) -> f64 {
        self.correct as f64 / self.images as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_gives_means_per_image() {
        let mut window = Window::default();
        window.add(4, 1, 2.0);
        window.add(12, 7, 1.0);
        // (4·2 + 12·1) / 16 and (1 + 7) / 16
        assert_eq!(
            (window.images(), window.loss(), window.top1()),
            (16, 1.25, 0.5)
        );
    }
}

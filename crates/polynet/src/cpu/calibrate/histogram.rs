//! How often numbers of a size occur in a map, and the step that rounds them best.

/// Bins of a histogram.
const BINS: usize = 2048;
/// The steps that are tried, as shares of the largest number.
const TRIED: usize = 64;
/// The largest whole number of a byte.
const LARGEST: f64 = 255.0;

/// Counts of numbers from 0 on, in bins of one width that doubles where they do not reach. What is below 0
/// counts as 0.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    width: f32,
    counts: Vec<u64>,
    zeros: u64,
}

impl Histogram {
    pub(super) fn add(&mut self, values: &[f32]) {
        let largest = values.iter().copied().fold(0.0, f32::max);
        if self.counts.is_empty() && largest > 0.0 {
            self.width = 2.0 * largest / BINS as f32;
            self.counts = vec![0; BINS];
        }
        while largest >= self.width * BINS as f32 && largest > 0.0 {
            let pairs = self.counts.chunks_exact(2).map(|pair| pair[0] + pair[1]);
            let halves: Vec<u64> = pairs.collect();
            self.counts[..BINS / 2].copy_from_slice(&halves);
            self.counts[BINS / 2..].fill(0);
            self.width *= 2.0;
        }
        for &value in values {
            if value > 0.0 {
                let bin = (value / self.width) as usize;
                self.counts[bin.min(BINS - 1)] += 1;
            } else {
                self.zeros += 1;
            }
        }
    }

    /// The end of the last bin that has a number.
    fn end(&self) -> f64 {
        let last = self.counts.iter().rposition(|&count| count > 0);
        last.map_or(0.0, |last| (last + 1) as f64 * f64::from(self.width))
    }

    /// The sum of squared errors where numbers become the nearest of 0…255 steps: those in reach are off by
    /// a twelfth of a squared step, zeros by nothing, others by what they are beyond.
    fn error(&self, step: f64) -> f64 {
        let reach = step * LARGEST;
        let bins = self.counts.iter().enumerate();
        let error = bins.map(|(bin, &count)| {
            let value = (bin as f64 + 0.5) * f64::from(self.width);
            let of_one = match value <= reach {
                true => step * step / 12.0,
                false => (value - reach).powi(2),
            };
            count as f64 * of_one
        });
        error.sum()
    }

    /// The step that makes the least error in several maps; 1 where all numbers are 0.
    pub(super) fn best_step(maps: &[&Self]) -> f32 {
        let largest = maps.iter().map(|map| map.end()).fold(0.0, f64::max);
        if largest == 0.0 {
            return 1.0;
        }
        let steps = (1..=TRIED).map(|share| largest * share as f64 / TRIED as f64 / LARGEST);
        let error = |step: f64| maps.iter().map(|map| map.error(step)).sum::<f64>();
        let best = steps
            .map(|step| (error(step), step))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        best.map_or(1.0, |(_, step)| step as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_step_is_that_of_trying() {
        // One number is larger than all others.
        let numbers: Vec<f32> = (0..400_000_u64)
            .map(|index| ((index * 7919) % 400_009) as f32 / 400_009.0)
            .chain([0.0, -3.0, 1.5])
            .collect();
        let mut histogram = Histogram::default();
        // In parts, so that the bins must grow.
        let (low, high): (Vec<f32>, Vec<f32>) = numbers.iter().partition(|&&number| number < 0.3);
        histogram.add(&low);
        histogram.add(&high);
        assert_eq!(
            histogram.counts.iter().sum::<u64>() + histogram.zeros,
            400_003
        );
        let error = |step: f32| -> f64 {
            let rounded = |x: f32| (x / step).round_ties_even().clamp(0.0, 255.0) * step;
            let errors = numbers
                .iter()
                .map(|&x| f64::from(rounded(x) - x.max(0.0)).powi(2));
            errors.sum()
        };
        let best = Histogram::best_step(&[&histogram]);
        let largest = numbers.iter().copied().fold(0.0, f32::max);
        let tried = (1..=64).map(|share| error(largest * share as f32 / 64.0 / 255.0));
        let least = tried.fold(f64::INFINITY, f64::min);
        assert!(error(best) <= 1.05 * least, "{} for {least}", error(best));
        assert!(
            error(best) < 0.8 * error(largest / 255.0),
            "clipping pays here"
        );
    }

    #[test]
    fn a_map_of_zeros_has_some_step() {
        let mut histogram = Histogram::default();
        histogram.add(&[0.0; 5]);
        assert_eq!(Histogram::best_step(&[&histogram]), 1.0);
    }
}

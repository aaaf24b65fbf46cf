//! What dropout multiplies by.

use rand::{Rng, RngExt};

/// Factors for dropout: 0 or `1 / (1 − probability)`.
pub(crate) fn factors(count: usize, probability: f64, rng: &mut impl Rng) -> Vec<f32> {
    let kept = (1.0 / (1.0 - probability)) as f32;
    (0..count)
        .map(|_| {
            if rng.random::<f64>() < probability {
                0.0
            } else {
                kept
            }
        })
        .collect()
}

//! Clipping of gradients.

use super::recipe::TrainingSection;
use rayon::prelude::*;

/// Elements that are summed by one thread.
const PIECE: usize = 1 << 16;

/// How gradients are limited, by value first, then by norm.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Clipping {
    /// The largest absolute value of an element.
    pub(super) value: Option<f64>,
    /// The largest norm of all elements together.
    pub(super) norm: Option<f64>,
}

impl Clipping {
    pub(super) fn new(training: &TrainingSection) -> Self {
        Self {
            value: training.clip_value,
            norm: training.clip_norm,
        }
    }

    /// Limits the gradients as PyTorch's `clip_grad_value_` and `clip_grad_norm_` do.
    pub(super) fn apply(self, gradients: &mut [Option<Vec<f32>>]) {
        if let Some(limit) = self.value {
            let limit = limit as f32;
            each(gradients, |gradient| gradient.clamp(-limit, limit));
        }
        if let Some(limit) = self.norm {
            let factor = limit / (norm(gradients) + 1e-6);
            if factor < 1.0 {
                each(gradients, |gradient| gradient * factor as f32);
            }
        }
    }
}

fn each(gradients: &mut [Option<Vec<f32>>], change: impl Fn(f32) -> f32 + Sync) {
    gradients.par_iter_mut().flatten().for_each(|gradient| {
        for value in gradient {
            *value = change(*value);
        }
    });
}

/// The Euclidean norm of all elements together, in `f64`: pieces are added in their order, whatever the
/// number of threads.
fn norm(gradients: &[Option<Vec<f32>>]) -> f64 {
    let pieces: Vec<&[f32]> = gradients
        .iter()
        .flatten()
        .flat_map(|g| g.chunks(PIECE))
        .collect();
    let square = |piece: &&[f32]| {
        piece
            .iter()
            .map(|&g| f64::from(g) * f64::from(g))
            .sum::<f64>()
    };
    let squares: Vec<f64> = pieces.par_iter().map(square).collect();
    squares.into_iter().sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn numbers(json: &Value) -> Vec<f32> {
        let items = json.as_array().unwrap().iter();
        items.map(|item| item.as_f64().unwrap() as f32).collect()
    }

    fn tensors(json: &Value) -> Vec<Option<Vec<f32>>> {
        let tensors = json.as_array().unwrap().iter().map(numbers).map(Some);
        tensors.chain([None]).collect()
    }

    #[test]
    fn gradients_are_clipped_as_pytorch_clips_them() {
        let json: Value = serde_json::from_str(include_str!("fixtures/optimizer.json")).unwrap();
        let json = &json["clipping"];
        for (kind, cases) in [("norm", &json["norm"]), ("value", &json["value"])] {
            for case in cases.as_array().unwrap() {
                let limit = case["limit"].as_f64();
                let clipping = match kind {
                    "norm" => Clipping {
                        norm: limit,
                        value: None,
                    },
                    _ => Clipping {
                        norm: None,
                        value: limit,
                    },
                };
                let mut gradients = tensors(&json["gradients"]);
                if kind == "norm" {
                    let expected = case["norm"].as_f64().unwrap();
                    assert!((norm(&gradients) - expected).abs() < 1e-5 * expected);
                }
                clipping.apply(&mut gradients);
                let expected = case["clipped"].as_array().unwrap();
                assert!(gradients[expected.len()].is_none());
                for (found, expected) in gradients.into_iter().flatten().zip(expected) {
                    assert_eq!(found.len(), numbers(expected).len());
                    for (found, expected) in found.iter().zip(numbers(expected)) {
                        assert!(
                            (found - expected).abs() < 1e-5,
                            "{kind}: {found} {expected}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_norm_of_a_long_gradient_is_summed_in_pieces() {
        let long = vec![0.5; 2 * PIECE + 3];
        let expected = ((2 * PIECE + 3) as f64 * 0.25).sqrt();
        assert!((norm(&[None, Some(long)]) - expected).abs() < 1e-6 * expected);
        assert_eq!(norm(&[None]), 0.0);
    }
}

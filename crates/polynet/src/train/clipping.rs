//! Clipping of gradients.

use super::recipe::TrainingSection;
use crate::nn::host_values;
use burn::tensor::Tensor;

/// Elements that are summed at once: larger sums are split over threads in an order that varies.
const PIECE: usize = 1 << 20;

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
    pub(super) fn apply(self, gradients: &mut [Option<Tensor<1>>]) {
        if let Some(limit) = self.value {
            for gradient in gradients.iter_mut() {
                *gradient = gradient.take().map(|g| g.clamp(-limit, limit));
            }
        }
        if let Some(limit) = self.norm {
            let factor = limit / (norm(gradients) + 1e-6);
            if factor < 1.0 {
                for gradient in gradients.iter_mut() {
                    *gradient = gradient.take().map(|g| g * factor);
                }
            }
        }
    }
}

/// The Euclidean norm of all elements together, the same whatever the number of threads.
fn norm(gradients: &[Option<Tensor<1>>]) -> f64 {
    let squares: Vec<Tensor<1>> = (gradients.iter().flatten())
        .flat_map(|gradient| {
            let [length] = gradient.dims();
            (0..length).step_by(PIECE).map(move |start| {
                let piece = gradient.clone().narrow(0, start, PIECE.min(length - start));
                piece.powf_scalar(2.0).sum()
            })
        })
        .collect();
    if squares.is_empty() {
        return 0.0;
    }
    let squares = host_values(Tensor::cat(squares, 0));
    squares.into_iter().map(f64::from).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::DeviceName;
    use burn::tensor::TensorData;
    use serde_json::Value;

    fn numbers(json: &Value) -> Vec<f32> {
        let items = json.as_array().unwrap().iter();
        items.map(|item| item.as_f64().unwrap() as f32).collect()
    }

    fn tensors(json: &Value) -> Vec<Option<Tensor<1>>> {
        let device = DeviceName::Cpu.open();
        let tensor = |json: &Value| {
            let values = numbers(json);
            let length = values.len();
            Tensor::from_data(TensorData::new(values, [length]), &device)
        };
        let mut found: Vec<_> = json
            .as_array()
            .unwrap()
            .iter()
            .map(tensor)
            .map(Some)
            .collect();
        found.push(None);
        found
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
                    for (found, expected) in host_values(found).iter().zip(numbers(expected)) {
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
        let long = Tensor::<1>::ones([2 * PIECE + 3], &DeviceName::Cpu.open()) * 0.5;
        let expected = ((2 * PIECE + 3) as f64 * 0.25).sqrt();
        assert!((norm(&[None, Some(long)]) - expected).abs() < 1e-6 * expected);
        assert_eq!(norm(&[None]), 0.0);
    }
}

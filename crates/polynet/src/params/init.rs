//! First values of a network's tensors.
//!
//! Convolutions and classifier are drawn by He's rule (He et al. 2015, eq. 10): normal with
//! variance `2 / fan_in`, the classifier (no ReLU follows) with `1 / fan_in`. Batch norm starts as
//! the identity. Every tensor draws from a generator of its own, seeded by the run's seed and the
//! tensor's name, so that its values do not depend on what else the network has.

use crate::arch::graph::{TensorKind, TensorSpec};
use crate::random::tensor_rng;
use rand_distr::{Distribution, StandardNormal};

/// The first values of a tensor.
pub(crate) fn values(spec: &TensorSpec, seed: u64) -> Vec<f32> {
    let count = spec.num_elements();
    let fan_in: usize = spec.shape[1..].iter().product();
    match spec.kind {
        TensorKind::ConvWeight => normal(spec, seed, (2.0 / fan_in as f32).sqrt()),
        TensorKind::LinearWeight => normal(spec, seed, (1.0 / fan_in as f32).sqrt()),
        TensorKind::NormWeight | TensorKind::RunningVar => vec![1.0; count],
        TensorKind::ConvBias
        | TensorKind::NormBias
        | TensorKind::RunningMean
        | TensorKind::LinearBias => vec![0.0; count],
    }
}

fn normal(spec: &TensorSpec, seed: u64, deviation: f32) -> Vec<f32> {
    let mut rng = tensor_rng(seed, &spec.name);
    (0..spec.num_elements())
        .map(|_| {
            let value: f32 = StandardNormal.sample(&mut rng);
            deviation * value
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, shape: &[usize], kind: TensorKind) -> TensorSpec {
        TensorSpec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            kind,
        }
    }

    #[test]
    fn convolutions_have_the_variance_of_hes_rule() {
        let values = values(&spec("w", &[64, 32, 3, 3], TensorKind::ConvWeight), 1);
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32;
        // 2 / (32·3·3) = 0.00694; 18,432 draws give it to about 1 %.
        assert!((variance / 0.006_944 - 1.0).abs() < 0.04, "{variance}");
        assert!(mean.abs() < 0.003, "{mean}");
    }

    #[test]
    fn seed_and_name_decide_the_values() {
        let draw = |name, seed| values(&spec(name, &[4, 4, 1, 1], TensorKind::ConvWeight), seed);
        assert_eq!(draw("a", 1), draw("a", 1));
        assert_ne!(draw("a", 1), draw("b", 1));
        assert_ne!(draw("a", 1), draw("a", 2));
    }
}

//! Tensors that training leaves alone.

use super::Network;
use crate::arch::graph::TensorSpec;

/// The tensors of a network that training leaves alone: they get no gradients, and a batch norm
/// whose scale is among them normalizes with its running statistics, which stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frozen {
    /// By tensor index of the network; empty where nothing is frozen.
    tensors: Vec<bool>,
}

impl Frozen {
    /// Everything is trained.
    pub const NOTHING: Self = Self {
        tensors: Vec::new(),
    };

    /// The tensors that `is_frozen` names. Gradients need one that it does not name.
    pub fn new(specs: &[TensorSpec], is_frozen: impl Fn(&TensorSpec) -> bool) -> Self {
        let tensors: Vec<bool> = specs.iter().map(is_frozen).collect();
        Self { tensors }
    }

    /// Whether the tensor of that index is frozen.
    pub fn contains(&self, tensor: usize) -> bool {
        self.tensors.get(tensor).copied().unwrap_or_default()
    }

    /// Whether a batch norm of the network's graph is.
    pub(super) fn contains_norm(&self, network: &Network, norm: usize) -> bool {
        self.contains(network.graph().norm_tensors(norm)[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Architecture;
    use crate::nn::{Activations, DeviceName, Gradients, LossOptions, Paths, StepOptions};
    use burn::tensor::{DType, Tensor, TensorData};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn network(spec: &str) -> Network {
        let architecture: Architecture = spec.parse().unwrap();
        Network::init(architecture.graph().unwrap(), 3, &DeviceName::Cpu.open())
    }

    fn images(size: usize) -> Tensor<4> {
        let count = 4 * 3 * size * size;
        let values = (0..count).map(|i| ((i * 7919) % 1013) as f32 / 506.0 - 1.0);
        let data = TensorData::new(values.collect::<Vec<f32>>(), [4, 3, size, size]);
        Tensor::from_data(data, &DeviceName::Cpu.open())
    }

    fn step(network: &mut Network, frozen: &Frozen, activations: Activations) -> Gradients {
        let paths = Paths::all(network.graph());
        let loss = LossOptions {
            label_smoothing: 0.0,
        };
        let options = StepOptions {
            frozen,
            activations,
            ..StepOptions::new(loss, &paths)
        };
        let size = network.graph().nodes[0].shape[1];
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        network.gradients(images(size), &[0, 1, 2, 0], &options, &mut rng)
    }

    #[test]
    fn frozen_parts_have_no_gradients_and_keep_their_statistics() {
        for spec in [
            "small-polynet; width = 0.0625; classes = 3; input = 16",
            "resnet-50; width = 0.0625; classes = 3; input = 32; 1: I + F; 2: 2-way; 3: I + F; 4: I",
        ] {
            for part in ["stem", "stage_", "head"] {
                let mut network = network(spec);
                let specs = network.specs().to_vec();
                let frozen = Frozen::new(&specs, |spec| spec.name.starts_with(part));
                let before = network.to_host();
                let [kept, recomputed] = [Activations::Kept, Activations::Recomputed]
                    .map(|activations| step(&mut network, &frozen, activations));
                for (index, spec) in specs.iter().enumerate() {
                    let gradients = [&kept, &recomputed].map(|step| step.tensors[index].is_some());
                    let trained = spec.kind.is_parameter() && !spec.name.starts_with(part);
                    assert_eq!(gradients, [trained; 2], "{part}: {}", spec.name);
                }
                network.update_statistics(&kept);
                let after = network.to_host();
                for spec in specs {
                    let moved = before[&spec.name] != after[&spec.name];
                    let statistic = !spec.kind.is_parameter();
                    assert_eq!(
                        moved,
                        statistic && !spec.name.starts_with(part),
                        "{}",
                        spec.name
                    );
                }
            }
        }
    }

    /// The kernels of the processor against the recorded pass.
    #[test]
    fn both_ways_to_compute_gradients_agree_on_what_is_frozen() {
        for spec in [
            "small-polynet; width = 0.125; classes = 3; input = 16; dropout = 0",
            "small-ir-1-2-1; width = 0.125; classes = 3; input = 16; sharing = release; \
             B: poly-3 x2; C: F + GF; dropout = 0",
            "resnet-50; width = 0.125; classes = 3; input = 32",
            "inception-resnet-v2; width = 0.125; classes = 3; input = 107; A: I + F; B: I + F; \
             C: I + F; dropout = 0",
        ] {
            for trained in ["stem", "stage_", "reduction", "head"] {
                let mut network = network(spec);
                let is_trained = |spec: &TensorSpec| spec.name.starts_with(trained);
                if !network.specs().iter().any(is_trained) {
                    continue;
                }
                let frozen = Frozen::new(network.specs(), |spec| !is_trained(spec));
                let found = step(&mut network, &frozen, Activations::Kept);
                // Small batches are ill-conditioned: the recorded pass in f32 says by how much. A ReLU that
                // rounding turns over moves a gradient by up to a few per cent.
                let [exact, in_f32] =
                    [DType::F64, DType::F32].map(|dtype| recorded(&network, &frozen, dtype));
                assert!(
                    (found.loss / exact.loss - 1.0).abs() < 1e-4,
                    "{spec}, {trained}"
                );
                for (index, tensor) in network.specs().iter().enumerate() {
                    let name = &tensor.name;
                    let Some(expected) = host(&exact, index) else {
                        assert!(found.tensors[index].is_none(), "{trained}: {name}");
                        continue;
                    };
                    let error = |gradients: &Gradients| {
                        let found = host(gradients, index).expect("a gradient");
                        let pairs = found.iter().zip(&expected);
                        let squares: f64 = pairs.map(|(a, b)| (a - b).powi(2)).sum();
                        let scale: f64 = expected.iter().map(|x| x * x).sum();
                        (squares / scale.max(1e-12)).sqrt()
                    };
                    let (error, allowed) = (error(&found), 0.06 + 3.0 * error(&in_f32));
                    assert!(
                        error < allowed,
                        "{spec}, {trained}: {name}: {error}, {allowed}"
                    );
                }
            }
        }
    }

    /// The gradients of [`step`] by a recorded pass in the precision of `dtype`.
    fn recorded(network: &Network, frozen: &Frozen, dtype: DType) -> Gradients {
        let mut network = network.clone();
        for index in 0..network.specs().len() {
            let tensor = network.take_tensor(index);
            network.set_tensor(index, tensor.cast(dtype));
        }
        let paths = Paths::all(network.graph());
        let loss = LossOptions {
            label_smoothing: 0.0,
        };
        let options = StepOptions {
            frozen,
            ..StepOptions::new(loss, &paths)
        };
        let images = images(network.graph().nodes[0].shape[1]).cast(dtype);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let pass = network.pass(images, &options, &mut rng);
        pass.backward(&[0, 1, 2, 0], loss)
    }

    fn host(gradients: &Gradients, index: usize) -> Option<Vec<f64>> {
        let gradient = gradients.tensors[index].clone()?;
        Some(gradient.into_data_as::<f64>().try_into_vec().unwrap())
    }

    #[test]
    fn a_wholly_frozen_body_trains_on_the_features_of_prediction() {
        let mut network =
            network("small-polynet; width = 0.0625; classes = 3; input = 16; dropout = 0");
        let is_body = |spec: &TensorSpec| !spec.name.starts_with("head");
        let frozen = Frozen::new(network.specs(), is_body);
        let trained = step(&mut network, &frozen, Activations::Kept).logits;
        let predicted = network.logits(images(16));
        for (trained, predicted) in trained.iter().zip(predicted) {
            assert!((trained - predicted).abs() < 1e-4, "{trained} {predicted}");
        }
    }
}

//! Training on the processor: a step's gradients by our own kernels.
//!
//! [`gradients`] computes what a recorded pass over the graph computes on other devices
//! ([`training`](super::training)), to rounding, in a fraction of the time and memory: the graph is
//! compiled to a list of kernel calls on planned memory, forward and backward.

mod program;
mod run;

pub(in crate::nn) use run::Processor;

#[cfg(test)]
mod tests {
    use super::program::All;
    use super::run::StepInput;
    use super::*;
    use crate::arch::Architecture;
    use crate::nn::{DeviceName, LossOptions, Network};
    use burn::tensor::{Tensor, TensorData};
    use polynet_kernels::Isa;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn gradients_agree_with_the_recorded_pass() {
        for spec in [
            "small-polynet; width = 0.125; dropout = 0",
            "small-ir-1-2-1; width = 0.2; B: mpoly-3 x2; C: 3-way; dropout = 0",
            "small-ir-1-2-1; width = 0.25; B: (I + F)^2 x2; A: I + F + GF + HF; dropout = 0",
            "small-ir-1-2-1; width = 0.25; sharing = release; B: poly-3 x2; C: F + GF; dropout = 0",
            "resnet-50; width = 0.125; input = 64",
            "ir-3-6-3; width = 0.25; input = 107; B: 2-way x6; dropout = 0",
        ] {
            let architecture: Architecture = spec.parse().unwrap();
            let graph = architecture.graph().unwrap();
            let device = DeviceName::Cpu.open();
            let network = Network::init(graph.clone(), 3, &device);
            let size = graph.nodes[0].shape[1];
            let count = 8;
            let images: Vec<f32> = (0..count * 3 * size * size)
                .map(|index| ((index * 7919) % 1013) as f32 / 506.0 - 1.0)
                .collect();
            let labels: Vec<usize> = (0..count).map(|i| i % architecture.num_classes).collect();
            let data = TensorData::new(images.clone(), [count, 3, size, size]);
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let options = LossOptions {
                label_smoothing: 0.1,
            };
            let expected = network
                .training_pass(Tensor::from_data(data, &device), &mut rng)
                .backward(&labels, options);
            let tensors: Vec<Vec<f32>> = network
                .tensors()
                .iter()
                .map(|tensor| tensor.clone().into_data().try_into_vec().unwrap())
                .collect();
            let classes = architecture.num_classes;
            let mut targets = vec![0.1 / classes as f32; count * classes];
            for (image, label) in labels.iter().enumerate() {
                targets[image * classes + label] += 0.9;
            }
            for isa in Isa::available() {
                let mut processor = Processor::new(&graph, &All, count, isa);
                let input = StepInput {
                    tensors: &tensors,
                    images: &images,
                    targets: &targets,
                    masks: &[],
                };
                let found = processor.run(&graph, &input);
                assert!(
                    (found.loss - expected.loss).abs() < 1e-4,
                    "{spec} {isa}: loss {} for {}",
                    found.loss,
                    expected.loss
                );
                for (index, spec_of) in network.specs().iter().enumerate() {
                    let Some(expected) = &expected.tensors[index] else {
                        continue;
                    };
                    let expected: Vec<f32> = expected.clone().into_data().try_into_vec().unwrap();
                    let found = found.gradients[index].as_ref().expect("a gradient");
                    let norm = |values: &[f32]| values.iter().map(|x| x * x).sum::<f32>().sqrt();
                    let difference: Vec<f32> =
                        found.iter().zip(&expected).map(|(a, b)| a - b).collect();
                    let error = norm(&difference) / norm(&expected).max(1e-3);
                    assert!(error < 0.02, "{spec} {isa} {}: {error}", spec_of.name);
                }
            }
        }
    }
}

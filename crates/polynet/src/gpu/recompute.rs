//! Gradients with the feature maps computed twice, to hold fewer of them (Chen et al. 2016).
//!
//! The network is cut into its [segments](crate::arch::Graph::segments). The forward pass records
//! nothing and keeps each segment's input. The backward pass goes from the last segment to the
//! first: it computes the segment again, recorded this time, and takes the gradient at its result
//! to the one at its input. Batch norm's statistics come from the first time, dropout's masks are
//! drawn alike both times, and the gradients are those of a single recorded pass, bit for bit.

use super::frozen::Frozen;
use super::interpret::{self, Walk};
use super::network::{Network, host_values};
use super::training::{Gradients, Statistics, StepOptions, Tape, Training, cross_entropy};
use crate::arch::graph::NodeId;
use burn::tensor::Tensor;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// A segment whose turn in the backward pass is to come.
struct Waiting {
    nodes: Range<NodeId>,
    input: Tensor<4>,
    /// The generator as it was at the segment's beginning.
    rng: ChaCha8Rng,
}

/// See [`Network::gradients`].
pub(super) fn gradients(
    network: &Network,
    images: Tensor<4>,
    labels: &[usize],
    options: &StepOptions<'_>,
    rng: &mut ChaCha8Rng,
) -> Gradients {
    let walk = Walk::new(&network.graph, options.paths);
    let mut segments = network.graph.segments();
    let last = segments.pop().expect("a graph has a segment");
    let images = options.precision.of(images);
    let (x, waiting, mut statistics) =
        forward(network, options.frozen, &walk, segments, images, rng);

    let leaves = network.leaves(Tape::Recorded, options.frozen);
    let mut tensors = vec![None; leaves.len()];
    let mut training = Training::new(network, options.frozen, &leaves, rng);
    let input = Tensor::from_inner(x).require_grad();
    let logits = interpret::flat(walk.run(last, input.clone(), &mut training, |_, _| {}));
    statistics.append(&mut training.statistics);
    let host_logits = host_values(logits.clone().inner());
    let loss = cross_entropy(logits, labels, options.loss);
    let mut tape = loss.backward();
    take_gradients(&leaves, &mut tape, &mut tensors);
    let mut gradient = input.grad_remove(&mut tape);
    drop(tape);

    for Waiting {
        nodes,
        input,
        mut rng,
    } in waiting.into_iter().rev()
    {
        let Some(at_result) = gradient.take() else {
            break;
        };
        let mut training = Training::new(network, options.frozen, &leaves, &mut rng);
        let input = Tensor::from_inner(input).require_grad();
        let result = walk.run(nodes, input.clone(), &mut training, |_, _| {});
        // The gradient of Σ result·g at the result is g, exactly.
        let mut tape = (result * Tensor::from_inner(at_result)).sum().backward();
        take_gradients(&leaves, &mut tape, &mut tensors);
        gradient = input.grad_remove(&mut tape);
    }
    Gradients {
        loss: f64::from(host_values(loss.inner())[0]),
        logits: host_logits,
        tensors,
        statistics,
    }
}

/// The result of `segments`, each of them with what its second time needs, and the statistics.
fn forward(
    network: &Network,
    frozen: &Frozen,
    walk: &Walk<'_>,
    segments: Vec<Range<NodeId>>,
    mut x: Tensor<4>,
    rng: &mut ChaCha8Rng,
) -> (Tensor<4>, Vec<Waiting>, Statistics) {
    let weights = network.leaves(Tape::None, frozen);
    let mut statistics = Statistics::new();
    let mut waiting = Vec::with_capacity(segments.len());
    for nodes in segments {
        let state = Waiting {
            nodes: nodes.clone(),
            input: x.clone(),
            rng: rng.clone(),
        };
        let mut training = Training::new(network, frozen, &weights, rng);
        x = walk.run(nodes, x, &mut training, |_, _| {});
        statistics.append(&mut training.statistics);
        waiting.push(state);
    }
    (x, waiting, statistics)
}

/// Moves the gradients of the leaves that a tape reached. A leaf of several segments has the sum.
fn take_gradients(
    leaves: &[Option<Tensor<1>>],
    tape: &mut burn::tensor::Gradients,
    tensors: &mut [Option<Tensor<1>>],
) {
    for (leaf, sum) in leaves.iter().zip(tensors) {
        let gradient = leaf.as_ref().and_then(|leaf| leaf.grad_remove(tape));
        *sum = match (sum.take(), gradient) {
            (Some(sum), Some(gradient)) => Some(sum + gradient),
            (sum, gradient) => sum.or(gradient),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Architecture;
    use crate::nn::{Activations, DeviceName, LossOptions, Paths, Precision};
    use burn::tensor::TensorData;
    use rand::SeedableRng;

    fn network(spec: &str) -> Network {
        let architecture: Architecture = spec.parse().unwrap();
        Network::init(architecture.graph().unwrap(), 7, &DeviceName::Cpu.open())
    }

    fn images(count: usize) -> Tensor<4> {
        let values = (0..count * 3 * 32 * 32)
            .map(|index| ((index * 7919) % 1013) as f32 / 506.0 - 1.0)
            .collect::<Vec<f32>>();
        let data = TensorData::new(values, [count, 3, 32, 32]);
        Tensor::from_data(data, &DeviceName::Cpu.open())
    }

    /// How a step's gradients are computed.
    #[derive(Clone, Copy)]
    enum Way {
        /// By the fastest way of the device.
        Fastest(Activations),
        /// By one recorded pass.
        Recorded,
        /// By recording each segment when its turn comes.
        RecordedAgain,
    }

    /// Gradients, logits and the running statistics after the step, all as bits.
    fn step(spec: &str, way: Way, max_drop: f64) -> Vec<Option<Vec<u32>>> {
        let mut network = network(spec);
        let paths = Paths::draw(network.graph(), max_drop, &mut ChaCha8Rng::seed_from_u64(5));
        let mut options = StepOptions::new(
            LossOptions {
                label_smoothing: 0.1,
            },
            &paths,
        );
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let labels = [0, 1, 2, 1];
        let gradients = match way {
            Way::Recorded => network
                .pass(images(4), &options, &mut rng)
                .backward(&labels, options.loss),
            Way::RecordedAgain => gradients(&network, images(4), &labels, &options, &mut rng),
            Way::Fastest(activations) => {
                options.activations = activations;
                network.gradients(images(4), &labels, &options, &mut rng)
            }
        };
        network.update_statistics(&gradients);
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let mut found: Vec<_> = (gradients.tensors.into_iter())
            .map(|gradient| gradient.map(|gradient| bits(host_values(gradient))))
            .collect();
        found.push(Some(bits(gradients.logits)));
        let tensors = network.tensors().iter().cloned();
        found.extend(tensors.map(|tensor| Some(bits(host_values(tensor)))));
        found
    }

    #[test]
    fn recomputed_gradients_are_the_kept_ones_bit_for_bit() {
        let specs = [
            "family = small; width = 0.125; A: 2-way x2; B: poly-3 -> mpoly-3; C: 3-way; dropout = 0.3",
            "family = small; width = 0.125; A: (I + F)^2; B: I -> F; C: I + F; sharing = release",
            "resnet-50; width = 0.0625; input = 32; classes = 10",
        ];
        for spec in specs {
            for max_drop in [0.0, 0.8] {
                let recorded = step(spec, Way::Recorded, max_drop);
                let recomputed = step(spec, Way::RecordedAgain, max_drop);
                assert!(recorded == recomputed, "recorded: {spec}, {max_drop}");
                let kept = step(spec, Way::Fastest(Activations::Kept), max_drop);
                let recomputed = step(spec, Way::Fastest(Activations::Recomputed), max_drop);
                assert!(kept == recomputed, "kernels: {spec}, {max_drop}");
            }
        }
    }

    #[test]
    fn a_dropped_block_has_no_gradient() {
        let spec = "family = small; width = 0.125; A: I; B: I; C: I -> 2-way";
        let gradients = step(spec, Way::Fastest(Activations::Kept), 0.0);
        let network = network(spec);
        let parameters = network
            .specs()
            .iter()
            .filter(|spec| spec.kind.is_parameter());
        let with_gradient = gradients[..network.specs().len()].iter().flatten().count();
        assert_eq!(with_gradient, parameters.count());
        // The paths of the last module are dropped with chance 1.
        let dropped = step(spec, Way::Fastest(Activations::Kept), 1.0);
        for (spec, gradient) in network.specs().iter().zip(&dropped) {
            let expected = spec.kind.is_parameter() && !spec.name.starts_with("stage_c.1");
            assert_eq!(gradient.is_some(), expected, "{}", spec.name);
        }
    }

    #[test]
    fn bf16_gradients_are_near_those_of_f32() {
        let mut network = network("small-polynet; width = 0.125; dropout = 0");
        let paths = Paths::all(network.graph());
        let mut compute = |precision| {
            let loss = LossOptions {
                label_smoothing: 0.0,
            };
            let options = StepOptions {
                precision,
                ..StepOptions::new(loss, &paths)
            };
            let labels: Vec<usize> = (0..16).map(|index| index % 10).collect();
            let mut rng = ChaCha8Rng::seed_from_u64(11);
            network.gradients(images(16), &labels, &options, &mut rng)
        };
        let (full, half) = (compute(Precision::F32), compute(Precision::Bf16));
        assert!((full.loss - half.loss).abs() < 0.05 * full.loss);
        assert_ne!(full.loss, half.loss);
        let head = full.tensors.len() - 2;
        let values = |gradients: Gradients| host_values(gradients.tensors[head].clone().unwrap());
        let (full, half) = (values(full), values(half));
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let cosine = dot(&full, &half) / (dot(&full, &full) * dot(&half, &half)).sqrt();
        assert!(cosine > 0.99, "{cosine}");
    }
}

//! Gradients with the feature maps computed twice, to hold fewer of them (Chen et al. 2016).
//!
//! The network is cut into its [segments](crate::arch::Graph::segments). The forward pass records
//! nothing and keeps each segment's input. The backward pass goes from the last segment to the
//! first: it computes the segment again, recorded this time, and takes the gradient at its result
//! to the one at its input. Batch norm's statistics come from the first time, dropout's masks are
//! drawn alike both times, and the gradients are those of a single recorded pass, bit for bit.

use super::interpret::{self, Walk};
use super::training::{DeviceGradients, Leaves, Statistics, Step, Tape, Training, cross_entropy};
use crate::arch::graph::NodeId;
use burn_tensor::Tensor;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// A segment whose turn in the backward pass is to come.
struct Waiting {
    nodes: Range<NodeId>,
    input: Tensor<4>,
    /// The generator as it was at the segment's beginning.
    rng: ChaCha8Rng,
}

/// The gradients of a step by recording each segment when its turn comes.
pub(super) fn gradients(
    step: &Step<'_>,
    images: Tensor<4>,
    labels: &[usize],
    mut rng: ChaCha8Rng,
) -> DeviceGradients {
    let walk = Walk::new(step.graph, step.options.paths);
    let mut segments = step.graph.segments();
    let last = segments.pop().expect("a graph has a segment");
    let (x, waiting, mut statistics) = forward(step, &walk, segments, images, &mut rng);

    let leaves = step.leaves(Tape::Recorded);
    let mut tensors = vec![None; leaves.len()];
    let mut training = Training::new(step, &leaves, &mut rng);
    let input = Tensor::from_inner(x).require_grad();
    let logits = interpret::flat(walk.run(last, input.clone(), &mut training, |_, _| {}));
    statistics.append(&mut training.statistics);
    let loss = cross_entropy(logits.clone(), labels, step.options.loss);
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
        let mut training = Training::new(step, &leaves, &mut rng);
        let input = Tensor::from_inner(input).require_grad();
        let result = walk.run(nodes, input.clone(), &mut training, |_, _| {});
        // The gradient of Σ result·g at the result is g, exactly.
        let mut tape = (result * Tensor::from_inner(at_result)).sum().backward();
        take_gradients(&leaves, &mut tape, &mut tensors);
        gradient = input.grad_remove(&mut tape);
    }
    DeviceGradients {
        loss: loss.inner(),
        logits: logits.inner(),
        tensors,
        statistics,
    }
}

/// The result of `segments`, each of them with what its second time needs, and the statistics.
fn forward(
    step: &Step<'_>,
    walk: &Walk<'_>,
    segments: Vec<Range<NodeId>>,
    mut x: Tensor<4>,
    rng: &mut ChaCha8Rng,
) -> (Tensor<4>, Vec<Waiting>, Statistics) {
    let weights = step.leaves(Tape::None);
    let mut statistics = Statistics::new();
    let mut waiting = Vec::with_capacity(segments.len());
    for nodes in segments {
        let state = Waiting {
            nodes: nodes.clone(),
            input: x.clone(),
            rng: rng.clone(),
        };
        let mut training = Training::new(step, &weights, rng);
        x = walk.run(nodes, x, &mut training, |_, _| {});
        statistics.append(&mut training.statistics);
        waiting.push(state);
    }
    (x, waiting, statistics)
}

/// Moves the gradients of the leaves that a tape reached. A leaf of several segments has the sum.
fn take_gradients(
    leaves: &[Option<Tensor<1>>],
    tape: &mut burn_tensor::Gradients,
    tensors: &mut Leaves,
) {
    for (leaf, sum) in leaves.iter().zip(tensors.iter_mut()) {
        let gradient = leaf.as_ref().and_then(|leaf| leaf.grad_remove(tape));
        *sum = match (sum.take(), gradient) {
            (Some(sum), Some(gradient)) => Some(sum + gradient),
            (sum, gradient) => sum.or(gradient),
        };
    }
}

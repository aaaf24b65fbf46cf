//! Gradients segment by segment, with the feature maps kept or computed twice (Chen et al. 2016).
//!
//! The network is cut into its [segments](crate::arch::Graph::segments), each recorded alone. The
//! backward pass goes from the last segment to the first and takes the gradient at a segment's result to
//! the one at its input. Where maps are kept a segment is recorded in the forward pass; where they are
//! recomputed the forward pass keeps only its input, and it is computed again, recorded, when its turn
//! comes, with dropout's masks drawn alike. Both have the same sums, so the same gradients bit for bit.

use super::interpret::{self, Walk};
use super::training::{DeviceGradients, Leaves, Statistics, Step, Tape, Training, cross_entropy};
use crate::arch::graph::NodeId;
use crate::step::Activations;
use burn_tensor::Tensor;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// A segment whose turn in the backward pass is to come.
struct Waiting {
    nodes: Range<NodeId>,
    input: Tensor<4>,
    /// The generator as it was at the segment's beginning.
    rng: ChaCha8Rng,
    /// Where maps are kept.
    recorded: Option<Recorded>,
}

/// A segment's pass on a tape of its own.
struct Recorded {
    input: Tensor<4>,
    result: Tensor<4>,
    statistics: Statistics,
}

/// The passes of a step.
struct Passes<'a> {
    step: &'a Step<'a>,
    walk: Walk<'a>,
    leaves: Leaves,
    /// The backward pass ends at this node.
    first_trained: NodeId,
}

/// The gradients of a step.
pub(super) fn gradients(
    step: &Step<'_>,
    images: Tensor<4>,
    labels: &[usize],
    mut rng: ChaCha8Rng,
) -> DeviceGradients {
    let paths = step.options.paths;
    let passes = Passes {
        step,
        walk: Walk::new(step.graph, paths),
        leaves: step.leaves(Tape::Recorded),
        first_trained: step.options.frozen.first_trained(step.graph, paths),
    };
    let mut segments = step.graph.segments();
    let last = segments.pop().expect("a graph has a segment");
    let (x, mut waiting, mut statistics) = passes.forward(segments, images, &mut rng);
    let mut end = passes.record(last, x, &mut rng);
    statistics.append(&mut end.statistics);
    let logits = interpret::flat(end.result);
    let loss = cross_entropy(logits.clone(), labels, step.options.loss);

    let mut tensors = vec![None; passes.leaves.len()];
    let mut gradient = passes.backward(&loss, &end.input, &mut tensors);
    while let (Some(mut segment), Some(at_result)) = (waiting.pop(), gradient.take()) {
        let Recorded { input, result, .. } = segment
            .recorded
            .take()
            .unwrap_or_else(|| passes.record(segment.nodes, segment.input, &mut segment.rng));
        // The gradient of Σ result·g at the result is g, exactly.
        let sum = (result * Tensor::from_inner(at_result)).sum();
        gradient = passes.backward(&sum, &input, &mut tensors);
    }
    DeviceGradients {
        loss: loss.inner(),
        logits: logits.inner(),
        tensors,
        statistics,
    }
}

impl Passes<'_> {
    fn record(&self, nodes: Range<NodeId>, input: Tensor<4>, rng: &mut ChaCha8Rng) -> Recorded {
        let mut training = Training::new(self.step, &self.leaves, rng);
        let mut input = Tensor::from_inner(input);
        if nodes.start > self.first_trained {
            input = input.require_grad();
        }
        let result = self
            .walk
            .run(nodes, input.clone(), &mut training, |_, _| {});
        Recorded {
            input,
            result,
            statistics: training.statistics,
        }
    }

    /// The result of `segments`, those of them that have something to train, and the statistics.
    fn forward(
        &self,
        segments: Vec<Range<NodeId>>,
        mut x: Tensor<4>,
        rng: &mut ChaCha8Rng,
    ) -> (Tensor<4>, Vec<Waiting>, Statistics) {
        let unrecorded = self.step.leaves(Tape::None);
        let mut waiting = Vec::with_capacity(segments.len());
        let mut statistics = Statistics::new();
        for nodes in segments {
            let mut segment = Waiting {
                nodes: nodes.clone(),
                input: x.clone(),
                rng: rng.clone(),
                recorded: None,
            };
            let is_trained = nodes.end > self.first_trained;
            if is_trained && self.step.options.activations == Activations::Kept {
                let mut recorded = self.record(nodes, x, rng);
                statistics.append(&mut recorded.statistics);
                x = recorded.result.clone().inner();
                segment.recorded = Some(recorded);
            } else {
                let mut training = Training::new(self.step, &unrecorded, rng);
                x = self.walk.run(nodes, x, &mut training, |_, _| {});
                statistics.append(&mut training.statistics);
            }
            waiting.extend(is_trained.then_some(segment));
        }
        (x, waiting, statistics)
    }

    /// Adds the gradients of a number at the leaves to `tensors`; the one at a segment's input, if
    /// something before it is trained.
    fn backward(
        &self,
        number: &Tensor<1>,
        input: &Tensor<4>,
        tensors: &mut Leaves,
    ) -> Option<Tensor<4>> {
        let mut tape = number.backward();
        take_gradients(&self.leaves, &mut tape, tensors);
        input.grad_remove(&mut tape)
    }
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

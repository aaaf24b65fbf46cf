//! A training step as a list of kernel calls: the graph forward, then backward.
//!
//! What the backward pass keeps of a layer is its convolution's result `z` alone: `max(scale · z +
//! shift, 0)` is made again when the backward pass needs it, by a pass over memory. A sum's terms are
//! added from their `z` too. A gradient that only scales another is not made: who needs it takes the
//! factor.
//!
//! Recomputed activations are the same kernel calls twice: a segment's forward steps stand a second
//! time before its backward steps, so that what the first ones made need not be kept.

use super::compiler::Compiler;
use crate::arch::graph::Graph;
use crate::nn::{Activations, StepOptions};
use polynet_kernels::conv::{InputGradient, Window, Winograd};
use polynet_kernels::pool::Pool;
use std::collections::HashSet;

/// Index of a buffer in [`Program::buffers`].
pub(super) type BufferId = usize;
/// Index of a batch norm as it was applied in a step.
pub(super) type Slot = usize;

/// A feature map, or a part of a concatenation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Buffer {
    pub(super) channels: usize,
    /// Rows and columns.
    pub(super) size: [usize; 2],
    /// Columns of zeros that its readers need on each side.
    pub(super) halo: usize,
    /// Whether the images of a batch lie side by side as pixels of one row.
    pub(super) is_row_of_images: bool,
}

/// A kernel's call.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Input {
        to: BufferId,
    },
    Conv {
        weight: usize,
        window: Window,
        inputs: Vec<BufferId>,
        to: Vec<BufferId>,
    },
    /// The statistics of a map, and the batch norm that they give: one slot for each part.
    Moments {
        norm: usize,
        parts: Vec<(BufferId, Slot)>,
        relu: bool,
        /// Whether the layer is computed for the first time in the step.
        is_first: bool,
    },
    Normalize {
        slot: Slot,
        z: BufferId,
        to: BufferId,
    },
    /// `addend + factor · normalized z`, then ReLU or not.
    AddNormalized {
        slot: Slot,
        z: BufferId,
        factor: f32,
        addend: Option<BufferId>,
        to: BufferId,
        relu: bool,
    },
    /// `addend + scale · term`, then ReLU or not.
    Add {
        term: BufferId,
        scale: f32,
        addend: BufferId,
        to: BufferId,
        relu: bool,
    },
    Relu {
        from: BufferId,
        to: BufferId,
    },
    /// `x + bias`, then ReLU or not.
    Bias {
        bias: usize,
        first_channel: usize,
        from: BufferId,
        to: BufferId,
        relu: bool,
    },
    Pool {
        pool: Pool,
        window: Window,
        from: BufferId,
        to: BufferId,
    },
    AveragePool {
        from: BufferId,
        to: BufferId,
    },
    /// Dropout in place, forward or backward, by mask `index`.
    Dropout {
        index: usize,
        parts: Vec<BufferId>,
        probability: f64,
    },
    Linear {
        inputs: Vec<BufferId>,
        to: BufferId,
    },
    /// The loss; the gradient of the logits replaces them.
    Loss {
        logits: BufferId,
    },
    LinearGradient {
        inputs: Vec<BufferId>,
        gradient: BufferId,
        to: Vec<BufferId>,
    },
    AveragePoolGradient {
        gradient: BufferId,
        to: BufferId,
        add: bool,
        scratch: BufferId,
    },
    MaxPoolGradient {
        window: Window,
        from: BufferId,
        gradient: BufferId,
        to: BufferId,
    },
    MeanPoolGradient {
        window: Window,
        gradient: BufferId,
        to: BufferId,
    },
    /// The gradient of a bias: the sums of the channels.
    BiasGradient {
        bias: usize,
        parts: Vec<BufferId>,
    },
    /// `scale · gradient` where `gate` is positive, stored or added.
    Gate {
        gradient: BufferId,
        scale: f32,
        gate: Option<BufferId>,
        to: BufferId,
        add: bool,
    },
    /// From the gradient of a batch norm's result to that of its input.
    NormGradient {
        norm: usize,
        /// Slot, `z`, and the gradients of the result and of `z`.
        parts: Vec<(Slot, BufferId, BufferId, BufferId)>,
        factor: f32,
    },
    WeightGradient {
        weight: usize,
        window: Window,
        inputs: Vec<BufferId>,
        outputs: Vec<BufferId>,
    },
    InputGradient {
        weight: usize,
        window: Window,
        gradients: Vec<BufferId>,
        to: Vec<BufferId>,
        add: bool,
    },
    /// A copy with the channels divided otherwise.
    Regroup {
        from: Vec<BufferId>,
        to: Vec<BufferId>,
    },
    Clear {
        to: BufferId,
    },
}

/// The steps of a training step, for any batch.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) buffers: Vec<Buffer>,
    pub(super) steps: Vec<Step>,
    pub(super) slots: usize,
    /// After which step which tensors' gradients are final.
    pub(super) finals: Vec<Vec<usize>>,
}

impl Program {
    /// Compiles a graph.
    pub(super) fn new(graph: &Graph, options: &StepOptions<'_>) -> Self {
        let &StepOptions {
            paths,
            activations,
            frozen,
            ..
        } = options;
        let mut compiler = Compiler::new(graph, paths, frozen);
        let nodes = 0..graph.nodes.len();
        compiler.forward_all(nodes.clone());
        match activations {
            Activations::Kept => compiler.backward_all(nodes),
            Activations::Recomputed => {
                let mut segments = graph.segments();
                let last = segments.pop().expect("a graph has a segment");
                compiler.backward_all(last);
                let first = compiler.first_trained;
                let trained = segments.into_iter().filter(|segment| segment.end > first);
                for segment in trained.rev() {
                    compiler.forward_again(segment.clone());
                    compiler.backward_all(segment);
                }
            }
        }
        let mut program = Self {
            finals: finals(graph, &compiler.steps),
            buffers: compiler.buffers,
            steps: compiler.steps,
            slots: compiler.slots,
        };
        program.set_halos();
        program
    }

    /// The first and the last step that touch each buffer.
    pub(super) fn lives(&self) -> Vec<(usize, usize)> {
        let mut lives = vec![(usize::MAX, 0); self.buffers.len()];
        for (index, step) in self.steps.iter().enumerate() {
            for id in step.buffers() {
                let (first, last) = &mut lives[id];
                *first = (*first).min(index);
                *last = index;
            }
        }
        lives
    }

    /// Gives every buffer the halo that its readers need; the parts of one map have the same.
    fn set_halos(&mut self) {
        loop {
            let mut changed = false;
            for step in &self.steps {
                for (halo, parts) in step.halos() {
                    let present = parts.iter().map(|&id| self.buffers[id].halo).max();
                    let halo = present.unwrap_or(0).max(halo);
                    for &id in parts {
                        changed |= self.buffers[id].halo != halo;
                        self.buffers[id].halo = halo;
                    }
                }
            }
            if !changed {
                return;
            }
        }
    }
}

/// After which step which tensors' gradients get no more: several steps may add to one.
fn finals(graph: &Graph, steps: &[Step]) -> Vec<Vec<usize>> {
    let mut finals = vec![Vec::new(); steps.len()];
    let mut seen = HashSet::new();
    for (step, finals) in steps.iter().zip(&mut finals).rev() {
        let tensors = match step {
            Step::LinearGradient { .. } => {
                vec![graph.linear_tensor(), graph.linear_tensor() + 1]
            }
            Step::BiasGradient { bias, .. } => vec![graph.bias_tensor(*bias)],
            Step::NormGradient { norm, .. } => graph.norm_tensors(*norm)[..2].to_vec(),
            Step::WeightGradient { weight, .. } => vec![*weight],
            _ => continue,
        };
        finals.extend(tensors.into_iter().filter(|&tensor| seen.insert(tensor)));
    }
    finals
}

impl Step {
    /// The maps whose parts must have one halo, and at least how wide.
    fn halos(&self) -> Vec<(usize, &[BufferId])> {
        // Transformed convolutions read a border of their own making.
        let direct = |window: &Window, halo: usize| match Winograd::has(*window) {
            true => 0,
            false => halo,
        };
        match self {
            Self::Conv { window, inputs, .. } => {
                vec![(direct(window, window.padding[1]), inputs)]
            }
            Self::WeightGradient {
                window,
                inputs,
                outputs,
                ..
            } => vec![(direct(window, window.padding[1]), inputs), (0, outputs)],
            Self::InputGradient {
                window, gradients, ..
            } => vec![(direct(window, InputGradient::halo(*window)), gradients)],
            _ => Vec::new(),
        }
    }

    /// The buffers that the step touches.
    pub(super) fn buffers(&self) -> Vec<BufferId> {
        let join = |parts: &[&[BufferId]]| parts.concat();
        match self {
            Self::Input { to } | Self::Clear { to } => vec![*to],
            Self::Regroup { from, to } => join(&[from, to]),
            Self::Conv { inputs, to, .. } => join(&[inputs, to]),
            Self::Moments { parts, .. } => parts.iter().map(|part| part.0).collect(),
            Self::Normalize { z, to, .. } => vec![*z, *to],
            Self::AddNormalized { z, addend, to, .. } => {
                [*z, *to].into_iter().chain(*addend).collect()
            }
            Self::Add {
                term, addend, to, ..
            } => vec![*term, *addend, *to],
            Self::Relu { from, to }
            | Self::Bias { from, to, .. }
            | Self::Pool { from, to, .. }
            | Self::AveragePool { from, to } => vec![*from, *to],
            Self::Dropout { parts, .. } | Self::BiasGradient { parts, .. } => parts.clone(),
            Self::MeanPoolGradient { gradient, to, .. } => vec![*gradient, *to],
            Self::Linear { inputs, to } => join(&[inputs, &[*to]]),
            Self::Loss { logits } => vec![*logits],
            Self::LinearGradient {
                inputs,
                gradient,
                to,
            } => join(&[inputs, &[*gradient], to]),
            Self::AveragePoolGradient {
                gradient,
                to,
                scratch,
                ..
            } => vec![*gradient, *to, *scratch],
            Self::MaxPoolGradient {
                from, gradient, to, ..
            } => vec![*from, *gradient, *to],
            Self::Gate {
                gradient, gate, to, ..
            } => [*gradient, *to].into_iter().chain(*gate).collect(),
            Self::NormGradient { parts, .. } => parts
                .iter()
                .flat_map(|&(_, z, dy, dz)| [z, dy, dz])
                .collect(),
            Self::WeightGradient {
                inputs, outputs, ..
            } => join(&[inputs, outputs]),
            Self::InputGradient { gradients, to, .. } => join(&[gradients, to]),
        }
    }
}

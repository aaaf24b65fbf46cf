//! A graph as a list of steps on buffers: what is fused, merged and shared is decided here.
//!
//! - A concatenation is the list of its parts' buffers.
//! - 1×1 convolutions that read the same map are one convolution with more outputs.
//! - A convolution that is a term of a sum adds its result to the sum as it is stored. 1×1
//!   convolutions that only one sum reads are one convolution with more inputs.
//! - ReLU is part of what stores its input, and dropout is nothing.

use super::compiler::Compiler;
use crate::arch::graph::Graph;
use crate::nn::Precision;
use polynet_kernels::conv::{Window, Winograd};
use polynet_kernels::pool::Pool;

/// Index of a buffer in [`Program::buffers`].
pub(super) type BufferId = usize;

/// A feature map, or a part of a concatenation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Buffer {
    pub(super) channels: usize,
    /// Rows and columns.
    pub(super) size: [usize; 2],
    /// Columns of zeros that readers need on each side.
    pub(super) halo: usize,
    /// Whether the images of a batch lie side by side as pixels of one row.
    pub(super) is_row_of_images: bool,
}

/// One convolution of the graph inside a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ConvPart {
    pub(super) weight: usize,
    pub(super) norm: Option<usize>,
    pub(super) bias: Option<usize>,
    /// Factor of the result that is folded into the weights.
    pub(super) factor: f32,
}

/// How the convolutions of a step make one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ConvSource {
    /// All read the same map; their outputs are side by side.
    SideBySide(Vec<ConvPart>),
    /// Each reads a map of its own; the results are added.
    Added(Vec<ConvPart>),
    /// The classifier.
    Linear,
}

/// A result on its way to memory.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ValueStore {
    pub(super) to: Vec<BufferId>,
    pub(super) relu: bool,
}

/// A result added to a sum.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SumStore {
    pub(super) addend: Vec<BufferId>,
    pub(super) to: Vec<BufferId>,
    pub(super) scale: f32,
    pub(super) relu: bool,
}

/// A kernel's call.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Input {
        to: BufferId,
    },
    Conv {
        source: ConvSource,
        window: Window,
        inputs: Vec<BufferId>,
        value: Option<ValueStore>,
        sum: Option<SumStore>,
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
    /// Batch norm `norm`, or nothing, then ReLU or nothing.
    Affine {
        norm: Option<usize>,
        first_channel: usize,
        from: BufferId,
        to: BufferId,
        relu: bool,
    },
    /// A copy with the channels divided otherwise.
    Regroup {
        from: Vec<BufferId>,
        to: Vec<BufferId>,
    },
    /// `scale · term + addend`.
    Add {
        term: BufferId,
        scale: f32,
        addend: BufferId,
        to: BufferId,
        relu: bool,
    },
}

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// Product by product.
    Direct,
    /// By transforms that need fewer products.
    Transformed,
}

impl Step {
    /// How the step's convolution is computed.
    pub(super) fn algorithm(&self, precision: Precision) -> Algorithm {
        match self {
            Self::Conv { window, .. } if precision == Precision::F32 && Winograd::has(*window) => {
                Algorithm::Transformed
            }
            _ => Algorithm::Direct,
        }
    }

    /// The buffers that the step reads.
    pub(super) fn reads(&self) -> Vec<BufferId> {
        match self {
            Self::Input { .. } => Vec::new(),
            Self::Conv { inputs, sum, .. } => {
                let addend = sum.iter().flat_map(|sum| &sum.addend);
                inputs.iter().chain(addend).copied().collect()
            }
            Self::Pool { from, .. }
            | Self::AveragePool { from, .. }
            | Self::Affine { from, .. } => vec![*from],
            Self::Regroup { from, .. } => from.clone(),
            Self::Add { term, addend, .. } => vec![*term, *addend],
        }
    }

    /// The buffers that the step writes.
    pub(super) fn writes(&self) -> Vec<BufferId> {
        match self {
            Self::Conv { value, sum, .. } => {
                let value = value.iter().flat_map(|value| &value.to);
                let sum = sum.iter().flat_map(|sum| &sum.to);
                value.chain(sum).copied().collect()
            }
            Self::Regroup { to, .. } => to.clone(),
            Self::Input { to }
            | Self::Pool { to, .. }
            | Self::AveragePool { to, .. }
            | Self::Affine { to, .. }
            | Self::Add { to, .. } => vec![*to],
        }
    }

    /// Replaces a buffer that the step reads or writes.
    fn replace(&mut self, old: BufferId, new: BufferId) {
        let change = |id: &mut BufferId| {
            if *id == old {
                *id = new;
            }
        };
        match self {
            Self::Conv {
                inputs, value, sum, ..
            } => {
                inputs.iter_mut().for_each(change);
                if let Some(value) = value {
                    value.to.iter_mut().for_each(change);
                }
                if let Some(sum) = sum {
                    sum.addend.iter_mut().for_each(change);
                    sum.to.iter_mut().for_each(change);
                }
            }
            Self::Regroup { from, to } => from.iter_mut().chain(to).for_each(change),
            Self::Input { to } => change(to),
            Self::Pool { from, to, .. }
            | Self::AveragePool { from, to }
            | Self::Affine { from, to, .. } => [from, to].into_iter().for_each(change),
            Self::Add {
                term, addend, to, ..
            } => [term, addend, to].into_iter().for_each(change),
        }
    }
}

/// The steps of a network, for any batch.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) buffers: Vec<Buffer>,
    pub(super) steps: Vec<Step>,
    /// Where the logits are.
    pub(super) output: BufferId,
    /// Of the feature maps.
    pub(super) precision: Precision,
}

impl Program {
    /// Compiles a graph.
    pub(super) fn new(graph: &Graph, precision: Precision) -> Self {
        let mut compiler = Compiler::new(graph);
        for id in 0..graph.nodes.len() {
            compiler.node(id);
        }
        let output = compiler.values[graph.output()][0];
        let mut program = Self {
            buffers: compiler.buffers,
            steps: compiler.steps,
            output,
            precision,
        };
        program.add_in_place();
        program.set_halos();
        program
    }

    /// The first and the last step that touch each buffer.
    pub(super) fn lifetimes(&self) -> Vec<(usize, usize)> {
        let mut lifetimes = vec![(usize::MAX, 0); self.buffers.len()];
        for (index, step) in self.steps.iter().enumerate() {
            for id in step.reads().into_iter().chain(step.writes()) {
                let (first, last) = &mut lifetimes[id];
                *first = (*first).min(index);
                *last = index;
            }
        }
        lifetimes[self.output].1 = self.steps.len();
        lifetimes
    }

    /// A sum whose addend is read for the last time replaces it.
    fn add_in_place(&mut self) {
        for index in 0..self.steps.len() {
            let lifetimes = self.lifetimes();
            let (addend, to, inputs) = match &self.steps[index] {
                Step::Conv {
                    sum: Some(sum),
                    inputs,
                    ..
                } => (sum.addend.clone(), sum.to.clone(), inputs.clone()),
                Step::Add {
                    term, addend, to, ..
                } => (vec![*addend], vec![*to], vec![*term]),
                _ => continue,
            };
            let is_last_reader = |id: &BufferId| lifetimes[*id].1 == index && !inputs.contains(id);
            if addend != to && addend.iter().all(is_last_reader) {
                for (old, new) in to.into_iter().zip(addend) {
                    self.steps
                        .iter_mut()
                        .for_each(|step| step.replace(old, new));
                    if self.output == old {
                        self.output = new;
                    }
                }
            }
        }
    }

    /// Gives every buffer the halo that its readers need; all parts of one input have the same.
    fn set_halos(&mut self) {
        loop {
            let mut changed = false;
            for step in &self.steps {
                let Step::Conv { inputs, window, .. } = step else {
                    continue;
                };
                // Transformed convolutions read a border of their own making.
                let needed = match step.algorithm(self.precision) {
                    Algorithm::Direct => window.padding[1],
                    Algorithm::Transformed => 0,
                };
                let present = inputs.iter().map(|&id| self.buffers[id].halo).max();
                let halo = present.unwrap_or(0).max(needed);
                for &id in inputs {
                    changed |= self.buffers[id].halo != halo;
                    self.buffers[id].halo = halo;
                }
            }
            if !changed {
                return;
            }
        }
    }
}

//! A training step as a list of kernel calls: the graph forward, then backward.
//!
//! What the backward pass keeps of a layer is its convolution's result `z` alone: `max(scale · z +
//! shift, 0)` is made again when the backward pass needs it, by a pass over memory. A sum's terms are
//! added from their `z` too. A gradient that only scales another is not made: who needs it takes the
//! factor.
//!
//! Recomputed activations are the same kernel calls twice: a segment's forward steps stand a second
//! time before its backward steps, so that what the first ones made need not be kept.

use crate::arch::graph::{Graph, NodeId, Op};
use crate::cpu::buffers::{Buffer, BufferId};
use crate::cpu::program::{Program, Slot, Step, Transforms};
use crate::step::{Activations, Frozen, Paths, Precision, StepOptions};
use std::collections::HashSet;
use std::ops::Range;

/// A training step of a network, forward and backward.
#[derive(Clone, Debug)]
pub(in crate::cpu) struct Training {
    pub(in crate::cpu) program: Program,
    pub(in crate::cpu) slots: usize,
    /// After which step which tensors' gradients are final.
    pub(in crate::cpu) finals: Vec<Vec<usize>>,
}

/// Lowers the part of a graph that the options' paths leave.
pub(in crate::cpu) fn training(graph: &Graph, options: &StepOptions<'_>) -> Training {
    let &StepOptions {
        paths,
        activations,
        frozen,
        precision,
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
    let finals = finals(graph, &compiler.steps);
    let mut program = Program {
        buffers: compiler.buffers,
        steps: compiler.steps,
        transforms: match precision {
            Precision::F32 => Transforms::WherePossible,
            // Transforms multiply in f32, whose products take twice as long as those of bf16.
            Precision::Bf16 => Transforms::Squares,
        },
        results: Vec::new(),
    };
    program.set_halos();
    Training {
        program,
        slots: compiler.slots,
        finals,
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

/// How the backward pass gets at a part of a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// It is still there.
    Kept,
    /// It is made again from `z`.
    Normalized { slot: Slot, z: BufferId, relu: bool },
}

/// The gradient of a part of a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Gradient {
    /// Nothing has been added yet.
    None,
    /// In a buffer of its own.
    Own(BufferId),
    /// A factor times the content of another's buffer.
    Scaled(BufferId, f32),
}

/// A part of a node's result: a node's own channels, or those of one input of a concatenation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) buffer: Buffer,
    /// Its buffer in the forward pass, if it was made.
    pub(super) forward: Option<BufferId>,
    pub(super) source: Source,
    /// Its buffer in the backward pass, once it is made.
    pub(super) backward: Option<BufferId>,
    pub(super) gradient: Gradient,
    /// How many nodes read it.
    pub(super) readers: usize,
}

/// Index of a part.
pub(super) type PartId = usize;

pub(super) struct Compiler<'a> {
    pub(super) graph: &'a Graph,
    pub(super) paths: &'a Paths,
    pub(super) buffers: Vec<Buffer>,
    pub(super) steps: Vec<Step>,
    pub(super) slots: usize,
    pub(super) parts: Vec<Part>,
    /// Parts of each node's result.
    pub(super) values: Vec<Vec<PartId>>,
    pub(super) readers: Vec<Vec<NodeId>>,
    /// `z` of each convolution node, in the parts of its result.
    pub(super) products: Vec<Vec<BufferId>>,
    pub(super) dropouts: usize,
    /// Whether layers are computed for the first time.
    pub(super) is_first: bool,
    /// The first node that has something to train: the backward pass ends there.
    pub(super) first_trained: NodeId,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(graph: &'a Graph, paths: &'a Paths, frozen: &Frozen) -> Self {
        let mut readers = vec![Vec::new(); graph.nodes.len()];
        for id in (0..graph.nodes.len()).filter(|&id| paths.computes(id)) {
            for input in paths.inputs(graph, id) {
                readers[input].push(id);
            }
        }
        Self {
            graph,
            paths,
            buffers: Vec::new(),
            steps: Vec::new(),
            slots: 0,
            parts: Vec::new(),
            values: vec![Vec::new(); graph.nodes.len()],
            readers,
            products: vec![Vec::new(); graph.nodes.len()],
            dropouts: 0,
            is_first: true,
            first_trained: frozen.first_trained(graph, paths),
        }
    }

    pub(super) fn computed(&self, nodes: Range<NodeId>) -> Vec<NodeId> {
        nodes.filter(|&id| self.paths.computes(id)).collect()
    }

    pub(super) fn forward_all(&mut self, nodes: Range<NodeId>) {
        for id in self.computed(nodes) {
            self.forward(id);
        }
    }

    pub(super) fn backward_all(&mut self, nodes: Range<NodeId>) {
        let nodes = nodes.start.max(self.first_trained)..nodes.end;
        for id in self.computed(nodes).into_iter().rev() {
            self.backward(id);
        }
    }

    /// Computes a segment again, from the result of the one before it. Its own result takes over the
    /// gradient that it had the first time.
    pub(super) fn forward_again(&mut self, segment: Range<NodeId>) {
        self.is_first = false;
        for part in self.values[segment.start - 1].clone() {
            let part = &mut self.parts[part];
            if let Source::Normalized { .. } = part.source {
                part.forward = None;
            }
        }
        let before = self.values[segment.end - 1].clone();
        for id in segment.clone() {
            self.values[id].clear();
        }
        self.forward_all(segment.clone());
        for (old, new) in before.into_iter().zip(self.values[segment.end - 1].clone()) {
            self.parts[new].gradient = self.parts[old].gradient;
        }
    }

    pub(super) fn buffer(&mut self, buffer: Buffer) -> BufferId {
        self.buffers.push(Buffer { halo: 0, ..buffer });
        self.buffers.len() - 1
    }

    /// A part that stays until the backward pass.
    pub(super) fn kept(&mut self, buffer: BufferId) -> PartId {
        self.parts.push(Part {
            buffer: self.buffers[buffer],
            forward: Some(buffer),
            source: Source::Kept,
            backward: Some(buffer),
            gradient: Gradient::None,
            readers: 0,
        });
        self.parts.len() - 1
    }

    /// The nodes that a node reads, each with its factor in a sum.
    pub(super) fn inputs(&self, id: NodeId) -> Vec<(NodeId, f32)> {
        let inputs = self.paths.inputs(self.graph, id);
        let scales = match &self.graph.nodes[id].op {
            Op::Sum { scales, .. } => self.paths.scales(id, scales),
            _ => vec![1.0; inputs.len()],
        };
        inputs.into_iter().zip(scales).collect()
    }

    /// The parts that a node with one input reads.
    pub(super) fn input(&self, id: NodeId) -> Vec<PartId> {
        self.values[self.inputs(id)[0].0].clone()
    }

    /// Buffers of parts in the forward pass.
    pub(super) fn forward_buffers(&mut self, parts: &[PartId]) -> Vec<BufferId> {
        parts
            .iter()
            .map(|&part| self.forward_buffer(part))
            .collect()
    }

    pub(super) fn forward_buffer(&mut self, part: PartId) -> BufferId {
        if let Some(buffer) = self.parts[part].forward {
            return buffer;
        }
        let Source::Normalized { slot, z, .. } = self.parts[part].source else {
            unreachable!("a kept part has its buffer")
        };
        let to = self.buffer(self.parts[part].buffer);
        self.steps.push(Step::Normalize { slot, z, to });
        self.parts[part].forward = Some(to);
        to
    }

    /// Buffers of parts in the backward pass.
    pub(super) fn backward_buffers(&mut self, parts: &[PartId]) -> Vec<BufferId> {
        parts
            .iter()
            .map(|&part| self.backward_buffer(part))
            .collect()
    }

    pub(super) fn backward_buffer(&mut self, part: PartId) -> BufferId {
        if let Some(buffer) = self.parts[part].backward {
            return buffer;
        }
        let Source::Normalized { slot, z, .. } = self.parts[part].source else {
            unreachable!("a kept part has its buffer")
        };
        let to = self.buffer(self.parts[part].buffer);
        self.steps.push(Step::Normalize { slot, z, to });
        self.parts[part].backward = Some(to);
        to
    }
}

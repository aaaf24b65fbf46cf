//! A training step as a list of kernel calls: the graph forward, then backward.
//!
//! What the backward pass keeps of a layer is its convolution's result `z` alone: `max(scale · z +
//! shift, 0)` is made again when the backward pass needs it, by a pass over memory. A sum's terms are
//! added from their `z` too. A gradient that only scales another is not made: who needs it takes the
//! factor.
//!
//! Recomputed activations are the same kernel calls twice: a segment's forward steps stand a second
//! time before its backward steps, so that what the first ones made need not be kept.

use crate::arch::Activation;
use crate::arch::graph::{Graph, NodeId, Op};
use crate::nn::{Activations, Paths};
use polynet_kernels::conv::{InputGradient, Window};
use std::ops::Range;

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
    LocalAveragePool {
        window: Window,
        from: BufferId,
        to: BufferId,
    },
    MaxPool {
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
    LocalAveragePoolGradient {
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
}

impl Program {
    /// Compiles a graph.
    pub(super) fn new(graph: &Graph, paths: &Paths, activations: Activations) -> Self {
        let mut compiler = Compiler::new(graph, paths);
        let nodes = 0..graph.nodes.len();
        compiler.forward_all(nodes.clone());
        match activations {
            Activations::Kept => compiler.backward_all(nodes),
            Activations::Recomputed => {
                let mut segments = graph.segments();
                let last = segments.pop().expect("a graph has a segment");
                compiler.backward_all(last);
                for segment in segments.into_iter().rev() {
                    compiler.forward_again(segment.clone());
                    compiler.backward_all(segment);
                }
            }
        }
        let mut program = Self {
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

impl Step {
    /// The maps whose parts must have one halo, and at least how wide.
    fn halos(&self) -> Vec<(usize, &[BufferId])> {
        match self {
            Self::Conv { window, inputs, .. } => vec![(window.padding[1], inputs)],
            Self::WeightGradient {
                window,
                inputs,
                outputs,
                ..
            } => vec![(window.padding[1], inputs), (0, outputs)],
            Self::InputGradient {
                window, gradients, ..
            } => vec![(InputGradient::halo(*window), gradients)],
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
            | Self::LocalAveragePool { from, to, .. }
            | Self::MaxPool { from, to, .. }
            | Self::AveragePool { from, to } => vec![*from, *to],
            Self::Dropout { parts, .. } | Self::BiasGradient { parts, .. } => parts.clone(),
            Self::LocalAveragePoolGradient { gradient, to, .. } => vec![*gradient, *to],
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

/// How the backward pass gets at a part of a value.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// It is still there.
    Kept,
    /// It is made again from `z`.
    Normalized { slot: Slot, z: BufferId, relu: bool },
}

/// The gradient of a part of a value.
#[derive(Clone, Copy, Debug)]
enum Gradient {
    /// Nothing has been added yet.
    None,
    /// In a buffer of its own.
    Own(BufferId),
    /// A factor times the content of another's buffer.
    Scaled(BufferId, f32),
}

/// A part of a node's result: a node's own channels, or those of one input of a concatenation.
#[derive(Clone, Copy, Debug)]
struct Part {
    buffer: Buffer,
    /// Its buffer in the forward pass, if it was made.
    forward: Option<BufferId>,
    source: Source,
    /// Its buffer in the backward pass, once it is made.
    backward: Option<BufferId>,
    gradient: Gradient,
    /// How many nodes read it.
    readers: usize,
}

type PartId = usize;

struct Compiler<'a> {
    graph: &'a Graph,
    paths: &'a Paths,
    buffers: Vec<Buffer>,
    steps: Vec<Step>,
    slots: usize,
    parts: Vec<Part>,
    /// Parts of each node's result.
    values: Vec<Vec<PartId>>,
    readers: Vec<Vec<NodeId>>,
    /// `z` of each convolution node, in the parts of its result.
    products: Vec<Vec<BufferId>>,
    dropouts: usize,
    /// Whether layers are computed for the first time.
    is_first: bool,
}

impl<'a> Compiler<'a> {
    fn new(graph: &'a Graph, paths: &'a Paths) -> Self {
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
        }
    }

    fn computed(&self, nodes: Range<NodeId>) -> Vec<NodeId> {
        nodes.filter(|&id| self.paths.computes(id)).collect()
    }

    fn forward_all(&mut self, nodes: Range<NodeId>) {
        for id in self.computed(nodes) {
            self.forward(id);
        }
    }

    fn backward_all(&mut self, nodes: Range<NodeId>) {
        for id in self.computed(nodes).into_iter().rev() {
            self.backward(id);
        }
    }

    /// Computes a segment again, from the result of the one before it. Its own result takes over the
    /// gradient that it had the first time.
    fn forward_again(&mut self, segment: Range<NodeId>) {
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

    fn buffer(&mut self, buffer: Buffer) -> BufferId {
        self.buffers.push(Buffer { halo: 0, ..buffer });
        self.buffers.len() - 1
    }

    fn map(channels: usize, size: [usize; 2]) -> Buffer {
        Buffer {
            channels,
            size,
            halo: 0,
            is_row_of_images: false,
        }
    }

    /// A part that stays until the backward pass.
    fn kept(&mut self, buffer: BufferId) -> PartId {
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
    fn inputs(&self, id: NodeId) -> Vec<(NodeId, f32)> {
        let inputs = self.paths.inputs(self.graph, id);
        let scales = match &self.graph.nodes[id].op {
            Op::Sum { scales, .. } => self.paths.scales(id, scales),
            _ => vec![1.0; inputs.len()],
        };
        inputs.into_iter().zip(scales).collect()
    }

    /// The parts that a node with one input reads.
    fn input(&self, id: NodeId) -> Vec<PartId> {
        self.values[self.inputs(id)[0].0].clone()
    }

    /// Buffers of parts in the forward pass.
    fn forward_buffers(&mut self, parts: &[PartId]) -> Vec<BufferId> {
        parts
            .iter()
            .map(|&part| self.forward_buffer(part))
            .collect()
    }

    fn forward_buffer(&mut self, part: PartId) -> BufferId {
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
    fn backward_buffers(&mut self, parts: &[PartId]) -> Vec<BufferId> {
        parts
            .iter()
            .map(|&part| self.backward_buffer(part))
            .collect()
    }

    fn backward_buffer(&mut self, part: PartId) -> BufferId {
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

    fn forward(&mut self, id: NodeId) {
        let node = &self.graph.nodes[id];
        let [channels, height, width] = node.shape;
        match &node.op {
            Op::Input => {
                let to = self.buffer(Self::map(channels, [height, width]));
                self.steps.push(Step::Input { to });
                self.values[id] = vec![self.kept(to)];
            }
            Op::Conv { .. } => self.conv(id),
            Op::Norm { norm, activation } => {
                let z = self.input(id);
                let z = self.forward_buffers(&z);
                self.values[id] = self.normalized(*norm, &z, activation.is_relu());
            }
            Op::Relu => {
                let input = self.input(id);
                let from = self.forward_buffers(&input);
                self.values[id] = from
                    .into_iter()
                    .map(|from| {
                        let to = self.buffer(self.buffers[from]);
                        self.steps.push(Step::Relu { from, to });
                        self.kept(to)
                    })
                    .collect();
            }
            &Op::MaxPool {
                kernel_size,
                stride,
                padding,
            } => {
                let window = Window {
                    kernel: kernel_size,
                    stride,
                    padding,
                };
                let input = self.input(id);
                let from = self.forward_buffers(&input);
                self.values[id] = from
                    .into_iter()
                    .map(|from| {
                        let channels = self.buffers[from].channels;
                        let to = self.buffer(Self::map(channels, [height, width]));
                        self.steps.push(Step::MaxPool { window, from, to });
                        self.kept(to)
                    })
                    .collect();
            }
            Op::Bias { bias, activation } => {
                let input = self.input(id);
                let from = self.forward_buffers(&input);
                let mut first_channel = 0;
                for from in from {
                    let to = self.buffer(self.buffers[from]);
                    self.steps.push(Step::Bias {
                        bias: *bias,
                        first_channel,
                        from,
                        to,
                        relu: activation.is_relu(),
                    });
                    first_channel += self.buffers[from].channels;
                    let part = self.kept(to);
                    self.values[id].push(part);
                }
            }
            &Op::LocalAveragePool {
                kernel_size,
                stride,
                padding,
            } => {
                let window = Window {
                    kernel: kernel_size,
                    stride,
                    padding,
                };
                let input = self.input(id);
                for from in self.forward_buffers(&input) {
                    let channels = self.buffers[from].channels;
                    let to = self.buffer(Self::map(channels, [height, width]));
                    self.steps.push(Step::LocalAveragePool { window, from, to });
                    let part = self.kept(to);
                    self.values[id].push(part);
                }
            }
            Op::Concat => {
                let inputs = self.inputs(id);
                let parts = inputs.iter().flat_map(|&(input, _)| &self.values[input]);
                self.values[id] = parts.copied().collect();
            }
            Op::Sum { activation, .. } => self.sum(id, *activation),
            Op::AveragePool => {
                let input = self.input(id);
                let from = self.forward_buffers(&input);
                self.values[id] = from
                    .into_iter()
                    .map(|from| {
                        let channels = self.buffers[from].channels;
                        let to = self.row_of_images(channels);
                        self.steps.push(Step::AveragePool { from, to });
                        self.kept(to)
                    })
                    .collect();
            }
            &Op::Dropout { probability } => {
                let parts = self.input(id);
                let buffers = self.forward_buffers(&parts);
                self.steps.push(Step::Dropout {
                    index: self.dropouts,
                    parts: buffers,
                    probability,
                });
                self.dropouts += 1;
                self.values[id] = parts;
            }
            Op::Linear => {
                let inputs = self.input(id);
                let inputs = self.forward_buffers(&inputs);
                let to = self.row_of_images(channels);
                self.steps.push(Step::Linear { inputs, to });
                self.steps.push(Step::Loss { logits: to });
                self.values[id] = vec![self.kept(to)];
            }
        }
        for (input, _) in self.inputs(id) {
            for part in self.values[input].clone() {
                self.parts[part].readers += 1;
            }
        }
    }

    fn row_of_images(&mut self, channels: usize) -> BufferId {
        self.buffer(Buffer {
            is_row_of_images: true,
            ..Self::map(channels, [1, 1])
        })
    }

    /// The parts of a batch norm's result, none of them made yet.
    fn normalized(&mut self, norm: usize, z: &[BufferId], relu: bool) -> Vec<PartId> {
        let parts: Vec<(BufferId, Slot)> = z
            .iter()
            .enumerate()
            .map(|(index, &z)| (z, self.slots + index))
            .collect();
        self.slots += parts.len();
        self.steps.push(Step::Moments {
            norm,
            parts: parts.clone(),
            relu,
            is_first: self.is_first,
        });
        parts
            .into_iter()
            .map(|(z, slot)| {
                self.parts.push(Part {
                    buffer: self.buffers[z],
                    forward: None,
                    source: Source::Normalized { slot, z, relu },
                    backward: None,
                    gradient: Gradient::None,
                    readers: 0,
                });
                self.parts.len() - 1
            })
            .collect()
    }

    fn window(&self, id: NodeId) -> Window {
        let Op::Conv {
            weight,
            stride,
            padding,
            ..
        } = self.graph.nodes[id].op
        else {
            unreachable!("the node is a convolution")
        };
        let [_, _, rows, columns] = self.graph.convs[weight].shape;
        Window {
            kernel: [rows, columns],
            stride,
            padding,
        }
    }

    /// The channels of the parts that a convolution's result must have: those of the map that it is
    /// added to.
    fn result_parts(&self, id: NodeId) -> Vec<usize> {
        let readers = |id: NodeId| self.readers[id].iter().copied();
        let is_bias = |&reader: &NodeId| matches!(self.graph.nodes[reader].op, Op::Bias { .. });
        let biases = readers(id).filter(is_bias).flat_map(readers);
        for sum in readers(id).chain(biases) {
            if !matches!(self.graph.nodes[sum].op, Op::Sum { .. }) {
                continue;
            }
            for (input, _) in self.inputs(sum) {
                if !self.values[input].is_empty() {
                    return self.channels(input);
                }
            }
        }
        vec![self.graph.nodes[id].shape[0]]
    }

    /// The channels of a value's parts.
    fn channels(&self, id: NodeId) -> Vec<usize> {
        let parts = self.values[id].iter();
        parts
            .map(|&part| self.parts[part].buffer.channels)
            .collect()
    }

    fn conv(&mut self, id: NodeId) {
        let node = &self.graph.nodes[id];
        let &Op::Conv {
            weight,
            norm,
            activation,
            ..
        } = &node.op
        else {
            unreachable!("the node is a convolution")
        };
        let [_, height, width] = node.shape;
        let inputs = self.input(id);
        let inputs = self.forward_buffers(&inputs);
        let segments = self.result_parts(id);
        let z: Vec<BufferId> = segments
            .into_iter()
            .map(|channels| self.buffer(Self::map(channels, [height, width])))
            .collect();
        self.steps.push(Step::Conv {
            weight,
            window: self.window(id),
            inputs,
            to: z.clone(),
        });
        self.products[id].clone_from(&z);
        self.values[id] = match norm {
            Some(norm) => self.normalized(norm, &z, activation.is_relu()),
            None => {
                assert!(
                    !activation.is_relu(),
                    "a convolution with ReLU has batch norm"
                );
                z.into_iter().map(|z| self.kept(z)).collect()
            }
        };
    }

    fn sum(&mut self, id: NodeId, activation: Activation) {
        let inputs = self.inputs(id);
        // The identity first: it is what the others are added to.
        let mut order: Vec<(NodeId, f32)> = inputs;
        let is_base = |&(input, scale): &(NodeId, f32)| scale == 1.0 && self.is_materialized(input);
        if let Some(base) = order.iter().position(is_base) {
            order.swap(0, base);
        }
        let channels = self.channels(order[0].0);
        let terms: Vec<(Vec<PartId>, f32)> = order
            .iter()
            .map(|&(input, scale)| (self.regrouped(input, &channels), scale))
            .collect();
        self.values[id] = (0..channels.len())
            .map(|index| {
                let mut sum: Option<BufferId> = None;
                for (position, (parts, scale)) in terms.iter().enumerate() {
                    let (part, scale) = (parts[index], *scale);
                    let relu = activation.is_relu() && position + 1 == terms.len();
                    let is_first = position == 0 && scale == 1.0 && terms.len() > 1;
                    if is_first && self.parts[part].forward.is_some() {
                        sum = self.parts[part].forward;
                        continue;
                    }
                    sum =
                        Some(self.add_term(part, scale, sum, position == 1 || sum.is_none(), relu));
                }
                let sum = sum.expect("a sum has terms");
                self.kept(sum)
            })
            .collect();
    }

    /// The parts of a value, copied if its channels are to be divided otherwise.
    fn regrouped(&mut self, id: NodeId, channels: &[usize]) -> Vec<PartId> {
        let parts = self.values[id].clone();
        if self.channels(id) == channels {
            return parts;
        }
        let from = self.forward_buffers(&parts);
        let size = self.buffers[from[0]].size;
        let to: Vec<BufferId> = channels
            .iter()
            .map(|&channels| self.buffer(Self::map(channels, size)))
            .collect();
        self.steps.push(Step::Regroup {
            from,
            to: to.clone(),
        });
        to.into_iter().map(|to| self.kept(to)).collect()
    }

    /// Whether a value's parts lie in buffers.
    fn is_materialized(&self, node: NodeId) -> bool {
        let parts = &self.values[node];
        parts.iter().all(|&part| self.parts[part].forward.is_some())
    }

    /// Adds a term to a sum, in a new buffer if the sum so far is not its own.
    fn add_term(
        &mut self,
        part: PartId,
        scale: f32,
        sum: Option<BufferId>,
        is_new: bool,
        relu: bool,
    ) -> BufferId {
        let to = match sum {
            Some(sum) if !is_new => sum,
            _ => self.buffer(self.parts[part].buffer),
        };
        match (self.parts[part].source, sum) {
            (
                Source::Normalized {
                    slot,
                    z,
                    relu: false,
                },
                addend,
            ) => {
                self.steps.push(Step::AddNormalized {
                    slot,
                    z,
                    factor: scale,
                    addend,
                    to,
                    relu,
                });
            }
            (_, Some(addend)) => {
                let term = self.forward_buffer(part);
                self.steps.push(Step::Add {
                    term,
                    scale,
                    addend,
                    to,
                    relu,
                });
            }
            (_, None) => {
                let term = self.forward_buffer(part);
                self.steps.push(Step::Clear { to });
                self.steps.push(Step::Add {
                    term,
                    scale,
                    addend: to,
                    to,
                    relu,
                });
            }
        }
        to
    }

    // Backward.

    /// The buffer of a part's gradient to add to, and whether it has content.
    fn gradient_buffer(&mut self, part: PartId) -> (BufferId, bool) {
        match self.parts[part].gradient {
            Gradient::Own(buffer) => (buffer, true),
            Gradient::None => {
                let buffer = self.buffer(self.parts[part].buffer);
                self.parts[part].gradient = Gradient::Own(buffer);
                (buffer, false)
            }
            Gradient::Scaled(gradient, scale) => {
                let to = self.buffer(self.parts[part].buffer);
                self.steps.push(Step::Gate {
                    gradient,
                    scale,
                    gate: None,
                    to,
                    add: false,
                });
                self.parts[part].gradient = Gradient::Own(to);
                (to, true)
            }
        }
    }

    /// Buffers of gradients that are all stored or all added to.
    fn gradient_buffers(&mut self, parts: &[PartId]) -> (Vec<BufferId>, bool) {
        let found: Vec<(BufferId, bool)> = parts
            .iter()
            .map(|&part| self.gradient_buffer(part))
            .collect();
        let add = found.iter().any(|&(_, has_content)| has_content);
        for &(to, has_content) in &found {
            if add && !has_content {
                self.steps.push(Step::Clear { to });
            }
        }
        (found.into_iter().map(|(buffer, _)| buffer).collect(), add)
    }

    /// The gradients of a node's result, or nothing if none reached it.
    fn result_gradients(&mut self, id: NodeId) -> Option<Vec<BufferId>> {
        let parts = self.values[id].clone();
        let is_none = |part: &PartId| matches!(self.parts[*part].gradient, Gradient::None);
        if parts.iter().all(is_none) {
            return None;
        }
        let buffers = parts.iter().map(|&part| {
            let (buffer, has_content) = self.gradient_buffer(part);
            if !has_content {
                self.steps.push(Step::Clear { to: buffer });
            }
            buffer
        });
        Some(buffers.collect())
    }

    fn backward(&mut self, id: NodeId) {
        let node = &self.graph.nodes[id];
        match &node.op {
            Op::Input | Op::Concat => {}
            Op::Conv { .. } => self.conv_backward(id),
            Op::Norm { norm, .. } => {
                let Some(dy) = self.result_gradients(id) else {
                    return;
                };
                let input = self.input(id);
                let dz = dy.clone();
                self.norm_backward(id, *norm, &dy, &dz, 1.0);
                self.add_gradients(&input, &dz);
            }
            Op::Relu => {
                let Some(gradients) = self.result_gradients(id) else {
                    return;
                };
                let results = self.values[id].clone();
                for ((part, result), gradient) in
                    self.input(id).into_iter().zip(results).zip(gradients)
                {
                    let gate = Some(self.backward_buffer(result));
                    let (to, add) = self.gradient_buffer(part);
                    self.steps.push(Step::Gate {
                        gradient,
                        scale: 1.0,
                        gate,
                        to,
                        add,
                    });
                }
            }
            &Op::MaxPool {
                kernel_size,
                stride,
                padding,
            } => {
                let window = Window {
                    kernel: kernel_size,
                    stride,
                    padding,
                };
                let Some(gradients) = self.result_gradients(id) else {
                    return;
                };
                for (part, gradient) in self.input(id).into_iter().zip(gradients) {
                    let from = self.backward_buffer(part);
                    let (to, has_content) = self.gradient_buffer(part);
                    if !has_content {
                        self.steps.push(Step::Clear { to });
                    }
                    self.steps.push(Step::MaxPoolGradient {
                        window,
                        from,
                        gradient,
                        to,
                    });
                }
            }
            Op::Bias { bias, activation } => {
                let Some(gradients) = self.result_gradients(id) else {
                    return;
                };
                if activation.is_relu() {
                    self.gate_results(id, &gradients);
                }
                self.steps.push(Step::BiasGradient {
                    bias: *bias,
                    parts: gradients.clone(),
                });
                let input = self.input(id);
                self.add_gradients(&input, &gradients);
            }
            &Op::LocalAveragePool {
                kernel_size,
                stride,
                padding,
            } => {
                let window = Window {
                    kernel: kernel_size,
                    stride,
                    padding,
                };
                let Some(gradients) = self.result_gradients(id) else {
                    return;
                };
                for (part, gradient) in self.input(id).into_iter().zip(gradients) {
                    let (to, has_content) = self.gradient_buffer(part);
                    if !has_content {
                        self.steps.push(Step::Clear { to });
                    }
                    self.steps.push(Step::LocalAveragePoolGradient {
                        window,
                        gradient,
                        to,
                    });
                }
            }
            Op::Sum { activation, .. } => self.sum_backward(id, *activation),
            Op::AveragePool => {
                let Some(gradients) = self.result_gradients(id) else {
                    return;
                };
                for (part, gradient) in self.input(id).into_iter().zip(gradients) {
                    let (to, add) = self.gradient_buffer(part);
                    let scratch = self.buffer(self.parts[part].buffer);
                    self.steps.push(Step::AveragePoolGradient {
                        gradient,
                        to,
                        add,
                        scratch,
                    });
                }
            }
            &Op::Dropout { probability } => {
                self.dropouts -= 1;
                let Some(parts) = self.result_gradients(id) else {
                    return;
                };
                self.steps.push(Step::Dropout {
                    index: self.dropouts,
                    parts,
                    probability,
                });
            }
            Op::Linear => {
                let gradient = self.parts[self.values[id][0]]
                    .forward
                    .expect("logits are kept");
                let parts = self.input(id);
                let inputs = self.backward_buffers(&parts);
                let (to, _) = self.gradient_buffers(&parts);
                self.steps.push(Step::LinearGradient {
                    inputs,
                    gradient,
                    to,
                });
            }
        }
    }

    /// Adds gradients to those of parts.
    fn add_gradients(&mut self, parts: &[PartId], gradients: &[BufferId]) {
        for (&part, &gradient) in parts.iter().zip(gradients) {
            let (to, add) = self.gradient_buffer(part);
            self.steps.push(Step::Gate {
                gradient,
                scale: 1.0,
                gate: None,
                to,
                add,
            });
        }
    }

    fn norm_backward(
        &mut self,
        id: NodeId,
        norm: usize,
        dy: &[BufferId],
        dz: &[BufferId],
        factor: f32,
    ) {
        let results = self.values[id].clone();
        let parts = results
            .iter()
            .zip(dy.iter().zip(dz))
            .map(|(&part, (&dy, &dz))| match self.parts[part].source {
                Source::Normalized { slot, z, .. } => (slot, z, dy, dz),
                Source::Kept => unreachable!("the result of a batch norm"),
            })
            .collect();
        self.steps.push(Step::NormGradient {
            norm,
            parts,
            factor,
        });
    }

    fn conv_backward(&mut self, id: NodeId) {
        let &Op::Conv { weight, norm, .. } = &self.graph.nodes[id].op else {
            unreachable!("the node is a convolution")
        };
        let results = self.values[id].clone();
        let scaled: Option<Vec<(BufferId, f32)>> = results
            .iter()
            .map(|&part| match self.parts[part].gradient {
                Gradient::Scaled(buffer, factor) => Some((buffer, factor)),
                _ => None,
            })
            .collect();
        let dz = match (scaled, norm) {
            (Some(scaled), Some(norm)) => {
                let (dy, factor): (Vec<BufferId>, f32) = (
                    scaled.iter().map(|&(buffer, _)| buffer).collect(),
                    scaled[0].1,
                );
                let dz: Vec<BufferId> =
                    dy.iter().map(|&dy| self.buffer(self.buffers[dy])).collect();
                self.norm_backward(id, norm, &dy, &dz, factor);
                dz
            }
            (Some(scaled), None) if scaled.iter().all(|&(_, factor)| factor == 1.0) => {
                scaled.into_iter().map(|(buffer, _)| buffer).collect()
            }
            (_, norm) => {
                let Some(dy) = self.result_gradients(id) else {
                    return;
                };
                if let Some(norm) = norm {
                    let dz = dy.clone();
                    self.norm_backward(id, norm, &dy, &dz, 1.0);
                }
                dy
            }
        };
        let window = self.window(id);
        let input = self.input(id);
        let inputs = self.backward_buffers(&input);
        self.steps.push(Step::WeightGradient {
            weight,
            window,
            inputs,
            outputs: dz.clone(),
        });
        if matches!(self.graph.nodes[self.inputs(id)[0].0].op, Op::Input) {
            return;
        }
        let (to, add) = self.gradient_buffers(&input);
        self.steps.push(Step::InputGradient {
            weight,
            window,
            gradients: dz,
            to,
            add,
        });
    }

    /// Keeps a node's gradients where its result, which ends with ReLU, is positive.
    fn gate_results(&mut self, id: NodeId, gradients: &[BufferId]) {
        for (result, &gradient) in self.values[id].clone().into_iter().zip(gradients) {
            let gate = Some(self.backward_buffer(result));
            self.steps.push(Step::Gate {
                gradient,
                scale: 1.0,
                gate,
                to: gradient,
                add: false,
            });
        }
    }

    /// A gradient with its channels divided as those of a value.
    fn regrouped_gradients(&mut self, id: NodeId, gradients: &[BufferId]) -> Vec<BufferId> {
        let channels = self.channels(id);
        let found = gradients
            .iter()
            .map(|&gradient| self.buffers[gradient].channels);
        if found.eq(channels.iter().copied()) {
            return gradients.to_vec();
        }
        let size = self.buffers[gradients[0]].size;
        let to: Vec<BufferId> = channels
            .iter()
            .map(|&channels| self.buffer(Self::map(channels, size)))
            .collect();
        self.steps.push(Step::Regroup {
            from: gradients.to_vec(),
            to: to.clone(),
        });
        to
    }

    fn sum_backward(&mut self, id: NodeId, activation: Activation) {
        let Some(gradients) = self.result_gradients(id) else {
            return;
        };
        if activation.is_relu() {
            self.gate_results(id, &gradients);
        }
        for (input, scale) in self.inputs(id) {
            let gradients = self.regrouped_gradients(input, &gradients);
            let is_conv = matches!(self.graph.nodes[input].op, Op::Conv { .. });
            for (part, &gradient) in self.values[input].clone().into_iter().zip(&gradients) {
                let is_alone = is_conv && self.parts[part].readers == 1;
                if is_alone {
                    self.parts[part].gradient = Gradient::Scaled(gradient, scale);
                    continue;
                }
                let (to, add) = self.gradient_buffer(part);
                self.steps.push(Step::Gate {
                    gradient,
                    scale,
                    gate: None,
                    to,
                    add,
                });
            }
        }
    }
}

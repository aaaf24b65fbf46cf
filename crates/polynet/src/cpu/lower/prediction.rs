//! Prediction as a list of steps.
//!
//! - 1×1 convolutions that read the same map are one convolution with more outputs.
//! - A convolution that is a term of a sum adds its result to the sum as it is stored. 1×1
//!   convolutions that only one sum reads are one convolution with more inputs.
//! - ReLU is part of what stores its input, and dropout is nothing.

mod sums;

use super::window;
use crate::arch::Activation;
use crate::arch::graph::{Graph, NodeId, Op};
use crate::cpu::buffers::{Buffer, BufferId};
use crate::cpu::program::{ConvPart, ConvSource, Program, Step, Transforms, ValueStore};
use crate::step::Precision;
use polynet_kernels::conv::Window;
use std::collections::HashMap;
use sums::SumPlan;

/// A network's prediction.
#[derive(Clone, Debug)]
pub(in crate::cpu) struct Prediction {
    pub(in crate::cpu) program: Program,
    /// The logits.
    pub(in crate::cpu) output: BufferId,
    /// The parts of what the classifier reads.
    pub(in crate::cpu) embedding: Vec<BufferId>,
    /// The parts of the last feature map, which is pooled to the embedding.
    pub(in crate::cpu) last_map: Vec<BufferId>,
    /// What one is worth in each buffer of bytes; nothing where there is none.
    pub(in crate::cpu) byte_steps: Vec<f32>,
}

/// Lowers a graph for prediction.
pub(in crate::cpu) fn prediction(graph: &Graph, precision: Precision) -> Prediction {
    let mut lowered = steps(graph, Terms::Merged, Transforms::of(precision));
    add_in_place(&mut lowered.program);
    lowered.program.set_halos();
    lowered.with_results()
}

/// Lowers a graph for prediction in bf16 by tiles.
pub(in crate::cpu) fn tiled_prediction(graph: &Graph) -> Prediction {
    let mut lowered = prediction(graph, Precision::Bf16);
    lowered.program.pair_blocks();
    lowered
}

/// What happens to 1×1 convolutions that are terms of one sum.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Terms {
    /// They are one convolution with more inputs.
    Merged,
    /// Each adds its own result: convolutions of bytes, whose weights have scales of their own.
    Apart,
}

/// The steps of a graph's prediction, each of which writes buffers of its own.
pub(super) fn steps(graph: &Graph, terms: Terms, transforms: Transforms) -> Prediction {
    let mut compiler = Compiler::new(graph, terms);
    for id in 0..graph.nodes.len() {
        compiler.node(id);
    }
    let of = |op: fn(&Op) -> bool| {
        let mut nodes = graph.nodes.iter().rev();
        nodes
            .find(|node| op(&node.op))
            .map(|node| node.inputs[0])
            .expect("a network ends with a pool and a classifier")
    };
    let embedding = of(|op| *op == Op::Linear);
    let last_map = of(|op| *op == Op::AveragePool);
    let ends = [embedding, last_map, graph.output()];
    let [embedding, last_map, output] = ends.map(|id| compiler.values[id].clone());
    let results = [&output[..], &embedding, &last_map].concat();
    Prediction {
        output: output[0],
        embedding,
        last_map,
        program: Program {
            buffers: compiler.buffers,
            steps: compiler.steps,
            transforms,
            results,
        },
        byte_steps: Vec::new(),
    }
}

impl Prediction {
    /// With the results where the program has them now.
    pub(super) fn with_results(mut self) -> Self {
        let mut results = self.program.results.iter().copied();
        self.output = results.next().expect("logits");
        for part in self.embedding.iter_mut().chain(&mut self.last_map) {
            *part = results.next().expect("a part of each result");
        }
        self
    }
}

/// A sum whose addend is read for the last time replaces it.
pub(super) fn add_in_place(program: &mut Program) {
    let mut lives = program.lives();
    for index in 0..program.steps.len() {
        let (addend, to, inputs) = match &program.steps[index] {
            Step::QuantizedConv { sum: Some(sum), .. } => {
                let Some(to) = sum.to.floats.clone() else {
                    continue;
                };
                (sum.addend.clone(), to, Vec::new())
            }
            Step::FoldedConv {
                sum: Some(sum),
                inputs,
                ..
            } => (sum.addend.clone(), sum.to.clone(), inputs.clone()),
            Step::Add {
                term, addend, to, ..
            } => (vec![*addend], vec![*to], vec![*term]),
            _ => continue,
        };
        let is_last_reader = |id: &BufferId| lives[*id].1 == index && !inputs.contains(id);
        if addend != to && addend.iter().all(is_last_reader) {
            for (old, new) in to.into_iter().zip(addend) {
                program.replace(old, new);
                lives[new].1 = lives[old].1;
            }
        }
    }
}

struct Compiler<'a> {
    graph: &'a Graph,
    merging: Terms,
    readers: Vec<Vec<NodeId>>,
    /// Buffers of a node's result, in the order of its channels; empty until it is computed.
    values: Vec<Vec<BufferId>>,
    /// The sum that a convolution's result is added to as it is stored, and its scale there.
    terms: HashMap<NodeId, (NodeId, f32)>,
    sums: HashMap<NodeId, SumPlan>,
    buffers: Vec<Buffer>,
    steps: Vec<Step>,
}

impl<'a> Compiler<'a> {
    fn new(graph: &'a Graph, merging: Terms) -> Self {
        let mut readers = vec![Vec::new(); graph.nodes.len()];
        for (id, node) in graph.nodes.iter().enumerate() {
            for &input in &node.inputs {
                readers[input].push(id);
            }
        }
        let mut compiler = Self {
            graph,
            merging,
            readers,
            values: vec![Vec::new(); graph.nodes.len()],
            terms: HashMap::new(),
            sums: HashMap::new(),
            buffers: Vec::new(),
            steps: Vec::new(),
        };
        for (id, node) in graph.nodes.iter().enumerate() {
            if let Op::Sum { scales, activation } = &node.op {
                compiler.plan_sum(id, scales, activation.is_relu());
            }
        }
        compiler
    }

    /// The convolution that a node is the result of, if it is one: a bias is part of its
    /// convolution, which then is none of its own.
    fn conv_node(&self, id: NodeId) -> Option<ConvNode> {
        let node = &self.graph.nodes[id];
        match node.op {
            Op::Conv {
                weight,
                stride,
                padding,
                norm,
                activation,
            } => {
                let is_bias =
                    |&reader: &NodeId| matches!(self.graph.nodes[reader].op, Op::Bias { .. });
                if self.readers[id].iter().any(is_bias) {
                    return None;
                }
                Some(ConvNode {
                    id,
                    input: node.inputs[0],
                    weight,
                    norm,
                    bias: None,
                    window: window(self.graph, weight, stride, padding),
                    relu: activation.is_relu(),
                })
            }
            Op::Bias { bias, activation } => {
                let conv = &self.graph.nodes[node.inputs[0]];
                let Op::Conv {
                    weight,
                    stride,
                    padding,
                    norm: None,
                    activation: Activation::Identity,
                } = conv.op
                else {
                    unreachable!("a bias follows a convolution without anything else")
                };
                Some(ConvNode {
                    id,
                    input: conv.inputs[0],
                    weight,
                    norm: None,
                    bias: Some(bias),
                    window: window(self.graph, weight, stride, padding),
                    relu: activation.is_relu(),
                })
            }
            _ => None,
        }
    }

    fn conv_of(&self, id: NodeId) -> ConvNode {
        self.conv_node(id).expect("the node is a convolution")
    }

    fn node(&mut self, id: NodeId) {
        if !self.values[id].is_empty() {
            return;
        }
        let node = &self.graph.nodes[id];
        match &node.op {
            Op::Input => {
                let to = self.buffer(node.shape);
                self.steps.push(Step::Input { to });
                self.values[id] = vec![to];
            }
            // A bias takes its convolution with it.
            Op::Conv { .. } if self.conv_node(id).is_none() => {}
            Op::Conv { .. } | Op::Bias { .. } => self.conv(id),
            Op::Norm { norm, activation } => self.affine(id, Some(*norm), activation.is_relu()),
            Op::Relu => self.affine(id, None, true),
            &Op::Pool { pool, window } => {
                let size = [node.shape[1], node.shape[2]];
                let parts = self.values[node.inputs[0]].clone();
                self.values[id] = parts
                    .into_iter()
                    .map(|from| {
                        let to = self.buffer_of(self.buffers[from].channels, size);
                        self.steps.push(Step::Pool {
                            pool: pool.into(),
                            window: window.into(),
                            from,
                            to,
                        });
                        to
                    })
                    .collect();
            }
            Op::Concat => {
                let parts = node.inputs.iter().flat_map(|&input| &self.values[input]);
                self.values[id] = parts.copied().collect();
            }
            Op::Sum { .. } => self.sum(id),
            Op::AveragePool => {
                let parts = self.values[node.inputs[0]].clone();
                self.values[id] = parts
                    .into_iter()
                    .map(|from| {
                        let to = self.row_of_images(self.buffers[from].channels);
                        self.steps.push(Step::AveragePool { from, to });
                        to
                    })
                    .collect();
            }
            Op::Dropout { .. } => self.values[id] = self.values[node.inputs[0]].clone(),
            Op::Linear => {
                let to = self.row_of_images(node.shape[0]);
                self.steps.push(Step::FoldedConv {
                    source: ConvSource::Linear,
                    window: Window::POINT,
                    inputs: self.values[node.inputs[0]].clone(),
                    value: Some(ValueStore {
                        to: vec![to],
                        relu: false,
                    }),
                    sum: None,
                });
                self.values[id] = vec![to];
            }
        }
    }

    fn add_buffer(&mut self, buffer: Buffer) -> BufferId {
        self.buffers.push(buffer);
        self.buffers.len() - 1
    }

    fn buffer_of(&mut self, channels: usize, size: [usize; 2]) -> BufferId {
        self.add_buffer(Buffer::map(channels, size))
    }

    fn buffer(&mut self, [channels, height, width]: [usize; 3]) -> BufferId {
        self.buffer_of(channels, [height, width])
    }

    fn row_of_images(&mut self, channels: usize) -> BufferId {
        self.add_buffer(Buffer::row_of_images(channels))
    }

    /// New buffers with the channels and sizes of others.
    fn like(&mut self, parts: &[BufferId]) -> Vec<BufferId> {
        parts
            .iter()
            .map(|&id| {
                let Buffer { channels, size, .. } = self.buffers[id];
                self.buffer_of(channels, size)
            })
            .collect()
    }

    fn affine(&mut self, id: NodeId, norm: Option<usize>, relu: bool) {
        let parts = self.values[self.graph.nodes[id].inputs[0]].clone();
        let results = self.like(&parts);
        let mut first_channel = 0;
        for (&from, &to) in parts.iter().zip(&results) {
            self.steps.push(Step::Affine {
                norm,
                first_channel,
                from,
                to,
                relu,
            });
            first_channel += self.buffers[from].channels;
        }
        self.values[id] = results;
    }

    fn conv(&mut self, id: NodeId) {
        match self.terms.get(&id) {
            Some(&(sum, scale)) => self.conv_term(id, sum, scale),
            None => self.conv_alone(id),
        }
    }

    /// A convolution that is no term of a sum, with those that read the same map.
    fn conv_alone(&mut self, id: NodeId) {
        let conv = self.conv_of(id);
        let input = conv.input;
        let mut group = vec![id];
        if conv.window == Window::POINT {
            let siblings = self.readers[input].iter().copied();
            group.extend(siblings.filter(|&other| {
                let alike =
                    |other: ConvNode| other.window == conv.window && other.relu == conv.relu;
                other > id
                    && !self.terms.contains_key(&other)
                    && self.conv_node(other).is_some_and(alike)
            }));
        }
        let mut to = Vec::new();
        for &member in &group {
            let result = self.buffer(self.graph.nodes[member].shape);
            self.values[member] = vec![result];
            to.push(result);
        }
        let parts = group.iter().map(|&member| self.conv_of(member).part(1.0));
        self.steps.push(Step::FoldedConv {
            source: ConvSource::SideBySide(parts.collect()),
            window: conv.window,
            inputs: self.values[input].clone(),
            value: Some(ValueStore {
                to,
                relu: conv.relu,
            }),
            sum: None,
        });
    }

    /// A value with its channels divided as those of another.
    fn regrouped(&mut self, from: Vec<BufferId>, like: &[BufferId]) -> Vec<BufferId> {
        let channels = |id: &BufferId| self.buffers[*id].channels;
        if from.iter().map(channels).eq(like.iter().map(channels)) {
            return from;
        }
        let to = self.like(like);
        self.steps.push(Step::Regroup {
            from,
            to: to.clone(),
        });
        to
    }
}

/// A convolution of the graph.
#[derive(Clone, Copy)]
struct ConvNode {
    id: NodeId,
    input: NodeId,
    weight: usize,
    norm: Option<usize>,
    bias: Option<usize>,
    window: Window,
    relu: bool,
}

impl ConvNode {
    fn part(self, factor: f32) -> ConvPart {
        ConvPart {
            weight: self.weight,
            norm: self.norm,
            bias: self.bias,
            factor,
            node: self.id,
        }
    }
}

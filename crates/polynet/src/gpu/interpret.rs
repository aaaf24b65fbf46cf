//! One walk over a graph, for prediction and for training.

use super::conv_norm::{Window, activate};
use crate::arch::Activation;
use crate::arch::graph::{Graph, NodeId, Op, Pool, PoolWindow};
use crate::step::Paths;
use burn_tensor::module::{adaptive_avg_pool2d, avg_pool2d, max_pool2d};
use burn_tensor::ops::{AvgPoolOptions, MaxPoolOptions};
use burn_tensor::{Tensor, activation::relu};
use std::ops::Range;

/// What prediction and training do differently.
pub(super) trait Layers {
    /// Convolution `weight` of the graph, then norm and activation.
    fn conv(
        &mut self,
        x: Tensor<4>,
        weight: usize,
        window: Window,
        norm: Option<usize>,
        activation: Activation,
    ) -> Tensor<4>;

    /// Batch norm `norm` of the graph and an activation.
    fn norm(&mut self, x: Tensor<4>, norm: usize, activation: Activation) -> Tensor<4>;

    /// Bias `bias` of the graph and an activation.
    fn bias(&mut self, x: Tensor<4>, bias: usize, activation: Activation) -> Tensor<4>;

    /// Dropout, or nothing.
    fn dropout(&mut self, x: Tensor<4>, probability: f64) -> Tensor<4>;

    /// The classifier: `[batch, features]` to `[batch, classes]`.
    fn linear(&mut self, x: Tensor<2>) -> Tensor<2>;
}

/// `[batch, features, 1, 1]` as `[batch, features]`.
pub(super) fn flat(x: Tensor<4>) -> Tensor<2> {
    let [batch, features, ..] = x.dims();
    x.reshape([batch, features])
}

/// The nodes of a graph that some paths need, ready to be walked over.
pub(super) struct Walk<'a> {
    graph: &'a Graph,
    paths: &'a Paths,
    last_readers: Vec<NodeId>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(graph: &'a Graph, paths: &'a Paths) -> Self {
        Self {
            graph,
            paths,
            last_readers: paths.last_readers(graph),
        }
    }

    /// Runs a [segment](Graph::segments) on `x`, the result of the node before it, and returns the
    /// result of its last node. Every value is dropped after its last reader. `observe` sees the
    /// result of every node but the last segment's last, the logits.
    ///
    /// # Shapes
    /// - `x` and result: `[batch, channels, height, width]`; logits are `[batch, classes, 1, 1]`
    pub(super) fn run(
        &self,
        segment: Range<NodeId>,
        x: Tensor<4>,
        layers: &mut impl Layers,
        mut observe: impl FnMut(NodeId, &Tensor<4>),
    ) -> Tensor<4> {
        let first = segment.start - 1;
        let mut values: Vec<Option<Tensor<4>>> = vec![None; segment.len() + 1];
        values[0] = Some(x);
        for id in segment.filter(|&id| self.paths.computes(id)) {
            let sources = self.paths.inputs(self.graph, id);
            let mut arguments: Vec<Tensor<4>> = Vec::with_capacity(sources.len());
            for (position, &source) in sources.iter().enumerate() {
                let read_again = sources[position + 1..].contains(&source);
                let value = if self.last_readers[source] == id && !read_again {
                    values[source - first].take()
                } else {
                    values[source - first].clone()
                };
                arguments.push(value.expect("a value lives until its last reader"));
            }
            let value = match &self.graph.nodes[id].op {
                Op::Sum { scales, activation } => {
                    let scales = self.paths.scales(id, scales);
                    activate(weighted_sum(arguments, &scales), *activation)
                }
                op => apply(op, arguments, layers),
            };
            if id != self.graph.output() {
                observe(id, &value);
            }
            values[id - first] = Some(value);
        }
        let last = values.pop().flatten();
        last.expect("a segment ends with a value that is read on")
    }
}

fn apply(op: &Op, arguments: Vec<Tensor<4>>, layers: &mut impl Layers) -> Tensor<4> {
    match op {
        &Op::Conv {
            weight,
            stride,
            padding,
            norm,
            activation,
        } => {
            let window = Window { stride, padding };
            layers.conv(only(arguments), weight, window, norm, activation)
        }
        &Op::Norm { norm, activation } => layers.norm(only(arguments), norm, activation),
        &Op::Bias { bias, activation } => layers.bias(only(arguments), bias, activation),
        Op::Relu => relu(only(arguments)),
        Op::Pool { pool, window } => {
            let PoolWindow {
                kernel_size,
                stride,
                padding,
            } = *window;
            match pool {
                Pool::Max => {
                    let options = MaxPoolOptions::new(kernel_size)
                        .with_stride(stride)
                        .with_padding(padding);
                    max_pool2d(only(arguments), options)
                }
                Pool::Mean => {
                    let options = AvgPoolOptions::new(kernel_size)
                        .with_stride(stride)
                        .with_padding(padding)
                        .with_count_include_pad(false);
                    avg_pool2d(only(arguments), options)
                }
            }
        }
        Op::Concat => Tensor::cat(arguments, 1),
        Op::AveragePool => adaptive_avg_pool2d(only(arguments), [1, 1]),
        &Op::Dropout { probability } => layers.dropout(only(arguments), probability),
        Op::Linear => {
            let logits = layers.linear(flat(only(arguments)));
            let [batch, classes] = logits.dims();
            logits.reshape([batch, classes, 1, 1])
        }
        Op::Input | Op::Sum { .. } => unreachable!("handled by the walk"),
    }
}

fn only(arguments: Vec<Tensor<4>>) -> Tensor<4> {
    let mut arguments = arguments.into_iter();
    arguments.next().expect("the operation has one input")
}

/// `Σ scaleᵢ·xᵢ`. Terms of one scale are added first, so that a map is scaled once.
fn weighted_sum(terms: Vec<Tensor<4>>, scales: &[f32]) -> Tensor<4> {
    let mut groups: Vec<(f32, Tensor<4>)> = Vec::new();
    for (term, &scale) in terms.into_iter().zip(scales) {
        match groups.iter_mut().find(|(known, _)| *known == scale) {
            Some((_, sum)) => *sum = sum.clone() + term,
            None => groups.push((scale, term)),
        }
    }
    groups
        .into_iter()
        .map(|(scale, sum)| if scale == 1.0 { sum } else { sum * scale })
        .reduce(|sum, term| sum + term)
        .expect("a sum has terms")
}

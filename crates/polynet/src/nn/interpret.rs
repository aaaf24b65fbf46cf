//! One walk over a graph, for prediction and for training.

use super::conv_norm::Window;
use crate::arch::Activation;
use crate::arch::graph::{Graph, Op};
use burn::tensor::module::{adaptive_avg_pool2d, max_pool2d};
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Tensor, activation::relu};

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

    /// Dropout, or nothing.
    fn dropout(&mut self, x: Tensor<4>, probability: f64) -> Tensor<4>;

    /// The classifier: `[batch, features]` to `[batch, classes]`.
    fn linear(&mut self, x: Tensor<2>) -> Tensor<2>;
}

/// Runs the graph on `x` and returns the logits. Every value is dropped after its last reader.
/// `observe` sees the result of every node.
///
/// # Shapes
/// - `x`: `[batch, 3, height, width]`
/// - result: `[batch, classes]`
pub(super) fn run(
    graph: &Graph,
    x: Tensor<4>,
    layers: &mut impl Layers,
    mut observe: impl FnMut(usize, &Tensor<4>),
) -> Tensor<2> {
    let last_readers = graph.last_readers();
    let mut values: Vec<Option<Tensor<4>>> = vec![None; graph.nodes.len()];
    let mut input = Some(x);
    for (id, node) in graph.nodes.iter().enumerate() {
        let mut arguments: Vec<Tensor<4>> = Vec::with_capacity(node.inputs.len());
        for (position, &source) in node.inputs.iter().enumerate() {
            let read_again = node.inputs[position + 1..].contains(&source);
            let value = if last_readers[source] == id && !read_again {
                values[source].take()
            } else {
                values[source].clone()
            };
            arguments.push(value.expect("a value lives until its last reader"));
        }
        let value = match &node.op {
            Op::Input => input.take().expect("a graph has one input"),
            Op::Linear => {
                let x = only(arguments);
                let [batch, features, ..] = x.dims();
                return layers.linear(x.reshape([batch, features]));
            }
            op => apply(op, arguments, layers),
        };
        observe(id, &value);
        values[id] = Some(value);
    }
    unreachable!("a graph ends with its classifier")
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
        Op::Relu => relu(only(arguments)),
        &Op::MaxPool {
            kernel_size,
            stride,
            padding,
        } => {
            let options = MaxPoolOptions::new(kernel_size)
                .with_stride(stride)
                .with_padding(padding);
            max_pool2d(only(arguments), options)
        }
        Op::Concat => Tensor::cat(arguments, 1),
        Op::Sum { scales, activation } => {
            super::conv_norm::activate(weighted_sum(arguments, scales), *activation)
        }
        Op::AveragePool => adaptive_avg_pool2d(only(arguments), [1, 1]),
        &Op::Dropout { probability } => layers.dropout(only(arguments), probability),
        Op::Input | Op::Linear => unreachable!("handled by the walk"),
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

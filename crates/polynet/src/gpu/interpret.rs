//! One walk over a graph, for prediction and for training.

use super::conv_norm::Window;
use super::paths::Paths;
use crate::arch::Activation;
use crate::arch::graph::{Graph, NodeId, Op, Pool, PoolWindow};
use burn::tensor::module::{adaptive_avg_pool2d, avg_pool2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};
use burn::tensor::{Tensor, activation::relu};
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

/// Runs the whole graph on `x` and returns the logits. `observe` sees the result of every node.
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
    observe(0, &x);
    let logits = Walk::new(graph, &Paths::all(graph)).run(1..graph.nodes.len(), x, layers, observe);
    flat(logits)
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
                    super::conv_norm::activate(weighted_sum(arguments, &scales), *activation)
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

#[cfg(test)]
mod tests {
    use crate::arch::presets::PAPER_MODULES;
    use crate::arch::{Architecture, Family};
    use crate::nn::{DeviceName, LossOptions, Network};
    use burn::tensor::{Device, Tensor};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    /// A narrow network of a family with one module in every stage.
    fn network(family: Family, module: &str, sharing: &str, device: &Device) -> Network {
        let size = match family {
            Family::Small | Family::Resnet | Family::ResnetV1 => 32,
            _ => 75,
        };
        let labels = family.stage_labels().iter();
        let stages: String = labels.map(|label| format!("; {label}: {module}")).collect();
        let text = format!(
            "family = {}; width = 0.0625; classes = 3; dropout = 0; input = {size}; \
             sharing = {sharing}{stages}",
            family.name()
        );
        let architecture: Architecture = text.parse().unwrap();
        Network::init(architecture.graph().unwrap(), 0, device)
    }

    #[test]
    fn every_module_of_the_paper_works_over_every_block() {
        let device = DeviceName::Cpu.open();
        for family in Family::ALL {
            for (sharing, module) in PAPER_MODULES.iter().map(|module| ("full", *module)).chain([
                ("release", "poly-3"),
                ("full", "F"),
                ("full", "(I + F)^2"),
            ]) {
                let network = network(family, module, sharing, &device);
                let [channels, height, width] = network.graph().nodes[0].shape;
                let images = Tensor::<4>::ones([2, channels, height, width], &device) * 0.5;
                let logits = network.logits(images);
                assert_eq!(logits.len(), 6, "{family:?} {module}");
                assert!(logits.iter().all(|x| x.is_finite()), "{family:?} {module}");
            }
        }
    }

    #[test]
    fn every_parameter_of_every_family_gets_a_gradient() {
        let device = DeviceName::Cpu.open();
        for family in Family::ALL {
            let network = network(family, "mpoly-2", "full", &device);
            let [channels, height, width] = network.graph().nodes[0].shape;
            let count = 4 * channels * height * width;
            let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.7).sin()).collect();
            let shape = [4, channels, height, width];
            let data = burn::tensor::TensorData::new(values, shape);
            let images = Tensor::<4>::from_data(data, &device);
            let options = LossOptions {
                label_smoothing: 0.0,
            };
            let mut rng = ChaCha8Rng::seed_from_u64(0);
            let pass = network.training_pass(images, &mut rng);
            let gradients = pass.backward(&[0, 1, 2, 0], options);
            for (spec, gradient) in network.specs().iter().zip(&gradients.tensors) {
                let name = &spec.name;
                assert_eq!(
                    gradient.is_some(),
                    spec.kind.is_parameter(),
                    "{family:?} {name}"
                );
            }
        }
    }
}

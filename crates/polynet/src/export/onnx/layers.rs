//! The graph's operations as ONNX's operators.
//!
//! Every operator has one result, called as itself: by its tensors (`stage_a.0.F.1.conv`) or by its part of
//! the network (`stage_a.0.sum`); whatever comes again is numbered (`…~2`).

use super::message::{Attribute, ElementType, node, tensor};
use super::{BatchNormForm, OUTPUT};
use crate::arch::Activation;
use crate::arch::graph::{Graph, NodeId, Op, Pool, PoolWindow};
use crate::params::{ModelFolder, Params, norm_affine};
use crate::protobuf::Message;
use std::borrow::Cow;
use std::collections::HashMap;

/// The operators and tensors of a file, as they are added.
pub(super) struct Layers<'a> {
    graph: &'a Graph,
    params: &'a Params,
    form: BatchNormForm,
    /// The nodes that read each node, as often as they do.
    readers: Vec<Vec<NodeId>>,
    /// What the results of the graph's nodes are called.
    results: Vec<String>,
    /// How often each name was asked for.
    names: HashMap<String, usize>,
    /// What the model's tensors that are there are called, by index.
    tensors: HashMap<usize, String>,
    nodes: Vec<Message<'a>>,
    initializers: Vec<Message<'a>>,
}

/// A convolution of the graph.
#[derive(Clone, Copy)]
struct Conv {
    weight: usize,
    stride: [usize; 2],
    padding: [usize; 2],
    norm: Option<usize>,
    activation: Activation,
}

impl<'a> Layers<'a> {
    pub(super) fn new(model: &'a ModelFolder, form: BatchNormForm) -> Self {
        let graph = &model.graph;
        let mut readers = vec![Vec::new(); graph.nodes.len()];
        for (id, node) in graph.nodes.iter().enumerate() {
            node.inputs
                .iter()
                .for_each(|&input| readers[input].push(id));
        }
        Self {
            graph,
            params: &model.params,
            form,
            readers,
            results: Vec::new(),
            names: HashMap::new(),
            tensors: HashMap::new(),
            nodes: Vec::new(),
            initializers: Vec::new(),
        }
    }

    /// The operators in order, and the tensors.
    pub(super) fn finish(self) -> (Vec<Message<'a>>, Vec<Message<'a>>) {
        (self.nodes, self.initializers)
    }

    /// `[batch, height, width, channels]` to `[batch, channels, height, width]`.
    pub(super) fn channels_first(&mut self, x: &str) -> String {
        let order = Attribute::Ints(vec![0, 3, 1, 2]);
        self.push("Transpose", "preprocessing.nchw", &[x], &[("perm", order)])
    }

    pub(super) fn floats(&mut self, x: &str) -> String {
        let float = Attribute::Int(ElementType::Float as i64);
        self.push("Cast", "preprocessing.float", &[x], &[("to", float)])
    }

    /// An operator of two arguments, the second a number for each channel.
    pub(super) fn by_channel(
        &mut self,
        operator: &str,
        name: &str,
        x: &str,
        values: Vec<f32>,
    ) -> String {
        let shape = [1, values.len(), 1, 1];
        let values = self.constant(&format!("{name}.values"), &shape, values);
        self.push(operator, name, &[x, &values], &[])
    }

    /// Adds the whole graph; `image` is what it reads.
    pub(super) fn graph(&mut self, image: String) {
        self.results = vec![image];
        for id in 1..self.graph.nodes.len() {
            let result = self.node(id);
            self.results.push(result);
        }
    }

    fn node(&mut self, id: NodeId) -> String {
        let node = &self.graph.nodes[id];
        let part = &self.graph.parts[node.part].name;
        let x = self.results[node.inputs[0]].clone();
        match &node.op {
            Op::Input => x,
            &Op::Conv {
                weight,
                stride,
                padding,
                norm,
                activation,
            } => {
                let conv = Conv {
                    weight,
                    stride,
                    padding,
                    norm,
                    activation,
                };
                self.conv(id, &x, conv)
            }
            &Op::Norm { norm, activation } => {
                let x = self.norm(&x, norm);
                self.activate(x, activation)
            }
            // Its convolution has added it.
            &Op::Bias { activation, .. } => self.activate(x, activation),
            Op::Relu => self.activate(x, Activation::Relu),
            &Op::Pool { pool, window } => self.pool(part, &x, pool, window),
            Op::Concat => {
                let inputs: Vec<String> = self.inputs(id).map(str::to_owned).collect();
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                let channels = [("axis", Attribute::Int(1))];
                self.push("Concat", &format!("{part}.concat"), &inputs, &channels)
            }
            Op::Sum { scales, activation } => {
                let sum = self.sum(id, part, scales);
                self.activate(sum, *activation)
            }
            Op::AveragePool => self.push("GlobalAveragePool", &format!("{part}.mean"), &[&x], &[]),
            Op::Dropout { .. } if self.form == BatchNormForm::Folded => x,
            Op::Dropout { probability } => {
                let name = format!("{part}.dropout");
                let ratio = self.constant(&format!("{name}.ratio"), &[], vec![*probability as f32]);
                self.push("Dropout", &name, &[&x, &ratio], &[])
            }
            Op::Linear => self.linear(part, &x),
        }
    }

    fn inputs(&self, id: NodeId) -> impl Iterator<Item = &str> {
        let inputs = self.graph.nodes[id].inputs.iter();
        inputs.map(|&input| self.results[input].as_str())
    }

    fn conv(&mut self, id: NodeId, x: &str, conv: Conv) -> String {
        let graph = self.graph;
        let spec = &graph.convs[conv.weight];
        let bias = self.readers[id]
            .iter()
            .find_map(|&reader| match graph.nodes[reader].op {
                Op::Bias { bias, .. } => Some(graph.bias_tensor(bias)),
                _ => None,
            });
        let scale = self.absorbed_scale(id);
        let is_folded = scale != 1.0 || conv.norm.is_some();
        let mut inputs = vec![x.to_owned()];
        if is_folded && self.form == BatchNormForm::Folded {
            let (weights, shift) = self.folded(conv, bias, scale);
            let channels = [shift.len()];
            inputs.push(self.constant(&format!("{}.weight", spec.name), &spec.shape, weights));
            inputs.push(self.constant(&format!("{}.bias", spec.name), &channels, shift));
        } else {
            inputs.push(self.tensor(conv.weight));
            inputs.extend(bias.map(|bias| self.tensor(bias)));
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let window = PoolWindow {
            kernel_size: [spec.shape[2], spec.shape[3]],
            stride: conv.stride,
            padding: conv.padding,
        };
        let mut x = self.push("Conv", &spec.name, &inputs, &attributes(window));
        if let (Some(norm), BatchNormForm::Kept) = (conv.norm, self.form) {
            x = self.norm(&x, norm);
        }
        self.activate(x, conv.activation)
    }

    /// Weights and bias of a convolution with its batch norm and a scale.
    fn folded(&self, conv: Conv, bias: Option<usize>, scale: f32) -> (Vec<f32>, Vec<f32>) {
        let weights = &self.params[conv.weight];
        let outputs = self.graph.convs[conv.weight].shape[0];
        let (factors, mut shift) = match conv.norm {
            Some(norm) => {
                norm_affine(self.graph, self.params, norm).expect("tensors in memory can be read")
            }
            None => (vec![1.0; outputs], vec![0.0; outputs]),
        };
        if let Some(bias) = bias {
            shift = self.params[bias].iter().copied().map(f64::from).collect();
        }
        let scale = f64::from(scale);
        let rows = weights.chunks_exact(weights.len() / outputs).zip(factors);
        let weights = rows.flat_map(|(row, factor)| {
            row.iter()
                .map(move |&weight| (f64::from(weight) * factor * scale) as f32)
        });
        let shift = shift.iter().map(|shift| (shift * scale) as f32);
        (weights.collect(), shift.collect())
    }

    /// The factor that a convolution's weights take over from the sum that alone reads its result.
    fn absorbed_scale(&self, id: NodeId) -> f32 {
        let is_linear = matches!(
            self.graph.nodes[id].op,
            Op::Conv { activation, .. } | Op::Bias { activation, .. } if !activation.is_relu()
        );
        let &[reader] = self.readers[id].as_slice() else {
            return 1.0;
        };
        let reading = &self.graph.nodes[reader];
        match &reading.op {
            _ if !is_linear || self.form == BatchNormForm::Kept => 1.0,
            Op::Bias { .. } => self.absorbed_scale(reader),
            Op::Sum { scales, .. } => {
                let mut terms = reading.inputs.iter().zip(scales);
                terms
                    .find(|(input, _)| **input == id)
                    .map_or(1.0, |(_, scale)| *scale)
            }
            _ => 1.0,
        }
    }

    fn norm(&mut self, x: &str, norm: usize) -> String {
        let name = &self.graph.norms[norm].statistics;
        let tensors = self
            .graph
            .norm_tensors(norm)
            .map(|index| self.tensor(index));
        let [scale, shift, mean, var] = &tensors;
        let epsilon = Attribute::Float(self.graph.norm_epsilon as f32);
        let inputs = [x, scale, shift, mean, var];
        self.push("BatchNormalization", name, &inputs, &[("epsilon", epsilon)])
    }

    fn activate(&mut self, x: String, activation: Activation) -> String {
        match activation {
            Activation::Identity => x,
            Activation::Relu => self.push("Relu", &format!("{x}.relu"), &[&x], &[]),
        }
    }

    fn pool(&mut self, part: &str, x: &str, pool: Pool, window: PoolWindow) -> String {
        let mut attributes = attributes(window);
        match pool {
            Pool::Max => self.push("MaxPool", &format!("{part}.max_pool"), &[x], &attributes),
            Pool::Mean => {
                attributes.push(("count_include_pad", Attribute::Int(0)));
                self.push(
                    "AveragePool",
                    &format!("{part}.average_pool"),
                    &[x],
                    &attributes,
                )
            }
        }
    }

    /// The terms one after another, in the graph's order.
    fn sum(&mut self, id: NodeId, part: &str, scales: &[f32]) -> String {
        let mut sum: Option<String> = None;
        for (&input, &scale) in self.graph.nodes[id].inputs.iter().zip(scales) {
            let mut term = self.results[input].clone();
            if scale != self.absorbed_scale(input) {
                let name = format!("{part}.scaled");
                let scale = self.constant(&format!("{name}.scale"), &[], vec![scale]);
                term = self.push("Mul", &name, &[&term, &scale], &[]);
            }
            sum = Some(match sum {
                None => term,
                Some(sum) => self.push("Add", &format!("{part}.sum"), &[&sum, &term], &[]),
            });
        }
        sum.expect("a sum has terms")
    }

    fn linear(&mut self, part: &str, x: &str) -> String {
        let x = self.push(
            "Flatten",
            &format!("{part}.features"),
            &[x],
            &[("axis", Attribute::Int(1))],
        );
        let first = self.graph.linear_tensor();
        let [weight, bias] = [first, first + 1].map(|index| self.tensor(index));
        let transposed = [("transB", Attribute::Int(1))];
        self.push("Gemm", OUTPUT, &[&x, &weight, &bias], &transposed)
    }

    /// Adds an operator and gives its result's name.
    fn push(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute)],
    ) -> String {
        let name = self.fresh(name);
        self.nodes.push(node(operator, &name, inputs, attributes));
        name
    }

    /// A tensor of the model, once.
    fn tensor(&mut self, index: usize) -> String {
        if let Some(name) = self.tensors.get(&index) {
            return name.clone();
        }
        let params = self.params;
        let spec = &params.specs()[index];
        let name = self.fresh(&spec.name);
        let values = Cow::Borrowed(&params[index]);
        self.initializers.push(tensor(&name, &spec.shape, values));
        self.tensors.insert(index, name.clone());
        name
    }

    /// A tensor that the model does not have.
    fn constant(&mut self, name: &str, shape: &[usize], values: Vec<f32>) -> String {
        let name = self.fresh(name);
        self.initializers.push(tensor(&name, shape, values.into()));
        name
    }

    /// A name that no other has.
    fn fresh(&mut self, name: &str) -> String {
        let count = self.names.entry(name.to_owned()).or_default();
        *count += 1;
        match *count {
            1 => name.to_owned(),
            count => format!("{name}~{count}"),
        }
    }
}

/// What convolutions and pools say of their window.
fn attributes(window: PoolWindow) -> Vec<(&'static str, Attribute)> {
    let PoolWindow {
        kernel_size,
        stride,
        padding,
    } = window;
    vec![
        ("kernel_shape", Attribute::Ints(kernel_size.to_vec())),
        ("strides", Attribute::Ints(stride.to_vec())),
        ("pads", Attribute::Ints([padding, padding].concat())),
    ]
}

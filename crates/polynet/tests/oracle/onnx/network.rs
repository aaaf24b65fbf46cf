//! A graph from ONNX's operators, for the oracle. Batch norms become 1×1 convolutions with a bias, so that
//! the graph has none.

use super::file::{OnnxFile, OnnxNode, OnnxTensor};
use polynet::arch::Activation;
use polynet::arch::graph::{
    BiasSpec, ConvSpec, Graph, LinearSpec, Node, NodeId, Op, Part, Pool, PoolWindow,
};
use std::collections::HashMap;

pub(super) struct Network {
    pub(super) graph: Graph,
    /// In the graph's order.
    pub(super) tensors: Vec<Vec<f64>>,
}

struct Builder<'a> {
    file: &'a OnnxFile,
    nodes: Vec<Node>,
    /// Values by name.
    values: HashMap<&'a str, NodeId>,
    convs: Vec<(ConvSpec, Vec<f64>)>,
    biases: Vec<(BiasSpec, Vec<f64>)>,
    linear: Option<(LinearSpec, [Vec<f64>; 2])>,
}

impl Network {
    /// The network for inputs of a shape.
    pub(super) fn new(file: &OnnxFile, input: [usize; 3]) -> Self {
        let mut builder = Builder {
            file,
            nodes: Vec::new(),
            values: HashMap::new(),
            convs: Vec::new(),
            biases: Vec::new(),
            linear: None,
        };
        let image = builder.add(Op::Input, vec![], input);
        builder.values.insert(&file.input.0, image);
        for node in &file.nodes {
            let value = builder.node(node);
            let before = builder.values.insert(&node.output, value);
            assert!(before.is_none(), "{} is there twice", node.output);
        }
        let (linear, linear_tensors) = builder.linear.expect("a classifier");
        assert_eq!(
            builder.values[file.output.0.as_str()],
            builder.nodes.len() - 1
        );
        let (convs, conv_tensors): (_, Vec<_>) = builder.convs.into_iter().unzip();
        let (biases, bias_tensors): (_, Vec<_>) = builder.biases.into_iter().unzip();
        let part = Part {
            name: "network".to_owned(),
            module: None,
            output: builder.nodes.len() - 1,
        };
        Self {
            graph: Graph {
                nodes: builder.nodes,
                convs,
                norms: vec![],
                norm_epsilon: 0.0,
                biases,
                linear,
                parts: vec![part],
                module_paths: vec![],
            },
            tensors: [conv_tensors, bias_tensors, linear_tensors.to_vec()].concat(),
        }
    }
}

fn wide(tensor: &OnnxTensor) -> Vec<f64> {
    tensor.values.iter().copied().map(f64::from).collect()
}

impl<'a> Builder<'a> {
    fn add(&mut self, op: Op, inputs: Vec<NodeId>, shape: [usize; 3]) -> NodeId {
        self.nodes.push(Node {
            op,
            inputs,
            shape,
            part: 0,
        });
        self.nodes.len() - 1
    }

    fn tensor(&self, name: &str) -> &'a OnnxTensor {
        let tensor = self.file.tensors.get(name);
        tensor.unwrap_or_else(|| panic!("no tensor {name}"))
    }

    fn node(&mut self, node: &'a OnnxNode) -> NodeId {
        let input = |index: usize| self.values[node.inputs[index].as_str()];
        let x = input(0);
        let shape = self.nodes[x].shape;
        match node.operator.as_str() {
            "Conv" => self.conv(node, x),
            "BatchNormalization" => self.batch_norm(node, x),
            "Relu" => self.add(Op::Relu, vec![x], shape),
            "MaxPool" => self.pool(node, x, Pool::Max),
            "AveragePool" => {
                assert_eq!(node.ints["count_include_pad"], [0]);
                self.pool(node, x, Pool::Mean)
            }
            "Add" => {
                let other = input(1);
                assert_eq!(shape, self.nodes[other].shape);
                self.sum(vec![x, other], vec![1.0, 1.0], shape)
            }
            "Mul" => {
                let factor = self.tensor(&node.inputs[1]);
                assert!(factor.shape.is_empty());
                self.sum(vec![x], factor.values.clone(), shape)
            }
            "Concat" => {
                assert_eq!(node.ints["axis"], [1]);
                let inputs: Vec<NodeId> = (0..node.inputs.len()).map(input).collect();
                let channels = inputs.iter().map(|&input| self.nodes[input].shape[0]).sum();
                self.add(Op::Concat, inputs, [channels, shape[1], shape[2]])
            }
            "GlobalAveragePool" => self.add(Op::AveragePool, vec![x], [shape[0], 1, 1]),
            "Dropout" => {
                let [ratio] = self.tensor(&node.inputs[1]).values[..] else {
                    panic!("one ratio");
                };
                let probability = f64::from(ratio);
                self.add(Op::Dropout { probability }, vec![x], shape)
            }
            "Flatten" => {
                assert_eq!(
                    (node.ints["axis"].as_slice(), shape[1..].to_vec()),
                    (&[1][..], vec![1, 1])
                );
                x
            }
            "Gemm" => self.gemm(node, x),
            // Images come channel first.
            "Transpose" => {
                assert_eq!(node.ints["perm"], [0, 3, 1, 2]);
                x
            }
            "Cast" => {
                assert_eq!(node.ints["to"], [1]);
                x
            }
            "Div" => {
                let divisors = wide(self.tensor(&node.inputs[1]));
                let factors = divisors.iter().map(|divisor| 1.0 / divisor).collect();
                self.affine(x, factors, vec![0.0; divisors.len()])
            }
            "Sub" => {
                let terms = wide(self.tensor(&node.inputs[1]));
                let terms: Vec<f64> = terms.iter().map(|term| -term).collect();
                self.affine(x, vec![1.0; terms.len()], terms)
            }
            other => panic!("operator {other}"),
        }
    }

    fn sum(&mut self, inputs: Vec<NodeId>, scales: Vec<f32>, shape: [usize; 3]) -> NodeId {
        let activation = Activation::Identity;
        self.add(Op::Sum { scales, activation }, inputs, shape)
    }

    fn conv(&mut self, node: &OnnxNode, x: NodeId) -> NodeId {
        let weight = self.tensor(&node.inputs[1]);
        let shape: [usize; 4] = weight.shape[..].try_into().unwrap();
        let window = window(node);
        assert_eq!(window.kernel_size, shape[2..]);
        assert_eq!(self.nodes[x].shape[0], shape[1]);
        let x = self.plain_conv(x, shape, wide(weight), window);
        match node.inputs.get(2) {
            Some(bias) => {
                let bias = wide(self.tensor(bias));
                self.bias(x, bias)
            }
            None => x,
        }
    }

    fn plain_conv(
        &mut self,
        x: NodeId,
        shape: [usize; 4],
        values: Vec<f64>,
        window: PoolWindow,
    ) -> NodeId {
        let weight = self.convs.len();
        let name = format!("conv{weight}");
        self.convs.push((ConvSpec { name, shape }, values));
        let op = Op::Conv {
            weight,
            stride: window.stride,
            padding: window.padding,
            norm: None,
            activation: Activation::Identity,
        };
        let [height, width] = self.size(x, window);
        self.add(op, vec![x], [shape[0], height, width])
    }

    fn bias(&mut self, x: NodeId, values: Vec<f64>) -> NodeId {
        let bias = self.biases.len();
        let shape = self.nodes[x].shape;
        let (name, channels) = (format!("bias{bias}"), shape[0]);
        assert_eq!(values.len(), channels);
        self.biases.push((BiasSpec { name, channels }, values));
        let activation = Activation::Identity;
        self.add(Op::Bias { bias, activation }, vec![x], shape)
    }

    /// A factor and a term for each channel.
    fn affine(&mut self, x: NodeId, factors: Vec<f64>, terms: Vec<f64>) -> NodeId {
        let channels = factors.len();
        let mut diagonal = vec![0.0; channels * channels];
        for (channel, factor) in factors.into_iter().enumerate() {
            diagonal[channel * channels + channel] = factor;
        }
        let point = PoolWindow {
            kernel_size: [1, 1],
            stride: [1, 1],
            padding: [0, 0],
        };
        let x = self.plain_conv(x, [channels, channels, 1, 1], diagonal, point);
        self.bias(x, terms)
    }

    fn batch_norm(&mut self, node: &OnnxNode, x: NodeId) -> NodeId {
        let epsilon = f64::from(node.floats["epsilon"]);
        let tensor = |index: usize| wide(self.tensor(&node.inputs[index]));
        let [scale, shift, mean, var] = [1, 2, 3, 4].map(tensor);
        let factors: Vec<f64> = scale
            .iter()
            .zip(&var)
            .map(|(scale, var)| scale / (var + epsilon).sqrt())
            .collect();
        let terms = shift.iter().zip(&mean).zip(&factors);
        let terms = terms
            .map(|((shift, mean), factor)| shift - mean * factor)
            .collect();
        self.affine(x, factors, terms)
    }

    fn pool(&mut self, node: &OnnxNode, x: NodeId, pool: Pool) -> NodeId {
        let window = window(node);
        let [height, width] = self.size(x, window);
        let channels = self.nodes[x].shape[0];
        self.add(
            Op::Pool { pool, window },
            vec![x],
            [channels, height, width],
        )
    }

    fn gemm(&mut self, node: &OnnxNode, x: NodeId) -> NodeId {
        assert_eq!(node.ints["transB"], [1]);
        let [weight, bias] = [1, 2].map(|index| self.tensor(&node.inputs[index]));
        let &[out_features, in_features] = weight.shape.as_slice() else {
            panic!("a matrix");
        };
        let name = "linear".to_owned();
        let spec = LinearSpec {
            name,
            in_features,
            out_features,
        };
        self.linear = Some((spec, [wide(weight), wide(bias)]));
        self.add(Op::Linear, vec![x], [out_features, 1, 1])
    }

    /// Rows and columns of a window's results.
    fn size(&self, x: NodeId, window: PoolWindow) -> [usize; 2] {
        let [_, height, width] = self.nodes[x].shape;
        let axes = [(height, 0), (width, 1)];
        axes.map(|(size, axis)| {
            (size + 2 * window.padding[axis] - window.kernel_size[axis]) / window.stride[axis] + 1
        })
    }
}

fn window(node: &OnnxNode) -> PoolWindow {
    let pair = |name: &str| [node.ints[name][0], node.ints[name][1]];
    let pads = &node.ints["pads"];
    assert_eq!(pads[..2], pads[2..]);
    PoolWindow {
        kernel_size: pair("kernel_shape"),
        stride: pair("strides"),
        padding: pair("pads"),
    }
}

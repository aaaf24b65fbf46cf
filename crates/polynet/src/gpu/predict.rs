//! Prediction with the running statistics.

use super::Gpu;
use super::conv_norm::{self, Norm, Window};
use super::interpret::{self, Layers, Walk};
use super::transfer::{Readout, on_device};
use crate::arch::Activation;
use crate::arch::graph::{Graph, NodeId, Op, TensorSpec};
use crate::cpu::Prediction;
use crate::params::{TensorMismatch, TensorSource};
use crate::step::Paths;
use burn_tensor::{Device, Tensor};

/// A network whose tensors are on a GPU, for prediction.
#[derive(Debug)]
pub(crate) struct Predictor {
    graph: Graph,
    paths: Paths,
    /// Flat, by tensor index.
    tensors: Vec<Tensor<1>>,
    device: Device,
}

impl Predictor {
    /// Carries the tensors of a graph's names to the GPU.
    ///
    /// # Errors
    /// If a name or shape does not fit the graph, or a tensor cannot be read.
    ///
    /// # Panics
    /// If the machine has no such GPU.
    pub(crate) fn new(
        graph: &Graph,
        tensors: &dyn TensorSource,
        gpu: Gpu,
    ) -> Result<Self, TensorMismatch> {
        TensorMismatch::of(graph, tensors)?;
        let device = gpu.open();
        let carry = |spec: TensorSpec| {
            let values = tensors.values(&spec.name)?;
            Ok(on_device(values, [spec.num_elements()], &device))
        };
        Ok(Self {
            tensors: graph.tensors().map(carry).collect::<Result<_, _>>()?,
            paths: Paths::all(graph),
            graph: graph.clone(),
            device,
        })
    }

    /// The logits `[images, classes]` of preprocessed images `[images, 3, height, width]`, both in
    /// row-major order. All images are computed at once.
    ///
    /// # Panics
    /// If the length is no multiple of an image's.
    pub(crate) fn logits(&self, images: &[f32]) -> Vec<f32> {
        let logits = self.run(images, |_, _| {});
        let logits = logits.and_then(|logits| Readout::default().and(logits).read().next());
        logits.unwrap_or_default()
    }

    /// As [`Predictor::logits`], with what the logits come from.
    ///
    /// # Panics
    /// As [`Predictor::logits`].
    pub(crate) fn predict(&self, images: &[f32]) -> Prediction {
        let read_by = |op: &Op| {
            let mut nodes = self.graph.nodes.iter().rev();
            let node = nodes.find(|node| node.op == *op);
            node.expect("a network ends with a pool and a classifier")
                .inputs[0]
        };
        let ends = [Op::Linear, Op::AveragePool].map(|op| read_by(&op));
        let mut seen = [None, None];
        let logits = self.run(images, |id, value| {
            for (_, seen) in ends.iter().zip(&mut seen).filter(|(end, _)| **end == id) {
                *seen = Some(value.clone());
            }
        });
        let (Some(logits), [Some(embeddings), Some(last_maps)]) = (logits, seen) else {
            return Prediction::default();
        };
        let found = Readout::default().and(logits).and(embeddings);
        let mut found = found.and(last_maps).read();
        let mut next = || found.next().expect("three tensors are read");
        Prediction {
            logits: next(),
            embeddings: next(),
            last_maps: next(),
        }
    }

    /// The logits of images, if there are any. `observe` sees the result of every other node.
    fn run(&self, images: &[f32], observe: impl FnMut(NodeId, &Tensor<4>)) -> Option<Tensor<2>> {
        let [channels, height, width] = self.graph.nodes[0].shape;
        let image = channels * height * width;
        assert!(
            images.len().is_multiple_of(image),
            "images have {image} elements, {} came",
            images.len()
        );
        let count = images.len() / image;
        if count == 0 {
            return None;
        }
        let images = on_device(images, [count, channels, height, width], &self.device);
        let walk = Walk::new(&self.graph, &self.paths);
        let logits = walk.run(
            1..self.graph.nodes.len(),
            images,
            &mut Predicting(self),
            observe,
        );
        Some(interpret::flat(logits))
    }
}

/// Layers with the running statistics.
struct Predicting<'a>(&'a Predictor);

impl Predicting<'_> {
    fn tensor(&self, index: usize) -> Tensor<1> {
        self.0.tensors[index].clone()
    }

    fn running_norm(&self, norm: usize) -> Norm {
        let graph = &self.0.graph;
        Norm::new(
            graph.norm_tensors(norm).map(|index| self.tensor(index)),
            graph.norm_epsilon,
        )
    }
}

impl Layers for Predicting<'_> {
    fn conv(
        &mut self,
        x: Tensor<4>,
        weight: usize,
        window: Window,
        norm: Option<usize>,
        activation: Activation,
    ) -> Tensor<4> {
        let norm = norm.map(|norm| self.running_norm(norm));
        let shape = self.0.graph.convs[weight].shape;
        conv_norm::predict(
            x,
            self.tensor(weight).reshape(shape),
            window,
            norm,
            activation,
        )
    }

    fn norm(&mut self, x: Tensor<4>, norm: usize, activation: Activation) -> Tensor<4> {
        conv_norm::apply_norm(x, self.running_norm(norm), activation)
    }

    fn bias(&mut self, x: Tensor<4>, bias: usize, activation: Activation) -> Tensor<4> {
        let bias = self.tensor(self.0.graph.bias_tensor(bias));
        conv_norm::add_bias(x, bias, activation)
    }

    fn dropout(&mut self, x: Tensor<4>, _probability: f64) -> Tensor<4> {
        x
    }

    fn linear(&mut self, x: Tensor<2>) -> Tensor<2> {
        let index = self.0.graph.linear_tensor();
        conv_norm::linear(x, self.tensor(index), self.tensor(index + 1))
    }
}

//! A training pass: logits with the statistics of the batch, their loss, and its gradients.

use super::NORM_MOMENTUM;
use super::conv_norm::{self, BatchNorm, BatchStatistics, Window};
use super::interpret::{self, Layers};
use super::network::{Network, host_values};
use crate::arch::Activation;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;

/// How the loss is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossOptions {
    /// Share of the target spread evenly over all classes; the paper uses none (0).
    pub label_smoothing: f64,
}

/// The forward half of a training step.
pub struct TrainingPass {
    /// `[batch, classes]`, tracked for differentiation.
    pub logits: Tensor<2>,
    /// Leaves of the parameters by tensor index; `None` for running statistics.
    leaves: Vec<Option<Tensor<1>>>,
    /// Statistics by batch norm, in the order of evaluation; a shared batch norm occurs repeatedly.
    statistics: Vec<(usize, BatchStatistics)>,
}

/// The backward half of a training step.
pub struct Gradients {
    /// Mean loss of the batch.
    pub loss: f64,
    /// Logits of the batch, `[batch × classes]` in row-major order.
    pub logits: Vec<f32>,
    /// Gradients by tensor index; `None` for running statistics.
    pub tensors: Vec<Option<Tensor<1>>>,
    statistics: Vec<(usize, BatchStatistics)>,
}

impl Network {
    /// Computes the logits of a batch as training does: with the batch's own statistics, and with
    /// dropout drawn from `rng`.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    pub fn training_pass(&self, images: Tensor<4>, rng: &mut ChaCha8Rng) -> TrainingPass {
        let leaves = self
            .specs
            .iter()
            .zip(&self.tensors)
            .map(|(spec, tensor)| {
                spec.kind
                    .is_parameter()
                    .then(|| Tensor::from_inner(tensor.clone()).require_grad())
            })
            .collect();
        let mut training = Training {
            network: self,
            leaves,
            statistics: Vec::new(),
            rng,
            device: self.device.clone().autodiff(),
        };
        let images = Tensor::from_inner(images);
        let logits = interpret::run(&self.graph, images, &mut training, |_, _| {});
        TrainingPass {
            logits,
            leaves: training.leaves,
            statistics: training.statistics,
        }
    }

    /// Moves the running statistics towards those of the batch.
    pub fn update_statistics(&mut self, gradients: &Gradients) {
        for (norm, statistics) in &gradients.statistics {
            let mean = self.norm_index(*norm) + 2;
            let batch = [&statistics.mean, &statistics.unbiased_var];
            for (offset, batch) in batch.into_iter().enumerate() {
                let running = self.take_tensor(mean + offset);
                let moved = running * (1.0 - NORM_MOMENTUM) + batch.clone() * NORM_MOMENTUM;
                self.set_tensor(mean + offset, moved);
            }
        }
    }
}

impl TrainingPass {
    /// Cross-entropy of the logits against `labels`, and its gradients.
    ///
    /// # Panics
    /// If there are not as many labels as images, or a label is no class.
    pub fn backward(self, labels: &[usize], options: LossOptions) -> Gradients {
        let [batch, classes] = self.logits.dims();
        assert_eq!(labels.len(), batch, "one label for each image");
        let device = self.logits.device();
        let targets = targets(labels, classes, options.label_smoothing);
        let targets = TensorData::new(targets, [batch, classes]);
        let targets = Tensor::from_data(targets, (&device, self.logits.dtype()));
        let logits = host_values(self.logits.clone().inner());
        let loss = (log_softmax(self.logits, 1) * targets).sum() * (-1.0 / batch as f64);
        let mut gradients = loss.backward();
        let tensors = self
            .leaves
            .into_iter()
            .map(|leaf| leaf.and_then(|leaf| leaf.grad_remove(&mut gradients)))
            .collect();
        let loss = f64::from(host_values(loss.inner())[0]);
        Gradients {
            loss,
            logits,
            tensors,
            statistics: self.statistics,
        }
    }
}

/// Target distributions in row-major order: `1 − ε` on the label and `ε / classes` on every class.
fn targets(labels: &[usize], classes: usize, label_smoothing: f64) -> Vec<f32> {
    let mut targets = vec![(label_smoothing / classes as f64) as f32; labels.len() * classes];
    for (row, &label) in targets.chunks_exact_mut(classes).zip(labels) {
        row[label] += (1.0 - label_smoothing) as f32;
    }
    targets
}

/// Computation with the statistics of the batch.
struct Training<'a> {
    network: &'a Network,
    leaves: Vec<Option<Tensor<1>>>,
    statistics: Vec<(usize, BatchStatistics)>,
    rng: &'a mut ChaCha8Rng,
    device: Device,
}

impl Training<'_> {
    fn leaf(&self, index: usize) -> Tensor<1> {
        self.leaves[index]
            .clone()
            .expect("the tensor is a parameter")
    }

    fn batch_norm(&self, norm: usize) -> BatchNorm {
        let first = self.network.norm_index(norm);
        BatchNorm {
            scale: self.leaf(first),
            shift: self.leaf(first + 1),
            epsilon: self.network.graph.norm_epsilon,
        }
    }
}

impl Layers for Training<'_> {
    fn conv(
        &mut self,
        x: Tensor<4>,
        weight: usize,
        window: Window,
        norm: Option<usize>,
        activation: Activation,
    ) -> Tensor<4> {
        let shape = self.network.graph.convs[weight].shape;
        let leaf = self.leaf(weight).reshape(shape);
        let leaves = norm.map(|norm| self.batch_norm(norm));
        let (y, statistics) = conv_norm::train(x, leaf, window, leaves, activation);
        self.statistics.extend(norm.zip(statistics));
        y
    }

    fn norm(&mut self, x: Tensor<4>, norm: usize, activation: Activation) -> Tensor<4> {
        let (y, statistics) = conv_norm::normalize(x, self.batch_norm(norm), activation);
        self.statistics.push((norm, statistics));
        y
    }

    fn bias(&mut self, x: Tensor<4>, bias: usize, activation: Activation) -> Tensor<4> {
        let leaf = self.leaf(self.network.bias_index(bias));
        conv_norm::add_bias(x, leaf, activation)
    }

    fn dropout(&mut self, x: Tensor<4>, probability: f64) -> Tensor<4> {
        let mask = conv_norm::dropout_mask(x.dims(), probability, self.rng, &self.device);
        x * mask
    }

    fn linear(&mut self, x: Tensor<2>) -> Tensor<2> {
        let index = self.network.linear_index();
        let spec = &self.network.graph.linear;
        let weight = self.leaf(index);
        let weight = weight.reshape([spec.out_features, spec.in_features]);
        conv_norm::linear(x, weight, self.leaf(index + 1))
    }
}

//! A training pass: logits with the statistics of the batch, their loss, and its gradients.

use super::NORM_MOMENTUM;
use super::conv_norm::{self, BatchNorm, BatchStatistics, Norm, Window};
use super::frozen::Frozen;
use super::interpret::{self, Layers, Walk};
use super::network::{Network, host_values, on_device};
use super::paths::Paths;
use super::{processor, recompute};
use crate::arch::Activation;
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use std::fmt;
use std::str::FromStr;

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
    statistics: Statistics,
}

/// The backward half of a training step.
pub struct Gradients {
    /// Mean loss of the batch.
    pub loss: f64,
    /// Logits of the batch, `[batch × classes]` in row-major order.
    pub logits: Vec<f32>,
    /// Gradients by tensor index; `None` for running statistics, for frozen parameters, and for
    /// parameters that only dropped paths use.
    pub tensors: Vec<Option<Tensor<1>>>,
    pub(super) statistics: Statistics,
}

/// What a batch norm saw in a step, in the host's memory.
#[derive(Clone, Debug, PartialEq)]
pub struct NormStatistics {
    /// The batch norm, by its index in the graph.
    pub norm: usize,
    /// Mean of each channel.
    pub mean: Vec<f32>,
    /// Variance of each channel over `n − 1`, as running statistics take it.
    pub unbiased_var: Vec<f32>,
}

impl Gradients {
    /// What each batch norm saw, in the order of evaluation.
    pub fn host_statistics(&self) -> Vec<NormStatistics> {
        let statistics = self.statistics.iter();
        statistics
            .map(|(norm, statistics)| NormStatistics {
                norm: *norm,
                mean: host_values(statistics.mean.clone()),
                unbiased_var: host_values(statistics.unbiased_var.clone()),
            })
            .collect()
    }
}

/// Who is shown each parameter's gradient, by tensor index, as soon as it is final.
pub type GradientObserver<'a> = dyn FnMut(usize, &[f32]) + Send + 'a;

/// Nothing is frozen.
static NOTHING: Frozen = Frozen::NOTHING;

/// How a step computes its gradients.
#[derive(Clone, Copy, Debug)]
pub struct StepOptions<'a> {
    /// The loss.
    pub loss: LossOptions,
    /// The paths that take part.
    pub paths: &'a Paths,
    /// What is left alone.
    pub frozen: &'a Frozen,
    /// What is kept for the backward pass.
    pub activations: Activations,
    /// What convolutions are computed in.
    pub precision: Precision,
}

impl<'a> StepOptions<'a> {
    /// A step as [`Network::training_pass`] makes it: all is trained, every value is kept, in `f32`.
    pub fn new(loss: LossOptions, paths: &'a Paths) -> Self {
        Self {
            loss,
            paths,
            frozen: &NOTHING,
            activations: Activations::Kept,
            precision: Precision::F32,
        }
    }
}

/// What the backward pass finds of the forward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// Every feature map that it reads.
    #[default]
    Kept,
    /// The inputs of the network's parts (stem, reductions, modules); a part is computed again when
    /// its turn comes. The gradients are the same, bit for bit; a step takes about a forward pass
    /// longer.
    Recomputed,
}

/// The numbers that feature maps and convolutions are computed in. Weights, batch norm, the
/// classifier, the loss and the gradients of the weights are `f32` in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the exponent of `f32`.
    Bf16,
}

impl Precision {
    /// Every precision with its name.
    pub const NAMES: [(&str, Self); 2] = [("f32", Self::F32), ("bf16", Self::Bf16)];

    pub(super) fn of(self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::F32 => x,
            Self::Bf16 => x.cast(FloatDType::BF16),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter();
        let name = names.clone().find(|(_, precision)| precision == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

/// The name is no precision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown precision `{0}`: expected f32 or bf16")]
pub struct UnknownPrecision(String);

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(text: &str) -> Result<Self, UnknownPrecision> {
        let named = Self::NAMES.into_iter().find(|(name, _)| *name == text);
        named
            .map(|(_, precision)| precision)
            .ok_or_else(|| UnknownPrecision(text.to_owned()))
    }
}

impl Network {
    /// Computes the logits of a batch as training does: with the batch's own statistics, on every
    /// path, and with dropout drawn from `rng`.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    pub fn training_pass(&self, images: Tensor<4>, rng: &mut ChaCha8Rng) -> TrainingPass {
        let paths = Paths::all(&self.graph);
        let loss = LossOptions {
            label_smoothing: 0.0,
        };
        self.pass(images, &StepOptions::new(loss, &paths), rng)
    }

    /// The gradients of a batch's loss, with dropout drawn from `rng`. The network stays as it is.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    ///
    /// # Panics
    /// If there are not as many labels as images, a label is no class, or everything is frozen.
    pub fn gradients(
        &mut self,
        images: Tensor<4>,
        labels: &[usize],
        options: &StepOptions<'_>,
        rng: &mut ChaCha8Rng,
    ) -> Gradients {
        self.gradients_observed(images, labels, options, rng, &mut |_, _| {})
    }

    /// As [`Network::gradients`], while `observe` is shown each gradient as soon as the backward pass
    /// is done with it, in an order that follows from graph and options alone. Only the processor's
    /// own training steps show them; where Burn differentiates, nothing is shown.
    ///
    /// # Panics
    /// As [`Network::gradients`].
    pub fn gradients_observed(
        &mut self,
        images: Tensor<4>,
        labels: &[usize],
        options: &StepOptions<'_>,
        rng: &mut ChaCha8Rng,
        observe: &mut GradientObserver<'_>,
    ) -> Gradients {
        let is_f32 = options.precision == Precision::F32 && images.dtype() == DType::F32;
        let is_on_processor = is_f32 && self.device == Device::flex();
        match options.activations {
            _ if is_on_processor => {
                processor::gradients(self, images, labels, options, rng, observe)
            }
            Activations::Kept => self
                .pass(images, options, rng)
                .backward(labels, options.loss),
            Activations::Recomputed => recompute::gradients(self, images, labels, options, rng),
        }
    }

    pub(super) fn pass(
        &self,
        images: Tensor<4>,
        options: &StepOptions<'_>,
        rng: &mut ChaCha8Rng,
    ) -> TrainingPass {
        let leaves = self.leaves(Tape::Recorded, options.frozen);
        let mut training = Training::new(self, options.frozen, &leaves, rng);
        let images = Tensor::from_inner(options.precision.of(images));
        let nodes = 1..self.graph.nodes.len();
        let walk = Walk::new(&self.graph, options.paths);
        let logits = walk.run(nodes, images, &mut training, |_, _| {});
        TrainingPass {
            logits: interpret::flat(logits),
            statistics: training.statistics,
            leaves,
        }
    }

    /// The parameters by tensor index, and the running statistics of frozen batch norms; `None` for
    /// other running statistics. Frozen ones are not tracked.
    pub(super) fn leaves(&self, tape: Tape, frozen: &Frozen) -> Vec<Option<Tensor<1>>> {
        let leaf = |index: usize, tensor: &Tensor<1>| match tape {
            Tape::None => tensor.clone(),
            Tape::Recorded if frozen.contains(index) => Tensor::from_inner(tensor.clone()),
            Tape::Recorded => Tensor::from_inner(tensor.clone()).require_grad(),
        };
        let tensors = self.specs.iter().zip(&self.tensors).enumerate();
        tensors
            .map(|(index, (spec, tensor))| {
                let is_used = spec.kind.is_parameter() || frozen.contains(index);
                is_used.then(|| leaf(index, tensor))
            })
            .collect()
    }

    /// Moves the running statistics towards those of the batch.
    pub fn update_statistics(&mut self, gradients: &Gradients) {
        for (norm, statistics) in &gradients.statistics {
            let BatchStatistics { mean, unbiased_var } = statistics;
            self.move_statistics(*norm, [mean, unbiased_var].map(Clone::clone));
        }
    }

    /// Moves the running statistics towards those of a batch that another rank may have seen.
    pub fn update_statistics_from(&mut self, statistics: &[NormStatistics]) {
        for seen in statistics {
            let batch = [&seen.mean, &seen.unbiased_var];
            let batch = batch.map(|values| on_device(values.clone(), &self.device));
            self.move_statistics(seen.norm, batch);
        }
    }

    /// Moves a batch norm's running mean and variance towards those of a batch.
    fn move_statistics(&mut self, norm: usize, batch: [Tensor<1>; 2]) {
        let [_, _, mean, var] = self.graph.norm_tensors(norm);
        for (index, batch) in [mean, var].into_iter().zip(batch) {
            let running = self.take_tensor(index);
            let moved = running * (1.0 - NORM_MOMENTUM) + batch * NORM_MOMENTUM;
            self.set_tensor(index, moved);
        }
    }
}

impl TrainingPass {
    /// Cross-entropy of the logits against `labels`, and its gradients.
    ///
    /// # Panics
    /// If there are not as many labels as images, or a label is no class.
    pub fn backward(self, labels: &[usize], options: LossOptions) -> Gradients {
        let logits = host_values(self.logits.clone().inner());
        let loss = cross_entropy(self.logits, labels, options);
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

/// Mean cross-entropy of `logits`, `[batch, classes]`, against `labels`: a tensor of one element.
///
/// # Panics
/// If there are not as many labels as rows, or a label is no class.
pub(super) fn cross_entropy(
    logits: Tensor<2>,
    labels: &[usize],
    options: LossOptions,
) -> Tensor<1> {
    let [batch, classes] = logits.dims();
    assert_eq!(labels.len(), batch, "one label for each image");
    let targets = targets(labels, classes, options.label_smoothing);
    let targets = TensorData::new(targets, [batch, classes]);
    let targets = Tensor::from_data(targets, (&logits.device(), logits.dtype()));
    (log_softmax(logits, 1) * targets).sum() * (-1.0 / batch as f64)
}

/// Target distributions in row-major order: `1 − ε` on the label and `ε / classes` on every class.
pub(super) fn targets(labels: &[usize], classes: usize, label_smoothing: f64) -> Vec<f32> {
    let mut targets = vec![(label_smoothing / classes as f64) as f32; labels.len() * classes];
    for (row, &label) in targets.chunks_exact_mut(classes).zip(labels) {
        row[label] += (1.0 - label_smoothing) as f32;
    }
    targets
}

/// Whether operations are recorded for differentiation.
#[derive(Clone, Copy)]
pub(super) enum Tape {
    Recorded,
    None,
}

/// Statistics by batch norm, in the order of evaluation.
pub(super) type Statistics = Vec<(usize, BatchStatistics)>;

/// Computation with the statistics of the batch, and with the running ones where they are frozen.
pub(super) struct Training<'a> {
    network: &'a Network,
    frozen: &'a Frozen,
    leaves: &'a [Option<Tensor<1>>],
    pub(super) statistics: Statistics,
    rng: &'a mut ChaCha8Rng,
}

impl<'a> Training<'a> {
    /// Computation with `leaves`, [`Network::leaves`].
    pub(super) fn new(
        network: &'a Network,
        frozen: &'a Frozen,
        leaves: &'a [Option<Tensor<1>>],
        rng: &'a mut ChaCha8Rng,
    ) -> Self {
        Self {
            network,
            frozen,
            leaves,
            statistics: Vec::new(),
            rng,
        }
    }

    fn leaf(&self, index: usize) -> Tensor<1> {
        self.leaves[index]
            .clone()
            .expect("the tensor is a parameter, or frozen")
    }

    /// A batch norm that is frozen.
    fn frozen_norm(&self, norm: usize) -> Option<Norm> {
        if !self.frozen.contains_norm(self.network, norm) {
            return None;
        }
        let tensors = self.network.graph.norm_tensors(norm);
        let [weight, bias, running_mean, running_var] = tensors.map(|index| self.leaf(index));
        Some(Norm {
            weight,
            bias,
            running_mean,
            running_var,
            epsilon: self.network.graph.norm_epsilon,
        })
    }

    fn batch_norm(&self, norm: usize) -> BatchNorm {
        let [scale, shift, ..] = self.network.graph.norm_tensors(norm);
        BatchNorm {
            scale: self.leaf(scale),
            shift: self.leaf(shift),
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
        if let Some(norm) = norm.and_then(|norm| self.frozen_norm(norm)) {
            return conv_norm::fixed(x, leaf, window, norm, activation);
        }
        let leaves = norm.map(|norm| self.batch_norm(norm));
        let (y, statistics) = conv_norm::train(x, leaf, window, leaves, activation);
        self.statistics.extend(norm.zip(statistics));
        y
    }

    fn norm(&mut self, x: Tensor<4>, norm: usize, activation: Activation) -> Tensor<4> {
        if let Some(norm) = self.frozen_norm(norm) {
            return conv_norm::apply_norm(x, norm, activation);
        }
        let (y, statistics) = conv_norm::normalize(x, self.batch_norm(norm), activation);
        self.statistics.push((norm, statistics));
        y
    }

    fn bias(&mut self, x: Tensor<4>, bias: usize, activation: Activation) -> Tensor<4> {
        let leaf = self.leaf(self.network.graph.bias_tensor(bias));
        conv_norm::add_bias(x, leaf, activation)
    }

    fn dropout(&mut self, x: Tensor<4>, probability: f64) -> Tensor<4> {
        let mask = conv_norm::dropout_mask(x.dims(), probability, self.rng, &x.device());
        let mask = mask.cast(x.dtype());
        x * mask
    }

    fn linear(&mut self, x: Tensor<2>) -> Tensor<2> {
        let index = self.network.graph.linear_tensor();
        let spec = &self.network.graph.linear;
        let weight = self.leaf(index);
        let weight = weight.reshape([spec.out_features, spec.in_features]);
        conv_norm::linear(x, weight, self.leaf(index + 1))
    }
}

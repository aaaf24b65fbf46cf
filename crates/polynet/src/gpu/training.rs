//! Training: a step's gradients, differentiated by Burn.

use super::Gpu;
use super::conv_norm::{self, BatchNorm, BatchStatistics, Norm, Window};
use super::interpret::Layers;
use super::segments;
use super::transfer::{Readout, on_device};
use crate::arch::Activation;
use crate::arch::graph::Graph;
use crate::params::Params;
use crate::step::{
    BatchPart, GradientObserver, Gradients, LossOptions, NormStatistics, Precision, StepOptions,
    dropout_factors, targets,
};
use burn_tensor::activation::log_softmax;
use burn_tensor::{DType, Device, FloatDType, Tensor};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// Computes gradients on a GPU.
#[derive(Debug)]
pub(crate) struct TrainingEngine {
    graph: Arc<Graph>,
    device: Device,
}

impl TrainingEngine {
    /// For a graph.
    ///
    /// # Panics
    /// If the machine has no such GPU.
    pub(crate) fn new(graph: Arc<Graph>, gpu: Gpu) -> Self {
        let device = gpu.open();
        Self { graph, device }
    }

    /// The gradients of the mean loss of a batch. `observe` is shown each of them at the end, in the
    /// order of the tensors.
    ///
    /// # Panics
    /// If the images are not as many as the labels, a label is no class, everything is frozen, or the
    /// GPU does not compute in the precision that is asked for.
    pub(crate) fn gradients(
        &mut self,
        params: &Params,
        part: BatchPart<'_>,
        options: &StepOptions<'_>,
        observe: &mut GradientObserver<'_>,
    ) -> Gradients {
        let [channels, height, width] = self.graph.nodes[0].shape;
        let shape = [part.labels.len(), channels, height, width];
        assert_eq!(
            part.images.len(),
            shape.iter().product::<usize>(),
            "one label for each image"
        );
        assert!(
            options.precision == Precision::F32 || self.device.supports_dtype(DType::BF16),
            "this GPU does not compute in bf16: train in f32"
        );
        let images = on_device(part.images, shape, &self.device);
        let step = Step::new(&self.graph, params, options, &self.device);
        let images = step.in_precision(images);
        segments::gradients(&step, images, part.labels, part.rng).read(observe)
    }
}

/// A step with the parameters on the device.
pub(super) struct Step<'a> {
    pub(super) graph: &'a Graph,
    pub(super) options: &'a StepOptions<'a>,
    /// The parameters by tensor index, and the running statistics of frozen batch norms; `None` for
    /// other running statistics.
    tensors: Vec<Option<Tensor<1>>>,
}

/// A step's tensors, tracked for differentiation or not, by tensor index.
pub(super) type Leaves = Vec<Option<Tensor<1>>>;

/// Whether operations are recorded for differentiation.
#[derive(Clone, Copy)]
pub(super) enum Tape {
    Recorded,
    None,
}

/// Statistics by batch norm, in the order of evaluation.
pub(super) type Statistics = Vec<(usize, BatchStatistics)>;

/// What a step gives, on the device.
pub(super) struct DeviceGradients {
    /// One element.
    pub(super) loss: Tensor<1>,
    /// `[batch, classes]`
    pub(super) logits: Tensor<2>,
    /// By tensor index.
    pub(super) tensors: Leaves,
    pub(super) statistics: Statistics,
}

impl<'a> Step<'a> {
    fn new(
        graph: &'a Graph,
        params: &Params,
        options: &'a StepOptions<'a>,
        device: &Device,
    ) -> Self {
        let frozen = options.frozen;
        let tensors = params.iter().enumerate().map(|(index, (spec, values))| {
            let is_used = spec.kind.is_parameter() || frozen.contains(index);
            is_used.then(|| on_device(values, [values.len()], device))
        });
        let trained =
            |index: usize| params.specs()[index].kind.is_parameter() && !frozen.contains(index);
        assert!(
            (0..params.len()).any(trained),
            "a step needs a parameter that is not frozen"
        );
        Self {
            graph,
            options,
            tensors: tensors.collect(),
        }
    }

    /// A feature map in the precision of the step.
    fn in_precision(&self, x: Tensor<4>) -> Tensor<4> {
        match self.options.precision {
            Precision::F32 => x,
            Precision::Bf16 => x.cast(FloatDType::BF16),
        }
    }

    /// What the layers compute with. Frozen tensors are not tracked.
    pub(super) fn leaves(&self, tape: Tape) -> Leaves {
        let leaf = |(index, tensor): (usize, &Option<Tensor<1>>)| {
            let tensor = tensor.clone()?;
            Some(match tape {
                Tape::None => tensor,
                Tape::Recorded if self.options.frozen.contains(index) => Tensor::from_inner(tensor),
                Tape::Recorded => Tensor::from_inner(tensor).require_grad(),
            })
        };
        self.tensors.iter().enumerate().map(leaf).collect()
    }
}

impl DeviceGradients {
    /// Brings everything to the host's memory.
    fn read(self, observe: &mut GradientObserver<'_>) -> Gradients {
        let Self {
            loss,
            logits,
            tensors,
            statistics,
        } = self;
        let mut readout = Readout::default().and(loss).and(logits);
        let norms: Vec<usize> = statistics.iter().map(|(norm, _)| *norm).collect();
        for (_, BatchStatistics { mean, unbiased_var }) in statistics {
            readout = readout.and(mean).and(unbiased_var);
        }
        let has_gradient: Vec<bool> = tensors.iter().map(Option::is_some).collect();
        for gradient in tensors.into_iter().flatten() {
            readout = readout.and(gradient);
        }
        let mut found = readout.read();
        let mut next = || found.next().expect("everything that was added is read");
        let (loss, logits) = (next(), next());
        let statistics = norms.into_iter().map(|norm| NormStatistics {
            norm,
            mean: next(),
            unbiased_var: next(),
        });
        let statistics = statistics.collect();
        let tensors = has_gradient
            .into_iter()
            .map(|is_there| is_there.then(&mut next));
        let tensors: Vec<Option<Vec<f32>>> = tensors.collect();
        for (index, gradient) in tensors.iter().enumerate() {
            if let Some(gradient) = gradient {
                observe(index, gradient);
            }
        }
        Gradients {
            loss: f64::from(loss[0]),
            logits,
            tensors,
            statistics,
        }
    }
}

/// Mean cross-entropy of `logits`, `[batch, classes]`, against `labels`: a tensor of one element.
///
/// # Panics
/// If a label is no class.
pub(super) fn cross_entropy(
    logits: Tensor<2>,
    labels: &[usize],
    options: LossOptions,
) -> Tensor<1> {
    let [batch, classes] = logits.dims();
    let targets = targets(labels, classes, options.label_smoothing);
    let targets = on_device(targets, [batch, classes], &logits.device());
    (log_softmax(logits, 1) * targets).sum() * (-1.0 / batch as f64)
}

/// Computation with the statistics of the batch, and with the running ones where they are frozen.
pub(super) struct Training<'a> {
    step: &'a Step<'a>,
    leaves: &'a [Option<Tensor<1>>],
    pub(super) statistics: Statistics,
    rng: &'a mut ChaCha8Rng,
}

impl<'a> Training<'a> {
    /// Computation with `leaves`, [`Step::leaves`].
    pub(super) fn new(
        step: &'a Step<'a>,
        leaves: &'a [Option<Tensor<1>>],
        rng: &'a mut ChaCha8Rng,
    ) -> Self {
        Self {
            step,
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
        let Step { graph, options, .. } = self.step;
        options.frozen.contains_norm(graph, norm).then(|| {
            let tensors = graph.norm_tensors(norm).map(|index| self.leaf(index));
            Norm::new(tensors, graph.norm_epsilon)
        })
    }

    fn batch_norm(&self, norm: usize) -> BatchNorm {
        let graph = self.step.graph;
        let [scale, shift, ..] = graph.norm_tensors(norm);
        BatchNorm {
            scale: self.leaf(scale),
            shift: self.leaf(shift),
            epsilon: graph.norm_epsilon,
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
        let shape = self.step.graph.convs[weight].shape;
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
        let leaf = self.leaf(self.step.graph.bias_tensor(bias));
        conv_norm::add_bias(x, leaf, activation)
    }

    /// Drops what the host's generator says: the same elements on every device.
    fn dropout(&mut self, x: Tensor<4>, probability: f64) -> Tensor<4> {
        let shape = x.dims();
        let factors = dropout_factors(shape.iter().product(), probability, self.rng);
        let factors = on_device(factors, shape, &x.device());
        let factors = factors.cast(x.dtype());
        x * factors
    }

    fn linear(&mut self, x: Tensor<2>) -> Tensor<2> {
        let index = self.step.graph.linear_tensor();
        conv_norm::linear(x, self.leaf(index), self.leaf(index + 1))
    }
}

//! Prediction at full speed.
//!
//! [`Classifier`] folds batch norm into the convolutions, packs their weights once for the
//! processor's instruction set, and runs a fixed list of kernel calls on memory that is planned
//! ahead, in `f32` or in `bf16`.

use super::buffers::{BufferId, Plan, Rows};
use super::lower::{self, prediction};
use super::precision::PrecisionChoice;
use super::program::{ConvPart, ConvSource, Program, Step};
use super::shared::{self, of};
use crate::arch::graph::Graph;
use crate::params::{TensorMismatch, TensorSource, norm_affine};
use crate::step::Precision;
use polynet_kernels::conv::{Conv, NextWeights, Stores, Sum, Value, Winograd};
use polynet_kernels::layout::{Arena, View};
use polynet_kernels::map::Affine;
use polynet_kernels::pool;
use polynet_kernels::{Element, Isa, bf16};
use rayon::prelude::*;
use std::borrow::Cow;

/// How a network is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileOptions {
    /// The instruction set of the kernels.
    pub isa: Isa,
    /// The numbers of feature maps and weights. Sums, and what follows the last pool, are `f32` in
    /// either case.
    pub precision: Precision,
}

impl CompileOptions {
    /// By an instruction set, the processor's best unless one is named, in a precision or the fastest.
    pub fn new(isa: Option<Isa>, precision: impl Into<PrecisionChoice>) -> Self {
        let isa = isa.unwrap_or_else(Isa::best);
        Self {
            isa,
            precision: precision.into().of(isa),
        }
    }

    /// `f32` by the best of the processor's instruction sets: what is measured about a model.
    pub fn f32() -> Self {
        Self::new(None, Precision::F32)
    }
}

impl Default for CompileOptions {
    /// The fastest: the best of the processor's instruction sets, and bf16 where it is faster by that.
    fn default() -> Self {
        Self::new(None, PrecisionChoice::Auto)
    }
}

/// Feature maps that a cache holds beside the weights.
const CACHE_BYTES: usize = 16 << 20;

/// A network compiled for prediction on the processor.
#[derive(Debug)]
pub(crate) struct Classifier {
    /// Shape of an image.
    input: [usize; 3],
    isa: Isa,
    lowered: lower::Prediction,
    engine: Engine,
}

/// What a network says of some images, and what it says it from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prediction {
    /// `[images, classes]` in row-major order.
    pub logits: Vec<f32>,
    /// What the classifier reads: the means of the last feature map, `[images, features]`.
    pub embeddings: Vec<f32>,
    /// The last feature map, `[images, features, height, width]`, in row-major order.
    pub last_maps: Vec<f32>,
}

/// Kernels and memory, by the elements of the maps.
#[derive(Debug)]
enum Engine {
    F32(Compiled<f32>),
    Bf16(Compiled<bf16>),
}

#[derive(Debug)]
struct Compiled<E: Element> {
    /// One for each step.
    kernels: Vec<Kernel<E>>,
    memory: Option<Memory<E>>,
}

/// What a step needs apart from its buffers.
#[derive(Debug)]
enum Kernel<E: Element> {
    Conv(Conv<E>),
    Winograd(Winograd),
    Linear(Conv),
    Affine(Affine),
    None,
}

/// The plan for as many images at once, up to `most`, as keep the maps in a cache: a large batch
/// at once would move every map to memory and back, and is up to a fifth slower.
pub(super) fn plan_in_cache<E: Element>(program: &Program, most: usize) -> Plan {
    let one = Plan::new(program, 1, Rows::Apart);
    let bytes = size_of::<E>() * one.elements;
    let images = (CACHE_BYTES / bytes.max(1)).clamp(1, most.max(1));
    match images {
        1 => one,
        _ => Plan::new(program, images, Rows::Apart),
    }
}

/// The arenas for some images at once.
#[derive(Debug)]
struct Memory<E: Element> {
    /// The most images of a batch that the plan was made for.
    most: usize,
    plan: Plan,
    /// Images at hand.
    images: usize,
    /// Of the program's buffers, for the images at hand.
    views: Vec<View>,
    maps: Arena<E>,
    /// What comes after the last pool.
    rows: Arena,
}

impl Classifier {
    /// Compiles a graph with the tensors of its names.
    ///
    /// # Errors
    /// If a name or shape does not fit the graph, or a tensor cannot be read.
    pub(crate) fn new(
        graph: &Graph,
        tensors: &dyn TensorSource,
        options: CompileOptions,
    ) -> Result<Self, TensorMismatch> {
        TensorMismatch::of(graph, tensors)?;
        let CompileOptions { isa, precision } = options;
        let weights = Weights { graph, tensors };
        let lowered = prediction(graph, precision);
        let engine = match precision {
            Precision::F32 => Engine::F32(Compiled::new(&weights, isa, &lowered.program)?),
            Precision::Bf16 => Engine::Bf16(Compiled::new(&weights, isa, &lowered.program)?),
        };
        Ok(Self {
            input: graph.nodes[0].shape,
            isa,
            lowered,
            engine,
        })
    }

    /// The logits `[images, classes]` of preprocessed images `[images, 3, height, width]`, both in
    /// row-major order.
    ///
    /// # Panics
    /// If the length is no multiple of an image's.
    pub(crate) fn logits(&mut self, images: &[f32]) -> Vec<f32> {
        let mut logits = Vec::new();
        self.run(images, |maps, lowered| {
            maps.rows(&[lowered.output], &mut logits);
        });
        logits
    }

    /// As [`Classifier::logits`], with what the logits come from.
    ///
    /// # Panics
    /// As [`Classifier::logits`].
    pub(crate) fn predict(&mut self, images: &[f32]) -> Prediction {
        let mut found = Prediction::default();
        self.run(images, |maps, lowered| {
            maps.rows(&[lowered.output], &mut found.logits);
            maps.rows(&lowered.embedding, &mut found.embeddings);
            maps.maps(&lowered.last_map, &mut found.last_maps);
        });
        found
    }

    fn run(
        &mut self,
        images: &[f32],
        mut read: impl FnMut(&dyn Results, &lower::Prediction) + Send,
    ) {
        let image: usize = self.input.iter().product();
        assert!(
            images.len().is_multiple_of(image),
            "images have {image} elements, {} came",
            images.len()
        );
        let count = images.len() / image;
        if count == 0 {
            return;
        }
        let (isa, lowered) = (self.isa, &self.lowered);
        let mut read = |results: &dyn Results| read(results, lowered);
        // Inside the pool, so that no step has to wake its threads first.
        rayon::scope(|_| match &mut self.engine {
            Engine::F32(engine) => engine.run(isa, &lowered.program, (images, count), &mut read),
            Engine::Bf16(engine) => engine.run(isa, &lowered.program, (images, count), &mut read),
        });
    }
}

/// What lies in memory after the last step.
trait Results {
    /// Adds a row of images, in parts, as `[images, channels]`.
    fn rows(&self, parts: &[BufferId], to: &mut Vec<f32>);

    /// Adds a feature map, in parts, as `[images, channels, height, width]`.
    fn maps(&self, parts: &[BufferId], to: &mut Vec<f32>);
}

impl<E: Element> Results for Memory<E> {
    fn rows(&self, parts: &[BufferId], to: &mut Vec<f32>) {
        // The channels of an image are a column.
        let parts = of(&self.views, parts).into_iter();
        let by_channel: Vec<f32> = parts.flat_map(|view| view.read_nchw(&self.rows)).collect();
        let channels = by_channel.len() / self.images;
        let order = (0..by_channel.len()).map(|i| i % channels * self.images + i / channels);
        to.extend(order.map(|place| by_channel[place]));
    }

    fn maps(&self, parts: &[BufferId], to: &mut Vec<f32>) {
        let parts = of(&self.views, parts).into_iter();
        let parts: Vec<Vec<f32>> = parts.map(|view| view.read_nchw(&self.maps)).collect();
        for image in 0..self.images {
            for part in &parts {
                let length = part.len() / self.images;
                to.extend_from_slice(&part[image * length..][..length]);
            }
        }
    }
}

impl<E: Element> Compiled<E> {
    fn new(weights: &Weights<'_>, isa: Isa, program: &Program) -> Result<Self, TensorMismatch> {
        let steps = program.steps.par_iter();
        let kernels = steps.map(|step| weights.kernel(isa, program, step));
        Ok(Self {
            kernels: kernels.collect::<Result<_, _>>()?,
            memory: None,
        })
    }

    /// Shows what `count` images give, a few images at a time.
    fn run(
        &mut self,
        isa: Isa,
        program: &Program,
        (images, count): (&[f32], usize),
        read: &mut dyn FnMut(&dyn Results),
    ) {
        let memory = match &mut self.memory {
            Some(memory) if memory.most >= count => memory,
            memory => memory.insert(Memory::new(program, count)),
        };
        let runs = count.div_ceil(memory.plan.images);
        let image = images.len() / count;
        for run in 0..runs {
            let [first, end] = [run, run + 1].map(|run| run * count / runs);
            memory.images = end - first;
            memory.views = memory.plan.views(program, end - first);
            let images = &images[first * image..end * image];
            for (index, (step, kernel)) in program.steps.iter().zip(&self.kernels).enumerate() {
                let mut later = self.kernels[index + 1..].iter();
                let next = later.find_map(Kernel::weights);
                memory.run(isa, step, (kernel, next), images);
            }
            read(memory);
        }
    }
}

impl<E: Element> Kernel<E> {
    fn weights(&self) -> Option<NextWeights<'_>> {
        match self {
            Self::Conv(conv) => Some(conv.weights()),
            Self::Winograd(conv) => Some(conv.weights()),
            _ => None,
        }
    }
}

impl<E: Element> Memory<E> {
    /// For batches of up to `most` images.
    fn new(program: &Program, most: usize) -> Self {
        let plan = plan_in_cache::<E>(program, most);
        Self {
            most,
            images: 0,
            views: Vec::new(),
            maps: Arena::new(plan.elements),
            rows: Arena::new(plan.row_elements),
            plan,
        }
    }

    /// Runs a step; `next` are the weights of the convolution after it.
    fn run(
        &mut self,
        isa: Isa,
        step: &Step,
        (kernel, next): (&Kernel<E>, Option<NextWeights<'_>>),
        images: &[f32],
    ) {
        match (step, kernel) {
            (
                Step::FoldedConv {
                    inputs, value, sum, ..
                },
                Kernel::Conv(_) | Kernel::Winograd(_),
            ) => {
                let value = value
                    .as_ref()
                    .map(|value| (of(&self.views, &value.to), value.relu));
                let sum = sum.as_ref().map(|sum| {
                    let (addend, to) = (of(&self.views, &sum.addend), of(&self.views, &sum.to));
                    (addend, to, sum.scale, sum.relu)
                });
                let stores = Stores {
                    value: value.as_ref().map(|(to, relu)| Value { to, relu: *relu }),
                    sum: sum.as_ref().map(|(addend, to, scale, relu)| Sum {
                        addend,
                        to,
                        scale: *scale,
                        relu: *relu,
                    }),
                };
                let (inputs, maps) = (of(&self.views, inputs), &mut self.maps);
                match kernel {
                    Kernel::Conv(conv) => conv.run_ahead(maps, &inputs, stores, next),
                    Kernel::Winograd(conv) => conv.run_ahead(maps, &inputs, stores, next),
                    _ => unreachable!("the kernel is a convolution"),
                }
            }
            (
                Step::FoldedConv {
                    inputs,
                    value: Some(value),
                    ..
                },
                Kernel::Linear(conv),
            ) => {
                let (inputs, to) = (of(&self.views, inputs), of(&self.views, &value.to));
                let value = Value {
                    to: &to,
                    relu: value.relu,
                };
                conv.run(&mut self.rows, &inputs, value.into());
            }
            (Step::AveragePool { from, to }, _) => {
                let [from, to] = [from, to].map(|id| self.views[*id]);
                pool::average_pool_into(isa, (&self.maps, &from), (&mut self.rows, &to));
            }
            (Step::Affine { from, to, relu, .. }, Kernel::Affine(affine)) => {
                let [from, to] = [from, to].map(|id| self.views[*id]);
                affine.apply(isa, &mut self.maps, &from, &to, *relu);
            }
            (step, _) => shared::run(step, isa, (&self.views, &mut self.maps), images),
        }
    }
}

/// The tensors that kernels are made of.
struct Weights<'a> {
    graph: &'a Graph,
    tensors: &'a dyn TensorSource,
}

impl Weights<'_> {
    fn values(&self, name: &str, suffix: &str) -> Result<Cow<'_, [f32]>, TensorMismatch> {
        self.tensors.values(&format!("{name}.{suffix}"))
    }

    fn kernel<E: Element>(
        &self,
        isa: Isa,
        program: &Program,
        step: &Step,
    ) -> Result<Kernel<E>, TensorMismatch> {
        Ok(match step {
            Step::FoldedConv {
                source,
                window,
                inputs,
                value,
                sum,
            } => {
                let value = value.iter().map(|value| &value.to);
                let sum = sum.iter().map(|sum| &sum.to);
                let outputs = value.chain(sum).next().expect("a result is stored");
                let channels = |ids: &[usize]| -> Vec<usize> {
                    ids.iter().map(|&id| program.buffers[id].channels).collect()
                };
                let (weights, bias) = self.source(source)?;
                let segments = [&channels(inputs)[..], &channels(outputs)[..]];
                if *source == ConvSource::Linear {
                    Kernel::Linear(Conv::pack(isa, *window, segments, &weights, &bias))
                } else if program.transforms.apply(*window) {
                    let pixels = program.buffers[outputs[0]].size.iter().product();
                    let layer = (*window, pixels);
                    Kernel::Winograd(Winograd::pack(isa, layer, segments, &weights, &bias))
                } else {
                    Kernel::Conv(Conv::pack(isa, *window, segments, &weights, &bias))
                }
            }
            Step::Affine {
                norm,
                from,
                first_channel,
                ..
            } => {
                let channels = program.buffers[*from].channels;
                let (scale, shift) = match norm {
                    Some(norm) => norm_affine(self.graph, self.tensors, *norm)?,
                    None => (vec![1.0; channels], vec![0.0; channels]),
                };
                let part = |values: &[f64]| -> Vec<f32> {
                    let values = values.iter().skip(*first_channel).take(channels);
                    values.map(|&value| value as f32).collect()
                };
                Kernel::Affine(Affine::new(&part(&scale), &part(&shift)))
            }
            _ => Kernel::None,
        })
    }

    /// Weights `[outputs, inputs × taps]` and bias of a step's convolution.
    fn source(&self, source: &ConvSource) -> Result<(Vec<f32>, Vec<f32>), TensorMismatch> {
        Ok(match source {
            ConvSource::SideBySide(parts) => {
                let (mut weights, mut bias) = (Vec::new(), Vec::new());
                for part in parts {
                    let (part_weights, part_bias) = self.part(part)?;
                    weights.extend(part_weights);
                    bias.extend(part_bias);
                }
                (weights, bias)
            }
            ConvSource::Added(parts) => {
                let parts = parts.iter().map(|part| self.part(part));
                let parts: Vec<_> = parts.collect::<Result<_, _>>()?;
                let outputs = parts[0].1.len();
                let mut weights = Vec::new();
                for output in 0..outputs {
                    for (part, _) in &parts {
                        let row = part.len() / outputs;
                        weights.extend_from_slice(&part[output * row..(output + 1) * row]);
                    }
                }
                let bias = (0..outputs)
                    .map(|output| parts.iter().map(|(_, bias)| bias[output]).sum())
                    .collect();
                (weights, bias)
            }
            ConvSource::Linear => {
                let name = &self.graph.linear.name;
                let weights = self.values(name, "weight")?.into_owned();
                (weights, self.values(name, "bias")?.into_owned())
            }
        })
    }

    /// Weights and bias of one convolution with its batch norm and factor folded in.
    fn part(&self, part: &ConvPart) -> Result<(Vec<f32>, Vec<f32>), TensorMismatch> {
        let spec = &self.graph.convs[part.weight];
        let weights = self.values(&spec.name, "weight")?;
        let outputs = spec.shape[0];
        let (scale, mut shift) = match part.norm {
            Some(norm) => norm_affine(self.graph, self.tensors, norm)?,
            None => (vec![1.0; outputs], vec![0.0; outputs]),
        };
        if let Some(bias) = part.bias {
            let bias = self.values(&self.graph.biases[bias].name, "bias")?;
            shift = bias.iter().copied().map(f64::from).collect();
        }
        let factor = f64::from(part.factor);
        let mut folded = Vec::with_capacity(weights.len());
        for (row, scale) in weights.chunks_exact(weights.len() / outputs).zip(&scale) {
            let scale = (scale * factor) as f32;
            folded.extend(row.iter().map(|weight| weight * scale));
        }
        let bias = shift.iter().map(|shift| (shift * factor) as f32).collect();
        Ok((folded, bias))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Architecture;
    use crate::params::Params;

    fn images(count: usize, image: usize) -> Vec<f32> {
        (0..count * image)
            .map(|index| ((index * 7919) % 1013) as f32 / 506.0 - 1.0)
            .collect()
    }

    fn classifier(spec: &str) -> (Graph, Params, Classifier) {
        let graph = spec.parse::<Architecture>().unwrap().graph().unwrap();
        let params = Params::init(&graph, 3);
        let classifier = Classifier::new(&graph, &params, CompileOptions::default()).unwrap();
        (graph, params, classifier)
    }

    #[test]
    fn a_batch_that_no_cache_holds_is_predicted_in_parts() {
        let (_, _, mut classifier) = classifier("small-ir-1-2-1; width = 0.125");
        let at_once = plan_in_cache::<f32>(&classifier.lowered.program, usize::MAX).images;
        let count = 2 * at_once + 1;
        let image: usize = classifier.input.iter().product();
        let images = images(count, image);
        let whole = classifier.predict(&images);
        assert_eq!(classifier.logits(&images), whole.logits);
        let classes = whole.logits.len() / count;
        for index in [0, at_once - 1, at_once, count - 1] {
            let alone = classifier.predict(&images[index * image..][..image]);
            let of_image = &whole.logits[index * classes..][..classes];
            assert_eq!(of_image, alone.logits, "image {index} of {count}");
            let length = alone.last_maps.len();
            let maps = &whole.last_maps[index * length..][..length];
            assert_eq!(maps, alone.last_maps, "image {index} of {count}");
        }
    }

    #[test]
    fn logits_come_from_the_embeddings_and_these_from_the_last_maps() {
        for spec in [
            "small-polynet; width = 0.125",
            "small-ir-1-2-1; width = 0.2; C: 3-way",
            "resnet-50; width = 0.125; input = 64",
            "inception-v4; width = 0.125; input = 107",
        ] {
            let (graph, params, mut classifier) = classifier(spec);
            let count = 3;
            let found = classifier.predict(&images(count, classifier.input.iter().product()));
            let (features, classes) = (graph.linear.in_features, graph.linear.out_features);
            assert_eq!(found.embeddings.len(), count * features, "{spec}");
            let pixels = found.last_maps.len() / found.embeddings.len();
            let maps = found.last_maps.chunks_exact(pixels);
            assert_eq!(maps.len(), found.embeddings.len(), "{spec}");
            for (map, mean) in maps.zip(&found.embeddings) {
                let expected = map.iter().sum::<f32>() / pixels as f32;
                assert!(
                    (expected - mean).abs() < 1e-5 * (1.0 + mean.abs()),
                    "{spec}"
                );
            }
            let (weight, bias) = (graph.linear_tensor(), graph.linear_tensor() + 1);
            let largest = found.logits.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
            for (index, logit) in found.logits.iter().enumerate() {
                let (image, class) = (index / classes, index % classes);
                let row = &params[weight][class * features..][..features];
                let embedding = &found.embeddings[image * features..][..features];
                let products = row.iter().zip(embedding).map(|(w, x)| w * x);
                let expected = products.sum::<f32>() + params[bias][class];
                assert!((expected - logit).abs() < 1e-5 * largest, "{spec}");
            }
        }
    }
}

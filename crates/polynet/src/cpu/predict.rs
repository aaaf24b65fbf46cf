//! Prediction at full speed.
//!
//! [`Classifier`] folds batch norm into the convolutions, packs their weights once for the
//! processor's instruction set, and runs a fixed list of kernel calls on memory that is planned
//! ahead, in `f32` or in `bf16`; a quantized model's convolutions read maps of bytes.

use super::buffers::{BufferId, Plan};
use super::lower::{self, prediction, tiled, tiled_prediction};
use super::precision::{Numbers, PrecisionChoice};
use super::program::{Program, Step};
use super::quantized;
use super::shared::{self, of};
use super::weights::Weights;
use crate::arch::graph::Graph;
use crate::params::{TensorMismatch, TensorSource};
use crate::step::Precision;
use polynet_kernels::conv::{
    AmxConv, Conv, NextWeights, QuantizedAmxConv, QuantizedConv, Stores, Sum, Value, Winograd,
};
#[cfg(test)]
use polynet_kernels::layout::Pixel;
use polynet_kernels::layout::{Arena, View};
use polynet_kernels::map::{Affine, quantize};
use polynet_kernels::pool;
use polynet_kernels::{Element, Isa, bf16};
use rayon::prelude::*;

/// How a network is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileOptions {
    /// The instruction set of the kernels.
    pub isa: Isa,
    /// The numbers of feature maps and weights. Sums, and what follows the last pool, are `f32`
    /// whatever they are.
    pub precision: PrecisionChoice,
}

impl CompileOptions {
    /// By an instruction set, the processor's best unless one is named, in a precision or the fastest.
    pub fn new(isa: Option<Isa>, precision: impl Into<PrecisionChoice>) -> Self {
        let isa = isa.unwrap_or_else(Isa::best);
        Self {
            isa,
            precision: precision.into(),
        }
    }

    /// By the best of the processor's instruction sets: what is measured about a model.
    pub fn own() -> Self {
        Self::new(None, PrecisionChoice::Own)
    }
}

impl Default for CompileOptions {
    /// The fastest: the best of the processor's instruction sets, and the fastest precision by that.
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
    numbers: Numbers,
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
pub(super) struct Compiled<E: Element> {
    /// One for each step.
    pub(super) kernels: Vec<Kernel<E>>,
    memory: Option<Memory<E>>,
}

/// What a step needs apart from its buffers.
#[derive(Debug)]
pub(super) enum Kernel<E: Element> {
    Conv(Conv<E>),
    Winograd(Winograd),
    Amx(AmxConv<E>),
    Quantized(QuantizedConv),
    QuantizedAmx(QuantizedAmxConv),
    Linear(Conv),
    Affine(Affine),
    None,
}

/// The plan for as many images at once, up to `most`, as keep the maps in a cache: a large batch
/// at once would move every map to memory and back, and is up to a fifth slower.
pub(super) fn plan_in_cache<E: Element>(program: &Program, most: usize) -> Plan {
    let one = Plan::new(program, 1);
    let bytes = one.map_bytes(size_of::<E>());
    let images = (CACHE_BYTES / bytes.max(1)).clamp(1, most.max(1));
    match images {
        1 => one,
        _ => Plan::new(program, images),
    }
}

/// The arenas for some images at once.
#[derive(Debug)]
pub(super) struct Memory<E: Element> {
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
    bytes: Arena<u8>,
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
        let numbers = precision.of(isa, tensors.quantization().is_some());
        let weights = Weights::new(graph, tensors);
        let precision = match numbers {
            Numbers::F32 => Precision::F32,
            Numbers::Bf16 => Precision::Bf16,
            // What is not rounded to bytes.
            Numbers::Int8 if isa.multiplies_bf16() => Precision::Bf16,
            Numbers::Int8 => Precision::F32,
        };
        let lowered = match numbers {
            Numbers::Bf16 if isa.multiplies_tiles() => tiled_prediction(graph),
            Numbers::F32 | Numbers::Bf16 => prediction(graph, precision),
            Numbers::Int8 if isa.multiplies_tiles() => {
                tiled(weights.quantized_prediction(precision)?)
            }
            Numbers::Int8 => weights.quantized_prediction(precision)?,
        };
        let engine = match precision {
            Precision::F32 => Engine::F32(Compiled::new(&weights, isa, &lowered)?),
            Precision::Bf16 => Engine::Bf16(Compiled::new(&weights, isa, &lowered)?),
        };
        Ok(Self {
            input: graph.nodes[0].shape,
            isa,
            numbers,
            lowered,
            engine,
        })
    }

    /// The numbers that it computes in.
    pub(crate) fn numbers(&self) -> Numbers {
        self.numbers
    }

    /// Whether it has maps of bytes as tiles are read.
    #[cfg(test)]
    pub(crate) fn reads_bytes_as_tiles(&self) -> bool {
        let mut buffers = self.lowered.program.buffers.iter();
        buffers.any(|buffer| buffer.pixel == Pixel::FourBlocks)
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
            Engine::F32(engine) => engine.run(isa, lowered, (images, count), &mut read),
            Engine::Bf16(engine) => engine.run(isa, lowered, (images, count), &mut read),
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
    pub(super) fn new(
        weights: &Weights<'_>,
        isa: Isa,
        lowered: &lower::Prediction,
    ) -> Result<Self, TensorMismatch> {
        let steps = lowered.program.steps.par_iter();
        let kernels = steps.map(|step| weights.kernel(isa, lowered, step));
        Ok(Self {
            kernels: kernels.collect::<Result<_, _>>()?,
            memory: None,
        })
    }

    /// Shows what `count` images give, a few images at a time.
    fn run(
        &mut self,
        isa: Isa,
        lowered: &lower::Prediction,
        (images, count): (&[f32], usize),
        read: &mut dyn FnMut(&dyn Results),
    ) {
        let program = &lowered.program;
        let memory = match &mut self.memory {
            Some(memory) if memory.most >= count => memory,
            memory => memory.insert(Memory::new(program, count)),
        };
        let runs = count.div_ceil(memory.plan.images);
        let image = images.len() / count;
        for run in 0..runs {
            let [first, end] = [run, run + 1].map(|run| run * count / runs);
            memory.begin(program, end - first);
            let images = &images[first * image..end * image];
            for (index, (step, kernel)) in program.steps.iter().zip(&self.kernels).enumerate() {
                let mut later = self.kernels[index + 1..].iter();
                let next = later.find_map(Kernel::weights);
                memory.run(isa, (step, &lowered.byte_steps), (kernel, next), images);
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
            Self::Amx(conv) => Some(conv.weights()),
            Self::Quantized(conv) => Some(conv.weights()),
            Self::QuantizedAmx(conv) => Some(conv.weights()),
            _ => None,
        }
    }
}

impl<E: Element> Memory<E> {
    /// For batches of up to `most` images.
    pub(super) fn new(program: &Program, most: usize) -> Self {
        let plan = plan_in_cache::<E>(program, most);
        Self {
            most,
            images: 0,
            views: Vec::new(),
            maps: Arena::new(plan.elements),
            rows: Arena::new(plan.row_elements),
            bytes: Arena::new(plan.byte_elements),
            plan,
        }
    }

    /// Turns to some images.
    pub(super) fn begin(&mut self, program: &Program, images: usize) {
        self.images = images;
        self.views = self.plan.views(program, images);
    }

    /// Of the program's buffers.
    pub(super) fn views(&self) -> &[View] {
        &self.views
    }

    pub(super) fn maps(&self) -> &Arena<E> {
        &self.maps
    }

    /// Runs a step; `next` are the weights of the convolution after it.
    pub(super) fn run(
        &mut self,
        isa: Isa,
        (step, byte_steps): (&Step, &[f32]),
        (kernel, next): (&Kernel<E>, Option<NextWeights<'_>>),
        images: &[f32],
    ) {
        match (step, kernel) {
            (Step::QuantizedConv { .. }, kernel) => {
                let of_step = (&self.views[..], byte_steps);
                let arenas = (&mut self.bytes, &mut self.maps);
                quantized::convolve(step, of_step, |inputs, stores| match kernel {
                    Kernel::Quantized(conv) => conv.run_ahead(arenas, inputs, stores, next),
                    Kernel::QuantizedAmx(conv) => conv.run_ahead(arenas, inputs, stores, next),
                    _ => unreachable!("the kernel is a quantized convolution"),
                });
            }
            (Step::Quantize { from, to }, _) => {
                let [view, target] = [from, to].map(|id| self.views[*id]);
                quantize(
                    isa,
                    (&self.maps, &view),
                    (&mut self.bytes, &target),
                    byte_steps[*to],
                );
            }
            (
                Step::FoldedConv {
                    inputs, value, sum, ..
                },
                Kernel::Conv(_) | Kernel::Winograd(_) | Kernel::Amx(_),
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
                    Kernel::Amx(conv) => conv.run_ahead(maps, &inputs, stores, next),
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

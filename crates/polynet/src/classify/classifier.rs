//! A compiled network.

use super::memory::Plan;
use super::program::{Algorithm, ConvPart, ConvSource, Program, Step};
use crate::arch::graph::Graph;
use crate::nn::{Network, Precision, TensorMismatch};
use crate::weights::{TensorSource, WeightFile};
use polynet_kernels::conv::{Conv, NextWeights, Stores, Sum, Value, Winograd};
use polynet_kernels::layout::{Arena, View};
use polynet_kernels::map::{self, Affine};
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

impl Default for CompileOptions {
    /// `f32` by the best of the processor's instruction sets.
    fn default() -> Self {
        Self {
            isa: Isa::best(),
            precision: Precision::F32,
        }
    }
}

/// A network compiled for prediction on the processor; see the [module](super).
#[derive(Debug)]
pub struct Classifier {
    /// Shape of an image.
    input: [usize; 3],
    isa: Isa,
    program: Program,
    engine: Engine,
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

/// The arenas for some images at once.
#[derive(Debug)]
struct Memory<E: Element> {
    /// The most images of a batch that the plan was made for.
    most: usize,
    plan: Plan,
    /// Of the program's buffers, for the images at hand.
    views: Vec<View>,
    maps: Arena<E>,
    /// What comes after the last pool.
    rows: Arena,
}

impl Classifier {
    /// Compiles a network.
    ///
    /// # Panics
    /// If the processor lacks the instruction set; [`Isa`] is read from text only where it has it.
    pub fn new(network: &Network, options: CompileOptions) -> Self {
        Self::with_tensors(network.graph(), &network.to_host(), options)
    }

    /// Compiles a graph with weights from a file.
    ///
    /// # Errors
    /// If a name or shape does not fit the graph.
    ///
    /// # Panics
    /// As [`Classifier::new`].
    pub fn from_file(
        graph: &Graph,
        file: &WeightFile,
        options: CompileOptions,
    ) -> Result<Self, TensorMismatch> {
        TensorMismatch::check(graph.tensors(), file.shapes())?;
        Ok(Self::with_tensors(graph, file, options))
    }

    fn with_tensors(graph: &Graph, tensors: &dyn TensorSource, options: CompileOptions) -> Self {
        let CompileOptions { isa, precision } = options;
        let weights = Weights { graph, tensors };
        let program = Program::new(graph, precision);
        let engine = match precision {
            Precision::F32 => Engine::F32(Compiled::new(&weights, isa, &program)),
            Precision::Bf16 => Engine::Bf16(Compiled::new(&weights, isa, &program)),
        };
        Self {
            input: graph.nodes[0].shape,
            isa,
            program,
            engine,
        }
    }

    /// The logits `[images, classes]` of preprocessed images `[images, 3, height, width]`, both in
    /// row-major order.
    ///
    /// # Panics
    /// If the length is no multiple of an image's.
    pub fn logits(&mut self, images: &[f32]) -> Vec<f32> {
        let image: usize = self.input.iter().product();
        assert!(
            images.len().is_multiple_of(image),
            "images have {image} elements, {} came",
            images.len()
        );
        let count = images.len() / image;
        if count == 0 {
            return Vec::new();
        }
        // Inside the pool, so that no step has to wake its threads first.
        let (isa, program) = (self.isa, &self.program);
        rayon::scope(|_| match &mut self.engine {
            Engine::F32(engine) => engine.run(isa, program, images, count),
            Engine::Bf16(engine) => engine.run(isa, program, images, count),
        })
    }
}

impl<E: Element> Compiled<E> {
    fn new(weights: &Weights<'_>, isa: Isa, program: &Program) -> Self {
        let steps = program.steps.par_iter();
        Self {
            kernels: steps
                .map(|step| weights.kernel(isa, program, step))
                .collect(),
            memory: None,
        }
    }

    /// The logits `[images, classes]` of `count` images.
    fn run(&mut self, isa: Isa, program: &Program, images: &[f32], count: usize) -> Vec<f32> {
        let memory = match &mut self.memory {
            Some(memory) if memory.most >= count => memory,
            memory => memory.insert(Memory::new(program, count)),
        };
        let runs = count.div_ceil(memory.plan.images);
        let mut logits = Vec::new();
        for run in 0..runs {
            let [first, end] = [run, run + 1].map(|run| run * count / runs);
            memory.views = memory.plan.views(program, end - first);
            let image = images.len() / count;
            let images = &images[first * image..end * image];
            for (index, (step, kernel)) in program.steps.iter().zip(&self.kernels).enumerate() {
                let mut later = self.kernels[index + 1..].iter();
                let next = later.find_map(Kernel::weights);
                memory.run(isa, step, (kernel, next), images);
            }
            // The logits of an image are a column.
            let by_class = memory.views[program.output].read_nchw(&memory.rows);
            let (count, classes) = (end - first, by_class.len() / (end - first));
            let order = (0..by_class.len()).map(|i| i % classes * count + i / classes);
            logits.extend(order.map(|place| by_class[place]));
        }
        logits
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
        let plan = Plan::in_cache::<E>(program, most);
        Self {
            most,
            views: Vec::new(),
            maps: Arena::new(plan.elements),
            rows: Arena::new(plan.row_elements),
            plan,
        }
    }

    fn views_of(&self, ids: &[usize]) -> Vec<View> {
        ids.iter().map(|&id| self.views[id]).collect()
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
            (Step::Input { to }, _) => self.views[*to].write_nchw(&mut self.maps, images),
            (
                Step::Conv {
                    inputs, value, sum, ..
                },
                Kernel::Conv(_) | Kernel::Winograd(_),
            ) => {
                let value = value
                    .as_ref()
                    .map(|value| (self.views_of(&value.to), value.relu));
                let sum = sum.as_ref().map(|sum| {
                    let (addend, to) = (self.views_of(&sum.addend), self.views_of(&sum.to));
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
                let (inputs, maps) = (self.views_of(inputs), &mut self.maps);
                match kernel {
                    Kernel::Conv(conv) => conv.run_ahead(maps, &inputs, stores, next),
                    Kernel::Winograd(conv) => conv.run_ahead(maps, &inputs, stores, next),
                    _ => unreachable!("the kernel is a convolution"),
                }
            }
            (
                Step::Conv {
                    inputs,
                    value: Some(value),
                    ..
                },
                Kernel::Linear(conv),
            ) => {
                let (inputs, to) = (self.views_of(inputs), self.views_of(&value.to));
                let value = Value {
                    to: &to,
                    relu: value.relu,
                };
                conv.run(&mut self.rows, &inputs, value.into());
            }
            (
                Step::Pool {
                    pool,
                    window,
                    from,
                    to,
                },
                _,
            ) => {
                let [from, to] = [from, to].map(|id| self.views[*id]);
                pool::pool(isa, *pool, *window, &mut self.maps, &from, &to);
            }
            (Step::AveragePool { from, to }, _) => {
                let [from, to] = [from, to].map(|id| self.views[*id]);
                pool::average_pool_into(isa, (&self.maps, &from), (&mut self.rows, &to));
            }
            (Step::Affine { from, to, relu, .. }, Kernel::Affine(affine)) => {
                let [from, to] = [from, to].map(|id| self.views[*id]);
                affine.apply(isa, &mut self.maps, &from, &to, *relu);
            }
            (Step::Regroup { from, to }, _) => {
                let (from, to) = (self.views_of(from), self.views_of(to));
                map::regroup(&mut self.maps, &from, &to);
            }
            (
                Step::Add {
                    term,
                    scale,
                    addend,
                    to,
                    relu,
                },
                _,
            ) => {
                let [term, addend, to] = [term, addend, to].map(|id| self.views[*id]);
                map::add(isa, &mut self.maps, (*scale, &term), &addend, &to, *relu);
            }
            (Step::Conv { .. } | Step::Affine { .. }, _) => {
                unreachable!("the step has its kernel")
            }
        }
    }
}

/// The tensors that kernels are made of.
struct Weights<'a> {
    graph: &'a Graph,
    tensors: &'a dyn TensorSource,
}

impl Weights<'_> {
    fn values(&self, name: &str, suffix: &str) -> Cow<'_, [f32]> {
        self.tensors.values(&format!("{name}.{suffix}"))
    }

    /// Batch norm with its running statistics, as a factor and a term for every channel.
    fn affine(&self, norm: usize) -> (Vec<f64>, Vec<f64>) {
        let norm = &self.graph.norms[norm];
        let [weight, bias] = ["weight", "bias"].map(|suffix| self.values(&norm.name, suffix));
        let [mean, var] =
            ["running_mean", "running_var"].map(|suffix| self.values(&norm.statistics, suffix));
        let wide = |values: &[f32]| -> Vec<f64> { values.iter().copied().map(f64::from).collect() };
        let [weight, bias, mean, var] = [weight, bias, mean, var].map(|values| wide(&values));
        let scale: Vec<f64> = weight
            .into_iter()
            .zip(var)
            .map(|(weight, var)| weight / (var + self.graph.norm_epsilon).sqrt())
            .collect();
        let shift = bias
            .into_iter()
            .zip(mean)
            .zip(&scale)
            .map(|((bias, mean), scale)| bias - mean * scale)
            .collect();
        (scale, shift)
    }

    fn kernel<E: Element>(&self, isa: Isa, program: &Program, step: &Step) -> Kernel<E> {
        match step {
            Step::Conv {
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
                let (weights, bias) = self.source(source);
                let segments = [&channels(inputs)[..], &channels(outputs)[..]];
                match step.algorithm(program.precision) {
                    _ if *source == ConvSource::Linear => {
                        Kernel::Linear(Conv::pack(isa, *window, segments, &weights, &bias))
                    }
                    Algorithm::Direct => {
                        Kernel::Conv(Conv::pack(isa, *window, segments, &weights, &bias))
                    }
                    Algorithm::Transformed => {
                        let pixels = program.buffers[outputs[0]].size.iter().product();
                        let layer = (*window, pixels);
                        Kernel::Winograd(Winograd::pack(isa, layer, segments, &weights, &bias))
                    }
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
                    Some(norm) => self.affine(*norm),
                    None => (vec![1.0; channels], vec![0.0; channels]),
                };
                let part = |values: &[f64]| -> Vec<f32> {
                    let values = values.iter().skip(*first_channel).take(channels);
                    values.map(|&value| value as f32).collect()
                };
                Kernel::Affine(Affine::new(&part(&scale), &part(&shift)))
            }
            _ => Kernel::None,
        }
    }

    /// Weights `[outputs, inputs × taps]` and bias of a step's convolution.
    fn source(&self, source: &ConvSource) -> (Vec<f32>, Vec<f32>) {
        match source {
            ConvSource::SideBySide(parts) => {
                let (mut weights, mut bias) = (Vec::new(), Vec::new());
                for part in parts {
                    let (part_weights, part_bias) = self.part(part);
                    weights.extend(part_weights);
                    bias.extend(part_bias);
                }
                (weights, bias)
            }
            ConvSource::Added(parts) => {
                let parts: Vec<_> = parts.iter().map(|part| self.part(part)).collect();
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
                let weights = self.values(name, "weight").into_owned();
                (weights, self.values(name, "bias").into_owned())
            }
        }
    }

    /// Weights and bias of one convolution with its batch norm and factor folded in.
    fn part(&self, part: &ConvPart) -> (Vec<f32>, Vec<f32>) {
        let spec = &self.graph.convs[part.weight];
        let weights = self.values(&spec.name, "weight");
        let outputs = spec.shape[0];
        let (scale, mut shift) = match part.norm {
            Some(norm) => self.affine(norm),
            None => (vec![1.0; outputs], vec![0.0; outputs]),
        };
        if let Some(bias) = part.bias {
            let bias = self.values(&self.graph.biases[bias].name, "bias");
            shift = bias.iter().copied().map(f64::from).collect();
        }
        let factor = f64::from(part.factor);
        let mut folded = Vec::with_capacity(weights.len());
        for (row, scale) in weights.chunks_exact(weights.len() / outputs).zip(&scale) {
            let scale = (scale * factor) as f32;
            folded.extend(row.iter().map(|weight| weight * scale));
        }
        let bias = shift.iter().map(|shift| (shift * factor) as f32).collect();
        (folded, bias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Architecture;
    use crate::nn::DeviceName;
    use burn::tensor::{Tensor, TensorData};

    /// A network whose batch norms do something.
    fn network(spec: &str) -> Network {
        let architecture: Architecture = spec.parse().unwrap();
        let device = DeviceName::Cpu.open();
        let network = Network::init(architecture.graph().unwrap(), 3, &device);
        let mut tensors = network.to_host();
        for (name, tensor) in &mut tensors {
            let is_norm = tensor.shape.len() == 1 && !name.starts_with("head");
            for (index, value) in tensor.values.iter_mut().enumerate().filter(|_| is_norm) {
                let wave = ((index * 7 + name.len()) as f32).sin();
                *value = if name.ends_with("var") || name.ends_with("weight") {
                    1.0 + 0.3 * wave
                } else {
                    0.2 * wave
                };
            }
        }
        Network::from_tensors(architecture.graph().unwrap(), tensors, &device).unwrap()
    }

    #[test]
    fn compiled_networks_agree_with_the_network_on_every_instruction_set() {
        for spec in [
            "small-polynet; width = 0.125",
            "small-ir-1-2-1; width = 0.2; B: mpoly-3 x2; C: 3-way",
            "small-ir-1-2-1; width = 0.25; B: (I + F)^2 x2; A: I + F + GF + HF",
            "small-ir-1-2-1; width = 0.25; sharing = release; B: poly-3 x2; C: F + GF",
            "resnet-50; width = 0.125; input = 64",
            "ir-3-6-3; width = 0.25; input = 107; B: 2-way x6",
            "inception-resnet-v2; width = 0.25; input = 107; A: 2-way x2",
            "inception-v4; width = 0.25; input = 107",
            "inception-v4; width = 0.25; input = 107; A: poly-2 x2; B: 2-way x2",
            "resnet-v1-50; width = 0.25; input = 64",
        ] {
            let network = network(spec);
            let size = network.graph().nodes[0].shape[1];
            let images: Vec<f32> = (0..2 * 3 * size * size)
                .map(|index| ((index * 7919) % 1013) as f32 / 506.0 - 1.0)
                .collect();
            let data = TensorData::new(images.clone(), [2, 3, size, size]);
            let expected = network.logits(Tensor::from_data(data, network.device()));
            let largest = expected.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
            // bf16 has 8 bits, and errors of many layers add up.
            for (precision, allowed) in [(Precision::F32, 1e-5), (Precision::Bf16, 0.05)] {
                for isa in Isa::available() {
                    let options = CompileOptions { isa, precision };
                    let mut classifier = Classifier::new(&network, options);
                    let logits = classifier.logits(&images);
                    for (found, expected) in logits.iter().zip(&expected) {
                        let error = (found - expected).abs() / largest;
                        let case = format!("{spec} {isa} {precision:?}");
                        assert!(error < allowed, "{case}: {found} for {expected}");
                    }
                    let one = classifier.logits(&images[..images.len() / 2]);
                    assert_eq!(one, logits[..one.len()], "{spec} {isa}: one image alone");
                }
            }
        }
    }

    #[test]
    fn a_batch_that_no_cache_holds_is_predicted_in_parts() {
        let network = network("small-ir-1-2-1; width = 0.125");
        let mut classifier = Classifier::new(&network, CompileOptions::default());
        let at_once = Plan::in_cache::<f32>(&classifier.program, usize::MAX).images;
        let count = 2 * at_once + 1;
        let image: usize = classifier.input.iter().product();
        let images: Vec<f32> = (0..count * image)
            .map(|index| ((index * 7919) % 1013) as f32 / 506.0 - 1.0)
            .collect();
        let logits = classifier.logits(&images);
        let classes = logits.len() / count;
        for index in [0, at_once - 1, at_once, count - 1] {
            let alone = classifier.logits(&images[index * image..][..image]);
            let of_image = &logits[index * classes..][..classes];
            assert_eq!(of_image, alone, "image {index} of {count}");
        }
    }
}

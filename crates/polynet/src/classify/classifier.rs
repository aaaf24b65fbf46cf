//! A compiled network.

use super::memory::Plan;
use super::program::{Algorithm, ConvPart, ConvSource, Program, Step};
use crate::arch::graph::Graph;
use crate::nn::{Network, TensorMismatch};
use crate::weights::{TensorSource, WeightFile};
use polynet_kernels::Isa;
use polynet_kernels::conv::{Conv, Stores, Sum, Value, Winograd};
use polynet_kernels::layout::{Arena, View};
use polynet_kernels::map::{self, Affine};
use polynet_kernels::pool;
use rayon::prelude::*;
use std::borrow::Cow;

/// A network compiled for prediction on the processor; see the [module](super).
#[derive(Debug)]
pub struct Classifier {
    /// Shape of an image.
    input: [usize; 3],
    isa: Isa,
    program: Program,
    /// One for each step.
    kernels: Vec<Kernel>,
    memory: Option<Memory>,
}

/// What a step needs apart from its buffers.
#[derive(Debug)]
enum Kernel {
    Conv(Conv),
    Winograd(Winograd),
    Affine(Affine),
    None,
}

/// The arena for a number of images.
#[derive(Debug)]
struct Memory {
    images: usize,
    plan: Plan,
    arena: Arena,
}

impl Classifier {
    /// Compiles a network.
    ///
    /// # Panics
    /// If the processor lacks the instruction set; [`Isa`] is read from text only where it has it.
    pub fn new(network: &Network, isa: Isa) -> Self {
        Self::with_tensors(network.graph(), &network.to_host(), isa)
    }

    /// Compiles a graph with weights from a file.
    ///
    /// # Errors
    /// If a name or shape does not fit the graph.
    ///
    /// # Panics
    /// As [`Classifier::new`].
    pub fn from_file(graph: &Graph, file: &WeightFile, isa: Isa) -> Result<Self, TensorMismatch> {
        TensorMismatch::check(graph.tensors(), file.shapes())?;
        Ok(Self::with_tensors(graph, file, isa))
    }

    fn with_tensors(graph: &Graph, tensors: &dyn TensorSource, isa: Isa) -> Self {
        let weights = Weights { graph, tensors };
        let program = Program::new(graph);
        let kernels = program
            .steps
            .par_iter()
            .map(|step| weights.kernel(isa, &program, step))
            .collect();
        Self {
            input: graph.nodes[0].shape,
            isa,
            program,
            kernels,
            memory: None,
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
        let Memory { plan, arena, .. } = match &mut self.memory {
            Some(memory) if memory.images == count => memory,
            memory => {
                let plan = Plan::new(&self.program, count);
                let arena = Arena::new(plan.elements);
                memory.insert(Memory {
                    images: count,
                    plan,
                    arena,
                })
            }
        };
        for (step, kernel) in self.program.steps.iter().zip(&self.kernels) {
            run(self.isa, step, kernel, plan, arena, images);
        }
        // The logits of an image are a column.
        let logits = plan.views[self.program.output].read_nchw(arena);
        let classes = logits.len() / count;
        (0..count * classes)
            .map(|index| logits[index % classes * count + index / classes])
            .collect()
    }
}

fn run(isa: Isa, step: &Step, kernel: &Kernel, plan: &Plan, arena: &mut Arena, images: &[f32]) {
    let views = |ids: &[usize]| -> Vec<View> { ids.iter().map(|&id| plan.views[id]).collect() };
    match (step, kernel) {
        (Step::Input { to }, _) => plan.views[*to].write_nchw(arena, images),
        (
            Step::Conv {
                inputs, value, sum, ..
            },
            Kernel::Conv(conv),
        ) => {
            let value = value.as_ref().map(|value| (views(&value.to), value.relu));
            let sum = sum
                .as_ref()
                .map(|sum| (views(&sum.addend), views(&sum.to), sum.scale, sum.relu));
            let stores = Stores {
                value: value.as_ref().map(|(to, relu)| Value { to, relu: *relu }),
                sum: sum.as_ref().map(|(addend, to, scale, relu)| Sum {
                    addend,
                    to,
                    scale: *scale,
                    relu: *relu,
                }),
            };
            conv.run(arena, &views(inputs), stores);
        }
        (
            Step::Conv {
                inputs,
                value: Some(value),
                ..
            },
            Kernel::Winograd(conv),
        ) => {
            let (to, relu) = (&views(&value.to)[..], value.relu);
            conv.run(arena, &views(inputs), Value { to, relu });
        }
        (Step::MaxPool { window, from, to }, _) => {
            pool::max_pool(isa, *window, arena, &plan.views[*from], &plan.views[*to]);
        }
        (Step::LocalAveragePool { window, from, to }, _) => {
            let [from, to] = [from, to].map(|id| plan.views[*id]);
            pool::local_average_pool(isa, *window, arena, &from, &to);
        }
        (Step::AveragePool { from, to }, _) => {
            pool::average_pool(isa, arena, &plan.views[*from], &plan.views[*to]);
        }
        (Step::Affine { from, to, relu, .. }, Kernel::Affine(affine)) => {
            affine.apply(isa, arena, &plan.views[*from], &plan.views[*to], *relu);
        }
        (Step::Regroup { from, to }, _) => map::regroup(arena, &views(from), &views(to)),
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
            let [term, addend, to] = [term, addend, to].map(|id| plan.views[*id]);
            map::add(isa, arena, (*scale, &term), &addend, &to, *relu);
        }
        (Step::Conv { .. } | Step::Affine { .. }, _) => unreachable!("the step has its kernel"),
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

    fn kernel(&self, isa: Isa, program: &Program, step: &Step) -> Kernel {
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
                match step.algorithm() {
                    Algorithm::Direct => {
                        Kernel::Conv(Conv::pack(isa, *window, segments, &weights, &bias))
                    }
                    Algorithm::Transformed => {
                        Kernel::Winograd(Winograd::pack(isa, *window, segments, &weights, &bias))
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
            for isa in Isa::available() {
                let mut classifier = Classifier::new(&network, isa);
                let logits = classifier.logits(&images);
                for (found, expected) in logits.iter().zip(&expected) {
                    let error = (found - expected).abs() / largest;
                    assert!(error < 1e-5, "{spec} {isa}: {found} for {expected}");
                }
                let one = classifier.logits(&images[..images.len() / 2]);
                assert_eq!(one, logits[..one.len()], "{spec} {isa}: one image alone");
            }
        }
    }
}

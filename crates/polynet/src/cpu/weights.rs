//! From a model's tensors to packed kernels: batch norm, biases and factors folded in.

use super::lower;
use super::predict::Kernel;
use super::program::{ConvPart, ConvSource, Step};
use crate::arch::graph::{Graph, Node, Op};
use crate::params::{Quantization, TensorMismatch, TensorSource, norm_affine};
use crate::step::Precision;
use polynet_kernels::conv::{
    AmxConv, Conv, QuantizedAmxConv, QuantizedConv, QuantizedWeights, Window, Winograd,
};
use polynet_kernels::layout::Pixel;
use polynet_kernels::map::Affine;
use polynet_kernels::{Element, Isa};
use std::borrow::Cow;

/// The tensors that kernels are made of.
pub(super) struct Weights<'a> {
    pub(super) graph: &'a Graph,
    tensors: &'a dyn TensorSource,
    /// By the name of a convolution, how it is rounded.
    quantization: Cow<'a, Quantization>,
    /// Which of its convolution's evaluations each node is.
    evaluations: Vec<usize>,
}

impl<'a> Weights<'a> {
    pub(super) fn new(graph: &'a Graph, tensors: &'a dyn TensorSource) -> Self {
        let quantization = tensors
            .quantization()
            .map_or_else(Default::default, Cow::Borrowed);
        Self {
            graph,
            tensors,
            quantization,
            evaluations: evaluations(graph),
        }
    }

    fn values(&self, name: &str, suffix: &str) -> Result<Cow<'_, [f32]>, TensorMismatch> {
        self.tensors.values(&format!("{name}.{suffix}"))
    }

    pub(super) fn kernel<E: Element>(
        &self,
        isa: Isa,
        lowered: &lower::Prediction,
        step: &Step,
    ) -> Result<Kernel<E>, TensorMismatch> {
        let program = &lowered.program;
        Ok(match step {
            Step::QuantizedConv { .. } => self.quantized_kernel(isa, lowered, step)?,
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
                } else if program.buffers[outputs[0]].pixel == Pixel::TwoBlocks {
                    Kernel::Amx(AmxConv::pack(isa, *window, segments, &weights, &bias))
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
        let (scale, shift) = self.affine(part)?;
        let factor = f64::from(part.factor);
        let mut folded = Vec::with_capacity(weights.len());
        for (row, scale) in weights.chunks_exact(weights.len() / outputs).zip(&scale) {
            let scale = (scale * factor) as f32;
            folded.extend(row.iter().map(|weight| weight * scale));
        }
        let bias = shift.iter().map(|shift| (shift * factor) as f32).collect();
        Ok((folded, bias))
    }

    /// What one is worth in the map that a convolution reads, if it is rounded.
    fn step_of(&self, part: &ConvPart) -> Option<f32> {
        let layer = self
            .quantization
            .layers
            .get(&self.graph.convs[part.weight].name)?;
        layer.input_scales.get(self.evaluation(part)).copied()
    }

    /// The steps of a prediction by the rounded convolutions, the other maps in a precision.
    pub(super) fn quantized_prediction(
        &self,
        precision: Precision,
    ) -> Result<lower::Prediction, TensorMismatch> {
        let name = |part: ConvPart| &self.graph.convs[part.weight].name;
        for (layer, scales) in self.quantization.layers() {
            let mut convs = self.graph.convs.iter();
            let conv = convs.position(|conv| conv.name == layer);
            let found = conv.map_or(0, |conv| self.evaluations_of(conv));
            let expected = scales.input_scales.len();
            if found != expected {
                let message = format!(
                    "it has scales of {expected} inputs, the network evaluates it {found} times"
                );
                return Err(TensorMismatch::unreadable(
                    &format!("{layer}.input_scale"),
                    &message,
                ));
            }
        }
        let lowered = lower::quantized(self.graph, precision, &|part| self.step_of(part));
        lowered.map_err(|lower::StepsDiffer([one, other])| {
            let message = format!("it reads what {} reads, with another scale", name(one));
            TensorMismatch::unreadable(&format!("{}.input_scale", name(other)), &message)
        })
    }

    fn quantized_kernel<E: Element>(
        &self,
        isa: Isa,
        lowered: &lower::Prediction,
        step: &Step,
    ) -> Result<Kernel<E>, TensorMismatch> {
        let Step::QuantizedConv {
            parts,
            window,
            inputs,
            value,
            sum,
        } = step
        else {
            unreachable!("a quantized convolution");
        };
        let channels = |ids: &[usize]| -> Vec<usize> {
            let buffers = ids.iter().map(|&id| lowered.program.buffers[id]);
            buffers.map(|buffer| buffer.channels).collect()
        };
        let store = value.iter().chain(sum.iter().map(|sum| &sum.to)).next();
        let outputs = store.and_then(|store| store.floats.as_ref().or(store.bytes.as_ref()));
        let outputs = outputs.expect("a result is stored");
        let segments = [&channels(inputs)[..], &channels(outputs)[..]];
        let input_step = lowered.byte_steps[inputs[0]];
        let rounded = self.rounded(&self.quantization, parts, input_step)?;
        let weights = rounded.weights();
        Ok(match lowered.program.buffers[inputs[0]].pixel {
            Pixel::FourBlocks => {
                let conv = QuantizedAmxConv::pack(isa, *window, segments, weights);
                Kernel::QuantizedAmx(conv)
            }
            _ => Kernel::Quantized(QuantizedConv::pack(isa, *window, segments, weights)),
        })
    }

    /// Convolutions side by side whose inputs have a step, rounded, for maps of single blocks.
    #[cfg(feature = "train")]
    pub(super) fn quantized_conv(
        &self,
        (isa, quantization): (Isa, &Quantization),
        (parts, window): (&[ConvPart], Window),
        segments: [&[usize]; 2],
        input_step: f32,
    ) -> Result<QuantizedConv, TensorMismatch> {
        let rounded = self.rounded(quantization, parts, input_step)?;
        Ok(QuantizedConv::pack(
            isa,
            window,
            segments,
            rounded.weights(),
        ))
    }

    /// The weights of convolutions side by side whose inputs have a step.
    fn rounded(
        &self,
        quantization: &Quantization,
        parts: &[ConvPart],
        input_step: f32,
    ) -> Result<RoundedWeights, TensorMismatch> {
        let (mut values, mut scales, mut bias) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            let name = &self.graph.convs[part.weight].name;
            let layer = &quantization.layers[name];
            match self.tensors.whole(&format!("{name}.weight"))? {
                Some(whole) => values.extend(whole),
                None => values.extend(layer.rounded(&self.values(name, "weight")?)),
            }
            let (norm_scale, shift) = self.affine(part)?;
            let factor = f64::from(part.factor);
            let of_sum = factor * f64::from(input_step);
            let of_outputs = layer.weight_scales.iter().zip(norm_scale);
            scales
                .extend(of_outputs.map(|(scale, norm)| (f64::from(*scale) * norm * of_sum) as f32));
            bias.extend(shift.iter().map(|shift| (shift * factor) as f32));
        }
        Ok(RoundedWeights {
            values,
            scales,
            bias,
        })
    }

    /// Which of its convolution's evaluations a part is.
    pub(super) fn evaluation(&self, part: &ConvPart) -> usize {
        self.evaluations[part.node]
    }

    /// How often the network evaluates a convolution.
    pub(super) fn evaluations_of(&self, conv: usize) -> usize {
        let is_conv = |node: &&Node| matches!(node.op, Op::Conv { weight, .. } if weight == conv);
        self.graph.nodes.iter().filter(is_conv).count()
    }

    /// What batch norm or a bias makes of a convolution's result: a factor and a term for each output.
    fn affine(&self, part: &ConvPart) -> Result<(Vec<f64>, Vec<f64>), TensorMismatch> {
        let outputs = self.graph.convs[part.weight].shape[0];
        let (scale, mut shift) = match part.norm {
            Some(norm) => norm_affine(self.graph, self.tensors, norm)?,
            None => (vec![1.0; outputs], vec![0.0; outputs]),
        };
        if let Some(bias) = part.bias {
            let bias = self.values(&self.graph.biases[bias].name, "bias")?;
            shift = bias.iter().copied().map(f64::from).collect();
        }
        Ok((scale, shift))
    }
}

/// The weights of a quantized convolution.
struct RoundedWeights {
    values: Vec<i8>,
    scales: Vec<f32>,
    bias: Vec<f32>,
}

impl RoundedWeights {
    fn weights(&self) -> QuantizedWeights<'_> {
        QuantizedWeights {
            values: &self.values,
            scales: &self.scales,
            bias: &self.bias,
        }
    }
}

/// Which of its convolution's evaluations each node is; a bias is that of its convolution.
fn evaluations(graph: &Graph) -> Vec<usize> {
    let mut before = vec![0; graph.convs.len()];
    let mut evaluations = vec![0; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        match node.op {
            Op::Conv { weight, .. } => {
                evaluations[id] = before[weight];
                before[weight] += 1;
            }
            Op::Bias { .. } => evaluations[id] = evaluations[node.inputs[0]],
            _ => {}
        }
    }
    evaluations
}

//! Prediction with maps of bytes.
//!
//! A map that is never negative, because it is what a ReLU gives or pools of that, can be read as bytes.
//! Convolutions that read such maps multiply bytes; their results are kept as floating-point numbers, as bytes,
//! or as both, by who reads them: sums, pools and the classifier read the former.

use super::prediction::{Prediction, Terms, add_in_place, steps};
use crate::arch::graph::Graph;
use crate::cpu::buffers::{Buffer, BufferId};
use crate::cpu::program::{
    ByteStore, ByteSum, ConvPart, ConvSource, Program, Step, SumStore, Transforms, ValueStore,
};
use crate::step::Precision;
use std::collections::HashMap;

/// Two convolutions that read one map with different steps: the nodes of one part of each.
pub(in crate::cpu) struct StepsDiffer(pub(in crate::cpu) [ConvPart; 2]);

/// Lowers a graph for prediction in which those convolutions multiply bytes that have a step, what one in
/// their input is worth. The other maps are in a precision.
pub(in crate::cpu) fn quantized(
    graph: &Graph,
    precision: Precision,
    step_of: &dyn Fn(&ConvPart) -> Option<f32>,
) -> Result<Prediction, StepsDiffer> {
    let mut lowered = steps(graph, Terms::Apart, Transforms::of(precision));
    let mut rounding = Rounding::new(&lowered.program, step_of)?;
    let old = std::mem::take(&mut lowered.program.steps);
    let mut new = Vec::with_capacity(old.len());
    for (index, step) in old.into_iter().enumerate() {
        rounding.step(&mut lowered.program, index, step, &mut new);
    }
    lowered.program.steps = new;
    lowered.byte_steps = vec![0.0; lowered.program.buffers.len()];
    for (float, bytes) in &rounding.bytes {
        lowered.byte_steps[*bytes] = rounding.wanted[float];
    }
    add_in_place(&mut lowered.program);
    lowered.program.set_halos();
    Ok(lowered.with_results())
}

/// Lets such a prediction's maps of bytes lie as tiles are read.
pub(in crate::cpu) fn tiled(mut lowered: Prediction) -> Prediction {
    lowered.program.widen_bytes();
    lowered
}

/// The same steps with nothing rounded yet, in `f32`.
pub(in crate::cpu) fn unrounded(graph: &Graph) -> Prediction {
    steps(graph, Terms::Apart, Transforms::of(Precision::F32))
}

/// Each convolution of a program that can multiply bytes: its step's index.
pub(in crate::cpu) fn candidates(program: &Program) -> Vec<usize> {
    let positive = positive_buffers(program);
    let is_candidate = |(index, step): (usize, &Step)| match step {
        Step::FoldedConv { source, inputs, .. } => {
            let can = *source != ConvSource::Linear && inputs.iter().all(|&id| positive[id]);
            can.then_some(index)
        }
        _ => None,
    };
    program
        .steps
        .iter()
        .enumerate()
        .filter_map(is_candidate)
        .collect()
}

/// Whether each buffer holds what is never negative.
fn positive_buffers(program: &Program) -> Vec<bool> {
    let mut positive = vec![false; program.buffers.len()];
    for step in &program.steps {
        match step {
            Step::FoldedConv { value, sum, .. } => {
                if let Some(ValueStore { to, relu }) = value {
                    to.iter().for_each(|&id| positive[id] = *relu);
                }
                if let Some(SumStore { to, relu, .. }) = sum {
                    to.iter().for_each(|&id| positive[id] = *relu);
                }
            }
            Step::Affine { to, relu, .. } | Step::Add { to, relu, .. } => positive[*to] = *relu,
            Step::Pool { from, to, .. } => positive[*to] = positive[*from],
            Step::Regroup { from, to } => {
                let all = from.iter().all(|&id| positive[id]);
                to.iter().for_each(|&id| positive[id] = all);
            }
            _ => {}
        }
    }
    positive
}

/// The parts of a convolution that is no classifier.
pub(in crate::cpu) fn parts(source: &ConvSource) -> &[ConvPart] {
    match source {
        ConvSource::SideBySide(parts) | ConvSource::Added(parts) => parts,
        ConvSource::Linear => &[],
    }
}

/// Which steps multiply bytes, and which buffers are needed as what.
struct Rounding {
    is_quantized: Vec<bool>,
    /// The steps of the buffers that are read as bytes.
    wanted: HashMap<BufferId, f32>,
    /// Whether a buffer is read as it is.
    is_float: Vec<bool>,
    /// The buffers of bytes, by those that they are made of.
    bytes: HashMap<BufferId, BufferId>,
}

impl Rounding {
    fn new(
        program: &Program,
        step_of: &dyn Fn(&ConvPart) -> Option<f32>,
    ) -> Result<Self, StepsDiffer> {
        let mut is_quantized = vec![false; program.steps.len()];
        let mut wanted: HashMap<BufferId, (f32, ConvPart)> = HashMap::new();
        for index in candidates(program) {
            let Step::FoldedConv { source, inputs, .. } = &program.steps[index] else {
                unreachable!("candidates are convolutions");
            };
            let parts = parts(source);
            if !parts.iter().all(|part| step_of(part).is_some()) {
                continue;
            }
            is_quantized[index] = true;
            for &input in inputs {
                for part in parts {
                    let step = step_of(part).unwrap_or_default();
                    let &mut (other, with) = wanted.entry(input).or_insert((step, *part));
                    if other != step {
                        return Err(StepsDiffer([with, *part]));
                    }
                }
            }
        }
        let mut is_float = vec![false; program.buffers.len()];
        program.results.iter().for_each(|&id| is_float[id] = true);
        for (step, is_quantized) in program.steps.iter().zip(&is_quantized) {
            let mut read = |ids: &[BufferId]| ids.iter().for_each(|&id| is_float[id] = true);
            match step {
                Step::FoldedConv { inputs, sum, .. } => {
                    if !is_quantized {
                        read(inputs);
                    }
                    sum.iter().for_each(|sum| read(&sum.addend));
                }
                Step::Regroup { from, .. } => read(from),
                Step::Add { term, addend, .. } => read(&[*term, *addend]),
                Step::Pool { from, .. }
                | Step::AveragePool { from, .. }
                | Step::Affine { from, .. } => read(&[*from]),
                _ => {}
            }
        }
        Ok(Self {
            is_quantized,
            wanted: wanted
                .into_iter()
                .map(|(id, (step, _))| (id, step))
                .collect(),
            is_float,
            bytes: HashMap::new(),
        })
    }

    /// The buffer of bytes beside another one.
    fn bytes_of(&mut self, program: &mut Program, id: BufferId) -> BufferId {
        *self.bytes.entry(id).or_insert_with(|| {
            program
                .buffers
                .push(Buffer::bytes_like(program.buffers[id]));
            program.buffers.len() - 1
        })
    }

    /// Where a quantized convolution stores what it stored in some buffers.
    fn store(&mut self, program: &mut Program, to: Vec<BufferId>, relu: bool) -> ByteStore {
        let is_rounded = to.iter().any(|id| self.wanted.contains_key(id));
        let is_float = !is_rounded || to.iter().any(|&id| self.is_float[id]);
        if is_rounded {
            // What nobody reads as bytes needs a step, too.
            let largest = to.iter().filter_map(|id| self.wanted.get(id)).copied();
            let largest = largest.fold(0.0, f32::max);
            for &id in &to {
                self.wanted.entry(id).or_insert(largest);
            }
        }
        let bytes = is_rounded.then(|| to.iter().map(|&id| self.bytes_of(program, id)).collect());
        ByteStore {
            floats: is_float.then_some(to),
            bytes,
            relu,
        }
    }

    fn step(&mut self, program: &mut Program, index: usize, step: Step, to: &mut Vec<Step>) {
        match step {
            Step::FoldedConv {
                source,
                window,
                inputs,
                value,
                sum,
            } if self.is_quantized[index] => {
                let inputs = inputs
                    .into_iter()
                    .map(|id| self.bytes_of(program, id))
                    .collect();
                let value = value.map(|value| self.store(program, value.to, value.relu));
                let sum = sum.map(|sum| ByteSum {
                    addend: sum.addend,
                    scale: sum.scale,
                    to: self.store(program, sum.to, sum.relu),
                });
                to.push(Step::QuantizedConv {
                    parts: parts(&source).to_vec(),
                    window,
                    inputs,
                    value,
                    sum,
                });
            }
            step => {
                let written = written(&step);
                to.push(step);
                for from in written {
                    if self.wanted.contains_key(&from) {
                        let bytes = self.bytes_of(program, from);
                        to.push(Step::Quantize { from, to: bytes });
                    }
                }
            }
        }
    }
}

/// The buffers that a step of prediction writes.
fn written(step: &Step) -> Vec<BufferId> {
    match step {
        Step::FoldedConv { value, sum, .. } => {
            let value = value.iter().flat_map(|value| &value.to);
            let sum = sum.iter().flat_map(|sum| &sum.to);
            value.chain(sum).copied().collect()
        }
        Step::Regroup { to, .. } => to.clone(),
        Step::Input { to }
        | Step::Add { to, .. }
        | Step::Pool { to, .. }
        | Step::AveragePool { to, .. }
        | Step::Affine { to, .. } => vec![*to],
        _ => Vec::new(),
    }
}

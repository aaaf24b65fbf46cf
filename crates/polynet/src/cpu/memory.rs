//! How much memory a network needs on the processor, from the plans that the programs run on.
//!
//! ```
//! use polynet::arch::Architecture;
//! use polynet::{LossOptions, Memory, Paths, Precision, StepOptions};
//!
//! let graph = "small-polynet".parse::<Architecture>()?.graph()?;
//! let prediction = Memory::of_prediction(&graph, 8, Precision::F32);
//! let paths = Paths::all(&graph);
//! let options = StepOptions::new(LossOptions::default(), &paths);
//! let training = Memory::of_training(&graph, 8, &options, 1);
//! assert!(training.maps > prediction.maps);
//! # Ok::<(), polynet::arch::ArchError>(())
//! ```

use super::buffers::{BufferId, Plan};
use super::lower::{prediction, training};
use super::predict::plan_in_cache;
use super::program::{ConvSource, Program, Step};
use crate::arch::Graph;
use crate::step::{Precision, StepOptions};
use polynet_kernels::conv::{Conv, Window, Winograd};
use polynet_kernels::{Element, bf16};
use std::collections::HashSet;

/// Bytes of an `f32`.
const FLOAT: u64 = 4;
/// A process apart from its tensors: code, stacks, what threads work in.
const PROCESS: u64 = 24 << 20;

/// Bytes by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Parameters and running statistics.
    pub params: u64,
    /// Gradients, and what the optimizer keeps.
    pub optimizer: u64,
    /// Weights in the kernels' order.
    pub packed: u64,
    /// Feature maps and their gradients.
    pub maps: u64,
    /// Images.
    pub images: u64,
    /// Copies of single weights on their way, which the allocator keeps: one of each size.
    pub copies: u64,
    /// The most at once, the process itself included.
    pub peak: u64,
}

impl Memory {
    /// Of predicting `batch` images at a time. The peak is either that of opening, with weights as they
    /// are in the file and packed, or that of computing.
    pub fn of_prediction(graph: &Graph, batch: usize, precision: Precision) -> Self {
        let lowered = prediction(graph, precision);
        let (packed, maps) = match precision {
            Precision::F32 => of_program::<f32>(&lowered.program, batch),
            Precision::Bf16 => of_program::<bf16>(&lowered.program, batch),
        };
        let (params, images, copies) = (params(graph), images(graph, batch), copies(graph));
        Self {
            params,
            packed,
            maps,
            images,
            copies,
            peak: PROCESS + packed + copies + params.max(maps + images),
            ..Self::default()
        }
    }

    /// Of a training step of `batch` images with an optimizer that keeps `slots` values for each
    /// parameter.
    pub fn of_training(
        graph: &Graph,
        batch: usize,
        options: &StepOptions<'_>,
        slots: usize,
    ) -> Self {
        let program = training(graph, options).program;
        let plan = Plan::new(&program, batch);
        let element = match options.precision {
            Precision::F32 => size_of::<f32>(),
            Precision::Bf16 => size_of::<bf16>(),
        };
        let trained = graph.tensors().filter(|spec| spec.kind.is_parameter());
        let trained: usize = trained.map(|spec| spec.num_elements()).sum();
        let packed = program
            .steps
            .iter()
            .map(|step| packing(&program, step, batch, element));
        let memory = Self {
            params: params(graph),
            optimizer: FLOAT * (trained * (1 + slots)) as u64,
            packed: packed.max().unwrap_or_default(),
            maps: (element * plan.elements) as u64 + FLOAT * plan.row_elements as u64,
            images: images(graph, batch),
            copies: copies(graph),
            peak: 0,
        };
        let Self {
            params,
            optimizer,
            packed,
            maps,
            images,
            copies,
            ..
        } = memory;
        Self {
            peak: PROCESS + params + optimizer + packed + maps + images + copies,
            ..memory
        }
    }
}

fn params(graph: &Graph) -> u64 {
    let elements = graph.tensors().map(|spec| spec.num_elements());
    FLOAT * elements.sum::<usize>() as u64
}

fn copies(graph: &Graph) -> u64 {
    let sizes: HashSet<usize> = graph.tensors().map(|spec| spec.num_elements()).collect();
    FLOAT * sizes.into_iter().sum::<usize>() as u64
}

fn images(graph: &Graph, batch: usize) -> u64 {
    let image: usize = graph.nodes[0].shape.iter().product();
    FLOAT * (batch * image) as u64
}

fn channels(program: &Program, ids: &[BufferId]) -> Vec<usize> {
    ids.iter().map(|&id| program.buffers[id].channels).collect()
}

/// Packed weights and feature maps of prediction.
fn of_program<E: Element>(program: &Program, batch: usize) -> (u64, u64) {
    let packed = program.steps.iter().map(|step| {
        let Step::FoldedConv {
            source,
            window,
            inputs,
            value,
            sum,
        } = step
        else {
            return 0;
        };
        let stores = value.iter().map(|value| &value.to);
        let outputs = stores.chain(sum.iter().map(|sum| &sum.to)).next();
        let outputs = outputs.map_or(&[][..], Vec::as_slice);
        let segments = [channels(program, inputs), channels(program, outputs)];
        let segments = [&segments[0][..], &segments[1]];
        if *source == ConvSource::Linear {
            FLOAT as usize * Conv::<f32>::packed_elements(*window, segments)
        } else if program.transforms.apply(*window) {
            let pixels = program.buffers[outputs[0]].size.iter().product();
            FLOAT as usize * Winograd::packed_elements((*window, pixels), segments)
        } else {
            size_of::<E>() * Conv::<E>::packed_elements(*window, segments)
        }
    });
    let plan = plan_in_cache::<E>(program, batch);
    let maps = size_of::<E>() * plan.elements + FLOAT as usize * plan.row_elements;
    (packed.sum::<usize>() as u64, maps as u64)
}

/// Bytes of the weights that a step of training packs, of elements of so many bytes. They are packed for one
/// convolution after the other, and once for each direction.
fn packing(program: &Program, step: &Step, batch: usize, element: usize) -> u64 {
    let bytes = |window: Window, from: &[BufferId], to: &[BufferId]| {
        let segments = [channels(program, from), channels(program, to)];
        let segments = [&segments[0][..], &segments[1]];
        if program.transforms.apply(window) {
            let pixels: usize = program.buffers[to[0]].size.iter().product();
            size_of::<f32>() * Winograd::packed_elements((window, batch * pixels), segments)
        } else {
            element * Conv::<f32>::packed_elements(window, segments)
        }
    };
    let bytes = match step {
        Step::Conv {
            window, inputs, to, ..
        } => bytes(*window, inputs, to),
        Step::InputGradient {
            window,
            gradients,
            to,
            ..
        } => bytes(*window, gradients, to),
        _ => 0,
    };
    2 * bytes as u64
}

//! A program with the memory for batches of one size.

use super::run::Run;
use crate::arch::graph::Graph;
use crate::cpu::buffers::Plan;
use crate::cpu::lower::Training;
use crate::params::Params;
use crate::step::{Frozen, GradientObserver, Gradients};
use polynet_kernels::conv::GradientMemory;
use polynet_kernels::layout::{Arena, View};
use polynet_kernels::{Element, Isa};
use std::sync::Arc;

/// What a step starts from.
pub(super) struct StepInput<'a> {
    /// The network's tensors; running statistics are read where they are frozen.
    pub(super) params: &'a Params,
    /// `[images, 3, height, width]`.
    pub(super) images: &'a [f32],
    /// Target distributions, `[images, classes]`.
    pub(super) targets: &'a [f32],
    /// Factors of each dropout's elements, `[images, features]`.
    pub(super) masks: &'a [Vec<f32>],
    /// The tensors without gradients.
    pub(super) frozen: &'a Frozen,
    /// The images that the loss is the mean of whose gradient is computed: those of the step, which
    /// may be more than `images`.
    pub(super) total: usize,
}

/// A program with the memory for batches of one size.
pub(super) struct Processor<E: Element> {
    isa: Isa,
    images: usize,
    lowered: Arc<Training>,
    views: Vec<View>,
    memory: Memory<E>,
    packing: Packing<E>,
}

/// Where the buffers of a program lie.
pub(super) struct Memory<E: Element> {
    /// Feature maps and their gradients.
    pub(super) maps: Arena<E>,
    /// What comes after the last pool.
    pub(super) rows: Arena,
}

/// Memory of packed weights, for one convolution after the other.
#[derive(Debug)]
pub(super) struct Packing<E: Element> {
    pub(super) conv: Arena<E>,
    pub(super) transformed: Arena,
    pub(super) input_gradient: GradientMemory<E>,
}

impl<E: Element> Default for Packing<E> {
    fn default() -> Self {
        Self {
            conv: Arena::default(),
            transformed: Arena::default(),
            input_gradient: GradientMemory::default(),
        }
    }
}

impl<E: Element> std::fmt::Debug for Processor<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Processor({} steps, {:?})",
            self.lowered.program.steps.len(),
            self.memory.maps
        )
    }
}

impl<E: Element> Processor<E> {
    pub(super) fn new(
        lowered: &Arc<Training>,
        images: usize,
        isa: Isa,
        memory: Option<Memory<E>>,
    ) -> Self {
        let plan = Plan::new(&lowered.program, images);
        let memory = memory.filter(|memory| {
            memory.maps.len() >= plan.elements && memory.rows.len() >= plan.row_elements
        });
        Self {
            isa,
            images,
            lowered: Arc::clone(lowered),
            views: plan.views(&lowered.program, images),
            memory: memory.unwrap_or_else(|| Memory {
                maps: Arena::new(plan.elements),
                rows: Arena::new(plan.row_elements),
            }),
            packing: Packing::default(),
        }
    }

    /// Whether it computes that program on batches of so many images.
    pub(super) fn computes(&self, lowered: &Arc<Training>, images: usize) -> bool {
        self.images == images && Arc::ptr_eq(&self.lowered, lowered)
    }

    /// Its memory, for a processor that takes its place.
    pub(super) fn into_memory(self) -> Memory<E> {
        self.memory
    }

    /// Computes a step, and shows each gradient when it is final.
    pub(super) fn run(
        &mut self,
        graph: &Graph,
        input: &StepInput<'_>,
        observe: &mut GradientObserver<'_>,
    ) -> Gradients {
        let lowered = Arc::clone(&self.lowered);
        let mut run = self.begin(graph, input);
        for (step, finals) in lowered.program.steps.iter().zip(&lowered.finals) {
            run.step(step);
            for &index in finals {
                if let Some(gradient) = &run.output.tensors[index] {
                    observe(index, gradient);
                }
            }
        }
        run.output
    }

    /// A step of which nothing is computed yet.
    pub(super) fn begin<'a>(
        &'a mut self,
        graph: &'a Graph,
        input: &'a StepInput<'a>,
    ) -> Run<'a, E> {
        Run {
            isa: self.isa,
            images: self.images,
            views: &self.views,
            maps: &mut self.memory.maps,
            rows: &mut self.memory.rows,
            transforms: self.lowered.program.transforms,
            packing: &mut self.packing,
            graph,
            input,
            applied: (0..self.lowered.slots).map(|_| None).collect(),
            output: Gradients {
                loss: 0.0,
                logits: Vec::new(),
                tensors: vec![None; input.params.len()],
                statistics: Vec::new(),
            },
        }
    }
}

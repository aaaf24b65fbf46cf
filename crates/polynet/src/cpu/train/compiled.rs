//! A program with the memory for batches of one size.

use super::run::Run;
use crate::arch::graph::Graph;
use crate::cpu::buffers::{Plan, Rows};
use crate::cpu::lower::Training;
use crate::params::Params;
use crate::step::{Frozen, GradientObserver, Gradients};
use polynet_kernels::Isa;
use polynet_kernels::layout::{Arena, View};
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
pub(super) struct Processor {
    isa: Isa,
    images: usize,
    lowered: Arc<Training>,
    views: Vec<View>,
    arena: Arena,
    packing: Packing,
}

/// Memory of packed weights, for one convolution after the other.
#[derive(Debug, Default)]
pub(super) struct Packing {
    pub(super) conv: Arena,
    pub(super) input_gradient: Vec<Arena>,
}

impl std::fmt::Debug for Processor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Processor({} steps, {:?})",
            self.lowered.program.steps.len(),
            self.arena
        )
    }
}

impl Processor {
    pub(super) fn new(
        lowered: &Arc<Training>,
        images: usize,
        isa: Isa,
        memory: Option<Arena>,
    ) -> Self {
        let plan = Plan::new(&lowered.program, images, Rows::AmongMaps);
        Self {
            isa,
            images,
            lowered: Arc::clone(lowered),
            views: plan.views(&lowered.program, images),
            arena: memory
                .filter(|arena| arena.len() >= plan.elements)
                .unwrap_or_else(|| Arena::new(plan.elements)),
            packing: Packing::default(),
        }
    }

    /// Whether it computes that program on batches of so many images.
    pub(super) fn computes(&self, lowered: &Arc<Training>, images: usize) -> bool {
        self.images == images && Arc::ptr_eq(&self.lowered, lowered)
    }

    /// Its memory, for a processor that takes its place.
    pub(super) fn into_memory(self) -> Arena {
        self.arena
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
    pub(super) fn begin<'a>(&'a mut self, graph: &'a Graph, input: &'a StepInput<'a>) -> Run<'a> {
        Run {
            isa: self.isa,
            images: self.images,
            views: &self.views,
            arena: &mut self.arena,
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

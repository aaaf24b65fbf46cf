//! A program with the memory for batches of one size.

use super::program::{Buffer, Program};
use super::run::Run;
use crate::arch::graph::Graph;
use crate::nn::{Frozen, GradientObserver};
use polynet_kernels::layout::{Arena, View};
use polynet_kernels::{Isa, plan};
use std::sync::Arc;

/// What a step starts from.
pub(super) struct StepInput<'a> {
    /// The network's tensors, flat; running statistics are read where they are frozen.
    pub(super) tensors: &'a [Vec<f32>],
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

/// What a step gives.
pub(super) struct StepOutput {
    pub(super) loss: f64,
    /// `[images, classes]`.
    pub(super) logits: Vec<f32>,
    /// By tensor index; `None` where nothing was computed.
    pub(super) gradients: Vec<Option<Vec<f32>>>,
    /// Batch norm, mean and unbiased variance, in the order of evaluation.
    pub(super) statistics: Vec<(usize, Vec<f32>, Vec<f32>)>,
}

/// A program with the memory for batches of one size.
pub(super) struct Processor {
    isa: Isa,
    images: usize,
    program: Arc<Program>,
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
            self.program.steps.len(),
            self.arena
        )
    }
}

impl Processor {
    pub(super) fn new(
        program: &Arc<Program>,
        images: usize,
        isa: Isa,
        memory: Option<Arena>,
    ) -> Self {
        let geometry = |buffer: &Buffer| {
            if buffer.is_row_of_images {
                (1, [1, images])
            } else {
                (images, buffer.size)
            }
        };
        let sizes: Vec<usize> = program
            .buffers
            .iter()
            .map(|buffer| {
                let (images, size) = geometry(buffer);
                View::elements(images, buffer.channels, size, buffer.halo)
            })
            .collect();
        let (starts, elements) = plan::place(&sizes, &program.lives());
        let views = program
            .buffers
            .iter()
            .zip(starts)
            .map(|(buffer, start)| {
                let (images, size) = geometry(buffer);
                View::new(start, images, buffer.channels, size, buffer.halo)
            })
            .collect();
        Self {
            isa,
            images,
            program: Arc::clone(program),
            views,
            arena: memory
                .filter(|arena| arena.len() >= elements)
                .unwrap_or_else(|| Arena::new(elements)),
            packing: Packing::default(),
        }
    }

    /// Whether it computes that program on batches of so many images.
    pub(super) fn computes(&self, program: &Arc<Program>, images: usize) -> bool {
        self.images == images && Arc::ptr_eq(&self.program, program)
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
    ) -> StepOutput {
        let program = Arc::clone(&self.program);
        let mut run = self.begin(graph, input);
        for (step, finals) in program.steps.iter().zip(&program.finals) {
            run.step(step);
            for &index in finals {
                if let Some(gradient) = &run.output.gradients[index] {
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
            applied: (0..self.program.slots).map(|_| None).collect(),
            output: StepOutput {
                loss: 0.0,
                logits: Vec::new(),
                gradients: vec![None; input.tensors.len()],
                statistics: Vec::new(),
            },
        }
    }
}

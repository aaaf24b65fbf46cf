//! Training: a step's gradients by our own kernels.
//!
//! A step is a whole program, forward and backward, on planned memory, and only the paths of the step
//! are in it. It is compiled when paths, frozen parts or what is kept change, and its memory is used
//! again as far as it fits.

mod compiled;
mod lockstep;
mod norm;
mod run;

use super::lower::{Training, training};
use crate::arch::graph::{Graph, Op};
use crate::params::Params;
use crate::step::{
    Activations, BatchPart, Frozen, GradientObserver, Gradients, PartOutput, Paths, Precision,
    SharedStep, StepOptions, SynchronisedOutput, dropout_factors, targets,
};
use compiled::{Processor, StepInput};
use lockstep::Lockstep;
use polynet_kernels::Isa;
use polynet_kernels::layout::Arena;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// Computes the gradients of a network.
#[derive(Debug)]
pub(crate) struct TrainingEngine {
    graph: Arc<Graph>,
    isa: Isa,
    /// The last step, to be used again while paths and batch size stay.
    compiled: Option<CompiledStep>,
}

#[derive(Debug)]
struct CompiledStep {
    paths: Paths,
    activations: Activations,
    frozen: Frozen,
    lowered: Arc<Training>,
    /// For each part that is computed at the same time.
    processors: Vec<Processor>,
}

impl TrainingEngine {
    /// For a graph, by the best instruction set of the processor.
    pub(crate) fn new(graph: Arc<Graph>) -> Self {
        Self::with_isa(graph, Isa::best())
    }

    /// For a graph, by an instruction set.
    pub(crate) fn with_isa(graph: Arc<Graph>, isa: Isa) -> Self {
        Self {
            graph,
            isa,
            compiled: None,
        }
    }

    /// The gradients of the mean loss of a batch, while `observe` is shown each of them as soon as the
    /// backward pass is done with it, in an order that follows from graph and options alone.
    ///
    /// # Panics
    /// If the images are not as many as the labels, a label is no class, everything is frozen, or
    /// `options` ask for another precision than `f32`.
    pub(crate) fn gradients(
        &mut self,
        params: &Params,
        part: BatchPart<'_>,
        options: &StepOptions<'_>,
        observe: &mut GradientObserver<'_>,
    ) -> Gradients {
        let graph = Arc::clone(&self.graph);
        let count = part.labels.len();
        let part = HostPart::new(&graph, part, options);
        let input = part.input(params, options, count);
        let processor = &mut self.step(options, &[count]).processors[0];
        // Inside the pool, so that no kernel has to wake its threads first.
        rayon::scope(|_| processor.run(&graph, &input, observe))
    }

    /// Computes parts of a step, possibly none, and shows their gradients to `shared`: see
    /// [`crate::engine::TrainingEngine::synchronised_gradients`].
    ///
    /// # Errors
    /// Those of `shared`.
    ///
    /// # Panics
    /// As [`TrainingEngine::gradients`].
    pub(crate) fn synchronised_gradients<S: SharedStep>(
        &mut self,
        params: &Params,
        parts: Vec<BatchPart<'_>>,
        options: &StepOptions<'_>,
        shared: &mut S,
    ) -> Result<SynchronisedOutput, S::Error> {
        let graph = Arc::clone(&self.graph);
        let counts: Vec<usize> = parts.iter().map(|part| part.labels.len()).collect();
        let total = shared.images().iter().sum();
        let parts = parts.into_iter();
        let parts: Vec<HostPart<'_>> = parts
            .map(|part| HostPart::new(&graph, part, options))
            .collect();
        let inputs: Vec<StepInput<'_>> = parts
            .iter()
            .map(|part| part.input(params, options, total))
            .collect();
        let step = self.step(options, &counts);
        let lowered = Arc::clone(&step.lowered);
        let runs = step.processors.iter_mut().zip(&inputs);
        let runs = runs.map(|(processor, input)| processor.begin(&graph, input));
        let lockstep = Lockstep::new(&lowered, (&graph, options.frozen), runs.collect(), shared);
        let output = lockstep.run()?;
        let parts = output.parts.into_iter().map(|part| PartOutput {
            loss: part.loss,
            logits: part.logits,
        });
        Ok(SynchronisedOutput {
            parts: parts.collect(),
            statistics: output.statistics,
        })
    }

    /// The step of `options` with a processor for parts of so many images each. What was compiled
    /// before is used again as far as it fits.
    fn step(&mut self, options: &StepOptions<'_>, images: &[usize]) -> &mut CompiledStep {
        let mut step = match self.compiled.take() {
            Some(step) if step.is_of(options) => step,
            other => {
                let processors = other.map_or_else(Vec::new, |step| step.processors);
                CompiledStep::new(&self.graph, options, processors)
            }
        };
        step.fit(self.isa, images);
        self.compiled.insert(step)
    }
}

/// What a part's [`StepInput`] points to.
struct HostPart<'a> {
    images: &'a [f32],
    targets: Vec<f32>,
    masks: Vec<Vec<f32>>,
}

impl<'a> HostPart<'a> {
    fn new(graph: &Graph, mut part: BatchPart<'a>, options: &StepOptions<'_>) -> Self {
        let count = part.labels.len();
        let image: usize = graph.nodes[0].shape.iter().product();
        assert_eq!(part.images.len(), count * image, "one label for each image");
        assert_eq!(
            options.precision,
            Precision::F32,
            "the processor trains in f32"
        );
        let classes = graph.linear.out_features;
        Self {
            images: part.images,
            targets: targets(part.labels, classes, options.loss.label_smoothing),
            masks: masks(graph, options.paths, count, &mut part.rng),
        }
    }

    fn input<'b>(
        &'b self,
        params: &'b Params,
        options: &'b StepOptions<'_>,
        total: usize,
    ) -> StepInput<'b> {
        StepInput {
            params,
            images: self.images,
            targets: &self.targets,
            masks: &self.masks,
            frozen: options.frozen,
            total,
        }
    }
}

impl CompiledStep {
    fn new(graph: &Graph, options: &StepOptions<'_>, processors: Vec<Processor>) -> Self {
        Self {
            paths: options.paths.clone(),
            activations: options.activations,
            frozen: options.frozen.clone(),
            lowered: Arc::new(training(graph, options)),
            processors,
        }
    }

    fn is_of(&self, options: &StepOptions<'_>) -> bool {
        let is_same = self.activations == options.activations && self.frozen == *options.frozen;
        is_same && self.paths == *options.paths
    }

    /// Gives every part its processor.
    fn fit(&mut self, isa: Isa, images: &[usize]) {
        let lowered = &self.lowered;
        let mut before = std::mem::take(&mut self.processors).into_iter();
        let processors = images.iter().map(|&images| match before.next() {
            Some(processor) if processor.computes(lowered, images) => processor,
            other => {
                let memory: Option<Arena> = other.map(Processor::into_memory);
                Processor::new(lowered, images, isa, memory)
            }
        });
        self.processors = processors.collect();
    }
}

/// Factors of the dropouts of a step for `images` images.
fn masks(graph: &Graph, paths: &Paths, images: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<f32>> {
    let nodes = graph.nodes.iter().enumerate();
    let computed = nodes.filter(|&(id, _)| paths.computes(id));
    computed
        .filter_map(|(_, node)| match node.op {
            Op::Dropout { probability } => {
                Some(dropout_factors(images * node.shape[0], probability, rng))
            }
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests;

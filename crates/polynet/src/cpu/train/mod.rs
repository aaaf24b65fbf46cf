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
use lockstep::{Lockstep, LockstepOutput};
use polynet_kernels::{Element, Isa, bf16};
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
    processors: Processors,
}

/// For each part that is computed at the same time, by the elements of its feature maps.
#[derive(Debug)]
enum Processors {
    F32(Vec<Processor<f32>>),
    Bf16(Vec<Processor<bf16>>),
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
    /// If the images are not as many as the labels, a label is no class, or everything is frozen.
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
        let step = self.step(options, &[count]);
        // Inside the pool, so that no kernel has to wake its threads first.
        rayon::scope(|_| match &mut step.processors {
            Processors::F32(processors) => processors[0].run(&graph, &input, observe),
            Processors::Bf16(processors) => processors[0].run(&graph, &input, observe),
        })
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
        let network: (&Training, &Graph, &Frozen) = (&lowered, &graph, options.frozen);
        let output = match &mut step.processors {
            Processors::F32(processors) => together(processors, network, &inputs, shared),
            Processors::Bf16(processors) => together(processors, network, &inputs, shared),
        }?;
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
                let processors = other.map(|step| step.processors);
                CompiledStep::new(&self.graph, options, processors)
            }
        };
        step.fit(self.isa, images);
        self.compiled.insert(step)
    }
}

/// Runs the parts of a step in lockstep.
fn together<E: Element, S: SharedStep>(
    processors: &mut [Processor<E>],
    (lowered, graph, frozen): (&Training, &Graph, &Frozen),
    inputs: &[StepInput<'_>],
    shared: &mut S,
) -> Result<LockstepOutput, S::Error> {
    let runs = processors.iter_mut().zip(inputs);
    let runs = runs.map(|(processor, input)| processor.begin(graph, input));
    Lockstep::new(lowered, (graph, frozen), runs.collect(), shared).run()
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
    /// The memory of the processors before is used again where it is of the same elements.
    fn new(graph: &Graph, options: &StepOptions<'_>, before: Option<Processors>) -> Self {
        let processors = match (options.precision, before) {
            (Precision::F32, Some(before @ Processors::F32(_))) => before,
            (Precision::Bf16, Some(before @ Processors::Bf16(_))) => before,
            (Precision::F32, _) => Processors::F32(Vec::new()),
            (Precision::Bf16, _) => Processors::Bf16(Vec::new()),
        };
        Self {
            paths: options.paths.clone(),
            activations: options.activations,
            frozen: options.frozen.clone(),
            lowered: Arc::new(training(graph, options)),
            processors,
        }
    }

    fn is_of(&self, options: &StepOptions<'_>) -> bool {
        let precision = match self.processors {
            Processors::F32(_) => Precision::F32,
            Processors::Bf16(_) => Precision::Bf16,
        };
        let is_same = self.activations == options.activations && precision == options.precision;
        is_same && self.frozen == *options.frozen && self.paths == *options.paths
    }

    /// Gives every part its processor.
    fn fit(&mut self, isa: Isa, images: &[usize]) {
        match &mut self.processors {
            Processors::F32(processors) => fit(processors, &self.lowered, isa, images),
            Processors::Bf16(processors) => fit(processors, &self.lowered, isa, images),
        }
    }
}

/// Lets each part, of so many images, have its processor.
fn fit<E: Element>(
    processors: &mut Vec<Processor<E>>,
    lowered: &Arc<Training>,
    isa: Isa,
    images: &[usize],
) {
    let mut before = std::mem::take(processors).into_iter();
    let fitting = images.iter().map(|&images| match before.next() {
        Some(processor) if processor.computes(lowered, images) => processor,
        other => Processor::new(lowered, images, isa, other.map(Processor::into_memory)),
    });
    *processors = fitting.collect();
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

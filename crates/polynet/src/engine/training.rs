//! One way to compute gradients on every device.

use super::Device;
use crate::arch::Graph;
use crate::cpu::{self, Isa};
use crate::params::Params;
use crate::step::{
    BatchPart, GradientObserver, Gradients, SharedStep, StepOptions, SynchronisedOutput,
};
use std::sync::Arc;

/// Computes gradients on a device.
///
/// ```
/// use polynet::{Architecture, BatchPart, Device, LossOptions, Params, Paths, StepOptions, TrainingEngine};
/// use rand::SeedableRng;
/// use std::sync::Arc;
///
/// let graph = Arc::new("small-polynet; width = 0.125".parse::<Architecture>()?.graph()?);
/// let params = Params::init(&graph, 1);
/// let mut engine = TrainingEngine::new(Arc::clone(&graph), Device::Cpu);
/// let paths = Paths::all(&graph);
/// let options = StepOptions::new(LossOptions::default(), &paths);
/// let part = BatchPart {
///     images: &vec![0.5; 2 * 3 * 32 * 32],
///     labels: &[3, 7],
///     rng: rand_chacha::ChaCha8Rng::seed_from_u64(0),
/// };
/// let gradients = engine.gradients(&params, part, &options, &mut |_, _| {});
/// assert_eq!(gradients.tensors[0].as_ref().map(Vec::len), Some(params[0].len()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TrainingEngine(Kind);

#[derive(Debug)]
enum Kind {
    Cpu(cpu::TrainingEngine),
    #[cfg(feature = "gpu")]
    Gpu(crate::gpu::TrainingEngine),
}

impl TrainingEngine {
    /// For a graph.
    ///
    /// # Panics
    /// If the machine does not have the device; ask [`Device::found`] first.
    pub fn new(graph: Arc<Graph>, device: Device) -> Self {
        Self(match device {
            Device::Cpu => Kind::Cpu(cpu::TrainingEngine::new(graph)),
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => Kind::Gpu(crate::gpu::TrainingEngine::new(graph, gpu)),
        })
    }

    /// For a graph, on the processor by an instruction set.
    pub fn with_isa(graph: Arc<Graph>, isa: Isa) -> Self {
        Self(Kind::Cpu(cpu::TrainingEngine::with_isa(graph, isa)))
    }

    /// The gradients of the mean loss of a batch, while `observe` is shown each of them as soon as the
    /// backward pass is done with it, in an order that follows from graph and options alone.
    ///
    /// # Panics
    /// If the images are not as many as the labels, a label is no class, everything is frozen, or the
    /// device has no training in the precision that is asked for.
    pub fn gradients(
        &mut self,
        params: &Params,
        part: BatchPart<'_>,
        options: &StepOptions<'_>,
        observe: &mut GradientObserver<'_>,
    ) -> Gradients {
        match &mut self.0 {
            Kind::Cpu(engine) => engine.gradients(params, part, options, observe),
            #[cfg(feature = "gpu")]
            Kind::Gpu(engine) => engine.gradients(params, part, options, observe),
        }
    }

    /// Computes parts of a step whose batch norms have their statistics in common, possibly none of the
    /// parts, and shows their gradients to `shared`. Feature maps of all parts are in memory at once.
    ///
    /// Ranks that are threads of one process must not call it from within a thread pool that they
    /// share: one would keep from another the thread that it waits for.
    ///
    /// # Errors
    /// Those of `shared`.
    ///
    /// # Panics
    /// As [`TrainingEngine::gradients`], and if the device does not
    /// [share statistics](Device::shares_statistics).
    pub fn synchronised_gradients<S: SharedStep>(
        &mut self,
        params: &Params,
        parts: Vec<BatchPart<'_>>,
        options: &StepOptions<'_>,
        shared: &mut S,
    ) -> Result<SynchronisedOutput, S::Error> {
        match &mut self.0 {
            Kind::Cpu(engine) => engine.synchronised_gradients(params, parts, options, shared),
            #[cfg(feature = "gpu")]
            Kind::Gpu(_) => panic!("only the processor's training steps share statistics"),
        }
    }
}

//! Training on the processor: a step's gradients by our own kernels.
//!
//! What a recorded pass over the graph computes on other devices ([`training`](super::training)) is
//! computed here to rounding, in a fraction of the time and memory: the graph is compiled to a list
//! of kernel calls on planned memory, forward and backward. Only the paths of the step are in the
//! list.

mod backward;
mod compiled;
mod compiler;
mod forward;
mod lockstep;
mod norm;
mod program;
mod run;

use super::conv_norm::{BatchStatistics, dropout_factors};
use super::network::{Network, host_values, on_device};
use super::synchronised::{BatchPart, PartOutput, SharedStep, SynchronisedOutput};
use super::training::{
    Activations, GradientObserver, Gradients, NormStatistics, StepOptions, targets,
};
use super::{Frozen, Paths};
use crate::arch::graph::{Graph, Op, Pool, PoolWindow};
use burn::tensor::Tensor;
use compiled::{Processor, StepInput};
use lockstep::Lockstep;
use polynet_kernels::layout::Arena;
use polynet_kernels::{Isa, conv, pool};
use program::Program;
use rand_chacha::ChaCha8Rng;
use std::sync::{Arc, Mutex};

impl From<PoolWindow> for conv::Window {
    fn from(window: PoolWindow) -> Self {
        Self {
            kernel: window.kernel_size,
            stride: window.stride,
            padding: window.padding,
        }
    }
}

impl From<Pool> for pool::Pool {
    fn from(pool: Pool) -> Self {
        match pool {
            Pool::Max => Self::Max,
            Pool::Mean => Self::Mean,
        }
    }
}

/// The last compiled step of a network, to be used again while paths and batch size stay. A clone
/// begins without one.
#[derive(Debug, Default)]
pub(super) struct Compiled(Mutex<Option<CompiledStep>>);

#[derive(Debug)]
struct CompiledStep {
    paths: Paths,
    activations: Activations,
    frozen: Frozen,
    program: Arc<Program>,
    /// For each part that is computed at the same time.
    processors: Vec<Processor>,
}

impl Clone for Compiled {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Compiled {
    /// The step of `options` with a processor for parts of so many images each. What was compiled
    /// before is used again as far as it fits.
    fn step(
        &mut self,
        graph: &Graph,
        options: &StepOptions<'_>,
        images: &[usize],
    ) -> &mut CompiledStep {
        let compiled = self.0.get_mut().unwrap_or_else(|e| e.into_inner());
        let mut step = match compiled.take() {
            Some(step) if step.is_of(options) => step,
            other => {
                let processors = other.map_or_else(Vec::new, |step| step.processors);
                CompiledStep::new(graph, options, processors)
            }
        };
        step.fit(images);
        compiled.insert(step)
    }
}

impl CompiledStep {
    fn new(graph: &Graph, options: &StepOptions<'_>, processors: Vec<Processor>) -> Self {
        Self {
            paths: options.paths.clone(),
            activations: options.activations,
            frozen: options.frozen.clone(),
            program: Arc::new(Program::new(graph, options)),
            processors,
        }
    }

    fn is_of(&self, options: &StepOptions<'_>) -> bool {
        let is_same = self.activations == options.activations && self.frozen == *options.frozen;
        is_same && self.paths == *options.paths
    }

    /// Gives every part its processor.
    fn fit(&mut self, images: &[usize]) {
        let program = &self.program;
        let mut before = std::mem::take(&mut self.processors).into_iter();
        let processors = images.iter().map(|&images| match before.next() {
            Some(processor) if processor.computes(program, images) => processor,
            other => {
                let memory: Option<Arena> = other.map(Processor::into_memory);
                Processor::new(program, images, Isa::best(), memory)
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

/// Takes the network's tensors out, so that nothing is copied.
fn take_tensors(network: &mut Network) -> Vec<Vec<f32>> {
    (0..network.tensors().len())
        .map(|index| host_values(network.take_tensor(index)))
        .collect()
}

/// Puts them back.
fn put_tensors(network: &mut Network, tensors: Vec<Vec<f32>>) {
    for (index, values) in tensors.into_iter().enumerate() {
        let tensor = on_device(values, network.device());
        network.set_tensor(index, tensor);
    }
}

/// The gradients of a batch's loss; see [`Network::gradients_observed`].
pub(super) fn gradients(
    network: &mut Network,
    images: Tensor<4>,
    labels: &[usize],
    options: &StepOptions<'_>,
    rng: &mut ChaCha8Rng,
    observe: &mut GradientObserver<'_>,
) -> Gradients {
    let graph = network.shared_graph();
    let [count, ..] = images.dims();
    assert_eq!(labels.len(), count, "one label for each image");
    let masks = masks(&graph, options.paths, count, rng);
    let tensors = take_tensors(network);
    let images = host_values(images);
    let classes = graph.linear.out_features;
    let input = StepInput {
        tensors: &tensors,
        images: &images,
        targets: &targets(labels, classes, options.loss.label_smoothing),
        masks: &masks,
        frozen: options.frozen,
        total: count,
    };
    let processor = &mut network.compiled.step(&graph, options, &[count]).processors[0];
    // Inside the pool, so that no kernel has to wake its threads first.
    let output = rayon::scope(|_| processor.run(&graph, &input, observe));
    put_tensors(network, tensors);
    let on_device = |values: Vec<f32>| on_device(values, network.device());
    Gradients {
        loss: output.loss,
        logits: output.logits,
        tensors: output
            .gradients
            .into_iter()
            .map(|g| g.map(on_device))
            .collect(),
        statistics: output
            .statistics
            .into_iter()
            .map(|(norm, mean, unbiased_var)| {
                let statistics = BatchStatistics {
                    mean: on_device(mean),
                    unbiased_var: on_device(unbiased_var),
                };
                (norm, statistics)
            })
            .collect(),
    }
}

/// See [`Network::synchronised_gradients`].
pub(super) fn synchronised_gradients<S: SharedStep>(
    network: &mut Network,
    parts: Vec<BatchPart<'_>>,
    options: &StepOptions<'_>,
    shared: &mut S,
) -> Result<SynchronisedOutput, S::Error> {
    /// What a part's [`StepInput`] points to.
    struct Host {
        images: Vec<f32>,
        targets: Vec<f32>,
        masks: Vec<Vec<f32>>,
    }
    let graph = network.shared_graph();
    let classes = graph.linear.out_features;
    let counts: Vec<usize> = parts.iter().map(|part| part.images.dims()[0]).collect();
    let parts = parts.into_iter().zip(&counts).map(|(mut part, &count)| {
        assert_eq!(part.labels.len(), count, "one label for each image");
        Host {
            images: host_values(part.images),
            targets: targets(part.labels, classes, options.loss.label_smoothing),
            masks: masks(&graph, options.paths, count, &mut part.rng),
        }
    });
    let parts: Vec<Host> = parts.collect();
    let total = shared.images().iter().sum();
    let tensors = take_tensors(network);
    let inputs = parts.iter().map(|part| StepInput {
        tensors: &tensors,
        images: &part.images,
        targets: &part.targets,
        masks: &part.masks,
        frozen: options.frozen,
        total,
    });
    let inputs: Vec<StepInput<'_>> = inputs.collect();
    let step = network.compiled.step(&graph, options, &counts);
    let runs = step.processors.iter_mut().zip(&inputs);
    let runs = runs.map(|(processor, input)| processor.begin(&graph, input));
    let sharing = (&*graph, options.frozen);
    let output = Lockstep::new(&step.program, sharing, runs.collect(), shared).run();
    put_tensors(network, tensors);
    let output = output?;
    let parts = output.parts.into_iter().map(|part| PartOutput {
        loss: part.loss,
        logits: part.logits,
    });
    let statistics = output.statistics.into_iter();
    let statistics = statistics.map(|(norm, mean, unbiased_var)| NormStatistics {
        norm,
        mean,
        unbiased_var,
    });
    Ok(SynchronisedOutput {
        parts: parts.collect(),
        statistics: statistics.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Architecture;
    use crate::nn::{DeviceName, LossOptions};
    use burn::tensor::{DType, TensorData};
    use rand::{RngExt, SeedableRng};

    #[test]
    fn prediction_follows_training_where_a_block_is_used_again() {
        let spec = "small-ir-1-2-1; width = 0.125; B: poly-3 x2; input = 16; dropout = 0";
        let architecture: Architecture = spec.parse().unwrap();
        let device = DeviceName::Cpu.open();
        let mut network = Network::init(architecture.graph().unwrap(), 3, &device);
        let count = 64;
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let images: Vec<f32> = (0..count * 3 * 256).map(|_| rng.random()).collect();
        let data = TensorData::new(images, [count, 3, 16, 16]);
        let images = Tensor::<4>::from_data(data, &device);
        let labels: Vec<usize> = (0..count).map(|image| image % 10).collect();
        let paths = Paths::all(network.graph());
        let loss = LossOptions {
            label_smoothing: 0.0,
        };
        let options = StepOptions::new(loss, &paths);
        // The running statistics become those of the batch.
        let mut trained = Vec::new();
        for _ in 0..200 {
            let gradients = network.gradients(images.clone(), &labels, &options, &mut rng);
            network.update_statistics(&gradients);
            trained = gradients.logits;
        }
        let largest = trained.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        for (trained, predicted) in trained.iter().zip(network.logits(images)) {
            let error = (trained - predicted).abs() / largest;
            assert!(error < 0.02, "{trained} in training, {predicted} after");
        }
    }

    #[test]
    fn gradients_agree_with_the_recorded_pass() {
        for spec in [
            "small-polynet; width = 0.125; dropout = 0",
            "small-ir-1-2-1; width = 0.2; B: mpoly-3 x2; C: 3-way; dropout = 0",
            "small-ir-1-2-1; width = 0.25; B: (I + F)^2 x2; A: I + F + GF + HF; dropout = 0",
            "small-ir-1-2-1; width = 0.25; sharing = release; B: poly-3 x2; C: F + GF; dropout = 0",
            "resnet-50; width = 0.125; input = 64",
            "ir-3-6-3; width = 0.25; input = 107; B: 2-way x6; dropout = 0",
            "inception-resnet-v2; width = 0.25; input = 107; A: 2-way x2; B: (I + F) x2; dropout = 0",
            "inception-v4; width = 0.25; input = 107; A: poly-2 x2; B: 2-way x2; C: I + F; dropout = 0",
            "resnet-v1-50; width = 0.125; input = 64",
        ] {
            let architecture: Architecture = spec.parse().unwrap();
            let graph = architecture.graph().unwrap();
            let device = DeviceName::Cpu.open();
            let network = Network::init(graph.clone(), 3, &device);
            let size = graph.nodes[0].shape[1];
            let count = 8;
            let mut noise = ChaCha8Rng::seed_from_u64(5);
            let images: Vec<f32> = (0..count * 3 * size * size)
                .map(|_| noise.random::<f32>() * 2.0 - 1.0)
                .collect();
            let labels: Vec<usize> = (0..count).map(|i| i % architecture.num_classes).collect();
            let options = LossOptions {
                label_smoothing: 0.1,
            };
            // Small batches are ill-conditioned: the recorded pass in f32 says by how much.
            let recorded = |dtype: DType| {
                let mut network = network.clone();
                for index in 0..network.specs().len() {
                    let tensor = network.take_tensor(index);
                    network.set_tensor(index, tensor.cast(dtype));
                }
                let data = TensorData::new(images.clone(), [count, 3, size, size]);
                let images = Tensor::<4>::from_data(data, (&device, dtype));
                let mut rng = ChaCha8Rng::seed_from_u64(1);
                let pass = network.training_pass(images, &mut rng);
                pass.backward(&labels, options)
            };
            let (expected, in_f32) = (recorded(DType::F64), recorded(DType::F32));
            let tensors: Vec<Vec<f32>> =
                network.tensors().iter().cloned().map(host_values).collect();
            let classes = architecture.num_classes;
            let mut targets = vec![0.1 / classes as f32; count * classes];
            for (image, label) in labels.iter().enumerate() {
                targets[image * classes + label] += 0.9;
            }
            for isa in Isa::available() {
                let paths = Paths::all(&graph);
                let step = StepOptions::new(options, &paths);
                let program = Arc::new(Program::new(&graph, &step));
                let mut processor = Processor::new(&program, count, isa, None);
                let input = StepInput {
                    tensors: &tensors,
                    images: &images,
                    targets: &targets,
                    masks: &[],
                    frozen: &Frozen::NOTHING,
                    total: count,
                };
                let mut shown: Vec<(usize, Vec<f32>)> = Vec::new();
                let found = processor.run(&graph, &input, &mut |index, gradient| {
                    shown.push((index, gradient.to_vec()));
                });
                // Each gradient is shown once, when it is final.
                shown.sort_by_key(|(index, _)| *index);
                let every = found.gradients.iter().enumerate();
                let every: Vec<(usize, Vec<f32>)> = every
                    .filter_map(|(index, gradient)| Some((index, gradient.clone()?)))
                    .collect();
                assert_eq!(shown, every, "{spec} {isa}");
                assert!(
                    (found.loss - expected.loss).abs() < 1e-4,
                    "{spec} {isa}: loss {} for {}",
                    found.loss,
                    expected.loss
                );
                let host = |tensor: &Option<Tensor<1>>| -> Vec<f64> {
                    let tensor = tensor.clone().expect("a gradient");
                    tensor.into_data_as::<f64>().try_into_vec().unwrap()
                };
                for (index, spec_of) in network.specs().iter().enumerate() {
                    if expected.tensors[index].is_none() {
                        assert!(found.gradients[index].is_none(), "{}", spec_of.name);
                        continue;
                    }
                    let expected = host(&expected.tensors[index]);
                    let error = |found: &[f64]| {
                        let squares = found.iter().zip(&expected).map(|(a, b)| (a - b).powi(2));
                        let scale: f64 = expected.iter().map(|x| x * x).sum();
                        (squares.sum::<f64>() / scale.max(1e-12)).sqrt()
                    };
                    let found = found.gradients[index].as_ref().expect("a gradient");
                    let found: Vec<f64> = found.iter().copied().map(f64::from).collect();
                    // A ReLU that rounding turns over moves a gradient by up to a few per cent.
                    let allowed = 0.06 + 3.0 * error(&host(&in_f32.tensors[index]));
                    let error = error(&found);
                    let name = &spec_of.name;
                    assert!(
                        error < allowed,
                        "{spec} {isa} {name}: {error}, allowed {allowed}"
                    );
                }
            }
        }
    }
}

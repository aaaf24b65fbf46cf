use super::*;
use crate::arch::Architecture;
use crate::nn::network::host_values;
use crate::nn::{Activations, DeviceName, Frozen, Gradients, LossOptions, Paths};
use burn::tensor::TensorData;
use rand::{RngExt, SeedableRng};

/// All parts of a step in one place.
struct OnePlace {
    images: Vec<usize>,
    sums: Vec<Option<Vec<f32>>>,
    gathered: usize,
    /// After how many calls the others are gone.
    last: usize,
}

impl SharedStep for OnePlace {
    type Error = &'static str;

    fn images(&self) -> &[usize] {
        &self.images
    }

    fn gather(&mut self, own: Vec<Vec<f64>>, length: usize) -> Result<Vec<Vec<f64>>, &'static str> {
        assert_eq!(own.len(), self.images.len());
        assert!(own.iter().all(|row| row.len() == length));
        if self.gathered == self.last {
            return Err("gone");
        }
        self.gathered += 1;
        Ok(own)
    }

    fn observe(&mut self, tensor: usize, gradients: &[Vec<f32>]) {
        assert!(self.sums[tensor].is_none(), "a gradient is shown once");
        let sum = (0..gradients[0].len()).map(|i| gradients.iter().map(|g| g[i]).sum());
        self.sums[tensor] = Some(sum.collect());
    }
}

struct Batch {
    network: Network,
    images: Vec<f32>,
    labels: Vec<usize>,
}

impl Batch {
    fn new(spec: &str, count: usize) -> Self {
        let architecture: Architecture = spec.parse().unwrap();
        let graph = architecture.graph().unwrap();
        let size = graph.nodes[0].shape[1];
        let classes = architecture.num_classes;
        let mut noise = ChaCha8Rng::seed_from_u64(5);
        // Each image has a brightness of its own, so that parts differ in their statistics.
        let images = (0..count).flat_map(|_| {
            let brightness = noise.random::<f32>() * 4.0 - 2.0;
            let pixels: Vec<f32> = (0..3 * size * size)
                .map(|_| noise.random::<f32>() + brightness)
                .collect();
            pixels
        });
        Self {
            images: images.collect(),
            network: Network::init(graph, 3, &DeviceName::Cpu.open()),
            labels: (0..count).map(|image| image % classes).collect(),
        }
    }

    /// The images `first..first + count`.
    fn tensor(&self, first: usize, count: usize, dtype: DType) -> Tensor<4> {
        let size = self.network.graph().nodes[0].shape[1];
        let image = 3 * size * size;
        let values = self.images[first * image..(first + count) * image].to_vec();
        let data = TensorData::new(values, [count, 3, size, size]);
        Tensor::from_data(data, (self.network.device(), dtype))
    }

    fn parts(&self, images: &[usize]) -> Vec<BatchPart<'_>> {
        let mut first = 0;
        let parts = images.iter().map(|&count| {
            let start = first;
            first += count;
            BatchPart {
                images: self.tensor(start, count, DType::F32),
                labels: &self.labels[start..start + count],
                rng: ChaCha8Rng::seed_from_u64(1),
            }
        });
        parts.collect()
    }

    /// Gradients with one statistic over parts of so many images.
    fn synchronised(
        &self,
        images: &[usize],
        options: &StepOptions<'_>,
    ) -> (Vec<Option<Vec<f32>>>, SynchronisedOutput) {
        let mut shared = one_place(images, self.network.specs().len());
        let mut network = self.network.clone();
        let parts = self.parts(images);
        let output = network.synchronised_gradients(parts, options, &mut shared);
        (shared.sums, output.unwrap())
    }

    /// Gradients of the whole batch by the processor's usual step.
    fn whole(&self, options: &StepOptions<'_>) -> Gradients {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let images = self.tensor(0, self.labels.len(), DType::F32);
        let mut network = self.network.clone();
        network.gradients(images, &self.labels, options, &mut rng)
    }

    /// Gradients of the whole batch in `f64`, differentiated by Burn.
    fn exact(&self, options: &StepOptions<'_>) -> Vec<Option<Vec<f64>>> {
        let mut network = self.network.clone();
        for index in 0..network.specs().len() {
            let tensor = network.take_tensor(index);
            network.set_tensor(index, tensor.cast(DType::F64));
        }
        let images = self.tensor(0, self.labels.len(), DType::F64);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let pass = network.pass(images, options, &mut rng);
        let gradients = pass.backward(&self.labels, options.loss).tensors;
        let wide = |tensor: Tensor<1>| tensor.into_data_as::<f64>().try_into_vec().unwrap();
        gradients.into_iter().map(|g| g.map(wide)).collect()
    }
}

fn one_place(images: &[usize], tensors: usize) -> OnePlace {
    OnePlace {
        images: images.to_vec(),
        sums: vec![None; tensors],
        gathered: 0,
        last: usize::MAX,
    }
}

/// The distance of a gradient from the exact one, as a share of that one's norm.
fn error(found: &[f32], exact: &[f64]) -> f64 {
    let squares = found
        .iter()
        .zip(exact)
        .map(|(a, b)| (f64::from(*a) - b).powi(2));
    let scale: f64 = exact.iter().map(|x| x * x).sum();
    (squares.sum::<f64>() / scale.max(1e-12)).sqrt()
}

const LOSS: LossOptions = LossOptions {
    label_smoothing: 0.1,
};

#[test]
fn parts_with_statistics_in_common_are_one_batch() {
    for (spec, max_drop) in [
        ("small-polynet; width = 0.125; dropout = 0", 0.0),
        (
            "small-ir-1-2-1; width = 0.25; B: (I + F)^2 x2; A: I + F + GF + HF; dropout = 0",
            0.5,
        ),
        (
            "small-ir-1-2-1; width = 0.25; sharing = release; B: poly-3 x2; C: F + GF; dropout = 0",
            0.0,
        ),
        ("resnet-50; width = 0.125; input = 64", 0.0),
        (
            "inception-v4; width = 0.25; input = 107; A: poly-2 x2; B: 2-way x2; C: I + F; dropout = 0",
            0.0,
        ),
    ] {
        let batch = Batch::new(spec, 8);
        let graph = batch.network.graph();
        let paths = Paths::draw(graph, max_drop, &mut ChaCha8Rng::seed_from_u64(5));
        let frozen = Frozen::new(batch.network.specs(), |spec| spec.name.starts_with("stem"));
        for (frozen, activations) in [
            (&Frozen::NOTHING, Activations::Kept),
            (&Frozen::NOTHING, Activations::Recomputed),
            (&frozen, Activations::Kept),
        ] {
            let options = StepOptions {
                activations,
                frozen,
                ..StepOptions::new(LOSS, &paths)
            };
            let (exact, whole) = (batch.exact(&options), batch.whole(&options));
            let whole_host: Vec<Option<Vec<f32>>> = whole
                .tensors
                .iter()
                .map(|g| g.clone().map(host_values))
                .collect();
            for images in [&[8][..], &[4, 4], &[5, 1, 2]] {
                let (found, output) = batch.synchronised(images, &options);
                let what = format!("{spec} {activations:?} {images:?}");
                let losses = output.parts.iter().zip(images);
                let loss: f64 = losses.map(|(part, &n)| part.loss * n as f64 / 8.0).sum();
                assert!(
                    (loss - whole.loss).abs() < 1e-4,
                    "{what}: {loss} for {}",
                    whole.loss
                );
                let statistics = whole.host_statistics();
                assert_eq!(output.statistics.len(), statistics.len(), "{what}");
                for (found, expected) in output.statistics.iter().zip(&statistics) {
                    assert_eq!(found.norm, expected.norm, "{what}");
                    let found = found.mean.iter().chain(&found.unbiased_var);
                    let expected = expected.mean.iter().chain(&expected.unbiased_var);
                    for (found, expected) in found.zip(expected) {
                        let apart = (found - expected).abs();
                        assert!(apart < 1e-3 * (1.0 + expected.abs()), "{what}: statistics");
                    }
                }
                for (index, tensor) in batch.network.specs().iter().enumerate() {
                    let name = &tensor.name;
                    let (Some(exact), Some(whole)) = (&exact[index], &whole_host[index]) else {
                        assert!(found[index].is_none(), "{what} {name}");
                        continue;
                    };
                    // One ReLU that rounding turns over moves a gradient by up to a per cent.
                    let allowed = 0.02 + 3.0 * error(whole, exact);
                    let found = found[index].as_ref().expect("a gradient");
                    let error = error(found, exact);
                    assert!(error < allowed, "{what} {name}: {error}, allowed {allowed}");
                }
            }
        }
    }
}

#[test]
fn parts_with_statistics_of_their_own_are_not() {
    let mut batch = Batch::new("small-polynet; width = 0.125; dropout = 0", 8);
    let paths = Paths::all(batch.network.graph());
    let options = StepOptions::new(LOSS, &paths);
    let exact = batch.exact(&options);
    let halves = [0, 4].map(|first| {
        let images = batch.tensor(first, 4, DType::F32);
        let labels = batch.labels[first..first + 4].to_vec();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let gradients = batch.network.gradients(images, &labels, &options, &mut rng);
        gradients.tensors
    });
    let [first, second] = halves;
    let mut far = 0;
    for ((first, second), exact) in first.into_iter().zip(second).zip(&exact) {
        if let (Some(first), Some(second), Some(exact)) = (first, second, exact) {
            let mean = host_values((first + second) * 0.5);
            far += usize::from(error(&mean, exact) > 0.2);
        }
    }
    assert!(far > exact.len() / 4, "{far} of {}", exact.len());
}

#[test]
fn one_part_is_the_usual_step() {
    let batch = Batch::new("small-polynet; width = 0.125", 6);
    let paths = Paths::all(batch.network.graph());
    let options = StepOptions::new(LOSS, &paths);
    let (found, output) = batch.synchronised(&[6], &options);
    let whole = batch.whole(&options);
    assert_eq!(output.parts[0].loss, whole.loss);
    assert_eq!(output.parts[0].logits, whole.logits);
    let whole = whole.tensors.into_iter().map(|g| g.map(host_values));
    for (found, whole) in found.iter().zip(whole) {
        assert_eq!(found, &whole);
    }
}

#[test]
fn frozen_norms_gather_nothing() {
    let batch = Batch::new("small-polynet; width = 0.0625", 4);
    let paths = Paths::all(batch.network.graph());
    for (part, expected) in [("", 0), ("stage_", 2), ("never", 2)] {
        let frozen = Frozen::new(batch.network.specs(), |spec| {
            spec.name.starts_with(part) && !spec.name.starts_with("head.linear")
        });
        let options = StepOptions {
            frozen: &frozen,
            ..StepOptions::new(LOSS, &paths)
        };
        let mut shared = one_place(&[2, 2], batch.network.specs().len());
        let parts = batch.parts(&[2, 2]);
        let mut network = batch.network.clone();
        let output = network.synchronised_gradients(parts, &options, &mut shared);
        // Once forward and once backward.
        let norms = output.unwrap().statistics.len();
        assert_eq!(shared.gathered, expected * norms, "{part}");
        assert_eq!(norms > 0, expected > 0);
    }
}

#[test]
fn a_step_that_loses_the_others_leaves_the_network_as_it_was() {
    let batch = Batch::new("small-polynet; width = 0.0625", 4);
    let paths = Paths::all(batch.network.graph());
    let options = StepOptions::new(LOSS, &paths);
    let whole = batch.network.to_host();
    for last in [0, 1, 40] {
        let mut network = batch.network.clone();
        let mut shared = one_place(&[2, 2], network.specs().len());
        shared.last = last;
        let output = network.synchronised_gradients(batch.parts(&[2, 2]), &options, &mut shared);
        assert_eq!(output, Err("gone"));
        assert_eq!(network.to_host(), whole);
    }
}

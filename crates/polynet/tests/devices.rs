//! The GPU against the processor: prediction and training steps.
//!
//! `cargo xtask vulkan` runs it, on a software driver where there is no GPU.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

use polynet::arch::{Architecture, Graph};
use polynet::{
    Activations, BatchPart, CompileOptions, Device, Frozen, Gradients, LossOptions, Params, Paths,
    Precision, Predictor, StepOptions, TrainingEngine,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// Between them they have every operation of a graph.
const SPECS: [&str; 3] = [
    "small-polynet; width = 0.125; sharing = release; scale = release; dropout = 0.3",
    "family = resnet; width = 0.0625; input = 32; classes = 10",
    "family = inception-resnet-v2; width = 0.0625; input = 75; classes = 10",
];
const SMALL: &str = SPECS[0];
const IMAGES: usize = 8;

fn gpu() -> Device {
    "gpu".parse::<Device>().unwrap().found().unwrap()
}

fn graph(spec: &str) -> Arc<Graph> {
    Arc::new(spec.parse::<Architecture>().unwrap().graph().unwrap())
}

fn images(graph: &Graph) -> Vec<f32> {
    let count = IMAGES * graph.nodes[0].shape.iter().product::<usize>();
    let value = |index: usize| ((index * 7919) % 1013) as f32 / 506.0 - 1.0;
    (0..count).map(value).collect()
}

/// Compares to a share of the largest element.
fn assert_close(what: &str, expected: &[f32], found: &[f32], tolerance: f32) {
    assert_eq!(expected.len(), found.len(), "{what}");
    let absolute = expected.iter().map(|value| value.abs());
    let largest = absolute.fold(0.0_f32, f32::max);
    for (expected, found) in expected.iter().zip(found) {
        let error = (expected - found).abs();
        assert!(
            error <= tolerance * largest,
            "{what}: {expected} {found} of {largest}"
        );
    }
}

/// A step on a device. What the observer sees must be what comes out.
fn step(device: Device, spec: &str, options: &StepOptions<'_>) -> Gradients {
    let graph = graph(spec);
    let params = Params::init(&graph, 3);
    let mut engine = TrainingEngine::new(Arc::clone(&graph), device);
    let labels: Vec<usize> = (0..IMAGES).map(|image| image % 10).collect();
    let part = BatchPart {
        images: &images(&graph),
        labels: &labels,
        rng: ChaCha8Rng::seed_from_u64(5),
    };
    let mut observed = vec![None; params.len()];
    let gradients = engine.gradients(&params, part, options, &mut |index, gradient| {
        assert!(observed[index].replace(gradient.to_vec()).is_none());
    });
    assert!(observed == gradients.tensors, "{spec} on {device}");
    gradients
}

fn options(paths: &Paths) -> StepOptions<'_> {
    let loss = LossOptions {
        label_smoothing: 0.1,
    };
    StepOptions::new(loss, paths)
}

fn assert_same_step(spec: &str, expected: &Gradients, found: &Gradients) {
    assert!(
        (expected.loss - found.loss).abs() < 1e-4 * expected.loss,
        "{spec}"
    );
    assert_close("logits", &expected.logits, &found.logits, 1e-3);
    assert_eq!(expected.statistics.len(), found.statistics.len(), "{spec}");
    for (expected, found) in expected.statistics.iter().zip(&found.statistics) {
        assert_eq!(expected.norm, found.norm, "{spec}");
        assert_close("mean", &expected.mean, &found.mean, 1e-3);
        assert_close(
            "variance",
            &expected.unbiased_var,
            &found.unbiased_var,
            1e-3,
        );
    }
    assert_eq!(expected.tensors.len(), found.tensors.len());
    for (index, spec) in graph(spec).tensors().enumerate() {
        match (&expected.tensors[index], &found.tensors[index]) {
            // Batch norm over few images cancels most of a gradient, so its last digits differ.
            (Some(expected), Some(found)) => assert_close(&spec.name, expected, found, 0.02),
            (expected, found) => assert_eq!(expected, found, "{}", spec.name),
        }
    }
}

#[test]
fn a_gpu_predicts_as_the_processor_does() {
    for spec in SPECS {
        let graph = graph(spec);
        let params = Params::init(&graph, 3);
        let images = images(&graph);
        let [expected, found] = [Device::Cpu, gpu()].map(|device| {
            let options = CompileOptions::default();
            let mut predictor = Predictor::new(&graph, &params, device, options).unwrap();
            let prediction = predictor.predict(&images);
            assert_eq!(predictor.logits(&images), prediction.logits, "{spec}");
            assert!(predictor.logits(&[]).is_empty());
            prediction
        });
        assert_close(spec, &expected.logits, &found.logits, 1e-4);
        assert_close(spec, &expected.embeddings, &found.embeddings, 1e-4);
        assert_close(spec, &expected.last_maps, &found.last_maps, 1e-4);
    }
}

#[test]
fn a_gpu_trains_as_the_processor_does() {
    for spec in SPECS {
        let paths = Paths::all(&graph(spec));
        let options = options(&paths);
        let [expected, found] = [Device::Cpu, gpu()].map(|device| step(device, spec, &options));
        assert_same_step(spec, &expected, &found);
    }
}

#[test]
fn recomputed_gradients_are_the_kept_ones_bit_for_bit() {
    for max_drop in [0.0, 0.8] {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let paths = Paths::draw(&graph(SMALL), max_drop, &mut rng);
        let mut options = options(&paths);
        let kept = step(gpu(), SMALL, &options);
        options.activations = Activations::Recomputed;
        let recomputed = step(gpu(), SMALL, &options);
        assert!(kept == recomputed, "{max_drop}");
        assert_same_step(SMALL, &step(Device::Cpu, SMALL, &options), &recomputed);
    }
}

#[test]
fn what_is_frozen_has_no_gradient_and_predicts_in_the_step() {
    let specs: Vec<_> = graph(SMALL).tensors().collect();
    for prefixes in [&["stem", "stage_a"][..], &["stage_b", "head"]] {
        let is_frozen = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
        let frozen = Frozen::new(&specs, |spec| is_frozen(&spec.name));
        let paths = Paths::all(&graph(SMALL));
        for activations in [Activations::Kept, Activations::Recomputed] {
            let options = StepOptions {
                frozen: &frozen,
                activations,
                ..options(&paths)
            };
            let found = step(gpu(), SMALL, &options);
            for (spec, gradient) in specs.iter().zip(&found.tensors) {
                let is_trained = spec.kind.is_parameter() && !is_frozen(&spec.name);
                assert_eq!(gradient.is_some(), is_trained, "{}", spec.name);
            }
            assert_same_step(SMALL, &step(Device::Cpu, SMALL, &options), &found);
        }
    }
}

#[test]
fn bf16_gradients_are_near_those_of_f32_where_the_gpu_has_bf16() {
    let spec = "small-polynet; width = 0.125; dropout = 0";
    let paths = Paths::all(&graph(spec));
    let compute = |precision| {
        let options = StepOptions {
            precision,
            ..options(&paths)
        };
        step(gpu(), spec, &options)
    };
    if !gpu().trains_in_bf16() {
        let refused = std::panic::catch_unwind(|| compute(Precision::Bf16)).unwrap_err();
        let message = refused.downcast_ref::<&str>().unwrap();
        assert!(message.contains("bf16"), "{message}");
        return;
    }
    let [full, half] = [Precision::F32, Precision::Bf16].map(compute);
    assert!((full.loss - half.loss).abs() < 0.05 * full.loss);
    assert_ne!(full.loss, half.loss);
    let head = full.tensors.len() - 2;
    let [full, half] = [full, half].map(|gradients| gradients.tensors[head].clone().unwrap());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let cosine = dot(&full, &half) / (dot(&full, &full) * dot(&half, &half)).sqrt();
    assert!(cosine > 0.99, "{cosine}");
}

#[test]
fn a_gpu_that_is_not_there_is_an_error_that_says_so() {
    let device = "gpu".parse::<Device>().unwrap();
    assert_eq!(device.of_local_rank(99), "gpu:99".parse().unwrap());
    let error = device.of_local_rank(99).found().unwrap_err().to_string();
    assert!(error.contains("`gpu:99`"), "{error}");
}

//! The network on Vulkan against the processor: prediction, and one training step.
//!
//! `cargo xtask vulkan` runs it, on a software driver where there is no GPU.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

use burn::tensor::{Device, Tensor, TensorData};
use polynet::arch::Architecture;
use polynet::nn::{DeviceName, LossOptions, Network};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const SPEC: &str = "small-polynet; width = 0.125; sharing = release; scale = release";

fn devices() -> [Device; 2] {
    ["cpu", "vulkan"].map(|name| name.parse::<DeviceName>().unwrap().open())
}

fn images(device: &Device) -> Tensor<4> {
    let values = (0..4 * 3 * 32 * 32)
        .map(|index| ((index * 7919) % 1013) as f32 / 506.0 - 1.0)
        .collect::<Vec<f32>>();
    Tensor::from_data(TensorData::new(values, [4, 3, 32, 32]), device)
}

fn network(device: &Device) -> Network {
    let architecture: Architecture = SPEC.parse().unwrap();
    Network::init(architecture.graph().unwrap(), 3, device)
}

fn assert_close(what: &str, expected: &[f32], found: &[f32], tolerance: f32) {
    let largest = expected
        .iter()
        .fold(0.0_f32, |largest, value| largest.max(value.abs()));
    for (expected, found) in expected.iter().zip(found) {
        let error = (expected - found).abs();
        assert!(
            error <= tolerance * largest,
            "{what}: {expected} {found} of {largest}"
        );
    }
}

#[test]
fn vulkan_predicts_as_the_processor_does() {
    let [expected, found] = devices().map(|device| network(&device).logits(images(&device)));
    assert_close("logits", &expected, &found, 1e-4);
}

#[test]
fn vulkan_trains_as_the_processor_does() {
    let [expected, found] = devices().map(|device| {
        let network = network(&device);
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let options = LossOptions {
            label_smoothing: 0.1,
        };
        let pass = network.training_pass(images(&device), &mut rng);
        let gradients = pass.backward(&[0, 1, 2, 3], options);
        let tensors: Vec<Option<Vec<f32>>> = gradients
            .tensors
            .into_iter()
            .map(|tensor| tensor.map(|tensor| tensor.into_data().try_into_vec().unwrap()))
            .collect();
        (gradients.loss, network.specs().to_vec(), tensors)
    });
    assert!((expected.0 - found.0).abs() < 1e-4 * expected.0);
    let pairs = expected.2.iter().zip(&found.2).zip(&expected.1);
    for ((expected, found), spec) in pairs {
        if let (Some(expected), Some(found)) = (expected, found) {
            // Batch norm over few images cancels most of a gradient, so its last digits differ.
            assert_close(&spec.name, expected, found, 0.02);
        }
    }
}

//! The GPU against the oracle: prediction and training steps.
//!
//! `cargo xtask vulkan` runs it, on a software driver where there is no GPU.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

use polynet::arch::graph::TensorSpec;
use polynet::{
    Activations, CompileOptions, Device, Gradients, Precision, Predictor, StepOptions,
    TrainingEngine,
};
use polynet_oracle::agreement::{Case, Request};
use polynet_oracle::formula::largest;
use polynet_oracle::predict;
use std::sync::Arc;

/// Networks, with seeds of eight images some of which few choices are close. Between them they have
/// every operation of a graph.
const CASES: [(&str, u64); 4] = [
    (SMALL, 1),
    (
        "small-ir-1-2-1; width = 0.25; sharing = release; B: poly-3 x2; C: F + GF; dropout = 0",
        2,
    ),
    ("resnet-v1-50; width = 0.125; input = 64", 3),
    (
        "inception-resnet-v2; width = 0.125; input = 107; A: 2-way x2; B: (I + F) x2; dropout = 0",
        1,
    ),
];
const SMALL: &str = "small-polynet; width = 0.125; dropout = 0.2";
/// Largest deviation of a logit and of a gradient's element, relative to the tensor's largest.
const BOUND: f64 = 3e-4;

fn gpu() -> Device {
    "gpu".parse::<Device>().unwrap().found().unwrap()
}

/// A step on the GPU. What the observer sees must be what comes out.
fn step(case: &Case, request: &Request) -> Gradients {
    case.step(request, |part, options| {
        let mut engine = TrainingEngine::new(Arc::clone(&case.graph), gpu());
        let mut observed = vec![None; case.params.len()];
        let gradients = engine.gradients(&case.params, part, options, &mut |index, gradient| {
            assert!(observed[index].replace(gradient.to_vec()).is_none());
        });
        assert!(observed == gradients.tensors);
        gradients
    })
}

fn check(case: &Case, request: &Request) {
    let step = step(case, request);
    case.check(request, &[("gpu".to_owned(), step)], BOUND);
}

#[test]
fn a_gpu_predicts_as_the_oracle_does() {
    for (spec, seed) in CASES {
        let case = Case::new(spec, 8, seed);
        let exact: Vec<f64> = case.images.iter().copied().map(f64::from).collect();
        let expected = predict(&case.graph, &case.tensors, &exact);
        let options = CompileOptions::default();
        let mut predictor = Predictor::new(&case.graph, &case.params, gpu(), options).unwrap();
        let found = predictor.predict(&case.images);
        assert_eq!(predictor.logits(&case.images), found.logits, "{spec}");
        assert!(predictor.logits(&[]).is_empty());
        assert_eq!(found.logits.len(), expected.len(), "{spec}");
        let errors = found.logits.iter().zip(&expected);
        let errors = errors.map(|(a, b)| (f64::from(*a) - b).abs());
        let error = errors.fold(0.0, f64::max) / largest(&expected);
        println!("{spec}: logits within {error:.1e}");
        assert!(error <= BOUND, "{spec}: {error:e}");
    }
}

#[test]
fn a_gpu_trains_as_the_oracle_does() {
    for (spec, seed) in CASES {
        println!("{spec}");
        check(&Case::new(spec, 8, seed), &Request::WHOLE);
    }
}

#[test]
fn recomputed_gradients_are_the_kept_ones_bit_for_bit() {
    for max_drop in [0.0, 0.6] {
        let case = Case::new(SMALL, 8, 1);
        let mut request = Request {
            max_drop,
            ..Request::WHOLE
        };
        let kept = step(&case, &request);
        check(&case, &request);
        request.activations = Activations::Recomputed;
        assert!(kept == step(&case, &request), "{max_drop}");
    }
}

#[test]
fn what_is_frozen_has_no_gradient_and_predicts_in_the_step() {
    let case = Case::new(
        "small-polynet; width = 0.125; classes = 3; dropout = 0",
        8,
        1,
    );
    let frozen: [fn(&TensorSpec) -> bool; 3] = [
        |spec| !spec.name.starts_with("stage_"),
        |spec| !spec.name.starts_with("stem"),
        |spec| !spec.name.starts_with("head"),
    ];
    for is_frozen in frozen {
        for activations in [Activations::Kept, Activations::Recomputed] {
            let request = Request {
                is_frozen,
                activations,
                ..Request::WHOLE
            };
            check(&case, &request);
        }
    }
}

#[test]
fn bf16_gradients_are_near_those_of_f32_where_the_gpu_has_bf16() {
    let case = Case::new("small-polynet; width = 0.125; dropout = 0", 8, 1);
    let compute = |precision| {
        case.step(&Request::WHOLE, |part, options| {
            let options = StepOptions {
                precision,
                ..*options
            };
            let mut engine = TrainingEngine::new(Arc::clone(&case.graph), gpu());
            engine.gradients(&case.params, part, &options, &mut |_, _| {})
        })
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

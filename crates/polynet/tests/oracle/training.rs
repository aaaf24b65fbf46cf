//! Training on the processor against the oracle, on every instruction set, with maps kept and recomputed.
//! The images of each case are some of which few choices are close.

use polynet::arch::graph::TensorSpec;
use polynet::{Activations, Isa, Precision, StepOptions, TrainingEngine};
use polynet_oracle::agreement::{Case, Request};
use std::sync::Arc;

/// Largest deviation of a gradient's element, relative to its tensor's largest.
const BOUND: f64 = 1e-4;
/// That of ResNets, whose fifty layers end in 32 values to a channel (eight images of four pixels): batch
/// norm over so few magnifies what rounding does to each.
const BOUND_OF_RESNETS: f64 = 3e-4;

/// Computes a step of so many images, drawn from a seed, and judges it.
fn check(spec: &str, (images, seed): (usize, u64), request: &Request, bound: f64) {
    let case = Case::new(spec, images, seed);
    let steps = Isa::available().map(|isa| {
        let step = |activations| {
            let request = Request {
                activations,
                ..request.clone()
            };
            case.step(&request, |part, options| {
                let mut engine = TrainingEngine::with_isa(Arc::clone(&case.graph), isa);
                engine.gradients(&case.params, part, options, &mut |_, _| {})
            })
        };
        let [kept, recomputed] = [Activations::Kept, Activations::Recomputed].map(step);
        assert!(
            kept == recomputed,
            "{spec}, {isa}: recomputed maps change a step"
        );
        (format!("{spec}, {isa}"), kept)
    });
    case.check(request, &steps.collect::<Vec<_>>(), bound);
}

/// Tests of whole steps: network, images, their seed, and the bound.
macro_rules! steps {
    ($($test:ident: $spec:literal, $images:literal, $seed:literal, $bound:expr;)*) => {
        $(
            #[test]
            fn $test() {
                check($spec, ($images, $seed), &Request::WHOLE, $bound);
            }
        )*
    };
}

steps! {
    polynet: "small-polynet; width = 0.125; dropout = 0.2", 8, 1, BOUND;
    modules_of_three_blocks:
        "small-ir-1-2-1; width = 0.2; B: mpoly-3 x2; C: 3-way; dropout = 0", 8, 1, BOUND;
    nested_sums:
        "small-ir-1-2-1; width = 0.25; B: (I + F)^2 x2; A: I + F + GF + HF; dropout = 0", 8, 1, BOUND;
    sharing_of_the_release:
        "small-ir-1-2-1; width = 0.25; sharing = release; B: poly-3 x2; C: F + GF; dropout = 0",
        8, 2, BOUND;
    pre_activation_resnet: "resnet-50; width = 0.125; input = 64", 8, 4, BOUND_OF_RESNETS;
    post_activation_resnet: "resnet-v1-50; width = 0.125; input = 64", 8, 3, BOUND_OF_RESNETS;
    inception_resnet:
        "ir-3-6-3; width = 0.125; input = 107; B: 2-way x6; dropout = 0", 8, 1, BOUND;
    inception_resnet_v2:
        "inception-resnet-v2; width = 0.125; input = 107; A: 2-way x2; B: (I + F) x2; dropout = 0",
        8, 1, BOUND;
    inception_v4:
        "inception-v4; width = 0.125; input = 107; A: poly-2 x2; B: 2-way x2; C: I + F; dropout = 0",
        8, 1, BOUND;
}

#[test]
fn steps_without_some_paths() {
    let request = Request {
        max_drop: 0.6,
        ..Request::WHOLE
    };
    for (spec, seed) in [
        ("small-polynet; width = 0.125; dropout = 0.2", 1),
        (
            "small-ir-1-2-1; width = 0.25; B: (I + F)^2 x2; A: I + F + GF + HF; C: 2-way -> poly-3",
            1,
        ),
    ] {
        check(spec, (8, seed), &request, BOUND);
    }
}

/// Everything but what begins with the name is frozen.
fn check_parts(spec: &str, (seed, bound): (u64, f64), trained: &[fn(&TensorSpec) -> bool]) {
    for &is_frozen in trained {
        let request = Request {
            is_frozen,
            ..Request::WHOLE
        };
        check(spec, (8, seed), &request, bound);
    }
}

const ALL_BUT_STEM: fn(&TensorSpec) -> bool = |spec| !spec.name.starts_with("stem");
const ALL_BUT_STAGES: fn(&TensorSpec) -> bool = |spec| !spec.name.starts_with("stage_");
const ALL_BUT_REDUCTIONS: fn(&TensorSpec) -> bool = |spec| !spec.name.starts_with("reduction");
const ALL_BUT_HEAD: fn(&TensorSpec) -> bool = |spec| !spec.name.starts_with("head");

#[test]
fn frozen_parts_of_polynet() {
    let spec = "small-polynet; width = 0.125; classes = 3; dropout = 0";
    let parts = [
        ALL_BUT_STEM,
        ALL_BUT_STAGES,
        ALL_BUT_REDUCTIONS,
        ALL_BUT_HEAD,
    ];
    check_parts(spec, (1, BOUND), &parts);
}

#[test]
fn frozen_parts_with_the_sharing_of_the_release() {
    let spec = "small-ir-1-2-1; width = 0.125; classes = 3; sharing = release; \
                B: poly-3 x2; C: F + GF; dropout = 0";
    let parts = [ALL_BUT_STEM, ALL_BUT_STAGES, ALL_BUT_REDUCTIONS];
    check_parts(spec, (1, BOUND), &parts);
}

#[test]
fn frozen_parts_of_a_resnet() {
    let spec = "resnet-50; width = 0.125; classes = 3; input = 64";
    let parts = [ALL_BUT_STEM, ALL_BUT_STAGES, ALL_BUT_HEAD];
    check_parts(spec, (1, BOUND_OF_RESNETS), &parts);
}

#[test]
fn frozen_parts_of_inception_resnet_v2() {
    let spec = "inception-resnet-v2; width = 0.125; classes = 3; input = 107; A: I + F; B: I + F; \
                C: I + F; dropout = 0";
    let parts = [ALL_BUT_STEM, ALL_BUT_STAGES, ALL_BUT_REDUCTIONS];
    check_parts(spec, (1, BOUND), &parts);
}

/// How much farther from the oracle a step in bf16 may lie than the oracle's own whose weights and images alone
/// are rounded to bf16: of the gradient, in which ReLUs turn over that are near zero, and of the logits.
const BOUND_OF_BF16: f64 = 1.5;
const BOUND_OF_BF16_LOGITS: f64 = 2.5;

#[test]
fn steps_in_bf16() {
    for spec in [
        "small-polynet; width = 0.125; dropout = 0.2",
        "small-ir-1-2-1; width = 0.2; B: mpoly-3 x2; C: 3-way; dropout = 0",
        "small-ir-1-2-1; width = 0.25; B: (I + F)^2 x2; A: I + F + GF + HF; dropout = 0",
        "inception-v4; width = 0.125; input = 107; A: poly-2 x2; B: 2-way x2; C: I + F; dropout = 0",
    ] {
        let case = Case::new(spec, 8, 1);
        let steps = Isa::available().map(|isa| {
            let step = |activations| {
                case.step(&Request::WHOLE, |part, options| {
                    let options = StepOptions {
                        activations,
                        precision: Precision::Bf16,
                        ..*options
                    };
                    let mut engine = TrainingEngine::with_isa(Arc::clone(&case.graph), isa);
                    engine.gradients(&case.params, part, &options, &mut |_, _| {})
                })
            };
            let [kept, recomputed] = [Activations::Kept, Activations::Recomputed].map(step);
            assert!(kept == recomputed, "{spec}, {isa}: recomputed maps");
            kept
        });
        let steps: Vec<_> = steps.collect();
        let (found, rounded) = case.distances_in_bf16(&Request::WHOLE, &steps);
        for (isa, found) in Isa::available().zip(found) {
            println!("{spec}, {isa}: {found:?}, of rounding {rounded:?}");
            // A gradient that has nothing to do with the oracle's is at a distance of 1 or more.
            assert!(found.gradient < 0.6, "{spec}, {isa}: {found:?}");
            let gradients = found.gradient / rounded.gradient;
            assert!(gradients < BOUND_OF_BF16, "{spec}, {isa}: {gradients}");
            let logits = found.logits / rounded.logits;
            assert!(logits < BOUND_OF_BF16_LOGITS, "{spec}, {isa}: {logits}");
            assert!(found.loss < 0.01, "{spec}, {isa}: {found:?}");
        }
    }
}

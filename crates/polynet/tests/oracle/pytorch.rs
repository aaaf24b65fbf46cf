//! The oracle against autograd: two whole training steps of PyTorch in float64
//! (`peers/fixtures_oracle.py`), and prediction with the weights and statistics that they leave.

use polynet::Architecture;
use polynet::arch::graph::{Graph, TensorSpec};
use polynet_oracle::formula::{fixture, largest, numbers, range, sample_indices, values, wholes};
use polynet_oracle::{Asked, Pass, in_f64, predict};
use serde_json::Value;
use std::collections::HashSet;

/// Largest deviation: both compute in float64.
const TOLERANCE: f64 = 1e-9;
/// Share of the batch's statistics in the running ones.
const NORM_MOMENTUM: f64 = 0.1;

#[test]
fn two_training_steps_of_a_small_network_are_those_of_pytorch() {
    check("oracle_small.json");
}

#[test]
fn two_training_steps_of_ir_3_6_3_are_those_of_pytorch() {
    check("oracle_ir-3-6-3.json");
}

fn check(file: &str) {
    let fixture = fixture(file);
    let seed = fixture["seed"].as_u64().unwrap();
    let architecture: Architecture = fixture["network"].as_str().unwrap().parse().unwrap();
    let graph = architecture.graph().unwrap();
    let specs: Vec<TensorSpec> = graph.tensors().collect();
    let drawn = specs
        .iter()
        .map(|spec| values(&spec.name, &spec.shape, seed, range(spec, 6.0)));
    let mut tensors = in_f64(drawn.collect::<Vec<_>>().iter().map(Vec::as_slice));
    let images = images(&fixture, &graph, seed);
    let mut optimizer = RmsProp::new(&fixture["rmsprop"], tensors.len());
    let steps = fixture["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2);
    for (number, step) in steps.iter().enumerate() {
        let asked = asked(&fixture, number, &specs, &graph, architecture.dropout);
        let pass = Pass::new(&graph, &tensors, &images, &asked);
        let labels = wholes(&fixture["labels"]);
        let gradients = pass.backward(&labels, &HashSet::new());
        let loss = step["loss"].as_f64().unwrap();
        assert!(
            (gradients.loss / loss - 1.0).abs() < TOLERANCE,
            "{} {loss}",
            gradients.loss
        );
        let references = step["gradients"].as_object().unwrap();
        assert_eq!(
            references.len(),
            specs.iter().filter(|spec| spec.kind.is_parameter()).count()
        );
        for (spec, gradient) in specs.iter().zip(&gradients.tensors) {
            let expected = references
                .get(&spec.name)
                .filter(|expected| !expected.is_null());
            assert_eq!(
                gradient.is_some(),
                expected.is_some(),
                "step {number}: {}",
                spec.name
            );
            if let Some((found, expected)) = gradient.as_ref().zip(expected) {
                check_summary("grad", spec, found, expected, seed);
            }
        }
        let statistics = pass.statistics;
        optimizer.update(&mut tensors, &gradients.tensors);
        for (norm, mean, var) in statistics {
            let [_, _, running_mean, running_var] = graph.norm_tensors(norm);
            for (running, batch) in [(running_mean, mean), (running_var, var)] {
                for (running, batch) in tensors[running].iter_mut().zip(batch) {
                    *running += NORM_MOMENTUM * (batch - *running);
                }
            }
        }
    }
    let references = fixture["tensors"].as_object().unwrap();
    assert_eq!(references.len(), specs.len());
    for (spec, found) in specs.iter().zip(&tensors) {
        check_summary("tensor", spec, found, &references[&spec.name], seed);
    }
    let (found, expected) = (
        predict(&graph, &tensors, &images),
        numbers(&fixture["logits"]),
    );
    assert_eq!(found.len(), expected.len());
    for (found, expected_logit) in found.iter().zip(&expected) {
        let error = (found - expected_logit).abs() / largest(&expected);
        assert!(error < TOLERANCE, "logits: {found} {expected_logit}");
    }
}

fn images(fixture: &Value, graph: &Graph, seed: u64) -> Vec<f64> {
    let [channels, height, width] = graph.nodes[0].shape;
    let count = fixture["images"].as_u64().unwrap() as usize;
    let images = values(
        "input",
        &[count, channels, height, width],
        seed,
        (-2.0, 4.0),
    );
    images.into_iter().map(f64::from).collect()
}

/// What the fixture's step of that number asks.
fn asked(
    fixture: &Value,
    number: usize,
    specs: &[TensorSpec],
    graph: &Graph,
    dropout: f64,
) -> Asked {
    let step = &fixture["steps"][number];
    let frozen = step["frozen"].as_str();
    let is_frozen = |spec: &TensorSpec| frozen.is_some_and(|prefix| spec.name.starts_with(prefix));
    let dropped = step["dropped"].as_array().unwrap().iter().map(wholes);
    let count = fixture["images"].as_u64().unwrap() as usize;
    let shape = [count, graph.linear.in_features];
    let seed = fixture["seed"].as_u64().unwrap();
    let drawn = values(&format!("dropout:{number}"), &shape, seed, (0.0, 1.0)).into_iter();
    let factor = |drawn: f32| f64::from(u8::from(f64::from(drawn) >= dropout)) / (1.0 - dropout);
    Asked {
        label_smoothing: fixture["label_smoothing"].as_f64().unwrap(),
        frozen: specs.iter().map(is_frozen).collect(),
        dropped: dropped.map(|pair| (pair[0], pair[1])).collect(),
        masks: vec![drawn.map(factor).collect()],
    }
}

/// Compares the norm, the product with the formula's direction, and two elements.
fn check_summary(kind: &str, spec: &TensorSpec, found: &[f64], expected: &Value, seed: u64) {
    let name = &spec.name;
    let square = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
    let direction = values(&format!("dir:{name}"), &spec.shape, seed, (-1.0, 2.0));
    let along = found
        .iter()
        .zip(&direction)
        .map(|(found, &along)| found * f64::from(along));
    let mut summary = vec![square(found).sqrt(), along.sum()];
    let indices = sample_indices(&format!("{kind}:{name}"), found.len(), seed);
    summary.extend(indices.iter().take(2).map(|&index| found[index]));
    let expected = numbers(expected);
    assert_eq!(summary.len(), expected.len(), "{kind} {name}");
    for (found, wanted) in summary.iter().zip(&expected) {
        let error = (found - wanted).abs() / expected[0];
        assert!(error < TOLERANCE, "{kind} {name}: {summary:?} {expected:?}");
    }
}

/// PyTorch's RMSProp: `s ← α·s + (1 − α)·g²`, `m ← μ·m + g / (√s + ε)`, `w ← w − η·m`; what has no
/// gradient stays.
struct RmsProp {
    rate: f64,
    alpha: f64,
    epsilon: f64,
    momentum: f64,
    /// `s` and `m` by tensor, for each element.
    state: Vec<Vec<[f64; 2]>>,
}

impl RmsProp {
    fn new(options: &Value, tensors: usize) -> Self {
        let [rate, alpha, epsilon, momentum] =
            ["lr", "alpha", "eps", "momentum"].map(|option| options[option].as_f64().unwrap());
        let state = vec![Vec::new(); tensors];
        Self {
            rate,
            alpha,
            epsilon,
            momentum,
            state,
        }
    }

    fn update(&mut self, tensors: &mut [Vec<f64>], gradients: &[Option<Vec<f64>>]) {
        for ((weights, gradient), state) in tensors.iter_mut().zip(gradients).zip(&mut self.state) {
            let Some(gradient) = gradient else { continue };
            state.resize(gradient.len(), [0.0; 2]);
            for ((weight, g), [s, m]) in weights.iter_mut().zip(gradient).zip(state) {
                *s = self.alpha * *s + (1.0 - self.alpha) * g * g;
                *m = self.momentum * *m + g / (s.sqrt() + self.epsilon);
                *weight -= self.rate * *m;
            }
        }
    }
}

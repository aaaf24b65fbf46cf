//! Very Deep PolyNet against its public port: every stage, and the gradient of every parameter.

use crate::formula::{
    TOLERANCE, bounded, check_compiled, fixtures, host, largest, numbers, sample_indices,
    stage_name, values,
};
use burn::tensor::{DType, Tensor, TensorData};
use polynet::arch::graph::TensorSpec;
use polynet::arch::{Architecture, Graph, published};
use polynet::nn::{DeviceName, HostTensor, LossOptions, Network};
use polynet::weights::port_names;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::collections::HashMap;

/// The formula's range of a tensor by its port name: low end and span.
fn range(name: &str, shape: &[usize]) -> (f32, f32) {
    let (layer, field) = name.rsplit_once('.').unwrap_or(("", name));
    match (layer, field) {
        ("last_linear", "weight") => bounded(1.0, shape),
        ("last_linear", _) => (-0.1, 0.2),
        (_, "weight") if layer.ends_with(".conv") => bounded(6.0, shape),
        (_, "weight") if layer.contains(".conv2d") && layer.ends_with(".bn") => (0.05, 0.2),
        (_, "weight" | "running_var") => (0.5, 1.0),
        _ => (-0.2, 0.4),
    }
}

struct Fixture {
    json: Value,
    seed: u64,
}

impl Fixture {
    /// Every fixture of a kind in the fixtures' folder.
    fn all(kind: &str) -> Vec<Self> {
        let fixtures = fixtures(&format!("polynet_{kind}")).into_iter();
        fixtures.map(|(json, seed)| Self { json, seed }).collect()
    }

    fn batch(&self) -> usize {
        self.json["input"][0].as_u64().unwrap() as usize
    }

    /// The formula's input, `[batch, 3, 331, 331]`.
    fn input(&self, dtype: DType) -> Tensor<4> {
        let shape = [self.batch(), 3, 331, 331];
        let data = TensorData::new(values("input", &shape, self.seed, (-2.0, 4.0)), shape);
        Tensor::from_data(data, (&DeviceName::Cpu.open(), dtype))
    }

    /// Compares a stage's sampled elements, relative to its largest element.
    fn check_stage(&self, stage: &str, found: &[f64]) {
        let reference = &self.json["stages"][stage];
        let largest = reference["max_abs"].as_f64().unwrap();
        let indices = sample_indices(&format!("sample:{stage}"), found.len(), self.seed);
        for (index, expected) in indices.into_iter().zip(numbers(&reference["samples"])) {
            let error = (found[index] - expected).abs() / largest;
            assert!(
                error < TOLERANCE,
                "{stage}[{index}]: {} {expected}",
                found[index]
            );
        }
    }
}

/// The formula's network, and the port's name of each of its tensors.
fn network(spec: &str, seed: u64) -> (Network, Vec<String>) {
    let architecture: Architecture = spec.parse().unwrap();
    let graph: Graph = architecture.graph().unwrap();
    let names = port_names(&architecture, &graph).unwrap();
    let tensors: HashMap<String, HostTensor> = graph
        .tensors()
        .zip(&names)
        .map(|(spec, name)| {
            let values = values(name, &spec.shape, seed, range(name, &spec.shape));
            let TensorSpec { name, shape, .. } = spec;
            (name, HostTensor { shape, values })
        })
        .collect();
    let network = Network::from_tensors(graph, tensors, &DeviceName::Cpu.open()).unwrap();
    (network, names)
}

#[test]
fn prediction_agrees_with_the_public_port_at_every_stage() {
    for fixture in Fixture::all("eval") {
        let (network, _) = network("very-deep-polynet", fixture.seed);
        let mut stages = 0;
        let logits = network.forward_parts(fixture.input(DType::F32), |part, output| {
            if let Some(stage) = stage_name(&network, part) {
                fixture.check_stage(&stage, &host(output.clone()));
                stages += 1;
            }
        });
        assert_eq!(stages, 6);
        let expected = numbers(&fixture.json["logits"]);
        let scale = largest(&expected);
        let found = host(logits);
        assert_eq!(found.len(), expected.len());
        let parity = published::network_of("very-deep-polynet").unwrap().parity;
        let bound = parity.bound().unwrap();
        let errors = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        let error = errors.fold(0.0, f64::max) / scale;
        println!("very-deep-polynet: logits within {error:.1e}, asked for {bound:.0e}");
        for (class, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let error = (found - expected).abs() / scale;
            assert!(error <= bound, "class {class}: {found} {expected}");
        }
        let images = fixture.input(DType::F32);
        check_compiled("very-deep-polynet", &network, images, &expected);
    }
}

/// Gradients are compared in float64: in float32 PyTorch itself is off by up to a tenth of the
/// largest element here, because batch norm cancels almost all of a gradient that comes from
/// average pooling.
#[test]
fn training_agrees_with_the_public_port_for_every_parameter() {
    for fixture in Fixture::all("train") {
        let spec = "very-deep-polynet; dropout = 0; A: 2-way; B: poly-3 -> 2-way; \
                    C: poly-3 -> 2-way";
        let (mut network, names) = network(spec, fixture.seed);
        for index in 0..names.len() {
            let tensor = network.take_tensor(index);
            network.set_tensor(index, tensor.cast(DType::F64));
        }
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let labels = numbers(&fixture.json["labels"]);
        let labels: Vec<usize> = labels.into_iter().map(|label| label as usize).collect();
        let options = LossOptions {
            label_smoothing: 0.0,
        };
        let pass = network.training_pass(fixture.input(DType::F64), &mut rng);
        let gradients = pass.backward(&labels, options);
        let loss = fixture.json["loss"].as_f64().unwrap();
        assert!(
            (gradients.loss - loss).abs() < 1e-6 * loss,
            "{} {loss}",
            gradients.loss
        );
        network.update_statistics(&gradients);
        check_gradients(&fixture, &network, &names, gradients.tensors);
        check_statistics(&fixture, &network, &names);
    }
}

fn check_gradients(
    fixture: &Fixture,
    network: &Network,
    names: &[String],
    gradients: Vec<Option<Tensor<1>>>,
) {
    let references = fixture.json["gradients"].as_object().unwrap();
    let mut checked = 0;
    for ((name, spec), gradient) in names.iter().zip(network.specs()).zip(gradients) {
        assert_eq!(gradient.is_some(), spec.kind.is_parameter(), "{name}");
        let Some(gradient) = gradient else { continue };
        let (reference, found) = (&references[name], host(gradient));
        let scale = reference["max_abs"].as_f64().unwrap();
        let norm = found.iter().map(|value| value * value).sum::<f64>().sqrt();
        let expected = reference["l2"].as_f64().unwrap();
        assert!(
            (norm - expected).abs() < TOLERANCE * expected,
            "{name}: {norm} {expected}"
        );
        let indices = sample_indices(&format!("grad:{name}"), found.len(), fixture.seed);
        for (index, expected) in indices.into_iter().zip(numbers(&reference["samples"])) {
            let error = (found[index] - expected).abs() / scale;
            assert!(
                error < TOLERANCE,
                "{name}[{index}]: {} {expected}",
                found[index]
            );
        }
        checked += 1;
    }
    assert_eq!(checked, references.len());
}

fn check_statistics(fixture: &Fixture, network: &Network, names: &[String]) {
    let references = fixture.json["buffers"].as_object().unwrap();
    let mut checked = 0;
    for ((name, spec), tensor) in names.iter().zip(network.specs()).zip(network.tensors()) {
        if spec.kind.is_parameter() {
            continue;
        }
        let found = host(tensor.clone());
        let indices = sample_indices(&format!("buffer:{name}"), found.len(), fixture.seed);
        let expected = numbers(&references[name]);
        for (index, expected) in indices.into_iter().zip(expected) {
            let error = (found[index] - expected).abs() / largest(&found);
            assert!(
                error < TOLERANCE,
                "{name}[{index}]: {} {expected}",
                found[index]
            );
        }
        checked += 1;
    }
    assert_eq!(checked, references.len());
}

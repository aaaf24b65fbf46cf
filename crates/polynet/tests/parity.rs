//! The network against the public PyTorch port of Very Deep PolyNet, computed in float64.
//!
//! Weights, statistics and input come from a formula that `peers/fixtures_polynet.py` and this file
//! share, so that the fixtures hold results only. Another seed: `cargo xtask fixtures --seed 2
//! --out DIR`, then run this test with `POLYNET_FIXTURES=DIR`.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

use burn::tensor::{DType, Tensor, TensorData};
use polynet::arch::graph::TensorSpec;
use polynet::arch::{Architecture, Graph};
use polynet::nn::{DeviceName, HostTensor, LossOptions, Network};
use polynet::weights::port_names;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::collections::HashMap;
use std::path::PathBuf;

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
/// Largest deviation allowed, relative to the largest reference value.
const TOLERANCE: f64 = 1e-4;

/// The formula's words of a tensor.
fn words(name: &str, seed: u64) -> impl Iterator<Item = u64> {
    let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    });
    let base = hash ^ seed.wrapping_mul(GOLDEN);
    (1_u64..).map(move |index| {
        let z = base.wrapping_add(index.wrapping_mul(GOLDEN));
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

/// The formula's range of a tensor by its port name: low end and span.
fn range(name: &str, shape: &[usize]) -> (f32, f32) {
    let bounded = |gain: f64| {
        let fan_in: usize = shape[1..].iter().product();
        let bound = (gain / fan_in as f64).sqrt() as f32;
        (-bound, 2.0 * bound)
    };
    let (layer, field) = name.rsplit_once('.').unwrap_or(("", name));
    match (layer, field) {
        ("", "input") => (-2.0, 4.0),
        ("last_linear", "weight") => bounded(1.0),
        ("last_linear", _) => (-0.1, 0.2),
        (_, "weight") if layer.ends_with(".conv") => bounded(6.0),
        (_, "weight") if layer.contains(".conv2d") && layer.ends_with(".bn") => (0.05, 0.2),
        (_, "weight" | "running_var") => (0.5, 1.0),
        _ => (-0.2, 0.4),
    }
}

fn values(name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    let (low, span) = range(name, shape);
    words(name, seed)
        .take(shape.iter().product())
        .map(|word| {
            let unit = (word >> 40) as f32 / (1 << 24) as f32;
            let scaled = span * unit;
            low + scaled
        })
        .collect()
}

fn sample_indices(name: &str, count: usize, seed: u64) -> Vec<usize> {
    words(name, seed)
        .map(|word| (word % count as u64) as usize)
        .take(256)
        .collect()
}

struct Fixture {
    json: Value,
    seed: u64,
}

impl Fixture {
    /// Every fixture of a kind in the fixtures' folder.
    fn all(kind: &str) -> Vec<Self> {
        let folder = match std::env::var_os("POLYNET_FIXTURES") {
            Some(folder) => PathBuf::from(folder),
            None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"),
        };
        let prefix = format!("polynet_{kind}_seed");
        let fixtures: Vec<Self> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.file_name()
                    .unwrap()
                    .to_string_lossy()
                    .starts_with(&prefix)
            })
            .map(|path| {
                let text = std::fs::read_to_string(path).unwrap();
                let json: Value = serde_json::from_str(&text).unwrap();
                let seed = json["seed"].as_u64().unwrap();
                Self { json, seed }
            })
            .collect();
        assert!(
            !fixtures.is_empty(),
            "no {kind} fixture in {}",
            folder.display()
        );
        fixtures
    }

    fn batch(&self) -> usize {
        self.json["input"][0].as_u64().unwrap() as usize
    }

    /// The formula's input, `[batch, 3, 331, 331]`.
    fn input(&self, dtype: DType) -> Tensor<4> {
        let shape = [self.batch(), 3, 331, 331];
        let data = TensorData::new(values("input", &shape, self.seed), shape);
        Tensor::from_data(data, (&DeviceName::Cpu.open(), dtype))
    }

    fn numbers(value: &Value) -> Vec<f64> {
        let numbers = value.as_array().unwrap().iter();
        numbers.map(|number| number.as_f64().unwrap()).collect()
    }

    /// Compares a stage's sampled elements, relative to its largest element.
    fn check_stage(&self, stage: &str, found: &[f64]) {
        let reference = &self.json["stages"][stage];
        let largest = reference["max_abs"].as_f64().unwrap();
        let indices = sample_indices(&format!("sample:{stage}"), found.len(), self.seed);
        for (index, expected) in indices
            .into_iter()
            .zip(Self::numbers(&reference["samples"]))
        {
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
            let values = values(name, &spec.shape, seed);
            let TensorSpec { name, shape, .. } = spec;
            (name, HostTensor { shape, values })
        })
        .collect();
    let network = Network::from_tensors(graph, tensors, &DeviceName::Cpu.open()).unwrap();
    (network, names)
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data_as::<f64>().try_into_vec().unwrap()
}

fn largest(values: &[f64]) -> f64 {
    values
        .iter()
        .fold(0.0, |largest, value| value.abs().max(largest))
}

/// The port's name of a part that it has an output for: whole stages, not single modules.
fn stage_name(network: &Network, part: &str) -> Option<String> {
    let Some((stage, position)) = part.rsplit_once('.') else {
        return (part != "head").then(|| part.to_owned());
    };
    let modules = network.graph().parts.iter();
    let count = modules
        .filter(|part| part.name.starts_with(&format!("{stage}.")))
        .count();
    (position.parse() == Ok(count - 1)).then(|| stage.to_owned())
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
        let expected = Fixture::numbers(&fixture.json["logits"]);
        let scale = largest(&expected);
        let found = host(logits);
        assert_eq!(found.len(), expected.len());
        for (class, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let error = (found - expected).abs() / scale;
            assert!(error < TOLERANCE, "class {class}: {found} {expected}");
        }
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
        let labels = Fixture::numbers(&fixture.json["labels"]);
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
        for (index, expected) in indices
            .into_iter()
            .zip(Fixture::numbers(&reference["samples"]))
        {
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
        let expected = Fixture::numbers(&references[name]);
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

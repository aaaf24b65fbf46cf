//! The networks beside PolyNet against timm and torchvision.

use crate::formula::{
    TOLERANCE, bounded, check_compiled, fixtures, folder, host, largest, numbers, sample_indices,
    stage_name, values,
};
use burn::tensor::{DType, Tensor, TensorData};
use polynet::arch::graph::{TensorKind, TensorSpec};
use polynet::arch::{Architecture, published};
use polynet::nn::{DeviceName, HostTensor, LossOptions, Network};
use polynet::weights::Naming;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::collections::HashMap;

/// A gradient below this is zero but for rounding: the others are above 1e-3.
const ZERO: f64 = 1e-9;

/// The formula's range of a tensor: low end and span.
fn range(spec: &TensorSpec, conv_gain: f64) -> (f32, f32) {
    match spec.kind {
        TensorKind::ConvWeight => bounded(conv_gain, &spec.shape),
        TensorKind::LinearWeight => bounded(1.0, &spec.shape),
        TensorKind::NormWeight | TensorKind::RunningVar => (0.5, 1.0),
        TensorKind::LinearBias => (-0.1, 0.2),
        TensorKind::ConvBias | TensorKind::NormBias | TensorKind::RunningMean => (-0.2, 0.4),
    }
}

/// The formula's network of a fixture, and the reference's name of each of its tensors.
fn network(fixture: &Value, seed: u64) -> (Network, Vec<String>) {
    let text = fixture["network"].as_str().unwrap();
    let conv_gain = fixture["conv_gain"].as_f64().unwrap();
    let architecture: Architecture = text.parse().unwrap();
    let graph = architecture.graph().unwrap();
    let naming = Naming::of(architecture.family)[0];
    let names = naming.names(&architecture, &graph).unwrap();
    let tensors: HashMap<String, HostTensor> = graph
        .tensors()
        .zip(&names)
        .map(|(spec, name)| {
            let values = values(name, &spec.shape, seed, range(&spec, conv_gain));
            let TensorSpec { name, shape, .. } = spec;
            (name, HostTensor { shape, values })
        })
        .collect();
    let network = Network::from_tensors(graph, tensors, &DeviceName::Cpu.open()).unwrap();
    (network, names)
}

/// The formula's input, `[batch, 3, size, size]`.
fn input(fixture: &Value, seed: u64, dtype: DType) -> Tensor<4> {
    let shape: Vec<usize> = numbers(&fixture["input"])
        .into_iter()
        .map(|size| size as usize)
        .collect();
    let data = TensorData::new(values("input", &shape, seed, (-2.0, 4.0)), shape);
    Tensor::from_data(data, (&DeviceName::Cpu.open(), dtype))
}

/// Predicts every evaluation fixture of `name`, and checks every stage against `TOLERANCE` and the
/// logits against `bound`, each relative to the largest reference value.
fn check_prediction(name: &str, bound: f64) {
    for (fixture, seed) in fixtures(&format!("{name}_eval")) {
        let (network, _) = network(&fixture, seed);
        let mut stages = 0;
        let logits = network.forward_parts(input(&fixture, seed, DType::F32), |part, output| {
            let stage = stage_name(&network, part).unwrap_or_default();
            let Some(reference) = fixture["stages"].get(&stage) else {
                return;
            };
            let found = host(output.clone());
            let scale = reference["max_abs"].as_f64().unwrap();
            let indices = sample_indices(&format!("sample:{stage}"), found.len(), seed);
            for (index, expected) in indices.into_iter().zip(numbers(&reference["samples"])) {
                let error = (found[index] - expected).abs() / scale;
                let found = found[index];
                assert!(
                    error < TOLERANCE,
                    "{name} {stage}[{index}]: {found} {expected}"
                );
            }
            stages += 1;
        });
        assert_eq!(stages, fixture["stages"].as_object().unwrap().len());
        let expected = numbers(&fixture["logits"]);
        let found = host(logits);
        assert_eq!(found.len(), expected.len());
        let errors = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        let error = errors.fold(0.0, f64::max) / largest(&expected);
        println!("{name}: logits within {error:.1e}, asked for {bound:.0e}");
        assert!(error <= bound, "{name}: {error:e}");
        let images = input(&fixture, seed, DType::F32);
        check_compiled(name, &network, images, &expected);
    }
}

/// One test for a network, so that they run side by side; the bound is the one that the table of
/// networks states.
macro_rules! predictions {
    ($($test:ident: $preset:literal,)*) => {
        $(
            #[test]
            fn $test() {
                let parity = published::network_of($preset).unwrap().parity;
                check_prediction($preset, parity.bound().unwrap());
            }
        )*

        /// A network whose parity is stated is a network whose parity is tested.
        #[test]
        fn every_stated_parity_is_tested() {
            let tested = ["very-deep-polynet", $($preset),*];
            for network in published::networks() {
                let is_tested = tested.contains(&network.preset);
                assert_eq!(network.parity.bound().is_some(), is_tested, "{}", network.preset);
            }
        }
    };
}

predictions! {
    inception_v4_predicts_as_the_public_one: "inception-v4",
    inception_resnet_v2_predicts_as_the_public_one: "inception-resnet-v2",
    resnet_50_predicts_as_the_public_one: "resnet-50",
    resnet_101_predicts_as_the_public_one: "resnet-101",
    resnet_152_predicts_as_the_public_one: "resnet-152",
    resnet_200_predicts_as_the_public_one: "resnet-200",
    resnet_269_predicts_as_the_public_one: "resnet-269",
    resnet_500_predicts_as_the_public_one: "resnet-500",
    resnet_v1_50_predicts_as_the_public_one: "resnet-v1-50",
    resnet_v1_101_predicts_as_the_public_one: "resnet-v1-101",
    resnet_v1_152_predicts_as_the_public_one: "resnet-v1-152",
}

#[test]
fn networks_have_the_parameters_and_macs_of_public_implementations() {
    let path = folder().join("networks_counts.json");
    let json: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let references = json["networks"].as_object().unwrap();
    assert_eq!(references.len(), 12);
    for (preset, reference) in references {
        let cost = format!("{preset}; input = {}", reference["input"])
            .parse::<Architecture>()
            .unwrap()
            .cost()
            .unwrap();
        let found = (cost.parameters.total(), cost.macs);
        let number = |key: &str| reference[key].as_u64().unwrap();
        assert_eq!(found, (number("parameters"), number("macs")), "{preset}");
    }
}

/// Gradients are compared in float64, as those of PolyNet.
#[test]
fn training_agrees_with_public_implementations_for_every_parameter() {
    for name in ["inception-v4", "inception-resnet-v2", "resnet", "resnet-v1"] {
        for (fixture, seed) in fixtures(&format!("{name}_train")) {
            check_training(name, &fixture, seed);
        }
    }
}

fn check_training(network_name: &str, fixture: &Value, seed: u64) {
    let (mut network, names) = network(fixture, seed);
    for index in 0..names.len() {
        let tensor = network.take_tensor(index);
        network.set_tensor(index, tensor.cast(DType::F64));
    }
    let labels = numbers(&fixture["labels"]).into_iter();
    let labels: Vec<usize> = labels.map(|label| label as usize).collect();
    let options = LossOptions {
        label_smoothing: 0.0,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let pass = network.training_pass(input(fixture, seed, DType::F64), &mut rng);
    let gradients = pass.backward(&labels, options);
    let loss = fixture["loss"].as_f64().unwrap();
    let found = gradients.loss;
    assert!(
        (found - loss).abs() < 1e-6 * loss,
        "{network_name}: {found} {loss}"
    );
    let references = fixture["gradients"].as_object().unwrap();
    let mut checked = 0;
    for (name, gradient) in names.iter().zip(gradients.tensors) {
        let Some(gradient) = gradient else { continue };
        let (reference, found) = (&references[name], host(gradient));
        // A bias before batch norm has no gradient but rounding's.
        let scale = reference["max_abs"].as_f64().unwrap().max(ZERO);
        let norm = found.iter().map(|value| value * value).sum::<f64>().sqrt();
        let expected = reference["l2"].as_f64().unwrap();
        let error = (norm - expected).abs() / expected.max(ZERO);
        assert!(
            error < TOLERANCE,
            "{network_name} {name}: {norm} {expected}"
        );
        let indices = sample_indices(&format!("grad:{name}"), found.len(), seed);
        for (index, expected) in indices.into_iter().zip(numbers(&reference["samples"])) {
            let (found, error) = (found[index], (found[index] - expected).abs() / scale);
            assert!(
                error < TOLERANCE,
                "{network_name} {name}[{index}]: {found} {expected}"
            );
        }
        checked += 1;
    }
    assert_eq!(checked, references.len(), "{network_name}");
}

//! The networks beside PolyNet against timm and torchvision.

use crate::formula::{LOGITS, bounded, check_logits, fixtures, folder, numbers, values};
use polynet::Params;
use polynet::arch::graph::{TensorKind, TensorSpec};
use polynet::arch::{Architecture, Graph, published};
use polynet::params::{HostTensor, Naming, TensorMap};
use serde_json::Value;

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

/// The formula's network of a fixture.
fn network(fixture: &Value, seed: u64) -> (Graph, Params) {
    let text = fixture["network"].as_str().unwrap();
    let conv_gain = fixture["conv_gain"].as_f64().unwrap();
    let architecture: Architecture = text.parse().unwrap();
    let graph = architecture.graph().unwrap();
    let naming = Naming::of(architecture.family)[0];
    let names = naming.names(&architecture, &graph).unwrap();
    let tensors: TensorMap = graph
        .tensors()
        .zip(&names)
        .map(|(spec, name)| {
            let values = values(name, &spec.shape, seed, range(&spec, conv_gain));
            let TensorSpec { name, shape, .. } = spec;
            (name, HostTensor { shape, values })
        })
        .collect();
    let params = Params::from_source(&graph, &tensors).unwrap();
    (graph, params)
}

/// The formula's input, `[batch, 3, size, size]`.
fn input(fixture: &Value, seed: u64) -> Vec<f32> {
    let shape: Vec<usize> = numbers(&fixture["input"])
        .into_iter()
        .map(|size| size as usize)
        .collect();
    values("input", &shape, seed, (-2.0, 4.0))
}

/// Predicts every evaluation fixture of `name`.
fn check_prediction(name: &str) {
    for (fixture, seed) in fixtures(&format!("{name}_eval")) {
        let (graph, params) = network(&fixture, seed);
        let images = input(&fixture, seed);
        let expected = numbers(&fixture["logits"]);
        check_logits(name, (&graph, &params), &images, (&expected, LOGITS));
    }
}

/// One test for a network, so that they run side by side; the bound is the one that the table of
/// networks states.
macro_rules! predictions {
    ($($test:ident: $preset:literal,)*) => {
        $(
            #[test]
            fn $test() {
                check_prediction($preset);
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

//! The networks beside PolyNet against timm and torchvision.

use crate::reference::Reference;
use polynet::Naming;
use polynet::arch::{Architecture, published};
use polynet_oracle::formula::{fixture, fixtures, range};
use serde_json::Value;

/// The formula's network of a fixture.
fn reference((fixture, seed): (Value, u64)) -> Reference {
    let architecture: Architecture = fixture["network"].as_str().unwrap().parse().unwrap();
    let conv_gain = fixture["conv_gain"].as_f64().unwrap();
    let graph = architecture.graph().unwrap();
    let naming = Naming::of(architecture.family)[0];
    let names = naming.names(&architecture, &graph).unwrap();
    Reference::new((fixture, seed), graph, names, |spec, _| {
        range(spec, conv_gain)
    })
}

/// One test for a network, so that they run side by side; the bound is the one that the table of
/// networks states.
macro_rules! predictions {
    ($($test:ident: $preset:literal,)*) => {
        $(
            #[test]
            fn $test() {
                for fixture in fixtures(&format!("{}_eval", $preset)) {
                    reference(fixture).check_prediction($preset);
                }
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
fn training_agrees_with_public_implementations_for_every_parameter() {
    for name in ["inception-v4", "inception-resnet-v2", "resnet", "resnet-v1"] {
        for fixture in fixtures(&format!("{name}_train")) {
            reference(fixture).check_training(name);
        }
    }
}

#[test]
fn networks_have_the_parameters_and_macs_of_public_implementations() {
    let json = fixture("networks_counts.json");
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

//! Very Deep PolyNet against its public port.

use crate::reference::Reference;
use polynet::{Architecture, port_names};
use polynet_oracle::formula::{bounded, fixtures};
use serde_json::Value;

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

/// The formula's network.
fn reference(fixture: (Value, u64), spec: &str) -> Reference {
    let architecture: Architecture = spec.parse().unwrap();
    let graph = architecture.graph().unwrap();
    let names = port_names(&architecture, &graph).unwrap();
    Reference::new(fixture, graph, names, |spec, name| range(name, &spec.shape))
}

#[test]
fn prediction_agrees_with_the_public_port() {
    for fixture in fixtures("polynet_eval") {
        reference(fixture, "very-deep-polynet").check_prediction("very-deep-polynet");
    }
}

#[test]
fn training_agrees_with_the_public_port_for_every_parameter() {
    for fixture in fixtures("polynet_train") {
        let spec = "very-deep-polynet; dropout = 0; A: 2-way; B: poly-3 -> 2-way; \
                    C: poly-3 -> 2-way";
        reference(fixture, spec).check_training("very-deep-polynet");
    }
}

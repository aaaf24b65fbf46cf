//! Very Deep PolyNet against its public port.

use crate::formula::{LOGITS, bounded, check_logits, fixtures, numbers, values};
use polynet::Params;
use polynet::arch::graph::TensorSpec;
use polynet::arch::{Architecture, Graph};
use polynet::params::{HostTensor, TensorMap, port_names};

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
fn network(spec: &str, seed: u64) -> (Graph, Params) {
    let architecture: Architecture = spec.parse().unwrap();
    let graph: Graph = architecture.graph().unwrap();
    let names = port_names(&architecture, &graph).unwrap();
    let tensors: TensorMap = graph
        .tensors()
        .zip(&names)
        .map(|(spec, name)| {
            let values = values(name, &spec.shape, seed, range(name, &spec.shape));
            let TensorSpec { name, shape, .. } = spec;
            (name, HostTensor { shape, values })
        })
        .collect();
    let params = Params::from_source(&graph, &tensors).unwrap();
    (graph, params)
}

#[test]
fn prediction_agrees_with_the_public_port() {
    for (fixture, seed) in fixtures("polynet_eval") {
        let (graph, params) = network("very-deep-polynet", seed);
        let batch = fixture["input"][0].as_u64().unwrap() as usize;
        let images = values("input", &[batch, 3, 331, 331], seed, (-2.0, 4.0));
        let expected = numbers(&fixture["logits"]);
        let network = (&graph, &params);
        check_logits("very-deep-polynet", network, &images, (&expected, LOGITS));
    }
}

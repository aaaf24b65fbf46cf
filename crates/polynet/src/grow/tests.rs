//! Whole growths of tiny networks.

use super::*;
use crate::arch::graph::TensorKind;
use crate::data::{ClassNames, Preprocessing};
use crate::params::{HostTensor, ModelConfig, ModelFolder, Params, TensorMap};

const TINY: &str = "family = small; width = 0.0625; classes = 3; input = 16";

fn names(names: &[&str]) -> ClassNames {
    ClassNames::new(names.iter().map(|name| (*name).to_owned()).collect()).unwrap()
}

/// A model with random weights and running statistics of no simple kind.
fn model(spec: &str) -> ModelFolder {
    let architecture: Architecture = spec.parse().unwrap();
    let graph = architecture.graph().unwrap();
    let mut tensors: TensorMap = Params::init(&graph, 5).to_map();
    for spec in graph.tensors() {
        let values = &mut tensors.get_mut(&spec.name).unwrap().values;
        for (index, value) in values.iter_mut().enumerate() {
            let wave = ((index * 7 + spec.name.len()) % 11) as f32 / 11.0;
            *value = match spec.kind {
                TensorKind::NormWeight | TensorKind::RunningVar => 0.5 + wave,
                TensorKind::NormBias | TensorKind::RunningMean => wave - 0.4,
                _ => *value,
            };
        }
    }
    let params = Params::from_source(&graph, &tensors).unwrap();
    let names = names(&["cat", "dog", "owl"]);
    let preprocessing = Preprocessing::small(architecture.input_size);
    ModelFolder {
        config: ModelConfig::new(&architecture, names, preprocessing, "Trained on pictures."),
        architecture,
        graph,
        params,
    }
}

fn tiny(stages: &str) -> String {
    format!("{TINY}; {stages}")
}

fn same_function() -> GrowOptions {
    GrowOptions {
        start: Start::SameFunction,
        ..GrowOptions::default()
    }
}

fn try_grow(from: &str, to: &str, options: GrowOptions) -> Result<Grown, GrowError> {
    grow(&model(from), "base", &to.parse().unwrap(), None, options)
}

#[test]
fn the_function_stays_where_inserted_blocks_can_be_zero() {
    let ir = tiny("A: I + F; B: (I + F) x2; C: I + F");
    let table = [
        (ir.clone(), tiny("A: 2-way; B: (I + F) x2; C: mpoly-3")),
        (
            ir.clone(),
            tiny("A: I + F; B: (2-way -> 3-way) x2; C: (I + F) x3"),
        ),
        (
            ir.clone(),
            tiny("A: (I + F) x2; B: I + F + G(I + F) -> 2-way; C: I + F"),
        ),
        // Every order has a last layer of its own.
        (
            ir.clone(),
            tiny("sharing = release; A: poly-2; B: poly-3 -> 2-way; C: poly-2 x2"),
        ),
        (
            tiny("sharing = release; A: poly-2; B: poly-2 x2; C: I + F"),
            tiny("sharing = release; A: poly-3; B: (poly-3 + G) x4; C: I + F"),
        ),
        // A block that ends in a convolution without batch norm, and no ReLU after the sum.
        (
            "resnet-50; width = 0.0625; classes = 3; input = 32".to_owned(),
            "resnet-50; width = 0.0625; classes = 3; input = 32; 1: (I + F) x3; 4: 2-way x2"
                .to_owned(),
        ),
        (
            ir,
            tiny("A: 2-way; B: (I + F) x2; C: I + F; dropout = 0")
                .replace("input = 16", "input = 24"),
        ),
    ];
    for (from, to) in table {
        for placement in [Placement::Interleaved, Placement::Appended] {
            let options = GrowOptions {
                placement,
                ..same_function()
            };
            let grown = try_grow(&from, &to, options).unwrap();
            let difference = grown.report.difference;
            // Sums of merged convolutions have another order.
            assert!(
                difference.features <= 1e-5 * difference.largest_feature,
                "{to}"
            );
            assert!(difference.logits <= 1e-5 * difference.largest_logit, "{to}");
            assert!(difference.largest_logit > 0.1 && difference.classes == 3);
            // The zeros are what keeps it.
            let random = GrowOptions {
                start: Start::Random,
                ..options
            };
            let random = try_grow(&from, &to, random).unwrap().report.difference;
            assert!(random.features > 0.01 * random.largest_feature, "{to}");
        }
    }
}

#[test]
fn where_it_cannot_stay_an_error_names_the_module_and_says_why() {
    let ir = tiny("A: I + F; B: (I + F) x2; C: I + F");
    let poly = tiny("A: I + F; B: poly-2 x2; C: I + F");
    let table = [
        (
            &ir,
            tiny("A: I + F; B: I + F -> poly-2; C: I + F"),
            "stage_b.1: the new term `F^2`",
        ),
        (
            &ir,
            tiny("A: I + F + F; B: (I + F) x2; C: I + F"),
            "stage_a.0: the new term `F` uses",
        ),
        (
            &ir,
            tiny("A: I + I + F; B: (I + F) x2; C: I + F"),
            "stage_a.0: the term `I` of",
        ),
        (
            &ir,
            tiny("A: I + F -> F; B: (I + F) x2; C: I + F"),
            "stage_a.1: it is new and `F` has 0",
        ),
        (
            &ir,
            tiny("A: 2-way; B: (I + F) x2; C: 2-way; scale = 0.5"),
            "stage_a.0: its residual scale changes from 0.3 to 0.5",
        ),
        (
            &poly,
            tiny("A: I + F; B: poly-2 x2; C: I + F; sharing = release"),
            "stage_b.0: `sharing` changes",
        ),
    ];
    for (from, to, expected) in table {
        let error = try_grow(from, &to, same_function())
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{to}: {error}");
        assert!(error.contains("--start random"), "{error}");
        try_grow(from, &to, GrowOptions::default()).unwrap();
    }
}

#[test]
fn separate_tensors_do_not_fit_into_shared_ones() {
    let release = tiny("A: I + F; B: poly-2 x2; C: I + F; sharing = release");
    let full = tiny("A: I + F; B: poly-2 x2; C: I + F; sharing = full");
    let error = try_grow(&release, &full, GrowOptions::default()).unwrap_err();
    let expected = "module stage_b.0: block F has a `stage_b.0.F.";
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn shared_tensors_start_each_use_that_the_model_has() {
    let from: Architecture = tiny("A: I + F; B: poly-2; C: I + F").parse().unwrap();
    let to = tiny("A: I + F; B: poly-3; C: I + F; sharing = release");
    let rows = [Some(0), Some(1), Some(2)];
    let growth = Growth::plan(&from, &to.parse().unwrap(), &rows, GrowOptions::default()).unwrap();
    let origin = |name: &str| {
        let mut tensors = growth.tensors.iter();
        match &tensors.find(|tensor| tensor.name == name).unwrap().origin {
            Origin::Copied { from } => from.clone(),
            other => format!("{other:?}"),
        }
    };
    let table = [
        (
            "stage_b.0.F.0.branch0.1.conv.weight",
            "stage_b.0.F.0.branch0.1.conv.weight",
        ),
        ("stage_b.0.F.1.conv.0.weight", "stage_b.0.F.1.conv.weight"),
        ("stage_b.0.F.1.conv.1.weight", "stage_b.0.F.1.conv.weight"),
        ("stage_b.0.F.1.conv.2.weight", "New"),
        ("stage_b.0.F.1.norm.1.bias", "stage_b.0.F.1.norm.bias"),
        (
            "stage_b.0.F.1.norm.1.running_var",
            "stage_b.0.F.1.norm.1.running_var",
        ),
        ("stage_b.0.F.1.norm.2.running_var", "New"),
        (
            "reduction_a.branch1.conv.weight",
            "reduction_a.branch1.conv.weight",
        ),
        ("head.linear.bias", "head.linear.bias"),
    ];
    for (tensor, expected) in table {
        assert_eq!(origin(tensor), expected);
    }
}

#[test]
fn copies_are_exact_and_new_tensors_follow_the_seed() {
    let base = model(&tiny("A: I + F; B: I + F; C: I + F"));
    let to: Architecture = tiny("A: (I + F) x2; B: 2-way; C: I + F").parse().unwrap();
    let grown = |seed| {
        let options = GrowOptions {
            seed,
            ..GrowOptions::default()
        };
        grow(&base, "base", &to, None, options).unwrap()
    };
    let (one, again, other) = (grown(1), grown(1), grown(2));
    let (model, new) = (base.params.to_map(), one.params.to_map());
    for tensor in &one.report.tensors {
        let name = tensor.name.as_str();
        assert_eq!(new[name], again.params.to_map()[name]);
        match &tensor.origin {
            Origin::Copied { from } => assert_eq!(new[name], model[from], "{name}"),
            Origin::New if name.ends_with("conv.weight") => {
                assert_ne!(new[name], other.params.to_map()[name], "{name}");
            }
            origin => assert_eq!(*origin, Origin::New),
        }
    }
    let copied = one.report.tensors.iter();
    let copied = copied
        .filter(|t| matches!(t.origin, Origin::Copied { .. }))
        .count();
    assert_eq!(
        copied,
        model.len(),
        "every tensor of the model has its place"
    );
    assert_eq!(one.report.copied()[0].0, copied);
}

#[test]
fn rows_of_known_classes_move_with_their_names() {
    let base = model(&tiny("A: I + F; B: I + F; C: I + F"));
    let to = tiny("A: 2-way; B: I + F; C: I + F; classes = 4").replace("classes = 3; ", "");
    let to: Architecture = to.parse().unwrap();
    let classes = Some(names(&["owl", "fox", "cat", "elk"]));
    let grown = grow(&base, "base", &to, classes, same_function()).unwrap();
    let (old, new) = (base.params.to_map(), grown.params.to_map());
    let row = |tensor: &HostTensor, index: usize| {
        let length = tensor.values.len() / tensor.shape[0];
        tensor.values[index * length..][..length].to_vec()
    };
    for name in ["head.linear.weight", "head.linear.bias"] {
        assert_eq!(row(&new[name], 0), row(&old[name], 2));
        assert_eq!(row(&new[name], 2), row(&old[name], 0));
    }
    let difference = grown.report.difference;
    assert_eq!((difference.classes, difference.logits), (2, 0.0));
    // Without names the head is new.
    let grown = grow(&base, "base", &to, None, GrowOptions::default()).unwrap();
    assert_eq!(grown.report.difference.classes, 0);
    assert_eq!(grown.config.classes[3], "class 3");
    let error = grow(
        &base,
        "base",
        &to,
        Some(names(&["a", "b"])),
        same_function(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("4 classes, 2 names"), "{error}");
}

#[test]
fn a_grown_model_is_written_with_its_history() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("grown");
    let from = tiny("A: I + F; B: I + F; C: I + F");
    let grown = try_grow(
        &from,
        &tiny("A: 2-way; B: I + F; C: I + F"),
        same_function(),
    )
    .unwrap();
    grown.save(&out).unwrap();
    let opened = ModelFolder::open(&out).unwrap();
    assert_eq!(opened.params.to_map(), grown.params.to_map());
    let card = std::fs::read_to_string(out.join("README.md")).unwrap();
    for text in [
        "Grown from base",
        "start same-function",
        "Trained on pictures.",
    ] {
        assert!(card.contains(text), "{card}");
    }
    let error = grown.save(&out).unwrap_err().to_string();
    assert!(error.contains("not empty"), "{error}");
}

//! Exported ONNX files are read back and run: the operators become a graph again, with the file's tensors,
//! and the oracle computes both.

mod file;
mod network;

use file::OnnxFile;
use network::Network;
use polynet::arch::graph::{Op, TensorKind};
use polynet::data::{ClassNames, Interpolation, Preprocessing, Resize};
use polynet::export::{BatchNormForm, OnnxInput, OnnxOptions, write_onnx};
use polynet::{ModelConfig, ModelFolder, default_class_names};
use polynet_oracle::agreement::Case;
use polynet_oracle::formula::largest;
use polynet_oracle::predict;

/// Largest deviation of a logit, relative to the largest: folded weights are rounded once.
const ALLOWED: f64 = 1e-6;

fn model(text: &str, case: &Case) -> ModelFolder {
    let architecture: polynet::Architecture = text.parse().unwrap();
    let size = architecture.input_size;
    let classes = default_class_names(architecture.num_classes);
    // Mean and deviation of bytes as the formula's images have them.
    let preprocessing = Preprocessing {
        resize: Resize::None,
        interpolation: Interpolation::Bilinear,
        ..Preprocessing::imagenet(size)
    };
    ModelFolder {
        config: ModelConfig::new(&architecture, classes, preprocessing, "A test."),
        graph: case.graph.as_ref().clone(),
        params: case.params.clone(),
        architecture,
    }
}

fn exported(model: &ModelFolder, options: &OnnxOptions) -> OnnxFile {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    write_onnx(&path, model, options).unwrap();
    OnnxFile::read(&std::fs::read(&path).unwrap())
}

fn relative_error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let errors = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    errors.fold(0.0, f64::max) / largest(expected)
}

const FORMS: [BatchNormForm; 2] = [BatchNormForm::Folded, BatchNormForm::Kept];

fn check(text: &str) {
    let case = Case::new(text, 2, 1);
    let model = model(text, &case);
    let images: Vec<f64> = case.images.iter().copied().map(f64::from).collect();
    let expected = predict(&case.graph, &case.tensors, &images);
    for batch_norm in FORMS {
        let options = OnnxOptions {
            batch_norm,
            ..OnnxOptions::default()
        };
        let file = exported(&model, &options);
        let network = Network::new(&file, case.graph.nodes[0].shape);
        let found = predict(&network.graph, &network.tensors, &images);
        let error = relative_error(&found, &expected);
        println!("{text}, {batch_norm:?}: logits within {error:.1e}");
        assert!(error <= ALLOWED, "{text}, {batch_norm:?}: {error:e}");
        check_tensors(&file, &model, batch_norm);
    }
}

/// Kept batch norm means that the file's tensors are the model's, and as many operators as the graph has.
fn check_tensors(file: &OnnxFile, model: &ModelFolder, form: BatchNormForm) {
    let count = |operator: &str| {
        let nodes = file.nodes.iter();
        nodes.filter(|node| node.operator == operator).count()
    };
    let is_conv = |op: &Op| matches!(op, Op::Conv { .. });
    let convs = model.graph.nodes.iter().filter(|node| is_conv(&node.op));
    assert_eq!(count("Conv"), convs.count());
    let is_norm = |op: &Op, form| match op {
        Op::Conv { norm, .. } => norm.is_some() && form == BatchNormForm::Kept,
        Op::Norm { .. } => true,
        _ => false,
    };
    let norms = model.graph.nodes.iter();
    let norms = norms.filter(|node| is_norm(&node.op, form)).count();
    assert_eq!(count("BatchNormalization"), norms);
    for (spec, values) in model.params.iter() {
        match file.tensors.get(&spec.name) {
            Some(tensor) if form == BatchNormForm::Kept => {
                assert_eq!((&tensor.shape, &tensor.values[..]), (&spec.shape, values));
            }
            Some(tensor) => assert_eq!(tensor.shape, spec.shape),
            None => {
                let is_folded = matches!(
                    spec.kind,
                    TensorKind::NormWeight
                        | TensorKind::NormBias
                        | TensorKind::RunningMean
                        | TensorKind::RunningVar
                );
                assert!(is_folded && form == BatchNormForm::Folded, "{}", spec.name);
            }
        }
    }
}

macro_rules! exports {
    ($($test:ident: $text:literal,)*) => {
        $(
            #[test]
            fn $test() {
                check($text);
            }
        )*
    };
}

exports! {
    polynet: "small-polynet; width = 0.125",
    scaled_modules_of_three_blocks: "small-ir-1-2-1; width = 0.2; B: mpoly-3 x2; C: 3-way",
    nested_sums: "small-ir-1-2-1; width = 0.25; B: (I + F)^2 x2; A: I + F + GF + HF",
    sharing_of_the_release:
        "small-ir-1-2-1; width = 0.25; sharing = release; scale = release; B: poly-3 x2; C: F + GF",
    pre_activation_resnet: "resnet-50; width = 0.125; input = 64; scale = 0.5; 2: poly-2 x3",
    post_activation_resnet: "resnet-v1-50; width = 0.25; input = 64",
    inception_resnet: "ir-3-6-3; width = 0.25; input = 107; B: 2-way x6",
    inception_resnet_v2: "inception-resnet-v2; width = 0.25; input = 107; A: 2-way x2",
    inception_v4: "inception-v4; width = 0.25; input = 107",
}

#[test]
fn a_graph_that_takes_bytes_prepares_them_as_the_model_does() {
    let text = "small-ir-1-2-1; width = 0.125; dropout = 0.5";
    let case = Case::new(text, 1, 1);
    let model = model(text, &case);
    let size = model.architecture.input_size;
    let picture = image::RgbImage::from_fn(size as u32, size as u32, |x, y| {
        image::Rgb([x as u8 * 7, y as u8 * 5, (x * y) as u8])
    });
    let prepared = model.config.preprocessing.apply(&picture);
    let prepared: Vec<f64> = prepared.into_iter().map(f64::from).collect();
    let expected = predict(&case.graph, &case.tensors, &prepared);
    let bytes: Vec<f64> = (0..3)
        .flat_map(|channel| picture.pixels().map(move |pixel| f64::from(pixel[channel])))
        .collect();
    for (input, axes) in [
        (OnnxInput::BytesNhwc, "batch,height,width,3"),
        (OnnxInput::BytesNchw, "batch,3,height,width"),
    ] {
        for batch_norm in FORMS {
            let license = None;
            let options = OnnxOptions {
                batch_norm,
                input,
                license,
            };
            let file = exported(&model, &options);
            assert_eq!(file.input, ("images".to_owned(), "uint8", axes.to_owned()));
            let network = Network::new(&file, case.graph.nodes[0].shape);
            let found = predict(&network.graph, &network.tensors, &bytes);
            let error = relative_error(&found, &expected);
            assert!(error <= ALLOWED, "{input:?}, {batch_norm:?}: {error:e}");
        }
    }
}

#[test]
fn a_file_says_what_it_is() {
    let text = "small-ir-1-2-1; width = 0.125; classes = 2";
    let mut model = model(text, &Case::new(text, 1, 1));
    let names = vec!["tabby, \"cat\"".to_owned(), "Großer Hund".to_owned()];
    model.config.classes = ClassNames::new(names.clone()).unwrap();
    let options = OnnxOptions {
        license: Some("CC-BY-4.0".to_owned()),
        ..OnnxOptions::default()
    };
    let file = exported(&model, &options);
    assert_eq!(file.opset, 17);
    let axes = "batch,3,height,width".to_owned();
    assert_eq!(file.input, ("images".to_owned(), "float", axes));
    assert_eq!(
        file.output,
        ("logits".to_owned(), "float", "batch,2".to_owned())
    );
    let told = |key: &str| file.metadata[key].as_str();
    let architecture: polynet::Architecture = told("architecture").parse().unwrap();
    assert_eq!(architecture.graph().unwrap(), model.graph);
    let classes: Vec<String> = serde_json::from_str(told("classes")).unwrap();
    assert_eq!(classes, names);
    let preprocessing: Preprocessing = serde_json::from_str(told("preprocessing")).unwrap();
    assert_eq!(preprocessing, model.config.preprocessing);
    assert_eq!((told("origin"), told("license")), ("A test.", "CC-BY-4.0"));
    let without = exported(&model, &OnnxOptions::default());
    assert!(!without.metadata.contains_key("license"));
}

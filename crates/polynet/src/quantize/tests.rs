use super::*;
use crate::arch::{Architecture, Graph};
use crate::cpu::{Classifier, Isa, Numbers, PrecisionChoice, emulator};
use crate::data::{ClassNames, Preprocessing};
use crate::model::{Model, ModelOptions};
use crate::params::{ModelConfig, WeightFile};
use crate::step::Precision;

fn images(count: usize, image: usize) -> Vec<f32> {
    (0..count * image)
        .map(|index| ((index * 7919) % 1013) as f32 / 506.0 - 1.0)
        .collect()
}

fn network(spec: &str) -> (Architecture, Graph, Params) {
    let architecture: Architecture = spec.parse().unwrap();
    let graph = architecture.graph().unwrap();
    let params = Params::init(&graph, 3);
    (architecture, graph, params)
}

/// The root of the mean squared difference of logits, as a share of their spread.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let mean = expected.iter().sum::<f32>() / expected.len() as f32;
    let square = |x: f32| f64::from(x).powi(2);
    let spread: f64 = expected.iter().map(|x| square(x - mean)).sum();
    let error: f64 = found.iter().zip(expected).map(|(a, b)| square(a - b)).sum();
    (error / spread).sqrt()
}

/// Every kind of network, whole: in 8 bits it gives about what it gives in f32, and nothing but 8 bits
/// makes the difference.
#[test]
fn networks_in_eight_bits_are_near_themselves() {
    for (spec, allowed) in [
        ("small-polynet; width = 0.25", 0.1),
        (
            "small-ir-1-2-1; width = 0.25; B: mpoly-3 x2; sharing = full",
            0.1,
        ),
        ("small-ir-1-2-1; width = 0.2; C: 3-way; A: 2-way", 0.1),
        ("resnet-50; width = 0.125; input = 64", 0.2),
        ("inception-v4; width = 0.125; input = 107", 0.2),
    ] {
        let (_, graph, params) = network(spec);
        let image: usize = graph.nodes[0].shape.iter().product();
        let images = images(3, image);
        let mut calibrator = Calibrator::new(&graph, &params).unwrap();
        calibrator.observe(&images);
        let quantization = calibrator.quantization(&HashSet::new());
        assert!(quantization.layers().count() > 5, "{spec}");
        let rounded = Rounded {
            params: &params,
            quantization: &quantization,
        };
        let logits = |source: &dyn TensorSource, options| {
            let mut classifier = Classifier::new(&graph, source, options).unwrap();
            (classifier.logits(&images), classifier.numbers())
        };
        let (exact, _) = logits(&params, CompileOptions::own());
        let (found, numbers) = logits(&rounded, CompileOptions::default());
        assert_eq!(numbers, Numbers::Int8);
        let error = distance(&found, &exact);
        assert!((1e-5..allowed).contains(&error), "{spec}: {error}");
        // Asked for, f32 has the rounded weights.
        let (float, numbers) = logits(&rounded, CompileOptions::new(None, Precision::F32));
        assert_eq!(numbers, Numbers::F32);
        let error = distance(&float, &exact);
        assert!((1e-6..allowed).contains(&error), "{spec}: {error}");
        // Whole sums are exact, so instruction sets differ by what the rest is rounded by, which may turn
        // a byte.
        for isa in Isa::available() {
            let options = CompileOptions::new(Some(isa), PrecisionChoice::Auto);
            let error = distance(&logits(&rounded, options).0, &found);
            assert!(error < 0.05, "{spec} by {isa}: {error}");
        }
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let again = pool.install(|| logits(&rounded, CompileOptions::default()));
            assert!(again.0 == found, "{spec} by {threads} threads");
        }
    }
}

/// Sums of bytes are exact, and what becomes of them is computed as by vectors.
#[test]
fn tiles_give_the_bits_of_vectors_in_eight_bits() {
    let Some(tiles) = emulator::tiles() else {
        return;
    };
    let vectors: Isa = "avx512bf16".parse().unwrap();
    for (spec, count) in [
        ("small-polynet; width = 0.25", 2),
        (
            "small-ir-1-2-1; width = 0.25; B: mpoly-3 x2; sharing = full",
            2,
        ),
        ("small-ir-1-2-1; width = 0.2; C: 3-way; A: 2-way", 3),
        ("resnet-50; width = 0.125; input = 64", 2),
        ("inception-v4; width = 0.125; input = 107", 1),
    ] {
        let (_, graph, params) = network(spec);
        let image: usize = graph.nodes[0].shape.iter().product();
        let images = images(count, image);
        let mut calibrator = Calibrator::new(&graph, &params).unwrap();
        calibrator.observe(&images);
        let quantization = calibrator.quantization(&HashSet::new());
        let rounded = Rounded {
            params: &params,
            quantization: &quantization,
        };
        let logits = |isa, threads, images: &[f32]| {
            let options = CompileOptions::new(Some(isa), PrecisionChoice::Auto);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let mut classifier = Classifier::new(&graph, &rounded, options).unwrap();
                assert_eq!(classifier.numbers(), Numbers::Int8);
                assert_eq!(classifier.reads_bytes_as_tiles(), isa == tiles);
                classifier.logits(images)
            })
        };
        let expected = logits(vectors, 2, &images);
        for threads in [1, 3] {
            let found = logits(tiles, threads, &images);
            assert!(found == expected, "{spec}, {threads} threads");
        }
        let alone = logits(tiles, 2, &images[(count - 1) * image..]);
        assert!(expected.ends_with(&alone), "{spec}");
    }
}

fn save(folder: &std::path::Path, spec: &str) -> (ModelFolder, Quantization) {
    let (architecture, graph, params) = network(spec);
    let names = (0..architecture.num_classes).map(|class| format!("class {class}"));
    let size = architecture.input_size;
    let config = ModelConfig::new(
        &architecture,
        ClassNames::new(names.collect()).unwrap(),
        Preprocessing::small(size),
        "a test",
    );
    let model = ModelFolder {
        config,
        architecture,
        graph,
        params,
    };
    let mut calibrator = Calibrator::new(&model.graph, &model.params).unwrap();
    calibrator.observe(&images(2, 3 * size * size));
    let quantization = calibrator.quantization(&HashSet::new());
    model.save_quantized(folder, &quantization).unwrap();
    (model, quantization)
}

#[test]
fn a_quantized_model_is_a_quarter_as_large_and_gives_the_same_bits_from_its_folder() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("int8");
    let (model, quantization) = save(&folder, "small-polynet; width = 0.5");
    let full = temporary.path().join("full");
    ModelFolder::save(&full, &model.config, &model.params).unwrap();
    let bytes = |folder: &std::path::Path| {
        std::fs::metadata(folder.join("model.safetensors"))
            .unwrap()
            .len()
    };
    assert!(
        bytes(&folder) * 10 < bytes(&full) * 4,
        "{} {}",
        bytes(&folder),
        bytes(&full)
    );

    let file = WeightFile::open(&folder.join("model.safetensors")).unwrap();
    assert_eq!(file.quantization(), Some(&quantization));
    let images = images(2, 3 * 32 * 32);
    let rounded = Rounded {
        params: &model.params,
        quantization: &quantization,
    };
    let options = CompileOptions::default();
    let mut classifier = Classifier::new(&model.graph, &rounded, options).unwrap();
    let mut opened = Model::open(&folder).unwrap();
    assert_eq!(opened.predictor().numbers(), Numbers::Int8);
    assert_eq!(
        opened.predict_inputs(&images).logits,
        classifier.logits(&images)
    );

    // As f32 it is what it was, but for rounded weights.
    let float = ModelOptions {
        compile: CompileOptions::new(None, Precision::F32),
        ..ModelOptions::default()
    };
    let mut opened = Model::open_with(&folder, float).unwrap();
    let mut exact = Model::open_with(&full, float).unwrap();
    let error = distance(
        &opened.predict_inputs(&images).logits,
        &exact.predict_inputs(&images).logits,
    );
    assert!((1e-6..0.05).contains(&error), "{error}");

    let refused = ModelFolder::open(&folder).unwrap_err().to_string();
    assert!(refused.contains("quantized"), "{refused}");
}

#[test]
fn scales_that_do_not_fit_are_refused() {
    use safetensors::tensor::{Dtype, TensorView};
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("int8");
    save(&folder, "small-polynet; width = 0.125");
    let path = folder.join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let name = {
        let file = WeightFile::open(&path).unwrap();
        let layers = file.quantization().unwrap().layers();
        layers.map(|(name, _)| name.to_owned()).last().unwrap()
    };
    // Each change: the tensor, what its bytes become (nothing: it goes), and what the error says.
    let floats = |values: &[f32]| {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    };
    let input = format!("{name}.input_scale");
    let weight = format!("{name}.weight_scale");
    let changes: [(&str, Option<Vec<u8>>, &str); 5] = [
        (&input, None, "I8"),
        (&input, Some(floats(&[0.5; 7])), "inputs"),
        (&input, Some(floats(&[-1.0])), "scales above 0"),
        (&input, Some(floats(&[f32::NAN])), "scales above 0"),
        (&weight, Some(floats(&[1.0])), "output channels"),
    ];
    for (tensor, bytes, expected) in changes {
        let tensors = safetensors::SafeTensors::deserialize(&whole).unwrap();
        let mut kept: Vec<(String, TensorView<'_>)> = tensors.tensors();
        kept.retain(|(name, _)| name != tensor);
        if let Some(bytes) = &bytes {
            let shape = vec![bytes.len() / 4];
            kept.push((
                tensor.to_owned(),
                TensorView::new(Dtype::F32, shape, bytes).unwrap(),
            ));
        }
        std::fs::write(&path, safetensors::serialize(kept, None).unwrap()).unwrap();
        let error = Model::open(&folder).unwrap_err().to_string();
        assert!(
            error.contains(expected) && error.contains(&name),
            "{expected}: {error}"
        );
    }
}

#[test]
fn what_may_cost_nothing_leaves_everything_as_it_is() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("model");
    let data =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/cifar10-small.tar");
    let dataset = Dataset::open(&data, crate::data::Split::Validation).unwrap();
    let (mut model, _) = save(&folder, "small-ir-1-2-1; width = 0.0625");
    model.config.classes = ClassNames::new(dataset.classes().to_vec()).unwrap();
    let dataset = Arc::new(dataset);
    let options = |max_drop| QuantizeOptions {
        images: 4,
        judged: Some(20),
        max_drop,
        ..QuantizeOptions::default()
    };
    let mut counts = Vec::new();
    let mut note = |progress| {
        if let QuantizeProgress::After(_, kept) = progress {
            counts.push(kept);
        }
    };
    // More correct answers than before by all images there are: nothing gives that.
    let found = quantize(&model, [&dataset, &dataset], &options(-1.1), &mut note).unwrap();
    assert!(found.quantization.is_empty());
    let QuantizeReport {
        top1_before,
        top1_after,
        rounded,
        steps,
        ..
    } = found.report;
    assert_eq!((top1_before, rounded), (top1_after, 0));
    assert!(steps.iter().all(|step| step.kept));
    assert_eq!(counts[..4], [0, 1, 2, 4]);
    assert_eq!(counts.last(), Some(&steps.len()));

    let found = quantize(&model, [&dataset, &dataset], &options(1.0), &mut |_| {}).unwrap();
    assert_eq!(found.report.kept, 0);
    assert_eq!(found.report.rounded, found.quantization.layers().count());
    let again = quantize(&model, [&dataset, &dataset], &options(1.0), &mut |_| {}).unwrap();
    assert_eq!(again.quantization, found.quantization);
    let nothing = QuantizeOptions {
        images: 0,
        ..QuantizeOptions::default()
    };
    assert!(quantize(&model, [&dataset, &dataset], &nothing, &mut |_| {}).is_err());
}

//! The paper's method in whole runs: stochastic paths, parts of a batch, averaged weights,
//! recomputed feature maps; and how they go on after a stop.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

use polynet::ModelFolder;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn polynet(arguments: &[&str]) -> Output {
    polynet_on("2", arguments)
}

/// Runs the command with so many threads.
fn polynet_on(threads: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_polynet"))
        .args(arguments)
        .env("RAYON_NUM_THREADS", threads)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .output()
        .unwrap()
}

/// Trains a tiny network for a few steps into `folder`; gives what went to stderr.
fn train(folder: &Path, overrides: &[&str]) -> String {
    let output = try_train(folder, overrides);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{overrides:?}: {errors}");
    errors
}

fn try_train(folder: &Path, overrides: &[&str]) -> Output {
    let mut arguments = vec!["train", "recipes/first.toml"];
    arguments.extend([
        "model.architecture=family = small; width = 0.0625; A: 2-way; B: poly-2; C: 2-way",
        "optimizer={convention=\"tensorflow\", momentum=0.5}",
        "schedule={kind=\"constant\", learning_rate=0.02}",
        "training.batch_size=8",
        "training.duration=7 steps",
        "training.log_every=2",
        "training.validate_every=0 steps",
        "training.checkpoint_every=3 steps",
    ]);
    arguments.extend(overrides);
    arguments.extend(["--out", folder.to_str().unwrap()]);
    polynet(&arguments)
}

const METHOD: [&str; 6] = [
    "stochastic_paths={when=\"from 2 steps\", max_drop=0.6}",
    "training.accumulate=2",
    "training.ema=0.9",
    "training.clip_norm=0.5",
    "training.clip_value=0.2",
    "training.activations=recomputed",
];

fn weights(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("model/model.safetensors")).unwrap()
}

fn architecture(run: &Path) -> String {
    let text = std::fs::read_to_string(run.join("model/config.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    config["architecture"].as_str().unwrap().to_owned()
}

fn events(run: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|record| record["kind"] == "event")
        .map(|record| {
            format!(
                "{}: {}",
                record["step"],
                record["message"].as_str().unwrap()
            )
        })
        .collect()
}

/// Takes a finished run back to its checkpoint of that step and lets it go on, on one thread.
fn resume_from(run: &Path, step: u32) {
    for entry in std::fs::read_dir(run.join("checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        if !path.to_string_lossy().contains(&format!("{step:09}")) {
            std::fs::remove_file(path).unwrap();
        }
    }
    std::fs::remove_dir_all(run.join("model")).unwrap();
    let output = polynet_on("1", &["train", "--resume", run.to_str().unwrap()]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
}

fn folders() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    (folder, a, b)
}

#[test]
fn the_whole_method_resumes_to_the_weights_of_an_uninterrupted_run() {
    let (_folder, whole, parts) = folders();
    train(&whole, &METHOD);
    train(&parts, &METHOD);
    assert_eq!(weights(&whole), weights(&parts));
    resume_from(&parts, 6);
    assert_eq!(weights(&whole), weights(&parts));
    assert_eq!(events(&whole), events(&parts));
}

#[test]
fn a_run_in_bf16_resumes_to_the_weights_of_an_uninterrupted_run() {
    let (folder, whole, parts) = folders();
    let overrides = [&METHOD[..], &["training.precision=bf16"]].concat();
    train(&whole, &overrides);
    train(&parts, &overrides);
    resume_from(&parts, 3);
    assert_eq!(weights(&whole), weights(&parts));
    let full = folder.path().join("f32");
    train(&full, &METHOD);
    assert_ne!(weights(&whole), weights(&full));
}

#[test]
fn recomputed_feature_maps_change_no_weight() {
    let (_folder, kept, recomputed) = folders();
    train(&recomputed, &METHOD);
    train(
        &kept,
        &[&METHOD[..5], &["training.activations=kept"]].concat(),
    );
    assert_eq!(weights(&kept), weights(&recomputed));
}

#[test]
fn parts_with_their_own_batch_norm_differ_from_the_whole_batch() {
    let (_folder, whole, parts) = folders();
    let errors = train(
        &parts,
        &["training.accumulate=2", "training.duration=1 step"],
    );
    assert!(
        errors.contains("from 4 images at a time, fewer than 16"),
        "{errors}"
    );
    train(&whole, &["training.duration=1 step"]);
    assert_ne!(weights(&whole), weights(&parts));
}

#[test]
fn the_saved_model_scales_the_paths_that_training_dropped() {
    let (_folder, run, early) = folders();
    train(&run, &METHOD);
    assert!(
        architecture(&run).contains("scale = \"0.3..0.12\""),
        "{}",
        architecture(&run)
    );
    let events = events(&run);
    assert!(
        events[0].starts_with("2: stochastic paths on"),
        "{events:?}"
    );
    assert!(
        events[1].starts_with("7: stochastic paths left out"),
        "{events:?}"
    );
    // The command that reads the model scores it as the run did.
    let report = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let own = report(&std::fs::read_to_string(run.join("report.json")).unwrap());
    let model = run.join("model");
    let data = "assets/cifar10-small.tar";
    let output = polynet(&["eval", model.to_str().unwrap(), "--data", data, "--json"]);
    let read = report(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(own["top1"], read["top1"]);
    let loss = |report: &Value| report["loss"].as_f64().unwrap();
    assert!((loss(&own) - loss(&read)).abs() < 1e-6 * loss(&own));
    // A run that ends before its paths are on predicts as it was trained.
    train(&early, &["stochastic_paths.when=from 7 steps"]);
    assert!(
        architecture(&early).contains("scale = 0.3;"),
        "{}",
        architecture(&early)
    );
}

/// Photographs in two classes: nearly all of training's are of one, nearly all of validation's of the
/// other. Who learns which is the commoner one is right in training and wrong in validation, however
/// the numbers were rounded.
fn one_sided_data(folder: &Path) {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets");
    let archive = std::fs::File::open(assets.join("cifar10-small.tar")).unwrap();
    let mut archive = tar::Archive::new(archive);
    let places = [
        ("train/rare", 1),
        ("train/common", 63),
        ("val/rare", 16),
        ("val/common", 1),
    ];
    let mut places = places
        .iter()
        .flat_map(|&(place, count)| std::iter::repeat_n(place, count));
    for (number, entry) in archive.entries().unwrap().enumerate() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_file() {
            let Some(place) = places.next() else { return };
            let class = folder.join(place);
            std::fs::create_dir_all(&class).unwrap();
            entry.unpack(class.join(format!("{number}.jpg"))).unwrap();
        }
    }
    panic!("the archive has too few photographs");
}

#[test]
fn overfitting_switches_paths_on_and_is_remembered() {
    let (folder, whole, parts) = folders();
    let data = folder.path().join("data");
    one_sided_data(&data);
    let data = format!("data.path={}", data.display());
    let adaptive = [
        data.as_str(),
        "model.architecture=family = small; width = 0.0625; classes = 2; A: 2-way; B: poly-2; C: 2-way",
        "stochastic_paths={when=\"adaptive\", gap=0.1, patience=1, max_drop=0.9}",
        "training.validate_every=3 steps",
        "training.duration=10 steps",
    ];
    let errors = train(&whole, &adaptive);
    let events_whole = events(&whole);
    assert!(
        events_whole[0].contains("stochastic paths on")
            && events_whole[0].contains("because top-1"),
        "{events_whole:?}"
    );
    assert!(errors.contains("stochastic paths on"), "{errors}");
    assert!(architecture(&whole).contains("scale = \"0.3..0.03\""));
    train(&parts, &adaptive);
    resume_from(&parts, 9);
    assert_eq!(weights(&whole), weights(&parts));
    assert_eq!(events_whole, events(&parts));
}

#[test]
fn first_filters_whiten_where_the_recipe_asks_for_it() {
    let (_folder, drawn, whitened) = folders();
    let hardly = "schedule={kind=\"constant\", learning_rate=1e-9}";
    let filters = |run: &Path, overrides: &[&str]| {
        train(
            run,
            &[&["training.duration=1 steps", hardly], overrides].concat(),
        );
        let model = ModelFolder::open(&run.join("model")).unwrap();
        model.params[0].to_vec()
    };
    let drawn = filters(&drawn, &[]);
    let whitened = filters(&whitened, &["model.first_filters=whitening"]);
    // Eight filters of 27 numbers: four components, and their negatives.
    assert_eq!((drawn.len(), whitened.len()), (8 * 27, 8 * 27));
    let are_opposite = |filters: &[f32]| {
        let (components, negatives) = filters.split_at(4 * 27);
        let mut pairs = components.iter().zip(negatives);
        pairs.all(|(a, b)| (a + b).abs() < 1e-5)
    };
    assert!(are_opposite(&whitened) && !are_opposite(&drawn));
    // Photographs vary most in brightness: the first component is of one sign.
    assert!(whitened[..27].iter().all(|&weight| weight > 0.0));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let table: [(&[&str], &str); 3] = [
        (
            &[
                "stochastic_paths.when=always",
                "model.architecture=small-polynet; scale = release",
            ],
            "it would be scaled twice",
        ),
        (
            &["training.accumulate=3"],
            "a number of parts that divides training.batch_size",
        ),
        (
            &[
                "model.first_filters=whitening",
                "model.init=crates/polynet/pretrained",
            ],
            "no such key where the weights are those of model.init",
        ),
    ];
    for (overrides, expected) in table {
        let output = try_train(&folder.path().join("run"), overrides);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

//! Growing and fine-tuning as users run them.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn polynet(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_polynet"))
        .args(arguments)
        .current_dir(workspace())
        .output()
        .unwrap()
}

/// Standard output and standard error of a run that must succeed.
fn success(arguments: &[&str]) -> (String, String) {
    let output = polynet(arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {errors}");
    (String::from_utf8(output.stdout).unwrap(), errors)
}

/// Standard error of a run that must fail.
fn failure(arguments: &[&str]) -> String {
    let output = polynet(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// The arguments that train a tiny network for a few steps into `folder`.
fn training<'a>(folder: &'a str, overrides: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["train", "recipes/first.toml"];
    arguments.extend([
        "model.architecture=small-ir-1-2-1; width = 0.0625",
        "training.batch_size=8",
        "training.duration=4 steps",
        "training.validate_every=0 steps",
        "training.checkpoint_every=2 steps",
        "schedule.warm_up=1 step",
    ]);
    arguments.extend(overrides);
    arguments.extend(["--out", folder]);
    arguments
}

/// The tensors of a run's model by name.
fn tensors(run: &str) -> BTreeMap<String, Vec<u8>> {
    let bytes = std::fs::read(format!("{run}/model/model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter();
    tensors
        .map(|(name, view)| (name, view.data().to_vec()))
        .collect()
}

/// The first shipped photographs of two classes, in two folders of those names.
fn two_classes(folder: &Path, names: [(&str, &str); 2]) {
    let file = std::fs::File::open(workspace().join("assets/cifar10-small.tar")).unwrap();
    let mut counts = BTreeMap::new();
    for entry in tar::Archive::new(file).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mut parts = path.rsplit('/').map(str::to_owned);
        let (image, class) = (parts.next().unwrap(), parts.next().unwrap_or_default());
        let Some((_, name)) = names.iter().find(|(known, _)| *known == class) else {
            continue;
        };
        let split = if path.contains("train/") {
            "train"
        } else {
            "val"
        };
        let count: &mut usize = counts.entry((split, *name)).or_default();
        *count += 1;
        if *count <= 12 && entry.header().entry_type().is_file() {
            let to = folder.join(split).join(name);
            std::fs::create_dir_all(&to).unwrap();
            entry.unpack(to.join(image)).unwrap();
        }
    }
}

#[test]
fn a_model_grows_into_a_larger_one_that_starts_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let run = path("run");
    success(&training(&run, &["training.duration=2 steps"]));
    let (base, same, tuned) = (format!("{run}/model"), path("same"), path("tuned"));
    let to = "small-polynet; width = 0.0625; B: 2-way x4; C: mpoly-2 x2";
    let grow = ["grow", &base, "--start", "same-function", "--to"];
    let (json, _) = success(&[&grow[..], &[to, "--out", &same, "--json"]].concat());
    let json: Value = serde_json::from_str(&json).unwrap();
    // Sums of merged convolutions have another order.
    let number = |key: &str| json["difference"][key].as_f64().unwrap();
    assert!(number("logits") <= 1e-5 * number("largest_logit"), "{json}");
    assert_eq!(json["modules"][1]["from"], "stage_b.0");
    assert_eq!(json["modules"][2]["from"], Value::Null);
    let from = format!("model.init={same}");
    let model = format!("model.architecture={to}");
    success(&training(
        &tuned,
        &[&model, &from, "training.duration=1 step"],
    ));
    let card = std::fs::read_to_string(format!("{tuned}/model/README.md")).unwrap();
    assert!(card.contains(&format!("from {same}")), "{card}");
    assert!(card.contains(&format!("Grown from {base}")), "{card}");
    // What can't be done is refused before anything is written.
    let out = path("none");
    let error = failure(&[&grow[..], &["small-polynet", "--out", &out]].concat());
    assert!(error.contains("write `width = 0.0625`"), "{error}");
    assert!(!Path::new(&out).exists());
    let from = format!("model.init={base}");
    let error = failure(&training(&out, &[&model, &from]));
    assert!(error.contains("grow it first: polynet grow"), "{error}");
}

#[test]
fn fine_tuning_moves_what_it_should_and_resumes_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (base, whole, parts, data) = (path("base"), path("whole"), path("parts"), path("data"));
    success(&training(&base, &[]));
    two_classes(Path::new(&data), [("cat", "cat"), ("ship", "boat")]);
    let init = format!("model.init={base}/model");
    let data = format!("data.path={data}");
    let overrides = [
        init.as_str(),
        data.as_str(),
        "model.architecture=small-ir-1-2-1; width = 0.0625; classes = 2",
        "fine_tuning.frozen=[\"stem\", \"B\"]",
        "fine_tuning.rates={head = 10.0, A = 0.5}",
        "training.validate_every=0 steps",
    ];
    let (_, said) = success(&training(&whole, &overrides));
    assert!(said.contains("1 of 2 keep their row"), "{said}");
    let (old, new) = (tensors(&base), tensors(&whole));
    for (name, values) in &new {
        let frozen = name.starts_with("stem.") || name.starts_with("stage_b.");
        assert_eq!(old[name] == *values, frozen, "{name}");
    }
    // The other run dies after its checkpoint at step 2.
    success(&training(&parts, &overrides));
    std::fs::remove_file(format!("{parts}/checkpoints/step-000000004.safetensors")).unwrap();
    std::fs::remove_dir_all(format!("{parts}/model")).unwrap();
    success(&["train", "--resume", &parts]);
    assert_eq!(new, tensors(&parts));
    // A part that is none is an error with the names of all.
    let none = path("none");
    let error = failure(&training(&none, &["fine_tuning.frozen=[\"D\"]"]));
    assert!(
        error.contains("its parts are stem, A, reduction_a, B,"),
        "{error}"
    );
    assert!(!Path::new(&none).exists());
}

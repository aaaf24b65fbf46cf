//! The command as users run it: its output, its exit status, its files.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

use polynet::data::Preprocessing;
use polynet::{Architecture, ModelConfig, ModelFolder, Params, default_class_names};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn polynet(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_polynet"))
        .args(arguments)
        .current_dir(workspace())
        .output()
        .unwrap()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Standard output of a run that must succeed.
fn stdout(arguments: &[&str]) -> String {
    let output = polynet(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a run that must fail with `status`.
fn failure(arguments: &[&str], status: i32) -> String {
    let output = polynet(arguments);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Trains a tiny network of the first recipe for a few steps into `folder`.
fn train(folder: &Path, overrides: &[&str]) -> Output {
    let mut arguments = vec!["train", "recipes/first.toml"];
    arguments.extend([
        "model.architecture=small-ir-1-2-1; width = 0.0625",
        "training.batch_size=8",
        "training.log_every=2",
        "training.validate_every=0 steps",
        "training.checkpoint_every=3 steps",
        "schedule.warm_up=1 step",
    ]);
    arguments.extend(overrides);
    let folder = folder.to_str().unwrap();
    arguments.extend(["--out", folder]);
    polynet(&arguments)
}

fn weights(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("model/model.safetensors")).unwrap()
}

/// A small data set: the first pictures of two classes of the shipped photographs.
fn two_classes(folder: &Path) -> PathBuf {
    let mut archive = tar_entries();
    archive.retain(|(name, _)| name.contains("/cat/") || name.contains("/ship/"));
    for (name, bytes) in archive {
        let index: usize = name.rsplit('/').next().unwrap()[..4].parse().unwrap_or(0);
        if index.is_multiple_of(12) {
            let path = folder.join(&name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
    folder.to_owned()
}

fn tar_entries() -> Vec<(String, Vec<u8>)> {
    let file = std::fs::File::open(workspace().join("assets/cifar10-small.tar")).unwrap();
    let mut archive = tar::Archive::new(file);
    archive
        .entries()
        .unwrap()
        .map(|entry| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            (name, bytes)
        })
        .collect()
}

#[test]
fn inspect_gives_the_released_size_as_json() {
    let json: Value =
        serde_json::from_str(&stdout(&["inspect", "very-deep-polynet", "--json"])).unwrap();
    assert_eq!(json["parameters"], 95_366_600);
    let giga = |json: &Value| format!("{:.2}", json["macs"].as_u64().unwrap() as f64 / 1e9);
    assert_eq!(giga(&json), "34.70");
    let sized = stdout(&["inspect", "very-deep-polynet", "--json", "--size", "299"]);
    let json: Value = serde_json::from_str(&sized).unwrap();
    assert_eq!(giga(&json), "27.79");
}

#[test]
fn inspect_points_at_the_place_of_a_mistake() {
    let error = failure(&["inspect", "A: 2-way; B: I + ; C: poly-3"], 1);
    assert!(error.contains('^'), "{error}");
}

#[test]
fn list_names_every_preset() {
    let list = stdout(&["list"]);
    for preset in [
        "very-deep-polynet",
        "ir-20-56-20",
        "ir-6-12-6-b-mixed",
        "resnet-152",
    ] {
        assert!(list.contains(preset), "{preset}");
    }
}

#[test]
fn list_gives_published_errors_where_there_are_any() {
    let rows: Value = serde_json::from_str(&stdout(&["list", "--json"])).unwrap();
    let row = |name: &str| {
        let rows = rows.as_array().unwrap().iter();
        rows.clone().find(|row| row["name"] == name).unwrap()
    };
    let polynet = row("very-deep-polynet");
    assert_eq!(polynet["published"]["single_crop"]["top5"], 4.25);
    assert_eq!(polynet["published"]["multi_crop"]["top1"], 17.36);
    assert!(row("small-polynet")["published"].is_null());
}

#[test]
fn the_table_of_networks_in_the_docs_is_true() {
    let document = std::fs::read_to_string(workspace().join("docs/networks.md")).unwrap();
    let help = "write it anew: polynet list --markdown > docs/networks.md";
    assert_eq!(stdout(&["list", "--markdown"]), document, "{help}");
}

#[test]
fn the_table_of_keys_in_the_docs_is_true() {
    let document = std::fs::read_to_string(workspace().join("docs/recipe.md")).unwrap();
    let help = "write it anew: polynet train --keys --markdown > docs/recipe.md";
    assert_eq!(
        stdout(&["train", "--keys", "--markdown"]),
        document,
        "{help}"
    );
}

#[test]
fn the_results_of_studies_in_the_docs_are_those_of_their_ledgers() {
    let document = std::fs::read_to_string(workspace().join("docs/results.md")).unwrap();
    let help =
        "write it anew: polynet study results docs/results recipes/studies > docs/results.md";
    let results = ["study", "results", "docs/results", "recipes/studies"];
    assert_eq!(stdout(&results), document, "{help}");
}

#[test]
fn the_keys_of_a_recipe_are_listed_as_text_and_as_json() {
    let text = stdout(&["train", "--keys"]);
    let line = |start: &str| {
        text.lines()
            .find(|line| line.starts_with(start))
            .unwrap()
            .to_owned()
    };
    assert!(
        line("[training]").ends_with("How long, in what batches, and what is kept on the way.")
    );
    let batch_size = line("  batch_size ");
    let columns: Vec<&str> = batch_size
        .split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect();
    assert_eq!(
        columns,
        [
            "batch_size",
            "256",
            "from 1 to 1048576 images",
            "Images of a step."
        ]
    );
    let keys: Value = serde_json::from_str(&stdout(&["train", "--keys", "--json"])).unwrap();
    let patience = keys
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["name"] == "patience")
        .unwrap();
    assert_eq!(patience["section"], "stochastic_paths");
    assert_eq!(
        (&patience["type"], &patience["unit"]),
        (&"whole number".into(), &"validation".into())
    );
    assert_eq!(
        (&patience["default"], &patience["other_defaults"][0]),
        (&"none".into(), &"3 with when = \"adaptive\"".into())
    );
}

#[test]
fn wrong_usage_is_exit_status_2() {
    failure(&["train", "--json"], 2);
    failure(&["train", "recipe.toml", "--keys"], 2);
    failure(&["inspect"], 2);
    failure(&["train", "recipe.toml", "--resume", "folder"], 2);
}

#[test]
fn a_resumed_run_reaches_the_weights_of_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    assert!(
        train(&whole, &["training.duration=7 steps"])
            .status
            .success()
    );
    // The other run dies after its checkpoint at step 3: what came after is removed.
    assert!(
        train(&parts, &["training.duration=7 steps"])
            .status
            .success()
    );
    for entry in std::fs::read_dir(parts.join("checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        if !path.to_string_lossy().contains("000000006") {
            std::fs::remove_file(path).unwrap();
        }
    }
    std::fs::remove_dir_all(parts.join("model")).unwrap();
    stdout(&["train", "--resume", parts.to_str().unwrap()]);
    assert_eq!(weights(&whole), weights(&parts));
    let losses = |run: &Path| -> Vec<String> {
        let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let records = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        records
            .map(|record| format!("{} {}", record["step"], record["loss"]))
            .collect()
    };
    assert_eq!(losses(&whole), losses(&parts));
}

#[test]
fn weights_do_not_depend_on_the_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let run = |threads: &str| {
        let out = folder.path().join(threads);
        let status = Command::new(env!("CARGO_BIN_EXE_polynet"))
            .args(["train", "recipes/first.toml", "training.duration=3 steps"])
            .args(["training.batch_size=8", "schedule.warm_up=1 step", "--out"])
            .arg(&out)
            .arg("model.architecture=small-polynet; width = 0.0625")
            .env("RAYON_NUM_THREADS", threads)
            .current_dir(workspace())
            .output()
            .unwrap()
            .status;
        assert!(status.success());
        weights(&out)
    };
    assert_eq!(run("1"), run("2"));
}

#[test]
fn a_run_folder_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    let output = train(folder.path(), &["training.duration=1 steps"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--resume"));
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_with_its_step() {
    let folder = tempfile::tempdir().unwrap();
    let overrides = [
        "training.duration=20 steps",
        "schedule={kind=\"constant\", learning_rate=1e30}",
        "optimizer={kind=\"sgd\"}",
    ];
    let output = {
        let mut all = vec!["train", "recipes/first.toml", "training.batch_size=8"];
        all.push("model.architecture=small-ir-1-2-1; width = 0.0625");
        all.extend(overrides);
        let out = folder.path().join("run");
        let out = out.to_str().unwrap();
        all.extend(["--out", out]);
        polynet(&all)
    };
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("at step"), "{error}");
}

#[test]
fn a_trained_model_is_evaluated_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let data = two_classes(&folder.path().join("data"));
    let run = folder.path().join("run");
    let path = format!("data.path={}", data.join("photos").display());
    let architecture = "model.architecture=small-ir-1-2-1; width = 0.0625; classes = 2";
    let output = train(&run, &["training.duration=4 steps", &path, architecture]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for file in [
        "recipe.toml",
        "metrics.csv",
        "curves.svg",
        "confusion.svg",
        "report.json",
    ] {
        assert!(run.join(file).exists(), "{file}");
    }
    let (model, photos) = (run.join("model"), data.join("photos"));
    let (model, photos) = (model.to_str().unwrap(), photos.to_str().unwrap());
    let report: Value =
        serde_json::from_str(&stdout(&["eval", model, "--data", photos, "--json"])).unwrap();
    let images = report["images"].as_u64().unwrap();
    assert!(images > 4);
    let test = format!("{photos}/test");
    let predictions: Value =
        serde_json::from_str(&stdout(&["predict", model, &test, "--json"])).unwrap();
    assert_eq!(predictions.as_array().unwrap().len() as u64, images);
    let explained = folder.path().join("explained.svg");
    let photo = predictions[0]["image"].as_str().unwrap();
    stdout(&[
        "predict",
        model,
        photo,
        "--explain",
        explained.to_str().unwrap(),
    ]);
    let explained = std::fs::read_to_string(explained).unwrap();
    let best = predictions[0]["classes"][0]["class"].as_str().unwrap();
    assert!(explained.contains("data:image/png") && explained.contains(best));
    let sum: f64 = predictions[0]["classes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|class| class["probability"].as_f64().unwrap())
        .sum();
    assert!((sum - 1.0).abs() < 1e-6);
}

#[test]
fn import_lists_what_does_not_fit_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.safetensors");
    let bytes = [0_u8; 8];
    let view =
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &bytes).unwrap();
    safetensors::serialize_to_file([("foreign.weight", view)], None, &file).unwrap();
    let out = folder.path().join("model");
    let arguments = [
        "import",
        file.to_str().unwrap(),
        "--preset",
        "very-deep-polynet",
        "--out",
    ];
    let error = failure(&[&arguments[..], &[out.to_str().unwrap()]].concat(), 1);
    assert!(
        error.contains("missing   stem.conv1.0.conv.weight"),
        "{error}"
    );
    assert!(error.contains("extra     foreign.weight"), "{error}");
    assert!(!out.exists());
}

#[test]
fn a_model_is_exported_for_other_programs_and_imported_again() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let text = "resnet-v1-50; width = 0.1; classes = 3; input = 64";
    let architecture: Architecture = text.parse().unwrap();
    let params = Params::init(&architecture.graph().unwrap(), 1);
    let (classes, preprocessing) = (default_class_names(3), Preprocessing::imagenet(64));
    let config = ModelConfig::new(&architecture, classes, preprocessing, "A test.");
    let [model, again, onnx, weights] = ["model", "again", "a.onnx", "a.pth"].map(place);
    ModelFolder::save(model.as_ref(), &config, &params).unwrap();
    let to_onnx = [
        "export",
        &model,
        "--onnx",
        &onnx,
        "--with-preprocessing",
        "--license=CC0-1.0",
    ];
    let to_pytorch = ["--pytorch", &weights, "--names", "torchvision"];
    let said = stdout(&[&to_onnx[..], &to_pytorch].concat());
    let [first, second] = said.lines().collect::<Vec<_>>()[..] else {
        panic!("{said}");
    };
    assert_eq!(first, onnx);
    assert!(
        second.ends_with("a.pth: in the names of torchvision `resnet`"),
        "{second}"
    );
    let file = std::fs::read(&onnx).unwrap();
    for said in ["GlobalAveragePool", "Transpose", "CC0-1.0", "A test."] {
        let is_there = file.windows(said.len()).any(|part| part == said.as_bytes());
        assert!(is_there, "{said}");
    }
    stdout(&["import", &weights, "--preset", text, "--out", &again]);
    let tensors = |folder: &str| ModelFolder::open(folder.as_ref()).unwrap().params;
    assert!(tensors(&again) == params);

    let refused = place("b.pth");
    let told = failure(
        &["export", &model, "--pytorch", &refused, "--names", "cadene"],
        1,
    );
    let expected = "pretrainedmodels has no networks of family `resnet-v1`";
    assert!(told.contains(expected), "{told}");
    assert!(!Path::new(&refused).exists());
    failure(&["export", &model], 2);
    failure(&["export", &model, "--pytorch", &refused], 2);
}

#[test]
fn the_program_describes_itself_to_shells_readers_and_whoever_reports_a_bug() {
    let folder = tempfile::tempdir().unwrap();
    stdout(&["man", folder.path().to_str().unwrap()]);
    let page = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(page("polynet.1").contains("polynet\\-export(1)"));
    assert!(page("polynet-export.1").contains("opset 17"));
    assert!(stdout(&["completions", "bash"]).contains("--with-preprocessing"));
    let version = stdout(&["--version"]);
    let best = polynet::Isa::best().to_string();
    let expected = [
        concat!("polynet ", env!("CARGO_PKG_VERSION"), "\n"),
        "features: ",
        &best,
    ];
    for part in expected {
        assert!(version.contains(part), "{version}");
    }
    assert_eq!(stdout(&["-V"]).lines().count(), 1);
}

//! Predictions of many pictures as users run them: to the end, and killed and continued.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_polynet"));
    command.args(arguments);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    command
}

fn run(arguments: &[&str], status: i32) -> Output {
    let output = command(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(status),
        "{arguments:?}: {errors}"
    );
    output
}

struct Place {
    root: TempDir,
    /// A model of a step, an archive, and a folder with a broken picture and a good one.
    model: String,
    archive: String,
    folder: String,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name).display().to_string();
        let arguments = [
            "train",
            "recipes/first.toml",
            "model.architecture=small-ir-1-2-1; width = 0.0625",
            "training.batch_size=8",
            "training.duration=1 step",
            "training.validate_every=0 steps",
            "schedule.warm_up=1 step",
            "--out",
            &at("run"),
        ];
        run(&arguments, 0);
        write_archive(&at("some.tar"));
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("folder/broken.jpg"), "no picture").unwrap();
        let good = "crates/polynet/src/data/fixtures/images/photo.jpg";
        let good = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .join(good);
        fs::copy(good, at("folder/photo.jpg")).unwrap();
        Self {
            model: at("run/model"),
            archive: at("some.tar"),
            folder: at("folder"),
            root,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Classifies the archive and the folder into two files.
    fn arguments<'a>(&'a self, files: &'a [String; 2]) -> Vec<&'a str> {
        let sources = [&*self.model, &self.archive, &self.folder];
        let options = [
            "--batch",
            "4",
            "--top",
            "2",
            "--out",
            &files[0],
            "--embeddings",
            &files[1],
        ];
        [&["predict"][..], &sources, &options].concat()
    }

    fn files(&self, name: &str, format: &str) -> [String; 2] {
        [format, "npy"].map(|kind| self.at(&format!("{name}.{kind}")).display().to_string())
    }
}

/// Some of the shipped photographs.
fn write_archive(path: &str) {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/cifar10-small.tar");
    let mut shipped = tar::Archive::new(fs::File::open(shipped).unwrap());
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    for entry in shipped.entries().unwrap().step_by(24) {
        let entry = entry.unwrap();
        archive.append(&entry.header().clone(), entry).unwrap();
    }
    archive.finish().unwrap();
}

#[test]
fn a_killed_prediction_of_many_pictures_goes_on_to_the_same_files() {
    let place = Place::new();
    let whole = place.files("whole", "jsonl");
    let told = run(&place.arguments(&whole), 1);
    let told = String::from_utf8(told.stderr).unwrap();
    assert!(told.contains("1 of them can't be used"), "{told}");
    let table = fs::read_to_string(&whole[0]).unwrap();
    let rows: Vec<Value> = table
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [broken, good] = &rows[rows.len() - 2..] else {
        panic!("no rows")
    };
    assert!(broken["image"].as_str().unwrap().ends_with("broken.jpg"));
    assert!(broken["error"].is_string() && broken.get("classes").is_none());
    // One by one they have the same classes.
    let photo = format!("{}/photo.jpg", place.folder);
    let alone = run(
        &["predict", &place.model, &photo, "--top", "2", "--json"],
        0,
    );
    let alone: Vec<Value> = serde_json::from_slice(&alone.stdout).unwrap();
    assert_eq!(alone[0]["classes"], good["classes"]);
    assert_eq!(good["classes"].as_array().unwrap().len(), 2);

    killed_and_continued(&place, &whole);
    if cfg!(feature = "parquet") {
        let whole = place.files("whole-table", "parquet");
        run(&place.arguments(&whole), 1);
        killed_and_continued(&place, &whole);
    }
}

/// Makes files like these, killing the command three times.
fn killed_and_continued(place: &Place, whole: &[String; 2]) {
    let format = whole[0].rsplit('.').next().unwrap();
    let killed = place.files(&format!("killed-{format}"), format);
    let part = PathBuf::from(format!("{}.part", killed[0]));
    let mut begun = 0;
    for kill in 1..4 {
        let mut process = command(&place.arguments(&killed));
        let mut process = process.stderr(Stdio::null()).spawn().unwrap();
        // Until it has written some more.
        while process.try_wait().unwrap().is_none() {
            let length = fs::metadata(&part).map_or(0, |part| part.len());
            if length > begun {
                begun = length;
                break;
            }
            std::thread::yield_now();
        }
        process.kill().unwrap();
        process.wait().unwrap();
        assert!(
            part.exists() && !Path::new(&killed[0]).exists(),
            "kill {kill} came too late"
        );
    }
    run(&place.arguments(&killed), 1);
    for (whole, killed) in whole.iter().zip(&killed) {
        assert!(fs::read(whole).unwrap() == fs::read(killed).unwrap());
    }
    assert!(!part.exists());
    // What is there is not overwritten.
    let told = run(&place.arguments(&killed), 1);
    assert!(String::from_utf8(told.stderr).unwrap().contains("already"));
}

/// Where the model in the box lies in the sources.
const IN_THE_BOX: &str = "crates/polynet/pretrained";

#[test]
fn without_a_model_folder_the_model_in_the_box_classifies() {
    let photo = "crates/polynet/src/data/fixtures/images/photo.jpg";
    let by_itself = run(&["predict", photo, "--json"], 0);
    let by_folder = run(&["predict", IN_THE_BOX, photo, "--json"], 0);
    assert_eq!(by_itself.stdout, by_folder.stdout);
    let told = String::from_utf8(by_itself.stderr).unwrap();
    assert!(told.contains("the model that comes with"), "{told}");
    assert!(by_folder.stderr.is_empty());

    // A folder of pictures is no model; one without pictures is taken for a model.
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name).display().to_string();
    fs::create_dir(at("photos")).unwrap();
    fs::copy(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .join(photo),
        at("photos/photo.jpg"),
    )
    .unwrap();
    let of_folder = run(&["predict", &at("photos"), "--json"], 0);
    let classes = |output: &Output| {
        let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
        rows[0]["classes"].clone()
    };
    assert_eq!(classes(&of_folder), classes(&by_folder));
    fs::create_dir(at("empty")).unwrap();
    for (path, expected) in [("empty", "config.json"), ("lost.jpg", "no such file")] {
        let refused = run(&["predict", &at(path), photo], 1);
        let told = String::from_utf8(refused.stderr).unwrap();
        assert!(told.contains(expected), "{told}");
    }
    // Shards are pictures, too: what is wrong with them is told, and not that they are no model.
    fs::create_dir(at("shards")).unwrap();
    fs::write(at("shards/photos-000000.tar"), "no archive").unwrap();
    for shards in ["shards", "shards/photos-{000007..000008}.tar"] {
        let refused = run(&["predict", &at(shards), "--out", &at("a.csv")], 1);
        let told = String::from_utf8(refused.stderr).unwrap();
        assert!(
            told.contains(".tar") && !told.contains("config.json"),
            "{told}"
        );
    }
    let refused = run(&["predict", IN_THE_BOX], 1);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("no image to classify"), "{told}");
}

#[test]
fn the_model_in_the_box_is_right_as_often_as_its_card_says() {
    let data = "assets/cifar10-small.tar";
    let report = run(&["eval", IN_THE_BOX, "--data", data, "--json"], 0);
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    let found = 100.0 * report["top1"].as_f64().unwrap();
    let card = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(IN_THE_BOX);
    let card = fs::read_to_string(card.join("README.md")).unwrap();
    let said = card.split_once("top-1 ").unwrap().1;
    let said: f64 = said.split_once(" %").unwrap().0.parse().unwrap();
    // These are 800 of the 10,000 photographs that the card speaks of.
    assert!((found - said).abs() <= 3.0, "{found} % instead of {said} %");
}

#[test]
fn a_model_of_half_the_size_classifies_as_the_whole_one() {
    let place = Place::new();
    let half = place.at("half").display().to_string();
    run(&["export", &place.model, "--half", &half], 0);
    let size = |model: &str| {
        fs::metadata(format!("{model}/model.safetensors"))
            .unwrap()
            .len()
    };
    assert!(size(&half) < size(&place.model) * 6 / 10);
    let photo = format!("{}/photo.jpg", place.folder);
    let probabilities = |model: &str| -> Vec<(String, f64)> {
        let output = run(&["predict", model, &photo, "--json"], 0);
        let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
        let classes = rows[0]["classes"].as_array().unwrap();
        let pair = |class: &Value| {
            let name = class["class"].as_str().unwrap().to_owned();
            (name, class["probability"].as_f64().unwrap())
        };
        classes.iter().map(pair).collect()
    };
    let (whole, rounded) = (probabilities(&place.model), probabilities(&half));
    assert_ne!(whole, rounded);
    for (class, probability) in whole {
        let (_, found) = rounded.iter().find(|(name, _)| *name == class).unwrap();
        assert!(
            (probability - found).abs() < 1e-3,
            "{class}: {probability} {found}"
        );
    }
    let refused = run(&["export", &place.model, "--half", &half], 1);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("not empty"), "{told}");
}

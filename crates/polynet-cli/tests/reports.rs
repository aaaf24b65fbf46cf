//! What people have reported of programs like this one: nothing is lost, nothing is run, nobody is
//! misled.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

use polynet::FolderLock;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A command that is run in `folder`.
fn polynet(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_polynet"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// What a command says on standard error, which ends with `status`.
fn told(folder: &Path, arguments: &[&str], status: i32) -> String {
    let output = polynet(folder, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        output.status.code(),
        Some(status),
        "{arguments:?}: {errors}"
    );
    errors
}

/// A picture of its own for every number.
fn picture(number: usize) -> Vec<u8> {
    let colour = |x: u32, y: u32| {
        let shade = (number * 37) as u32 + x * 5 + y * 3;
        image::Rgb([shade as u8, (shade / 2) as u8, (255 - x * y % 256) as u8])
    };
    let mut png = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_fn(16, 16, colour)
        .write_to(&mut png, image::ImageFormat::Png)
        .unwrap();
    png.into_inner()
}

/// `data/train` and `data/val` with four and two pictures of each of two classes.
fn world() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_set(&folder.path().join("data"), 0);
    folder
}

fn write_set(data: &Path, first: usize) {
    let mut number = first;
    for (split, count) in [("train", 4), ("val", 2)] {
        for class in ["cat", "dog"] {
            let place = data.join(split).join(class);
            fs::create_dir_all(&place).unwrap();
            for n in 0..count {
                fs::write(place.join(format!("{n}.png")), picture(number)).unwrap();
                number += 1;
            }
        }
    }
}

const RECIPE: &str = "
name = 'run'
out = 'run'
seed = 3
[model]
architecture = 'small-ir-1-2-1; width = 0.0625; classes = 2; input = 16'
[data]
path = 'data'
threads = 1
[augmentation]
kind = 'none'
[optimizer]
kind = 'sgd'
[schedule]
kind = 'constant'
learning_rate = 0.01
[training]
batch_size = 4
duration = '6 steps'
validate_every = '2 steps'
checkpoint_every = '3 steps'
";

/// Trains by the recipe into `run`; what it says.
fn train(folder: &Path, overrides: &[&str], status: i32) -> String {
    fs::write(folder.join("recipe.toml"), RECIPE).unwrap();
    let arguments = [&["train", "recipe.toml"], overrides].concat();
    told(folder, &arguments, status)
}

fn weights(run: &Path) -> Vec<u8> {
    fs::read(run.join("model/model.safetensors")).unwrap()
}

fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(run.join("checkpoints")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn memory(run: &Path) -> Value {
    serde_json::from_slice(&fs::read(run.join("data.json")).unwrap()).unwrap()
}

#[test]
fn a_run_goes_on_with_changed_data_only_if_asked() {
    let folder = world();
    let (root, run) = (folder.path(), folder.path().join("run"));
    train(root, &[], 0);
    for split in ["train", "val"] {
        let split = root.join("data").join(split);
        fs::rename(split.join("cat"), split.join("zcat")).unwrap();
    }
    let trained = weights(&run);
    let refused = told(root, &["train", "--resume", "run"], 1);
    for expected in [
        "the data is not what the run began with",
        "training and validation: the classes are others: gone are cat, new are zcat",
        "polynet train --resume run --accept-changed-data",
    ] {
        assert!(refused.contains(expected), "{refused}");
    }
    assert!(refused.lines().count() <= 4, "{refused}");
    assert_eq!(weights(&run), trained);
    let accepted = ["train", "--resume", "run", "--accept-changed-data"];
    let said = told(root, &accepted, 0);
    assert!(said.contains("gone are cat, new are zcat"), "{said}");
    let change = &memory(&run)["changes"][0];
    assert_eq!(change["step"], 6);
    assert!(change["what"][0].as_str().unwrap().contains("zcat"));
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert!(metrics.contains("goes on with changed data"), "{metrics}");
    // What was let through is the run's data now.
    told(root, &["train", "--resume", "run"], 0);
}

#[test]
fn a_picture_that_is_new_gone_or_another_is_noticed() {
    let folder = world();
    let (root, train_cats) = (folder.path(), folder.path().join("data/train/cat"));
    train(root, &[], 0);
    let resume = ["train", "--resume", "run"];
    let mut bytes = picture(0);
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(train_cats.join("0.png"), bytes).unwrap();
    let said = told(root, &resume, 1);
    assert!(
        said.contains("training: what its files hold is something else"),
        "{said}"
    );
    fs::write(train_cats.join("0.png"), picture(0)).unwrap();
    fs::write(train_cats.join("9.png"), picture(9)).unwrap();
    let said = told(root, &resume, 1);
    assert!(
        said.contains("training: it had 8 images and has 9"),
        "{said}"
    );
    fs::remove_file(train_cats.join("9.png")).unwrap();
    fs::remove_file(root.join("data/val/dog/0.png")).unwrap();
    let said = told(root, &resume, 1);
    assert!(
        said.contains("validation: it had 4 images and has 3"),
        "{said}"
    );
    fs::copy(
        root.join("data/val/dog/1.png"),
        root.join("data/val/dog/0.png"),
    )
    .unwrap();
    let said = told(root, &resume, 1);
    assert!(said.contains("validation: "), "{said}");
}

#[test]
fn a_recipes_paths_mean_the_same_from_anywhere() {
    let folder = world();
    let (root, elsewhere) = (folder.path(), folder.path().join("elsewhere"));
    // The same relative path, and other pictures.
    write_set(&elsewhere.join("data"), 100);
    train(root, &[], 0);
    let trained = weights(&root.join("run"));
    told(&elsewhere, &["train", "--resume", "../run"], 0);
    assert_eq!(weights(&root.join("run")), trained);
    // A set that has moved is the same set.
    fs::rename(root.join("data"), root.join("moved")).unwrap();
    let said = told(root, &["train", "--resume", "run"], 1);
    assert!(said.contains("data"), "{said}");
    let recipe = root.join("run/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, text.replace("path = \"data\"", "path = \"moved\"")).unwrap();
    told(root, &["train", "--resume", "run"], 0);
}

#[test]
fn a_run_that_remembers_nothing_of_its_data_goes_on_and_says_so() {
    let folder = world();
    train(folder.path(), &[], 0);
    let data = folder.path().join("run/data.json");
    fs::remove_file(&data).unwrap();
    let said = told(folder.path(), &["train", "--resume", "run"], 0);
    assert!(said.contains("is unchecked"), "{said}");
    assert!(data.exists());
}

#[test]
fn a_damaged_checkpoint_is_set_aside_and_the_one_before_is_taken() {
    let folder = world();
    let (root, run) = (folder.path(), folder.path().join("run"));
    train(root, &[], 0);
    let trained = weights(&run);
    let newest = checkpoints(&run).pop().unwrap();
    let cut = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    };
    let turn_a_bit = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let last = bytes.len() - 1;
        bytes[last - 2] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    for damage in [&cut as &dyn Fn(&Path), &turn_a_bit] {
        damage(&newest);
        let said = told(root, &["train", "--resume", "run"], 0);
        assert!(
            said.contains("step-000000006.safetensors.damaged"),
            "{said}"
        );
        assert!(said.contains("resumed after step 3"), "{said}");
        assert_eq!(weights(&run), trained);
    }
    let sound = checkpoints(&run);
    let sound = sound
        .iter()
        .filter(|path| path.extension().is_some_and(|it| it == "safetensors"));
    sound.for_each(|path| cut(path));
    let said = told(root, &["train", "--resume", "run"], 1);
    assert!(said.contains("no older checkpoint"), "{said}");
}

#[test]
fn an_error_in_validation_loses_no_step() {
    let folder = world();
    let (root, run) = (folder.path(), folder.path().join("run"));
    let rarely = "training.checkpoint_every=1000 steps";
    train(root, &[rarely, "out=whole"], 0);
    let picture = root.join("data/val/cat/1.png");
    let sound = fs::read(&picture).unwrap();
    let broken = vec![7; sound.len()];
    fs::write(&picture, broken).unwrap();
    let said = train(root, &[rarely], 1);
    assert!(said.contains("val/cat/1.png"), "{said}");
    let saved = checkpoints(&run);
    assert!(
        saved[0].ends_with("step-000000002.safetensors"),
        "{saved:?}"
    );
    fs::write(&picture, sound).unwrap();
    told(
        root,
        &["train", "--resume", "run", "--accept-changed-data"],
        0,
    );
    assert_eq!(weights(&run), weights(&root.join("whole")));
    let validations = |run: &str| {
        let text = fs::read_to_string(root.join(run).join("metrics.jsonl")).unwrap();
        let lines = text.lines().filter(|line| line.contains("\"validation\""));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(validations("run").len(), 3);
    assert_eq!(validations("run"), validations("whole"));
}

#[test]
fn a_skipped_picture_is_told_once_wherever_it_is() {
    let folder = world();
    let root = folder.path();
    for place in ["train/dog/1.png", "val/cat/0.png"] {
        fs::write(root.join("data").join(place), b"no picture").unwrap();
    }
    let said = train(root, &["data.on_error=skip"], 0);
    for place in ["train/dog/1.png", "val/cat/0.png"] {
        assert_eq!(said.matches(place).count(), 1, "{said}");
    }
}

#[test]
fn a_set_without_a_usable_picture_is_an_error() {
    let folder = world();
    let root = folder.path();
    train(root, &["out=good"], 0);
    for split in ["train", "val"] {
        for class in ["cat", "dog"] {
            let place = root.join("data").join(split).join(class);
            for entry in fs::read_dir(place).unwrap() {
                fs::write(entry.unwrap().path(), b"no picture").unwrap();
            }
        }
        let said = match split {
            "train" => train(root, &["data.on_error=skip"], 1),
            _ => told(
                root,
                &["eval", "good/model", "--data", "data", "--skip-broken"],
                1,
            ),
        };
        assert!(said.contains("images can be used"), "{said}");
    }
}

#[test]
fn a_model_with_a_weight_that_is_no_number_is_refused_everywhere() {
    let folder = world();
    let root = folder.path();
    train(root, &[], 0);
    let path = root.join("run/model/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let place = bytes.len() - 4;
    bytes[place..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    for arguments in [
        &["predict", "run/model", "data/val/cat/0.png"][..],
        &["eval", "run/model", "--data", "data"],
        &[
            "grow",
            "run/model",
            "--to",
            "small-ir-1-2-1; width = 0.0625; classes = 2; input = 16",
            "--out",
            "grown",
        ],
        &["train", "recipe.toml", "model.init=run/model", "out=other"],
    ] {
        let said = told(root, arguments, 1);
        assert!(
            said.contains("expected finite numbers") && said.contains("is NaN"),
            "{said}"
        );
    }
}

#[test]
fn a_class_named_twice_is_refused_everywhere() {
    let folder = world();
    let root = folder.path();
    train(root, &[], 0);
    let config = root.join("run/model/config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"dog\"", "\"cat\"")).unwrap();
    fs::write(root.join("names.txt"), "cat\ncat\n").unwrap();
    let weights = "run/model/model.safetensors";
    let preset = "small-ir-1-2-1; width = 0.0625; classes = 2; input = 16";
    for arguments in [
        &["predict", "run/model", "data/val/cat/0.png"][..],
        &[
            "import",
            weights,
            "--preset",
            preset,
            "--classes",
            "names.txt",
            "--out",
            "model",
        ],
    ] {
        let said = told(root, arguments, 1);
        assert!(said.contains("\"cat\" is named twice"), "{said}");
    }
}

#[test]
fn keys_beside_resume_are_refused_with_the_way_to_change_them() {
    let said = told(Path::new("."), &["train", "--resume", "run", "seed=2"], 2);
    assert!(said.contains("change it in run/recipe.toml"), "{said}");
    assert!(said.contains("polynet train [OPTIONS] RECIPE"), "{said}");
}

#[test]
fn an_evaluation_tries_its_targets_first() {
    let folder = world();
    let root = folder.path();
    train(root, &[], 0);
    let eval = ["eval", "run/model", "--data", "data"];
    let output = polynet(root, &[&eval[..], &["--svg", "nowhere/c.svg"]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let crops = [&eval[..], &["--crops", "10", "--scores-cache", "scores"]].concat();
    fs::create_dir(root.join("scores")).unwrap();
    let lock = FolderLock::take(&root.join("scores")).unwrap();
    let said = told(root, &crops, 1);
    assert!(
        said.contains("another evaluation writes its scores there"),
        "{said}"
    );
    drop(lock);
    told(root, &crops, 0);
    // A folder that can't be had: the way out is named.
    fs::write(root.join("file"), "").unwrap();
    let crops = [&eval[..], &["--crops", "10", "--scores-cache", "file"]].concat();
    let said = told(root, &crops, 1);
    assert!(said.contains("--scores-cache FOLDER"), "{said}");
}

#[test]
fn a_file_of_weights_that_was_cut_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("cut.pth"),
        [b"PK\x03\x04".as_slice(), &[1; 600]].concat(),
    )
    .unwrap();
    let import = [
        "import",
        "cut.pth",
        "--preset",
        "resnet-v1-50",
        "--out",
        "model",
    ];
    let said = told(folder.path(), &import, 1);
    assert!(said.contains("ends early or is damaged"), "{said}");
}

#[test]
fn classes_that_are_alike_or_alone_are_a_warning() {
    let folder = world();
    let root = folder.path();
    for split in ["train", "val"] {
        let split = root.join("data").join(split);
        fs::rename(split.join("dog"), split.join("Cat")).unwrap();
    }
    let check = ["data", "check", "data"];
    let text = String::from_utf8(polynet(root, &check).stdout).unwrap();
    assert!(
        text.contains("warning: ") && text.contains("differ in case or spaces"),
        "{text}"
    );
    assert!(train(root, &[], 0).contains("differ in case or spaces"));
    for split in ["train", "val"] {
        fs::remove_dir_all(root.join("data").join(split).join("Cat")).unwrap();
    }
    let text = String::from_utf8(polynet(root, &check).stdout).unwrap();
    assert!(text.contains("there is one class, cat"), "{text}");
}

#[cfg(unix)]
#[test]
fn a_name_that_is_no_text_stops_nothing() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = world();
    let root = folder.path();
    let name = OsStr::from_bytes(b"latin1-\xe9.png");
    fs::write(root.join("data/val/cat").join(name), picture(77)).unwrap();
    let output = polynet(root, &["data", "check", "data"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.contains(r"latin1-\xe9.png"),
        "{text}"
    );
    assert!(train(root, &[], 0).contains(r"latin1-\xe9.png"));
    let output = polynet(root, &["predict", "run/model", "data/val/cat", "--json"]);
    assert!(output.status.success());
    let predictions: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(predictions.as_array().unwrap().len(), 3);
}

#[test]
fn tensorboard_is_shown_each_record_once() {
    let folder = world();
    let root = folder.path();
    train(root, &["record.tensorboard=true"], 0);
    let files = || {
        let entries = fs::read_dir(root.join("run/tensorboard")).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    };
    let count = |file: &Path, tag: &str| {
        let bytes = fs::read(file).unwrap();
        let mut windows = bytes.windows(tag.len());
        std::iter::from_fn(|| windows.find(|window| *window == tag.as_bytes())).count()
    };
    let [first] = &files()[..] else {
        panic!("{:?}", files())
    };
    let metrics = fs::read_to_string(root.join("run/metrics.jsonl")).unwrap();
    let recorded = |kind: &str| metrics.matches(&format!("\"kind\":\"{kind}\"")).count();
    assert_eq!((recorded("train"), recorded("validation")), (1, 3));
    for (tag, times) in [
        ("train/loss", 1),
        ("train/learning_rate", 1),
        ("validation/top1", 3),
        ("validation/confusion", 3),
        ("train/images/", 4),
        ("batch_size = 4", 1),
    ] {
        assert_eq!(count(first, tag), times, "{tag}");
    }
    // At its end a resumed run validates again what is recorded already.
    fs::rename(first, root.join("first")).unwrap();
    told(root, &["train", "--resume", "run"], 0);
    let [second] = &files()[..] else {
        panic!("{:?}", files())
    };
    assert_eq!(count(second, "validation/"), 0);
    assert_eq!(count(second, "batch_size = 4"), 1);
}

//! Runs on machines that have too little of something: they end with what to do, and go on where there is
//! more.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SIGXFSZ: i32 = 25;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A command that a shell runs after `limit`.
fn limited(limit: &str, arguments: &[&str]) -> Output {
    Command::new("sh")
        .args(["-c", &format!("{limit}; exec \"$@\""), "sh"])
        .arg(env!("CARGO_BIN_EXE_polynet"))
        .args(arguments)
        .env("RAYON_NUM_THREADS", "2")
        .current_dir(workspace())
        .output()
        .unwrap()
}

/// Trains a tiny network for four steps into `out`, after `limit`.
fn train(limit: &str, out: &Path, overrides: &[&str]) -> Output {
    let out = out.to_str().unwrap();
    let mut arguments = vec!["train", "recipes/first.toml", "--out", out];
    arguments.extend([
        "model.architecture=small-ir-1-2-1; width = 0.0625",
        "data.hold_out=8",
        "data.threads=1",
        "schedule.warm_up=1 step",
        "training.batch_size=4",
        "training.duration=4 steps",
        "training.checkpoint_every=1 steps",
    ]);
    arguments.extend(overrides);
    limited(limit, &arguments)
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn model(run: &Path) -> Vec<u8> {
    fs::read(run.join("model/model.safetensors")).unwrap()
}

/// Goes on with a run without limits; its model must be that of an undisturbed one.
fn comes_to_the_same(run: &Path, undisturbed: &Path) {
    let output = match run.join("recipe.toml").exists() {
        true => limited("true", &["train", "--resume", run.to_str().unwrap()]),
        false => train("true", run, &[]),
    };
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(model(run), model(undisturbed));
}

#[test]
fn a_run_whose_files_may_not_grow_ends_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let undisturbed = folder.path().join("undisturbed");
    let output = train("true", &undisturbed, &[]);
    assert!(output.status.success(), "{}", errors(&output));
    let checkpoints = fs::read_dir(undisturbed.join("checkpoints")).unwrap();
    let largest = checkpoints.map(|entry| entry.unwrap().metadata().unwrap().len());
    // Blocks of 512 bytes: too few for a checkpoint.
    let blocks = largest.max().unwrap() / 512 - 1;
    let told = folder.path().join("told");
    let output = train(&format!("trap '' XFSZ; ulimit -f {blocks}"), &told, &[]);
    let message = errors(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(
        message.contains("File too large") && message.contains("checkpoints/step-"),
        "{message}"
    );
    comes_to_the_same(&told, &undisturbed);
    // The system ends whoever is not prepared.
    let killed = folder.path().join("killed");
    let output = train(&format!("ulimit -f {blocks}"), &killed, &[]);
    assert_eq!(output.status.signal(), Some(SIGXFSZ), "{}", errors(&output));
    comes_to_the_same(&killed, &undisturbed);
    let left = fs::read_dir(killed.join("checkpoints")).unwrap();
    let unfinished = left.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with('.')
    });
    assert_eq!(unfinished.count(), 0);
}

#[test]
fn a_run_without_memory_says_what_to_lower_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let output = train("true", &run, &[]);
    assert!(output.status.success(), "{}", errors(&output));
    let before = model(&run);
    let hungry = folder.path().join("hungry");
    let wide = [
        "model.architecture=small-ir-1-2-1; width = 2",
        "training.batch_size=512",
        "training.checkpoint_every=0 steps",
    ];
    // In KiB.
    let output = train("ulimit -v 900000", &hungry, &wide);
    let message = errors(&output);
    assert!(!output.status.success());
    assert!(
        message.contains("training.batch_size") && message.contains("bytes of memory"),
        "{message}"
    );
    // A run that was begun under no limit goes on after it.
    let limited_run = limited(
        "ulimit -v 900000",
        &["train", "--resume", run.to_str().unwrap()],
    );
    assert!(limited_run.status.success(), "{}", errors(&limited_run));
    assert_eq!(model(&run), before);
}

#[test]
fn a_run_with_few_files_open_at_once_ends_or_comes_to_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let undisturbed = folder.path().join("undisturbed");
    assert!(train("true", &undisturbed, &[]).status.success());
    let mut refused = 0;
    for files in [3, 4, 5, 6, 8, 12] {
        let run = folder.path().join(files.to_string());
        let output = train(&format!("ulimit -n {files}"), &run, &[]);
        if output.status.success() {
            assert_eq!(model(&run), model(&undisturbed), "{files}");
            continue;
        }
        refused += 1;
        let message = errors(&output);
        assert!(!message.contains("panicked"), "{files}: {message}");
        comes_to_the_same(&run, &undisturbed);
    }
    assert!(refused > 0);
}

#[test]
fn a_folder_that_can_not_be_written_is_told() {
    // Nobody makes a folder there, whoever one is.
    let output = train("true", Path::new("/proc/polynet-run"), &[]);
    let message = errors(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(
        message.contains("/proc/polynet-run: can't make or read the run folder"),
        "{message}"
    );
    let folder = tempfile::tempdir().unwrap();
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(closed.join("probe"), "").is_ok() {
        eprintln!("skipped in part: this user may write where nobody may");
        return;
    }
    let output = train("true", &closed.join("run"), &[]);
    let message = errors(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("Permission denied"), "{message}");
}

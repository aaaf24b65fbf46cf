//! A search as users run it: to the end, and killed and continued.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

use polynet::study::{Entry, Ledger};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const SEARCH: &str = r#"
title = "tiny"
base = "recipes/first.toml"
settings = "family = small; width = 0.0625"
start = "A: I + F; B: I + F; C: I + F"

[recipe]
data.hold_out = 60
training = { batch_size = 8, validate_every = "0 steps", checkpoint_every = "1 steps", log_every = 1 }
schedule = { kind = "constant", learning_rate = 0.004 }

[space]
evaluations = 2
modules = 2

[limits]
parameters = 110_000
memory_mib = 500

[rungs]
candidates = 4
durations = ["3 steps", "3 steps"]

[confirm]
baseline = "A: 2-way; B: 2-way; C: 2-way"
best = 1
seeds = [1]
duration = "3 steps"
"#;

fn command(folder: &Path, more: &[&str]) -> Command {
    let text = folder.join("search.toml");
    std::fs::write(&text, SEARCH).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_polynet"));
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    command.arg("search").arg(text).args(["--threads", "1"]);
    command.args(more).arg("--out").arg(folder.join("out"));
    command.current_dir(workspace);
    command
}

fn run(folder: &Path, more: &[&str]) -> Output {
    let output = command(folder, more).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    output
}

fn ledgers(folder: &Path) -> [PathBuf; 2] {
    ["out/ledger.jsonl", "out/confirm/ledger.jsonl"].map(|name| folder.join(name))
}

fn figures(ledger: &Path) -> Vec<Entry> {
    let entries = Ledger::new(ledger).read().unwrap();
    entries.iter().map(Entry::deterministic).collect()
}

#[test]
fn a_search_that_is_killed_finds_what_an_undisturbed_one_finds() {
    let undisturbed = tempfile::tempdir().unwrap();
    let first = run(undisturbed.path(), &["--json"]).stdout;
    let found: Value = serde_json::from_slice(&first).unwrap();
    assert_eq!(found["rung"], 2);
    let standings = found["standings"].as_array().unwrap();
    // Two of four, and what grew from each.
    assert_eq!(standings.len(), 4);
    let grown = standings.iter().filter(|one| one["parent"].is_string());
    assert_eq!(grown.count(), 2);
    assert!(
        standings
            .iter()
            .all(|one| one["parameters"].as_u64() <= Some(110_000))
    );
    assert_eq!(standings[0]["is_on_front"], true);
    let compared = found["confirmation"]["rows"].as_array().unwrap();
    assert_eq!(compared.len(), 2, "{compared:?}");
    // Nothing is left to do, and the answer is the same.
    assert_eq!(run(undisturbed.path(), &["--json"]).stdout, first);

    let killed = tempfile::tempdir().unwrap();
    for jobs in [1, 3, 5, 8] {
        let mut process = command(killed.path(), &[]);
        process.stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = process.spawn().unwrap();
        let done = || {
            let ledgers = ledgers(killed.path());
            let counts = ledgers.map(|path| Ledger::new(path).read().unwrap().len());
            counts.iter().sum::<usize>()
        };
        while done() < jobs && process.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        let _ = process.kill();
        process.wait().unwrap();
    }
    run(killed.path(), &[]);
    for (killed, undisturbed) in ledgers(killed.path())
        .iter()
        .zip(ledgers(undisturbed.path()))
    {
        let expected = figures(&undisturbed);
        assert!(!expected.is_empty());
        assert_eq!(figures(killed), expected);
    }
}

#[test]
fn a_dry_run_shows_the_first_candidates() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["--dry-run"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("A: residual; B: residual; C: residual"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 6, "{text}");
    assert!(!folder.path().join("out").exists());
}

//! `cargo xtask check`: everything that must hold before a commit.
//!
//! Everything builds in the profile `dev`, so that no dependency is compiled twice.

use crate::{cargo, deny, licenses, rooms};
use anyhow::Result;
use cargo_metadata::MetadataCommand;
use std::process::Command;
use std::time::Instant;

/// The command as large as it is without a GPU and without MPI.
const FEATURES: &str = "--features=polynet-cli/serve,polynet-cli/parquet";
/// Warnings are errors, in lints and in the documentation.
const LINTS: [&str; 8] = [
    "clippy",
    "--workspace",
    FEATURES,
    "--all-targets",
    "--quiet",
    "--",
    "-D",
    "warnings",
];
/// What a registry would get: each crate's files, metadata and versions.
const PACKAGE: [&str; 9] = [
    "package",
    "--workspace",
    "--exclude=xtask",
    "--exclude=polynet-oracle",
    "--exclude=polynet-fuzz",
    "--no-verify",
    "--allow-dirty",
    "--offline",
    "--quiet",
];

/// The library as it is for those who only predict.
const PREDICTION_ALONE: [&str; 6] = [
    "check",
    "--package=polynet",
    "--no-default-features",
    "--features=predict",
    "--lib",
    "--quiet",
];
/// What the library's examples classify.
const PHOTO: &str = "crates/polynet/src/data/fixtures/images/photo.jpg";

/// Runs the checks, the quick ones first and the tests last, so that their closing lines are the last.
pub(crate) fn run() -> Result<()> {
    let started = Instant::now();
    run_step(&["fmt", "--all", "--check"])?;
    // The Python package is no member of the workspace.
    let manifest = "--manifest-path=crates/polynet-python/Cargo.toml";
    run_step(&["fmt", manifest, "--check"])?;
    licenses::check()?;
    deny::check()?;
    rooms::check()?;
    run_step(&PACKAGE)?;
    run_step(&LINTS)?;
    let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--quiet", "--lib"]);
    crate::run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    run_step(&PREDICTION_ALONE)?;
    run_step(&["test", "--workspace", FEATURES])?;
    examples()?;
    eprintln!(
        "all checks passed in {:.0} s",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Runs the library's examples one on another's results.
fn examples() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let place = |name: &str| folder.path().join(name).display().to_string();
    let (run, model, grown) = (place("run"), place("run/model"), place("grown"));
    let larger = "small-polynet; width = 0.125; A: 3-way";
    // `cargo test` has built them; `cargo run` would build all again with other features.
    let programs = MetadataCommand::new().no_deps().exec()?.target_directory;
    let programs = programs.join("debug/examples");
    for (name, arguments) in [
        ("structure", vec![]),
        ("train", vec!["assets/cifar10-small.tar", &run]),
        ("grow", vec![&model, larger, &grown]),
        ("classify", vec![&grown, PHOTO]),
    ] {
        crate::run(Command::new(programs.join(name)).args(arguments))?;
    }
    Ok(())
}

fn run_step(arguments: &[&str]) -> Result<()> {
    crate::run(&mut cargo(arguments))
}

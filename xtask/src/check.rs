//! `cargo xtask check`: everything that must hold before a commit.
//!
//! Everything builds in the profile `dev`, so that no dependency is compiled twice.

use crate::{cargo, licenses, rooms};
use anyhow::Result;
use std::time::Instant;

/// Warnings are errors, in lints and in the documentation.
const LINTS: [&str; 7] = [
    "clippy",
    "--workspace",
    "--all-targets",
    "--quiet",
    "--",
    "-D",
    "warnings",
];
/// What a registry would get: each crate's files, metadata and versions.
const PACKAGE: [&str; 7] = [
    "package",
    "--workspace",
    "--exclude=xtask",
    "--no-verify",
    "--allow-dirty",
    "--offline",
    "--quiet",
];

/// Runs the checks, the quick ones first and the tests last, so that their closing lines are the last.
pub(crate) fn run() -> Result<()> {
    let started = Instant::now();
    run_step(&["fmt", "--all", "--check"])?;
    licenses::check()?;
    rooms::check()?;
    run_step(&PACKAGE)?;
    run_step(&LINTS)?;
    let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--quiet", "--lib"]);
    crate::run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    run_step(&["test", "--workspace"])?;
    eprintln!(
        "all checks passed in {:.0} s",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

fn run_step(arguments: &[&str]) -> Result<()> {
    crate::run(&mut cargo(arguments))
}

//! `cargo xtask check`: everything that must hold before a commit.

use crate::{cargo, licenses};
use anyhow::Result;

fn doc() -> Result<()> {
    let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--quiet", "--lib"]);
    crate::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Format, lints, licences, docs, and the tests last, so that their closing lines are the last.
pub(crate) fn run() -> Result<()> {
    run_step(&["fmt", "--all", "--check"])?;
    licenses::check()?;
    run_step(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ])?;
    doc()?;
    run_step(&["test", "--workspace"])
}

fn run_step(arguments: &[&str]) -> Result<()> {
    crate::run(&mut cargo(arguments))
}

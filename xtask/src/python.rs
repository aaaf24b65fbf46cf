//! `cargo xtask python`: the Python package, built and tested as its users get it.
//!
//! The crate is no member of the workspace, so that no other check compiles it.

use crate::cargo;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf, absolute};
use std::process::Command;

const CRATE: &str = "crates/polynet-python";
/// As maturin builds, so that nothing is compiled twice.
const LINTS: [&str; 8] = [
    "clippy",
    "--release",
    "--locked",
    "--quiet",
    "--features=pyo3/extension-module",
    "--",
    "-D",
    "warnings",
];

/// Build the Python package, install it and test it
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The program to compare with; built if it is not given
    #[arg(long, value_name = "FILE")]
    polynet: Option<PathBuf>,
    /// The folder for the wheel and for two virtual environments, which are made anew
    #[arg(long, default_value = "target/python", value_name = "DIR")]
    out: PathBuf,
    /// Arguments for pytest
    #[arg(last = true)]
    pytest: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let program = match &arguments.polynet {
        Some(program) => program.clone(),
        None => {
            crate::run(&mut cargo(&["build", "--release", "--package=polynet-cli"]))?;
            PathBuf::from("target/release/polynet")
        }
    };
    crate::run(cargo(&["fmt", "--check"]).current_dir(CRATE))?;
    crate::run(cargo(&LINTS).current_dir(CRATE))?;
    let wheel = build(&arguments.out)?;
    let python = environment(
        &arguments.out.join("user"),
        &format!("{}[test]", wheel.display()),
    )?;
    let mut tests = Command::new(absolute(python)?);
    tests.args(["-m", "pytest"]).args(&arguments.pytest);
    tests.env("POLYNET_COMMAND", absolute(program)?);
    crate::run(tests.current_dir(CRATE))
}

/// The wheel, by a maturin in an environment of its own.
fn build(out: &Path) -> Result<PathBuf> {
    let wheels = absolute(out.join("wheels"))?;
    if wheels.exists() {
        fs::remove_dir_all(&wheels)
            .with_context(|| format!("cannot remove {}", wheels.display()))?;
    }
    let python = environment(&out.join("build"), "maturin>=1.9,<2")?;
    let mut build = Command::new(absolute(python)?);
    build.args(["-m", "maturin", "build", "--release", "--locked", "--out"]);
    crate::run(build.arg(&wheels).current_dir(CRATE))?;
    let made =
        fs::read_dir(&wheels).with_context(|| format!("cannot read {}", wheels.display()))?;
    let made = made.map(|entry| Ok(entry?.path()));
    let made = made.collect::<Result<Vec<PathBuf>>>()?;
    ensure!(made.len() == 1, "expected one wheel, maturin made {made:?}");
    Ok(made[0].clone())
}

/// Python in a new virtual environment with one requirement.
fn environment(folder: &Path, requirement: &str) -> Result<PathBuf> {
    crate::run(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(folder),
    )?;
    let python = folder.join("bin/python");
    let mut install = Command::new(&python);
    crate::run(install.args(["-m", "pip", "install", "--quiet", requirement]))?;
    Ok(python)
}

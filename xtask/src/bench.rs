//! `cargo xtask bench peers`: our speed beside that of public runtimes.

use crate::cargo;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    with: With,
}

#[derive(clap::Subcommand)]
enum With {
    /// Prediction, training and whole processes beside PyTorch, ONNX Runtime and OpenVINO
    Peers(Peers),
}

#[derive(clap::Args)]
struct Peers {
    /// Python's virtual environment; made with the pinned packages if it is not there
    #[arg(long, default_value = "target/peers")]
    venv: PathBuf,
    /// Arguments of peers/bench.py, such as --rows predict --rounds 9 --threads 1
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let With::Peers(peers) = &arguments.with;
    crate::run(&mut cargo(&[
        "build",
        "--release",
        "--package",
        "polynet-cli",
    ]))?;
    let python = crate::fixtures::python(&peers.venv)?;
    crate::run(
        Command::new(python)
            .arg("peers/bench.py")
            .args(&peers.arguments),
    )
}

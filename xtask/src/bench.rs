//! `cargo xtask bench`: our speed beside that of others.

mod tables;

use crate::{cargo, debian};
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
    Peers(Comparison),
    /// The server beside FastAPI with ONNX Runtime, under the load of Debian's wrk
    Serve(Comparison),
    /// Make the tables of docs/performance.md anew, from the results that `peers --save` keeps
    Tables,
}

#[derive(clap::Args)]
struct Comparison {
    /// Python's virtual environment; made with the pinned packages if it is not there
    #[arg(long, default_value = "target/peers")]
    venv: PathBuf,
    /// Arguments of peers/bench.py or peers/bench_serve.py, such as --rounds 9
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (comparison, script, feature) = match &arguments.with {
        With::Peers(comparison) => (comparison, "peers/bench.py", None),
        With::Serve(comparison) => (comparison, "peers/bench_serve.py", Some("--features=serve")),
        With::Tables => return tables::write(),
    };
    let mut build = cargo(&["build", "--release", "--package", "polynet-cli"]);
    crate::run(build.args(feature))?;
    if feature.is_some() && !debian::has("wrk") {
        debian::install(&["wrk"])?;
    }
    let python = crate::fixtures::python(&comparison.venv)?;
    crate::run(Command::new(python).arg(script).args(&comparison.arguments))
}

//! `cargo xtask peers-check`: what programs of others make of what we write.
//!
//! A check is a script in `peers/` that gets the program by `--polynet` and fails where they disagree.

use crate::{cargo, debian, fixtures};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// Compare what we write for programs of others with what they make of it
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The checks to run; all by default
    checks: Vec<Check>,
    /// The program; built if it is not given
    #[arg(long, value_name = "FILE")]
    polynet: Option<PathBuf>,
    /// Python's virtual environment; made with the pinned packages if it is not there
    #[arg(long, default_value = "target/peers", value_name = "DIR")]
    venv: PathBuf,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Check {
    /// The server, by NVIDIA's client of the Open Inference Protocol and by Schemathesis
    Serve,
    /// The server's page, in headless Chromium and by axe-core
    Page,
    /// Exported ONNX files of every preset, by ONNX's checker, ONNX Runtime and OpenVINO
    Onnx,
    /// Exported state dicts, loaded strictly by the public implementations whose names they have
    Pytorch,
    /// Rounding errors of prediction in f32 on every preset, by PyTorch in float64
    Errors,
    /// Event files of a run, by TensorBoard's reader
    Tensorboard,
    /// Predictions as Parquet, by Arrow and DuckDB
    Parquet,
}

impl Check {
    const ALL: [Self; 7] = [
        Self::Serve,
        Self::Page,
        Self::Onnx,
        Self::Pytorch,
        Self::Errors,
        Self::Tensorboard,
        Self::Parquet,
    ];

    fn script(self) -> &'static str {
        match self {
            Self::Serve => "peers/check_serve.py",
            Self::Page => "peers/check_page.py",
            Self::Onnx => "peers/check_onnx.py",
            Self::Pytorch => "peers/check_pytorch.py",
            Self::Errors => "peers/check_errors.py",
            Self::Tensorboard => "peers/check_tensorboard.py",
            Self::Parquet => "peers/check_parquet.py",
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let program = match &arguments.polynet {
        Some(program) => program.clone(),
        None => {
            crate::run(&mut cargo(&[
                "build",
                "--release",
                "--package=polynet-cli",
                "--features=serve,parquet",
            ]))?;
            PathBuf::from("target/release/polynet")
        }
    };
    let checks = match arguments.checks.as_slice() {
        [] => &Check::ALL,
        checks => checks,
    };
    let python = fixtures::python(&arguments.venv)?;
    for check in checks {
        if matches!(check, Check::Page) && !debian::has("chromium") {
            debian::install(&["chromium"])?;
        }
        let mut script = Command::new(&python);
        crate::run(script.arg(check.script()).arg("--polynet").arg(&program))?;
    }
    Ok(())
}

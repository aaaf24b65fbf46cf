//! `cargo xtask fixtures`: reference numbers from the public PyTorch port, PyTorch and timm.

use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Make the fixtures anew with PyTorch, its public port of PolyNet, and timm
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Seed of the random weights; the committed fixtures have 1
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the fixtures go
    #[arg(long, default_value = "crates/polynet/tests/fixtures")]
    out: PathBuf,
    /// Python's virtual environment; made with the pinned packages if it is not there
    #[arg(long, default_value = "target/peers")]
    venv: PathBuf,
}

fn run_python(venv: &Path, arguments: &[&str]) -> Result<()> {
    let python = venv.join("bin/python");
    if !python.exists() {
        crate::run(Command::new("python3").args(["-m", "venv"]).arg(venv))?;
        let mut install = Command::new(&python);
        crate::run(install.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "-r",
            "peers/requirements.txt",
        ]))?;
    }
    crate::run(Command::new(&python).args(arguments))
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let out = arguments.out.to_string_lossy();
    ensure!(!out.is_empty(), "--out must name a folder");
    let seed = arguments.seed.to_string();
    let script = "peers/fixtures_polynet.py";
    run_python(&arguments.venv, &[script, "--seed", &seed, "--out", &out])?;
    let script = "peers/fixtures_optimizer.py";
    let out = "crates/polynet/src/train/fixtures";
    run_python(&arguments.venv, &[script, "--out", out])
}

//! `cargo xtask fixtures`: reference numbers from public implementations in PyTorch.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Make the fixtures anew with public implementations in PyTorch
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

const REQUIREMENTS: &str = "peers/requirements.txt";
const SCRIPTS: [&str; 2] = ["peers/fixtures_polynet.py", "peers/fixtures_networks.py"];
/// Scripts that need no seed, and where their fixtures go: training steps, optimizers' steps, crops,
/// images, JPEGs, resized pictures, small weight files and the classes of ILSVRC's devkit.
const SEEDLESS: [[&str; 3]; 8] = [
    [
        "peers/fixtures_oracle.py",
        "--out",
        "crates/polynet/tests/fixtures",
    ],
    [
        "peers/fixtures_optimizer.py",
        "--out",
        "crates/polynet/src/train/fixtures",
    ],
    [
        "peers/fixtures_crops.py",
        "--out",
        "crates/polynet/src/eval/fixtures",
    ],
    [
        "peers/fixtures_images.py",
        "--out",
        "crates/polynet/src/data/fixtures/images",
    ],
    [
        "peers/fixtures_jpeg.py",
        "--out",
        "crates/polynet/src/data/fixtures/jpeg.bin",
    ],
    [
        "peers/fixtures_resample.py",
        "--out",
        "crates/polynet/src/data/fixtures/resample.txt",
    ],
    [
        "peers/fixtures_pickles.py",
        "--out",
        "crates/polynet-fuzz/seeds",
    ],
    [
        "peers/fixtures_meta_mat.py",
        "--out",
        "crates/polynet/src/data/fixtures",
    ],
];

/// Python with the pinned packages: made where it is not there, completed where they have changed.
pub(crate) fn python(venv: &Path) -> Result<PathBuf> {
    let python = venv.join("bin/python");
    if !python.exists() {
        crate::run(Command::new("python3").args(["-m", "venv"]).arg(venv))?;
    }
    let wanted = std::fs::read_to_string(REQUIREMENTS)
        .with_context(|| format!("cannot read {REQUIREMENTS}"))?;
    let record = venv.join("requirements.txt");
    if std::fs::read_to_string(&record).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let mut install = Command::new(&python);
    crate::run(install.args(["-m", "pip", "install", "--quiet", "-r", REQUIREMENTS]))?;
    std::fs::write(&record, wanted)
        .with_context(|| format!("cannot write {}", record.display()))?;
    Ok(python)
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let out = arguments.out.to_string_lossy();
    ensure!(!out.is_empty(), "--out must name a folder");
    let seed = arguments.seed.to_string();
    let python = python(&arguments.venv)?;
    for script in SCRIPTS {
        crate::run(Command::new(&python).args([script, "--seed", &seed, "--out", &out]))?;
    }
    for script in SEEDLESS {
        crate::run(Command::new(&python).args(script))?;
    }
    Ok(())
}

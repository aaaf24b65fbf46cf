//! `cargo xtask vulkan`: networks on a GPU, through Vulkan, against the plain interpreter in f64.
//!
//! Needs no GPU: without one the test runs on SwiftShader, the software driver inside Debian's
//! `chromium` package, which this task installs where it is missing and apt-get is there.

use crate::{cargo, debian};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// Where Debian's chromium keeps its software driver.
const SWIFTSHADER: &str = "/usr/lib/chromium/vk_swiftshader_icd.json";

/// Build for Vulkan and judge networks by the plain interpreter
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Use the machine's own driver instead of the software driver
    #[arg(long)]
    native: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let room = ["--package=polynet", "--features=gpu", "--test=devices"];
    // The networks are small, and optimizing the GPU stack would take most of the time.
    let profile = ["--config", "profile.dev.package.\"*\".opt-level=0"];
    let build = [&room[..], &profile, &["--target-dir=target/vulkan"]].concat();
    let lints = ["--quiet", "--", "-D", "warnings"];
    crate::run(cargo(&["clippy"]).args(&build).args(lints))?;
    let mut test = cargo(&["test"]);
    test.args(&build);
    if !arguments.native {
        let driver = software_driver()?;
        test.env("VK_DRIVER_FILES", driver);
        let runtime = std::env::temp_dir();
        if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
            test.env("XDG_RUNTIME_DIR", runtime);
        }
    }
    crate::run(&mut test)
}

/// The software driver's description, installed if need be.
fn software_driver() -> Result<PathBuf> {
    let path = Path::new(SWIFTSHADER);
    if !path.exists() {
        debian::install(&["chromium", "libvulkan1"])?;
    }
    if !path.exists() {
        bail!("{SWIFTSHADER} is missing: install Debian's chromium package, or use --native");
    }
    Ok(path.to_owned())
}

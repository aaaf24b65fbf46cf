//! `cargo xtask processors`: what this machine's own tests cannot show.
//!
//! The kernels' tests, a prediction and a training step run for aarch64 under an emulator, where NEON's
//! kernels are executed, and everything is type-checked for macOS and Windows. Warnings are errors.
//! Instruction sets below this processor's best need nothing here: every test of kernels and engines
//! runs on each that is there.

use crate::{cargo, debian};
use anyhow::{Context, Result};
use std::process::Command;

/// The processor that is emulated.
const EMULATED: &str = "aarch64-unknown-linux-gnu";
/// What cannot be run here, only compiled.
const COMPILED: [&str; 2] = ["aarch64-apple-darwin", "x86_64-pc-windows-gnu"];
/// For the emulated processor: an emulator, a linker and a C library.
const PACKAGES: [&str; 3] = [
    "qemu-user-static",
    "gcc-aarch64-linux-gnu",
    "libc6-dev-arm64-cross",
];
/// What these packages have.
const PROGRAMS: [&str; 2] = ["qemu-aarch64-static", "aarch64-linux-gnu-gcc"];
/// Linked statically, since the emulator would look for libraries in this machine's folders.
const EMULATION: [(&str, &str); 3] = [
    (
        "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER",
        "qemu-aarch64-static",
    ),
    (
        "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER",
        "aarch64-linux-gnu-gcc",
    ),
    (
        "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
        "-Dwarnings -Ctarget-feature=+crt-static",
    ),
];
/// A small network against the judge: prediction in both precisions, and a training step.
const NETWORK: [&str; 6] = [
    "--package=polynet",
    "--test=oracle",
    "--",
    "--exact",
    "prediction::polynet",
    "training::polynet",
];

pub(crate) fn run() -> Result<()> {
    let mut targets = Command::new("rustup");
    targets.args(["target", "add", EMULATED]).args(COMPILED);
    crate::run(&mut targets).context("the standard library of other processors is needed")?;
    if !PROGRAMS.iter().all(|program| debian::has(program)) {
        debian::install(&PACKAGES)?;
    }
    for tests in [&["--package=polynet-kernels", "--lib"][..], &NETWORK] {
        let target = [
            "test",
            "--target",
            EMULATED,
            "--target-dir",
            "target/processors",
        ];
        crate::run(cargo(&target).args(tests).envs(EMULATION))?;
    }
    for target in COMPILED {
        let check = [
            "check",
            "--quiet",
            "--package=polynet-cli",
            "--target",
            target,
        ];
        crate::run(
            cargo(&check)
                .args(["--target-dir", "target/processors"])
                .env("RUSTFLAGS", "-Dwarnings"),
        )?;
    }
    Ok(())
}

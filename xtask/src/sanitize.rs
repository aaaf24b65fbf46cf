//! `cargo xtask sanitize`: the kernels' tests under AddressSanitizer.

use anyhow::{Context, Result};
use std::process::Command;

/// The sanitizer is not stable yet; its runtime comes with the toolchain on Linux and macOS.
const FLAGS: [(&str, &str); 3] = [
    ("RUSTC_BOOTSTRAP", "1"),
    ("RUSTFLAGS", "-Zsanitizer=address"),
    ("CARGO_TARGET_DIR", "target/sanitizer"),
];

pub(crate) fn run() -> Result<()> {
    let rustc = Command::new("rustc").arg("-vV").output()?;
    let version = String::from_utf8_lossy(&rustc.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("`rustc -vV` names no host")?;
    // With a target of its own, build scripts stay without the sanitizer.
    let mut tests = crate::cargo(&[
        "test",
        "--package",
        "polynet-kernels",
        "--lib",
        "--target",
        host,
    ]);
    crate::run(tests.envs(FLAGS))
}

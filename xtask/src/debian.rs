//! Packages of the system that a task needs, installed by the task.

use anyhow::{Context, Result};
use std::process::Command;

/// Whether a program is there.
pub(crate) fn has(program: &str) -> bool {
    // Some end with an error after they have told their version.
    Command::new(program).arg("--version").output().is_ok()
}

/// Installs Debian's `packages`.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    eprintln!("installing {}", packages.join(", "));
    let apt = |arguments: &[&str]| crate::run(Command::new("apt-get").args(arguments));
    apt(&["update"])
        .and_then(|()| apt(&[&["install", "--yes", "--no-install-recommends"], packages].concat()))
        .with_context(|| format!("install {} by hand", packages.join(", ")))
}

//! Packages of the system that a task needs, installed by the task.

use anyhow::{Context, Result};
use std::process::Command;

/// Whether a program is there.
pub(crate) fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output();
    found.is_ok_and(|output| output.status.success())
}

/// Installs Debian's `packages`.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    eprintln!("installing {}", packages.join(", "));
    let apt = |arguments: &[&str]| crate::run(Command::new("apt-get").args(arguments));
    apt(&["update"])
        .and_then(|()| apt(&[&["install", "--yes", "--no-install-recommends"], packages].concat()))
        .with_context(|| format!("install {} by hand", packages.join(", ")))
}

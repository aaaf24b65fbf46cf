//! Known faults of the dependencies, by `cargo deny` where it is installed and `deny.toml` says how.

use anyhow::Result;
use std::process::Stdio;

/// Advisories as they were fetched last: a check before a commit needs no network.
const CHECK: [&str; 4] = ["deny", "--offline", "check", "--hide-inclusion-graph"];

/// Runs `cargo deny`, or says that it was not.
pub(crate) fn check() -> Result<()> {
    let mut version = crate::cargo(&["deny", "--version"]);
    let version = version.stdout(Stdio::null()).stderr(Stdio::null()).status();
    if version.is_ok_and(|status| status.success()) {
        return crate::run(&mut crate::cargo(&CHECK));
    }
    eprintln!(
        "SKIPPED: known faults of the dependencies are not looked up, `cargo deny` is not here; \
         `cargo install cargo-deny --locked` gets it"
    );
    Ok(())
}

//! Licences of the dependencies, checked offline from their manifests.
//!
//! Known vulnerabilities need a database: see [`deny`](crate::deny).

use anyhow::{Context, Result, ensure};
use cargo_metadata::{MetadataCommand, Package};
use spdx::{Expression, LicenseReq, ParseMode};

/// Licences that let anyone use the project under `MIT OR Apache-2.0`.
const ACCEPTED: [&str; 15] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MPL-2.0",
    "NCSA",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "bzip2-1.0.6",
];

/// Fails if a dependency has a licence that is not accepted, or none.
pub(crate) fn check() -> Result<()> {
    eprintln!("$ licences of the dependencies");
    let metadata = MetadataCommand::new()
        .exec()
        .context("cannot read the dependencies")?;
    let refused: Vec<String> = metadata
        .packages
        .iter()
        .filter(|package| !is_accepted(package))
        .map(|package| {
            let license = package.license.as_deref().unwrap_or("none stated");
            format!("{} {}: {license}", package.name, package.version)
        })
        .collect();
    ensure!(
        refused.is_empty(),
        "licences that are not accepted:\n  {}",
        refused.join("\n  ")
    );
    Ok(())
}

fn is_accepted(package: &Package) -> bool {
    let Some(text) = &package.license else {
        return package.license_file.is_some();
    };
    let accepted = |requirement: &LicenseReq| {
        let license = requirement.license.id();
        license.is_some_and(|license| ACCEPTED.contains(&license.name))
    };
    Expression::parse_mode(text, ParseMode::LAX)
        .is_ok_and(|expression| expression.evaluate(accepted))
}

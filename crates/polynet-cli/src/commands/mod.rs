//! One file for each command: its arguments and what it does.

pub(crate) mod bench;
mod compute;
mod crops;
pub(crate) mod data;
pub(crate) mod documents;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod grow;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod predict;
pub(crate) mod quantize;
mod ranks;
pub(crate) mod search;
#[cfg(feature = "serve")]
pub(crate) mod serve;
pub(crate) mod study;
pub(crate) mod train;

use anyhow::{Context, ensure};
use polynet::Architecture;
use polynet::data::ClassNames;
use std::path::Path;

/// A network from the command line: a preset's name or a text in the algebra's language.
fn architecture(text: &str, input_size: Option<usize>) -> anyhow::Result<Architecture> {
    let architecture: Architecture = text.parse()?;
    Ok(match input_size {
        Some(size) => architecture.with_input_size(size),
        None => architecture,
    })
}

/// Refuses a folder that has something in it.
fn ensure_new(folder: &Path) -> anyhow::Result<()> {
    let mut entries = folder.read_dir().into_iter().flatten();
    ensure!(
        entries.next().is_none(),
        "{}: the folder is not empty; choose another, or remove it first",
        folder.display()
    );
    Ok(())
}

/// The names in a file, one a line; `count` of them.
fn class_names(path: &Path, count: usize) -> anyhow::Result<ClassNames> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the class names in {}", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let names: Vec<String> = lines.map(str::to_owned).collect();
    ensure!(
        names.len() == count,
        "{}: expected {count} class names, one a line, found {}",
        path.display(),
        names.len()
    );
    ClassNames::new(names).with_context(|| path.display().to_string())
}

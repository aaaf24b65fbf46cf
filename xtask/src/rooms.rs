//! `cargo xtask rooms`: imports that ARCHITECTURE.md's table of rooms doesn't allow.
//!
//! A room is a folder or a file of `crates/polynet/src`, or one of the workspace's crates. It may use
//! the rooms that its row names, which all stand above it in the table: so there is no circle. The word
//! `unsafe`, and crates of others that any row names (Burn), belong to the rows that name them. Tests
//! inside a room follow its row; tests, examples and benchmarks beside `src` may use every room.

mod paths;
mod place;
mod table;
mod tokens;

use anyhow::{Context, Result, bail};
use place::Place;
use std::path::{Path, PathBuf};
use table::Table;

const DOCUMENT: &str = "ARCHITECTURE.md";
/// The crate whose folders and files are rooms.
const LIBRARY: &str = "polynet";

/// Fails if a file of the workspace uses what it may not, and names all such uses.
pub(crate) fn check() -> Result<()> {
    eprintln!("$ imports by {DOCUMENT}'s table of rooms");
    check_tree(Path::new("."))
}

fn check_tree(root: &Path) -> Result<()> {
    let dependencies = dependencies(&read(&root.join("Cargo.toml"))?);
    let table = Table::parse(&read(&root.join(DOCUMENT))?, &dependencies)
        .with_context(|| format!("{DOCUMENT}, the table of rooms"))?;
    let crates = crates(root)?;
    let mut wrong = rooms_and_rows(root, &table, &crates)?;
    for folder in &crates {
        for file in rust_files(folder)? {
            let place = Place::new(folder, &file)?;
            let shown = file.strip_prefix(root)?.display();
            let text = read(&file)?;
            let problems = place.problems(&table, &text);
            wrong.extend(problems.map(|(line, problem)| format!("{shown}:{line}: {problem}")));
        }
    }
    wrong.dedup();
    if !wrong.is_empty() {
        bail!(
            "against {DOCUMENT}'s table of rooms:\n  {}",
            wrong.join("\n  ")
        );
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Names of the workspace's dependencies: the crates that a row may name.
fn dependencies(manifest: &str) -> Vec<String> {
    let lines = manifest.lines().map(str::trim);
    lines
        .skip_while(|line| *line != "[workspace.dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim().to_owned())
        .collect()
}

/// Folders of the workspace's crates.
fn crates(root: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = entries(&root.join("crates"))?;
    folders.push(root.join("xtask"));
    folders.retain(|folder| folder.join("Cargo.toml").exists());
    Ok(folders)
}

/// What a folder holds, in the order of names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let mut paths = paths.collect::<Result<Vec<PathBuf>>>()?;
    paths.sort();
    Ok(paths)
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in entries(folder)? {
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// Rooms without a row, and rows without a room.
fn rooms_and_rows(root: &Path, table: &Table, crates: &[PathBuf]) -> Result<Vec<String>> {
    let name = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        table::short(&name.to_string_lossy())
    };
    let source = root.join("crates").join(LIBRARY).join("src");
    let mut rooms: Vec<String> = entries(&source)?.iter().chain(crates).map(name).collect();
    rooms.retain(|room| room != "lib" && room != LIBRARY);
    rooms.sort();
    rooms.dedup();
    let lonely = rooms.iter().filter(|room| table.row(room).is_none());
    let lonely = lonely.map(|room| format!("{DOCUMENT}: no row for the room `{room}`; write one"));
    let gone = table.rows.iter().map(|row| &row.room);
    let gone = gone.filter(|room| !rooms.contains(room) && !root.join(room).exists());
    let gone = gone.map(|room| format!("{DOCUMENT}: no room `{room}`; remove its row"));
    Ok(lonely.chain(gone).collect())
}

#[cfg(test)]
mod tests;

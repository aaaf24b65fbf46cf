//! Everything that polynet reads, given what nobody meant it to read.
//!
//! A [`Target`] is one reader: text or bytes in, an answer or an error out. What it must not do is panic,
//! end the process, contradict itself or another reader, or take more memory than its [`Allowance`] for
//! the bytes that it was given.
//!
//! An input is a function of its number: of the target's seeds, its words, and random numbers drawn for
//! the number (see [`mutant`]). So a process that died is told which inputs it had, and a finding is made
//! again by its number. What was found once is a file in `corpus/TARGET`, is tried by every `cargo test`,
//! and is a seed.
//!
//! `cargo xtask fuzz --minutes 60` gives all targets their share of an hour, each in a process of its own.

mod memory;
mod mutate;
mod scratch;
mod targets;

pub use memory::Allowance;
pub use mutate::mutant;
pub use targets::{TARGETS, Target};

use anyhow::{Context as _, Result};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

static LAST_PANIC: Mutex<Option<Finding>> = Mutex::new(None);

/// What an input did that it must not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The line of the source, which is the same for inputs with one fault.
    pub place: String,
    /// What is said of it.
    pub message: String,
}

/// Lets panics be told by [`attempt`] alone, not on standard error.
pub fn listen_to_panics() {
    set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no text").to_owned();
        *last_panic() = Some(Finding { place, message });
    }));
}

fn last_panic() -> MutexGuard<'static, Option<Finding>> {
    LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives a target an input; whoever calls listens to panics.
///
/// # Errors
/// What it did that it must not do: a panic is one wherever it is caught. It may also end the process.
pub fn attempt(target: &Target, input: &[u8]) -> Result<(), Finding> {
    *last_panic() = None;
    let read = AssertUnwindSafe(|| memory::within(target.memory, input, target.read));
    // The listener knows more than the payload.
    let _ = catch_unwind(read);
    last_panic().take().map_or(Ok(()), Err)
}

/// Where a target's findings are kept.
pub fn corpus(target: &Target) -> PathBuf {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    corpus.join(target.name)
}

/// The files of a target's corpus, by name.
///
/// # Errors
/// If they can't be read.
pub fn kept(target: &Target) -> Result<Vec<(String, Vec<u8>)>> {
    let folder = corpus(target);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut kept = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let bytes = fs::read(entry.path());
        kept.push((
            name,
            bytes.with_context(|| entry.path().display().to_string())?,
        ));
    }
    kept.sort();
    Ok(kept)
}

/// All that a target's inputs are made of.
///
/// # Errors
/// If its corpus can't be read.
pub fn seeds(target: &Target) -> Result<Vec<Vec<u8>>> {
    let mut seeds = (target.seeds)();
    seeds.extend(kept(target)?.into_iter().map(|(_, bytes)| bytes));
    Ok(seeds)
}

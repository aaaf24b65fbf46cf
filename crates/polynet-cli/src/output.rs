//! Standard output: results as text or JSON.

use anyhow::Result;
use polynet::data::{Reading, printable};
use serde::Serialize;
use std::io::{self, Write};

/// Writes a line; a reader that went away is an error that `main` takes for success.
pub(crate) fn line(text: impl std::fmt::Display) -> Result<()> {
    writeln!(io::stdout().lock(), "{text}")?;
    Ok(())
}

/// Writes a value as indented JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    line(serde_json::to_string_pretty(value)?)
}

/// How a data set was understood, and what is odd about it, to standard error.
pub(crate) fn say_reading(reading: &Reading) {
    eprintln!("images read as {}", printable(&reading.to_string()));
    for warning in &reading.warnings {
        eprintln!("warning: {}", printable(warning));
    }
}

/// Whether the error is a closed pipe, as `polynet list | head` makes one.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// An error with its causes, as one line; a cause that the message before it already tells is left
/// out.
pub(crate) fn explain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_cause_is_told_once() {
        let told = anyhow!("disk full").context("a.txt: can't write: disk full");
        assert_eq!(explain(&told), "a.txt: can't write: disk full");
        let untold = anyhow!("disk full").context("a.txt: can't write");
        assert_eq!(explain(&untold), "a.txt: can't write: disk full");
    }
}

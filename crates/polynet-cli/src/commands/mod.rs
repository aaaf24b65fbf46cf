//! One file for each command: its arguments and what it does.

pub(crate) mod bench;
pub(crate) mod eval;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod predict;
pub(crate) mod train;

use polynet::arch::Architecture;

/// A network from the command line: a preset's name or a text in the algebra's language.
fn architecture(text: &str, input_size: Option<usize>) -> anyhow::Result<Architecture> {
    let architecture: Architecture = text.parse()?;
    Ok(match input_size {
        Some(size) => architecture.with_input_size(size),
        None => architecture,
    })
}

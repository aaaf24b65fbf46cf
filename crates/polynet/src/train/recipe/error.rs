//! What is wrong with a recipe, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// The longest recipe that is read, in bytes.
pub(super) const LONGEST: u64 = 1 << 20;

/// A recipe that can't be read, written or followed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct RecipeError(#[from] ErrorKind);

#[derive(Debug, thiserror::Error)]
pub(super) enum ErrorKind {
    #[error("{}: expected a recipe in TOML: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: expected a recipe of at most {LONGEST} bytes, came {length}: is it a recipe?", path.display())]
    TooLong { path: PathBuf, length: u64 },
    #[error("{}", .0.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n"))]
    Faults(Vec<Fault>),
    #[error("expected a recipe that TOML can hold: {0}")]
    Write(toml::ser::Error),
}

impl RecipeError {
    /// Everything that is wrong with the text, in the order of its places; empty where the text
    /// could not even be read.
    pub fn faults_found(&self) -> &[Fault] {
        match &self.0 {
            ErrorKind::Faults(faults) => faults,
            _ => &[],
        }
    }
}

/// One thing wrong with a recipe: the message and, where it stands in a text, the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub(super) message: String,
    /// None for a missing key, and for a recipe that was never text.
    pub(super) place: Option<Place>,
}

/// A place in the file or in an override.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Line and column in characters, from 1.
    pub(super) position: (usize, usize),
    /// The text that it is in, and for a file the position.
    pub(super) origin: String,
    /// The line, marked.
    pub(super) excerpt: String,
}

impl Fault {
    /// What was expected, what came and what to do.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Line and column from 1, where the fault stands in a text.
    pub fn position(&self) -> Option<(usize, usize)> {
        Some(self.place.as_ref()?.position)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = &self.message;
        match &self.place {
            Some(Place {
                origin, excerpt, ..
            }) => write!(f, "{origin}: {message}\n{excerpt}"),
            None => f.write_str(message),
        }
    }
}

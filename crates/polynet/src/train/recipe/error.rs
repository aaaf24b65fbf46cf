//! What is wrong with a recipe, and where.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Columns of a source line that a fault shows.
const WIDEST: usize = 100;

/// A recipe that can't be read, written or followed.
#[derive(Debug, thiserror::Error)]
pub struct RecipeError {
    kind: ErrorKind,
}

#[derive(Debug)]
enum ErrorKind {
    Read {
        path: PathBuf,
        source: io::Error,
    },
    TooLong {
        path: PathBuf,
        length: u64,
        longest: u64,
    },
    Faults(Vec<Fault>),
    Write(toml::ser::Error),
}

impl RecipeError {
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        let kind = ErrorKind::Read { path, source };
        Self { kind }
    }

    pub(super) fn too_long(path: &Path, length: u64, longest: u64) -> Self {
        let path = path.to_owned();
        let kind = ErrorKind::TooLong {
            path,
            length,
            longest,
        };
        Self { kind }
    }

    pub(super) fn faults(faults: impl IntoIterator<Item = Fault>) -> Self {
        let kind = ErrorKind::Faults(faults.into_iter().collect());
        Self { kind }
    }

    pub(super) fn write(error: toml::ser::Error) -> Self {
        let kind = ErrorKind::Write(error);
        Self { kind }
    }

    /// Everything that is wrong with the text, in the order of its places; empty where the text
    /// could not even be read.
    pub fn faults_found(&self) -> &[Fault] {
        match &self.kind {
            ErrorKind::Faults(faults) => faults,
            _ => &[],
        }
    }
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ErrorKind::Read { path, source } => {
                write!(f, "{}: expected a recipe in TOML: {source}", path.display())
            }
            ErrorKind::TooLong {
                path,
                length,
                longest,
            } => write!(
                f,
                "{}: expected a recipe of at most {longest} bytes, came {length}: is it a recipe?",
                path.display()
            ),
            ErrorKind::Faults(faults) => {
                for (index, fault) in faults.iter().enumerate() {
                    if index > 0 {
                        writeln!(f)?;
                    }
                    write!(f, "{fault}")?;
                }
                Ok(())
            }
            ErrorKind::Write(error) => write!(f, "expected a recipe that TOML can hold: {error}"),
        }
    }
}

/// One thing wrong with a recipe: the message and, where it stands in a text, the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    message: String,
    place: Option<Place>,
}

/// A place in the file or in an override.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The file's path, or what stands for it.
    pub(super) origin: Origin,
    /// Line, from 1.
    pub(super) line: usize,
    /// Column in characters, from 1.
    pub(super) column: usize,
    /// Characters that are marked, at least 1.
    pub(super) width: usize,
    /// The whole line.
    pub(super) text: String,
}

/// The text that a place is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    File(String),
    Override,
}

impl Fault {
    pub(super) fn new(message: String, place: Place) -> Self {
        let place = Some(place);
        Self { message, place }
    }

    /// A fault that stands nowhere: a missing key, or a recipe that was never text.
    pub(super) fn unplaced(message: &dyn fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            place: None,
        }
    }

    /// What was expected, what came and what to do.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Line and column from 1, where the fault stands in a text.
    pub fn position(&self) -> Option<(usize, usize)> {
        let place = self.place.as_ref()?;
        Some((place.line, place.column))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(place) = &self.place else {
            return f.write_str(&self.message);
        };
        let message = &self.message;
        let gutter = match &place.origin {
            Origin::File(name) => {
                writeln!(f, "{name}:{}:{}: {message}", place.line, place.column)?;
                place.line.to_string()
            }
            Origin::Override => {
                writeln!(f, "override: {message}")?;
                String::new()
            }
        };
        let (line, caret) = place.excerpt();
        let blank = " ".repeat(gutter.len());
        writeln!(f, "  {gutter} | {line}")?;
        write!(f, "  {blank} | {caret}")
    }
}

impl Place {
    /// The part of the line around the place, and the carets to stand under it.
    fn excerpt(&self) -> (String, String) {
        let start = self.column - 1;
        let skipped = start.saturating_sub(WIDEST / 2);
        let line: String = self
            .text
            .chars()
            .skip(skipped)
            .take(WIDEST)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let room = line.chars().count().saturating_sub(start - skipped).max(1);
        let caret = " ".repeat(start - skipped) + &"^".repeat(self.width.clamp(1, room));
        (line, caret)
    }
}

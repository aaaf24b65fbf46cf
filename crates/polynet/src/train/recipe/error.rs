//! What is wrong with a recipe, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// The longest recipe that is read, in bytes.
pub(super) const LONGEST: u64 = 1 << 20;
/// Columns of a source line that a fault shows.
const WIDEST: usize = 100;

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
    #[error("{}", lines(.0))]
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

fn lines(faults: &[Fault]) -> String {
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    faults.join("\n")
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

//! What can be wrong with a text, and where.
//!
//! An [`Error`] is a kind and a place. It prints as
//!
//! ```text
//! unknown module `polly-2`
//!   |
//! 1 | A: polly-2 x10
//!   |    ^^^^^^^
//! help: did you mean `poly-2`?
//! ```
//!
//! and keeps only the drawn part of the source, so an error over megabytes stays small. Errors
//! of arithmetic on polynomials that came from no text print the message and the help only.

use std::fmt;
use std::ops::Range;

/// The most characters of a source line that an error shows.
const WINDOW: usize = 76;

/// A place in a source text: a range of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}

impl Span {
    /// The bytes from `start` up to, not including, `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The smallest span that covers both.
    pub fn to(self, other: Self) -> Self {
        Self::new(self.start.min(other.start), self.end.max(other.end))
    }

    /// The same place as a range, to index the source with.
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// A value and the place in the text that it was read from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spanned<T> {
    /// What was read.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// `value`, read from `span`.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The grammar wants something else here.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What may stand here.
        expected: String,
        /// What stands here.
        found: String,
        /// What to do about it.
        help: Option<String>,
    },
    /// A name that is no module.
    #[error("unknown module `{name}`")]
    UnknownModule {
        /// The name as written.
        name: String,
        /// What to do about it.
        help: String,
    },
    /// Not the name of a block.
    #[error(
        "expected a block (an uppercase letter other than I, then perhaps digits), found `{found}`"
    )]
    InvalidBlock {
        /// The text as written.
        found: String,
    },
    /// A number that no computer counts to, or above what its place allows.
    #[error("the number is too large")]
    NumberTooLarge,
    /// A count, order or repetition of zero.
    #[error("{what} must be at least 1")]
    Zero {
        /// What was zero.
        what: &'static str,
    },
    /// A sum of no terms: there is no zero operator.
    #[error("a sum needs at least one term")]
    EmptySum,
    /// Something would exceed one of the crate's limits; nothing of it was built.
    #[error("{what} is over the limit of {limit} {unit}")]
    OverLimit {
        /// What is too big.
        what: &'static str,
        /// The limit, included.
        limit: usize,
        /// What is counted.
        unit: &'static str,
    },
    /// A second clause for what can be said once only.
    #[error("{what} `{name}` is given twice")]
    Duplicate {
        /// `stage`, `setting` or `preset`.
        what: &'static str,
        /// The second one, as written.
        name: String,
    },
    /// What another crate found wrong at this place.
    #[error("{message}")]
    Custom {
        /// What was expected and what came.
        message: String,
        /// What to do about it.
        help: Option<String>,
    },
}

impl ErrorKind {
    /// What to do about it, where there is something to say.
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::Expected { help, .. } | Self::Custom { help, .. } => help.as_deref(),
            Self::UnknownModule { help, .. } => Some(help),
            Self::Duplicate { what: "stage", .. } => {
                Some("write the stage's modules as one sequence, joined by `->`")
            }
            _ => None,
        }
    }
}

/// What is wrong with a text, and where. See the module's head for how it prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    kind: ErrorKind,
    span: Span,
    excerpt: Option<Excerpt>,
}

impl Error {
    /// `kind` at the bytes `span` of `source`. A span that leaves the text or cuts a character
    /// is moved to the nearest place that does not.
    pub fn new(kind: ErrorKind, source: &str, span: Span) -> Self {
        let excerpt = (!source.is_empty()).then(|| Excerpt::new(source, span));
        Self(Box::new(Inner {
            kind,
            span,
            excerpt,
        }))
    }

    /// What another crate found wrong at the bytes `span` of `source`, and what to do about it.
    pub fn custom(
        source: &str,
        span: Span,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Self {
        let kind = ErrorKind::Custom {
            message: message.into(),
            help,
        };
        Self::new(kind, source, span)
    }

    /// An error of arithmetic, which has no text to point into.
    pub(crate) fn unplaced(kind: ErrorKind) -> Self {
        Self::new(kind, "", Span::default())
    }

    /// The same error, found at the bytes `span` of `source`.
    #[must_use]
    pub fn at(self, source: &str, span: Span) -> Self {
        Self::new(self.0.kind, source, span)
    }

    /// What is wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Where: bytes of the source text.
    pub fn span(&self) -> Span {
        self.0.span
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.kind)?;
        if let Some(excerpt) = &self.0.excerpt {
            write!(f, "\n{excerpt}")?;
        }
        self.0
            .kind
            .help()
            .map_or(Ok(()), |help| write!(f, "\nhelp: {help}"))
    }
}

/// The drawn part of the source: at most [`WINDOW`] characters of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Excerpt {
    line_number: usize,
    text: String,
    /// Characters before the underline, and under it.
    indent: usize,
    underline: usize,
}

impl Excerpt {
    fn new(source: &str, span: Span) -> Self {
        let start = source.floor_char_boundary(span.start);
        let end = source.ceil_char_boundary(span.end).max(start);
        let before = &source[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = source[start..]
            .find('\n')
            .map_or(source.len(), |newline| start + newline);
        let line = &source[line_start..line_end];
        let column = source[line_start..start].chars().count();
        let width = source[start..end.min(line_end)].chars().count().max(1);

        // A long line is cut so that the place stands a third into the window.
        let length = line.chars().count();
        let first = if length <= WINDOW {
            0
        } else {
            column.saturating_sub(WINDOW / 3).min(length - WINDOW)
        };
        let shown: String = line
            .chars()
            .skip(first)
            .take(WINDOW)
            .map(drawable)
            .collect();
        let (left, right) = (first > 0, first + WINDOW < length);
        Self {
            line_number: before.matches('\n').count() + 1,
            text: format!(
                "{}{shown}{}",
                if left { "…" } else { "" },
                if right { "…" } else { "" }
            ),
            indent: column - first + usize::from(left),
            underline: width.min(WINDOW.saturating_sub(column - first).max(1)),
        }
    }
}

/// Tabs and control characters would move the underline or the terminal.
fn drawable(character: char) -> char {
    match character {
        '\t' | '\r' => ' ',
        _ if character.is_control() => '\u{fffd}',
        _ => character,
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line_number.to_string();
        let margin = " ".repeat(number.len());
        let (indent, underline) = (" ".repeat(self.indent), "^".repeat(self.underline));
        write!(
            f,
            "{margin} |\n{number} | {}\n{margin} | {indent}{underline}",
            self.text
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(source: &str, start: usize, end: usize) -> String {
        Error::custom(source, Span::new(start, end), "m", None).to_string()
    }

    #[test]
    fn the_place_is_underlined_and_the_help_follows() {
        let error = Error::custom(
            "A: F;\nB: pool",
            Span::new(9, 13),
            "no such module",
            Some("try F".into()),
        );
        let expected = "no such module\n  |\n2 | B: pool\n  |    ^^^^\nhelp: try F";
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.span(), Span::new(9, 13));
    }

    #[test]
    fn an_empty_place_still_gets_a_caret() {
        assert_eq!(drawn("F +", 3, 3), "m\n  |\n1 | F +\n  |    ^");
    }

    #[test]
    fn characters_of_many_bytes_count_as_one_column() {
        let source = "F → Ω × 2";
        let start = source.find('Ω').unwrap();
        assert_eq!(
            drawn(source, start, start + 2),
            "m\n  |\n1 | F → Ω × 2\n  |     ^"
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let source = format!("{}!{}", "a".repeat(5_000), "b".repeat(5_000));
        let lines: Vec<String> = drawn(&source, 5_000, 9_000)
            .lines()
            .map(String::from)
            .collect();
        assert!(lines[2].chars().count() <= WINDOW + 6);
        let caret = lines[3].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[2].chars().nth(caret), Some('!'));
        assert!(lines[3].chars().count() <= lines[2].chars().count());
    }

    #[test]
    fn a_place_outside_the_text_or_inside_a_character_is_moved() {
        for (start, end) in [(0, 99), (99, 99), (1, 2), (2, 1), (usize::MAX, usize::MAX)] {
            assert!(drawn("→→", start, end).contains('^'));
        }
    }

    #[test]
    fn control_characters_are_not_sent_to_the_terminal() {
        assert!(!drawn("F\u{1b}[31m", 1, 2).contains('\u{1b}'));
    }
}

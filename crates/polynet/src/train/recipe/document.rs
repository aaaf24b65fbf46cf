//! The file and the overrides as one tree of values that know their places.
//!
//! All texts lie one behind the other in one buffer, so that a byte range says both which text a
//! value came from and where in it.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Fault, Place};

/// Columns of a source line that a fault shows.
const WIDEST: usize = 100;
/// Parts of an override's key: dropping a tree takes stack for each level.
const DEEPEST: usize = 8;

/// A fault and the byte range in the buffer where it stands.
pub(super) type Located = (String, Option<Range<usize>>);

/// The texts of a recipe, one behind the other: the file's and those of the overrides.
pub(super) struct Sources<'n> {
    name: &'n str,
    buffer: String,
    segments: Vec<Range<usize>>,
}

impl<'n> Sources<'n> {
    pub(super) fn new(name: &'n str, file: &str, overrides: &[String]) -> Self {
        let (mut buffer, mut segments) = (String::new(), Vec::new());
        for text in std::iter::once(file).chain(overrides.iter().map(String::as_str)) {
            segments.push(buffer.len()..buffer.len() + text.len());
            // No text touches the next, so that the place behind the last character has one owner.
            buffer = buffer + text + "\n";
        }
        Self {
            name,
            buffer,
            segments,
        }
    }

    /// The tree of the file with the overrides put into it.
    pub(super) fn tree(&self) -> Result<DeTable<'_>, Vec<Located>> {
        let mut faults = Vec::new();
        let mut tree = DeTable::new();
        for (index, range) in self.segments.iter().enumerate() {
            let text = &self.buffer[range.clone()];
            let read = match index {
                0 => DeTable::parse(text)
                    .map(|file| tree = file.into_inner())
                    .map_err(|error| located(&error, 0)),
                _ => set(&mut tree, text, range.start),
            };
            faults.extend(read.err());
        }
        if faults.is_empty() {
            Ok(tree)
        } else {
            Err(faults)
        }
    }

    /// Turns byte ranges into places, in the order of the texts; what has no place in
    /// them comes last and names the file.
    pub(super) fn place(&self, mut faults: Vec<Located>) -> Vec<Fault> {
        faults.sort_by_key(|(_, range)| range.as_ref().map_or(usize::MAX, |range| range.start));
        let faults = faults.into_iter().map(|(message, range)| {
            let place = range.and_then(|range| self.find(&range));
            let message = match place {
                Some(_) => message,
                None => format!("{}: {message}", self.name),
            };
            Fault { message, place }
        });
        faults.collect()
    }

    fn find(&self, range: &Range<usize>) -> Option<Place> {
        let index = self
            .segments
            .iter()
            .position(|text| range.start <= text.end)?;
        let segment = &self.segments[index];
        let text = &self.buffer[segment.clone()];
        let start = range.start.checked_sub(segment.start)?;
        let before = text.get(..start)?;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before[line_start..].chars().count();
        let marked = text
            .get(start..range.end - segment.start)
            .unwrap_or_default();
        let (origin, gutter) = match index {
            0 => (
                format!("{}:{line}:{}", self.name, column + 1),
                line.to_string(),
            ),
            _ => ("override".to_owned(), String::new()),
        };
        let skipped = column.saturating_sub(WIDEST / 2);
        let shown = text[line_start..]
            .lines()
            .next()
            .unwrap_or_default()
            .chars();
        let shown = shown.map(|c| if c.is_control() { ' ' } else { c });
        let shown: String = shown.skip(skipped).take(WIDEST).collect();
        let room = shown
            .chars()
            .count()
            .saturating_sub(column - skipped)
            .max(1);
        let (indent, carets) = (column - skipped, marked.chars().count().clamp(1, room));
        let (margin, carets) = (" ".repeat(gutter.len()), "^".repeat(carets));
        Some(Place {
            position: (line, column + 1),
            origin,
            excerpt: format!("  {gutter} | {shown}\n  {margin} | {:indent$}{carets}", ""),
        })
    }
}

fn located(error: &toml::de::Error, shift: usize) -> Located {
    let range = error
        .span()
        .map(|span| span.start + shift..span.end + shift);
    (format!("expected TOML: {}", error.message()), range)
}

/// Puts the override `text`, which stands at `shift` in the buffer, into the tree.
fn set<'i>(tree: &mut DeTable<'i>, text: &'i str, shift: usize) -> Result<(), Located> {
    let fail = |message: &str, range| Err((message.to_owned(), Some(range)));
    let whole = shift..shift + text.len();
    let Some((path, value)) = text.split_once('=') else {
        return fail(
            "expected key.path=value, such as training.duration=3 epochs",
            whole,
        );
    };
    if path.split('.').count() > DEEPEST {
        let message = format!("expected a key of at most {DEEPEST} parts before the `=`");
        return fail(&message, whole);
    }
    let mut table = tree;
    let mut start = shift;
    let mut parts = path.split('.').peekable();
    while let Some(part) = parts.next() {
        let (name, range) = trimmed(part, start);
        start += part.len() + 1;
        let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(bare) {
            return fail(
                "expected a key such as training.batch_size before the `=`",
                range,
            );
        }
        let key = Spanned::new(range.clone(), Cow::Borrowed(name));
        if parts.peek().is_none() {
            // Removed first: inserting over an old entry would keep the old key and its place.
            table.remove(name);
            table.insert(key, override_value(value, start)?);
            return Ok(());
        }
        let section = || Spanned::new(range.clone(), DeValue::Table(DeTable::new()));
        table = match table.entry(key).or_insert_with(section).get_mut() {
            DeValue::Table(section) => section,
            _ => return fail("expected a section's name, came a key's", range),
        };
    }
    Ok(())
}

/// The text without the space around it, and where it stands.
fn trimmed(text: &str, start: usize) -> (&str, Range<usize>) {
    let start = start + (text.len() - text.trim_start().len());
    (text.trim(), start..start + text.trim().len())
}

/// A value in TOML's syntax, or a bare word or phrase: a string.
fn override_value(text: &str, start: usize) -> Result<Spanned<DeValue<'_>>, Located> {
    let (text, range) = trimmed(text, start);
    let bare = || Spanned::new(range.clone(), DeValue::String(Cow::Borrowed(text)));
    match DeValue::parse(text) {
        // A day is a fine name for a run, and no key holds a date.
        Ok(value) if value.get_ref().is_datetime() => Ok(bare()),
        Ok(value) => Ok(shifted(value, range.start)),
        Err(error) if text.starts_with(['"', '\'', '[', '{']) => Err(located(&error, range.start)),
        Err(_) => Ok(bare()),
    }
}

/// The value with its places, and those of a table's entries, moved.
fn shifted(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let moved = |span: Range<usize>| span.start + by..span.end + by;
    let span = moved(value.span());
    Spanned::new(
        span,
        match value.into_inner() {
            DeValue::Table(entries) => DeValue::Table(
                entries
                    .into_iter()
                    .map(|(key, value)| {
                        let span = moved(key.span());
                        (Spanned::new(span, key.into_inner()), shifted(value, by))
                    })
                    .collect(),
            ),
            value => value,
        },
    )
}

//! From the tree of values to a [`Recipe`]: every key is asked for once.
//!
//! Reading goes on after a fault, so that one run of the command shows all of them. What was never
//! asked for is an unknown key, and the keys that were asked for are what it is compared with.

use std::borrow::Cow;
use std::ops::Range;

use polynet_algebra::nearest;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::{Located, Sources};
use super::error::{ErrorKind, RecipeError};
use super::keys::Recipe;
use super::listing::Key;
use super::table::Section;
use super::value::{Bounds, Value, describe};

/// Reads `text`, called `origin` in messages, and the overrides; `name` is the run's default name.
pub(super) fn recipe(
    origin: &str,
    text: &str,
    overrides: &[String],
    name: &str,
) -> Result<Recipe, RecipeError> {
    let sources = Sources::new(origin, text, overrides);
    let fail = |faults| RecipeError::from(ErrorKind::Faults(sources.place(faults)));
    let mut tree = sources.tree().map_err(fail)?;
    let default_name = || Spanned::new(0..0, DeValue::String(Cow::Owned(name.to_owned())));
    let key = Spanned::new(0..0, Cow::Borrowed("name"));
    tree.entry(key).or_insert_with(default_name);
    let (recipe, reader) = read(tree);
    let faults = reader.finish();
    if faults.is_empty() {
        Ok(recipe)
    } else {
        Err(fail(faults))
    }
}

/// The keys that are asked for where the file is empty but for the override `text`.
pub(super) fn keys_asked(text: &str) -> Vec<Key> {
    let sources = Sources::new("", "", &[text.to_owned()]);
    let tree = sources.tree().unwrap_or_default();
    read(tree).1.keys
}

fn read(entries: DeTable<'_>) -> (Recipe, Reader) {
    let mut reader = Reader::default();
    let mut root = Table::new(&mut reader, "", entries);
    let recipe = Recipe::read(&mut root);
    root.finish();
    (recipe, reader)
}

#[derive(Default)]
struct Reader {
    faults: Vec<Located>,
    /// All that was asked for.
    keys: Vec<Key>,
    /// What was there and nobody asked for.
    unknown: Vec<Unknown>,
}

struct Unknown {
    section: &'static str,
    kind: Option<&'static str>,
    key: String,
    range: Range<usize>,
}

/// One table of the recipe; the root's name is empty.
pub(super) struct Table<'r, 'i> {
    reader: &'r mut Reader,
    name: &'static str,
    pub(super) kind: Option<&'static str>,
    entries: DeTable<'i>,
    /// Where the value of the last key stands, if it is there.
    place: Option<Range<usize>>,
    /// Whether the last key has a value that can be checked.
    is_read: bool,
    /// Whether no key has a fault so far.
    is_sound: bool,
}

impl<'r, 'i> Table<'r, 'i> {
    fn new(reader: &'r mut Reader, name: &'static str, entries: DeTable<'i>) -> Self {
        Self {
            reader,
            name,
            kind: None,
            entries,
            place: None,
            is_read: true,
            is_sound: true,
        }
    }

    /// The key's value, or its default; one that has an example must be there.
    pub(super) fn key<T: Value>(
        &mut self,
        name: &'static str,
        about: &str,
        (example, default): (Option<&str>, T),
    ) -> T {
        let key = Key::new(self.name, name, about).of::<T>(self.kind, example, &default);
        self.reader.keys.push(key);
        let written = self.entries.remove(name);
        self.place = written.as_ref().map(Spanned::span);
        let read = match (written, example) {
            (Some(value), _) => T::read(value.get_ref()).map(Some),
            (None, None) => Ok(None),
            (None, Some(example)) => Err(format!(
                "expected this key, for example `{name} = {example}`, came none"
            )),
        };
        self.is_read = read.is_ok();
        let value = read.unwrap_or_else(|message| {
            self.fault(name, &message);
            None
        });
        value.unwrap_or(default)
    }

    /// Checks the value of the last key.
    pub(super) fn check(&mut self, value: &impl Value, bounds: &Bounds) {
        let Some(key) = self.reader.keys.last_mut() else {
            return;
        };
        let says = key.add(bounds);
        let name = key.name;
        let is_known = self.is_read && (self.is_sound || !matches!(bounds, Bounds::Relative(..)));
        if let Some(came) = bounds.broken_by(value).filter(|_| is_known) {
            self.fault(name, &format!("expected {says}, came {came}"));
        }
    }

    /// Reads the section `name`, whose table is empty where there is none.
    pub(super) fn section<S: Section>(&mut self, name: &'static str) -> S {
        self.reader.keys.push(Key::new("", name, S::ABOUT));
        let written = self.entries.remove(name);
        self.place = written.as_ref().map(Spanned::span);
        let entries = match written.map(Spanned::into_inner) {
            None => DeTable::new(),
            Some(DeValue::Table(entries)) => entries,
            Some(value) => {
                self.fault(
                    name,
                    &format!("expected a section, came {}", describe(&value)),
                );
                DeTable::new()
            }
        };
        let mut table = Table::new(self.reader, name, entries);
        let section = S::read(&mut table);
        table.finish();
        section
    }

    fn fault(&mut self, key: &str, message: &str) {
        self.is_sound = false;
        let dot = if self.name.is_empty() { "" } else { "." };
        let message = format!("`{}{dot}{key}`: {message}", self.name);
        self.reader.faults.push((message, self.place.clone()));
    }

    /// Notes what nobody asked for.
    fn finish(self) {
        let (section, kind) = (self.name, self.kind);
        self.reader
            .unknown
            .extend(self.entries.keys().map(|key| Unknown {
                section,
                kind,
                key: key.get_ref().to_string(),
                range: key.span(),
            }));
    }
}

impl Reader {
    fn finish(self) -> Vec<Located> {
        let unknown = self.unknown.iter();
        let unknown = unknown.map(|key| (self.unknown_key(key), Some(key.range.clone())));
        let unknown: Vec<_> = unknown.collect();
        [self.faults, unknown].concat()
    }

    fn unknown_key(
        &self,
        Unknown {
            section, kind, key, ..
        }: &Unknown,
    ) -> String {
        let shown: String = key.chars().take(60).collect();
        let here = match (*section, kind) {
            ("", _) => "the top of a recipe".to_owned(),
            (section, None) => format!("[{section}]"),
            (section, Some(kind)) => format!("[{section}] of kind {kind:?}"),
        };
        let names = |known: &&Key| known.name == key && !known.section.is_empty() && key != "kind";
        let elsewhere: Vec<String> = (self.keys.iter().filter(names))
            .map(|known| format!("[{}]", known.section))
            .collect();
        if !elsewhere.is_empty() {
            let belongs = elsewhere.join(" and ");
            return format!("`{shown}` is no key of {here}: it is one of {belongs}");
        }
        let keys = self.keys.iter().filter(|known| known.section == *section);
        let keys: Vec<&str> = keys.map(|known| known.name).collect();
        let nearest = nearest(&shown, keys.iter().copied());
        let nearest = nearest.map_or_else(String::new, |key| format!("the nearest is `{key}`, "));
        format!(
            "`{shown}` is no key of {here}: {nearest}all are {}",
            keys.join(", ")
        )
    }
}

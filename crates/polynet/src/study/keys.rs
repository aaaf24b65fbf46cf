//! A table of a study's or a search's file, whose keys are asked for once: what nobody asked for is an unknown key.

use polynet_algebra::nearest;
use std::ops::RangeInclusive;
use toml::{Table, Value};

/// One table, and the faults of the whole file.
pub(crate) struct Keys<'f> {
    /// What the table is called in messages.
    place: String,
    entries: Table,
    asked: Vec<&'static str>,
    faults: &'f mut Vec<String>,
}

impl<'f> Keys<'f> {
    pub(crate) fn new(
        place: impl Into<String>,
        entries: Table,
        faults: &'f mut Vec<String>,
    ) -> Self {
        Self {
            place: place.into(),
            entries,
            asked: Vec::new(),
            faults,
        }
    }

    pub(crate) fn fault(&mut self, key: &str, message: &str) {
        let place = &self.place;
        self.faults.push(format!("{place}: `{key}`: {message}"));
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.asked.push(key);
        self.entries.remove(key)
    }

    /// The key's value as `read` takes it; a value of another type is a fault.
    fn read<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(Value) -> Result<T, Value>,
    ) -> Option<T> {
        match read(self.take(key)?) {
            Ok(value) => Some(value),
            Err(value) => {
                let came = value.type_str();
                self.fault(
                    key,
                    &format!("expected {expected}, came a value of type {came}"),
                );
                None
            }
        }
    }

    pub(crate) fn text(&mut self, key: &'static str) -> Option<String> {
        self.read(key, "a string in quotes", |value| match value {
            Value::String(text) => Ok(text),
            other => Err(other),
        })
    }

    /// A text that must be there, and be more than blanks.
    pub(crate) fn needed_text(&mut self, key: &'static str, example: &str) -> String {
        let was_fault = self.faults.len();
        match self.text(key) {
            Some(text) if !text.trim().is_empty() => text,
            _ if self.faults.len() > was_fault => String::new(),
            _ => {
                let message = format!("expected this key, for example `{key} = {example:?}`");
                self.fault(key, &message);
                String::new()
            }
        }
    }

    pub(crate) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        self.read(key, "an array of strings", |value| {
            value.clone().try_into().map_err(|_| value)
        })
    }

    pub(crate) fn seeds(&mut self, key: &'static str) -> Option<Vec<u64>> {
        self.read(key, "an array of whole numbers, not negative", |value| {
            value.clone().try_into().map_err(|_| value)
        })
    }

    /// A whole number in `range`.
    pub(crate) fn whole(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let (least, most) = (range.start(), range.end());
        let expected = format!("a whole number from {least} to {most}");
        let value = self.read(key, &expected, |value| value.as_integer().ok_or(value))?;
        let value = u64::try_from(value)
            .ok()
            .filter(|value| range.contains(value));
        if value.is_none() {
            self.fault(key, &format!("expected {expected}"));
        }
        value
    }

    /// A number above 0.
    pub(crate) fn positive(&mut self, key: &'static str) -> Option<f64> {
        let value = self.read(key, "a number", |value| {
            let whole = value.as_integer().map(|whole| whole as f64);
            value.as_float().or(whole).ok_or(value)
        })?;
        if value.is_nan() || value <= 0.0 {
            self.fault(key, "expected a number above 0");
        }
        Some(value)
    }

    pub(crate) fn table(&mut self, key: &'static str) -> Option<Table> {
        self.read(key, "a table", |value| match value {
            Value::Table(table) => Ok(table),
            other => Err(other),
        })
    }

    pub(crate) fn tables(&mut self, key: &'static str) -> Vec<Table> {
        let expected = format!("tables, each headed [[{key}]]");
        let tables = self.read(key, &expected, |value| {
            value.clone().try_into().map_err(|_| value)
        });
        tables.unwrap_or_default()
    }

    /// A table within, whose faults are told with this one's.
    pub(crate) fn within(&mut self, place: String, entries: Table) -> Keys<'_> {
        Keys::new(place, entries, self.faults)
    }

    /// Notes what nobody asked for.
    pub(crate) fn finish(self) {
        for key in self.entries.keys() {
            let shown: String = key.chars().take(60).collect();
            let nearest = nearest(&shown, self.asked.iter().copied());
            let nearest =
                nearest.map_or_else(String::new, |key| format!("the nearest is `{key}`, "));
            self.faults.push(format!(
                "{}: `{shown}` is no key here: {nearest}all are {}",
                self.place,
                self.asked.join(", ")
            ));
        }
    }
}

/// The keys of a recipe that a table says, as overrides. A section with a `kind` is replaced whole:
/// the keys of another kind would not fit.
pub(crate) fn overrides(table: &Table) -> Vec<String> {
    let mut overrides = Vec::new();
    add(&mut overrides, "", table);
    overrides
}

fn add(overrides: &mut Vec<String>, path: &str, table: &Table) {
    for (key, value) in table {
        let path = match path {
            "" => key.clone(),
            section => format!("{section}.{key}"),
        };
        match value {
            // `fine_tuning.rates` is a value that is a table, and the deepest there is.
            Value::Table(section) if !section.contains_key("kind") && !path.contains('.') => {
                add(overrides, &path, section);
            }
            value => overrides.push(format!("{path}={value}")),
        }
    }
}

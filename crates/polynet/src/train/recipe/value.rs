//! The types that a recipe's values have, each with the words for what was expected.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeValue;

use super::{Resize, When};
use crate::train::duration::Duration;

/// A type that a key can have.
pub(super) trait Value: Sized {
    /// Reads the value, or says what was expected and what came.
    fn read(value: &DeValue<'_>) -> Result<Self, String>;
}

/// What a value is, for a message; long strings are cut.
pub(super) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => {
            format!("the string {:?}", text.chars().take(60).collect::<String>())
        }
        DeValue::Integer(number) => format!("the integer {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(truth) => format!("{truth}"),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(items) => format!("an array of {}", items.len()),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn expected<T>(what: &str, value: &DeValue<'_>) -> Result<T, String> {
    Err(format!("expected {what}, came {}", describe(value)))
}

impl Value for u64 {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let number = value.as_integer();
        match number.map(|n| u64::from_str_radix(n.as_str(), n.radix())) {
            Some(Ok(number)) => Ok(number),
            _ => expected("a whole number, not negative", value),
        }
    }
}

impl Value for u32 {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let number = u64::read(value)?;
        Self::try_from(number).or_else(|_| expected("a whole number below 2^32", value))
    }
}

impl Value for f64 {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let number = match value {
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .ok()
                .map(|number| number as Self),
            _ => None,
        };
        number.map_or_else(|| expected("a number", value), Ok)
    }
}

impl Value for bool {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        value
            .as_bool()
            .map_or_else(|| expected("true or false", value), Ok)
    }
}

impl Value for String {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => expected("a string in quotes", value),
        }
    }
}

impl Value for PathBuf {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        String::read(value).map(Self::from)
    }
}

impl<const N: usize> Value for [f64; N] {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let what = format!("an array of {N} numbers");
        let items: &[Spanned<DeValue<'_>>] = match value.as_array() {
            Some(items) if items.len() == N => items,
            _ => return expected(&what, value),
        };
        let mut numbers = [0.0; N];
        for (number, item) in numbers.iter_mut().zip(items) {
            *number = f64::read(item.get_ref())?;
        }
        Ok(numbers)
    }
}

impl Value for Vec<String> {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let what = "an array of strings such as [\"stem\", \"A\"]";
        let Some(items) = value.as_array() else {
            return expected(what, value);
        };
        items
            .iter()
            .map(|item| String::read(item.get_ref()))
            .collect()
    }
}

impl Value for BTreeMap<String, f64> {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let DeValue::Table(entries) = value else {
            return expected("a table of numbers such as { head = 10.0 }", value);
        };
        let entries = entries.iter().map(|(key, value)| {
            let number = f64::read(value.get_ref());
            let number = number.map_err(|message| format!("`{}`: {message}", key.get_ref()))?;
            Ok((key.get_ref().to_string(), number))
        });
        entries.collect()
    }
}

impl Value for Duration {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some(text) => text.parse().map_err(|error| format!("{error}")),
            None => expected(
                "a duration such as \"560000 steps\", \"90 epochs\" or \"1.5M images\"",
                value,
            ),
        }
    }
}

impl Value for When {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str().map(str::parse) {
            Some(Ok(when)) => Ok(when),
            Some(Err(Some(error))) => Err(format!("{error}")),
            _ => expected(
                "\"never\", \"always\", \"adaptive\" or a time such as \"from 20 epochs\"",
                value,
            ),
        }
    }
}

impl Value for Resize {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let pixels = |text: &str| text.parse::<u32>().ok();
        let resize = match value.as_str().map(|text| text.split_once(':').ok_or(text)) {
            Some(Err("none")) => Some(Self::None),
            Some(Ok(("exact", side))) => pixels(side).map(Self::Exact),
            Some(Ok(("shorter-side", side))) => pixels(side).map(Self::ShorterSide),
            _ => None,
        };
        resize.map_or_else(
            || expected("\"exact:378\", \"shorter-side:256\" or \"none\"", value),
            Ok,
        )
    }
}

impl std::fmt::Display for Resize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(side) => write!(f, "exact:{side}"),
            Self::ShorterSide(side) => write!(f, "shorter-side:{side}"),
            Self::None => f.write_str("none"),
        }
    }
}

impl serde::Serialize for Resize {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

//! The types that a recipe's values have, each with the words for what was expected.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use toml::de::DeValue;

use crate::train::duration::Duration;

/// A type that a key can have.
pub(super) trait Value: Serialize + Sized {
    /// Its name in the listing.
    const TYPE: &'static str;
    /// The words that it can be, and what they mean.
    const WORDS: &'static [(&'static str, &'static str)] = &[];

    /// Reads the value, or says what was expected and what came.
    fn read(value: &DeValue<'_>) -> Result<Self, String>;
}

/// One of a few words.
pub(super) trait Word: Copy + PartialEq + 'static {
    /// Every word with its value.
    const ALL: &'static [(&'static str, Self)];

    fn of(value: &DeValue<'_>) -> Result<Self, String> {
        let came = value.as_str();
        let known = Self::ALL.iter().find(|(word, _)| Some(*word) == came);
        known.map_or_else(
            || {
                let words: Vec<String> = Self::ALL.iter().map(|(word, _)| format!("{word:?}")).collect();
                expected(&format!("one of {}", words.join(", ")), value)
            },
            |(_, known)| Ok(*known),
        )
    }

    fn word(&self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, known)| known == self);
        found.map_or("", |(word, _)| word)
    }
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

impl<T: Value> Value for Option<T> {
    const TYPE: &'static str = T::TYPE;
    const WORDS: &'static [(&'static str, &'static str)] = T::WORDS;

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        T::read(value).map(Some)
    }
}

impl Value for u64 {
    const TYPE: &'static str = "whole number";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let number = value.as_integer();
        match number.map(|n| Self::from_str_radix(n.as_str(), n.radix())) {
            Some(Ok(number)) => Ok(number),
            _ => expected("a whole number, not negative", value),
        }
    }
}

impl Value for u32 {
    const TYPE: &'static str = u64::TYPE;

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let number = u64::read(value)?;
        Self::try_from(number).or_else(|_| expected("a whole number below 2^32", value))
    }
}

impl Value for f64 {
    const TYPE: &'static str = "number";

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
    const TYPE: &'static str = "true or false";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_bool().map_or_else(|| expected(Self::TYPE, value), Ok)
    }
}

impl Value for String {
    const TYPE: &'static str = "string";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_str().map(str::to_owned);
        text.map_or_else(|| expected("a string in quotes", value), Ok)
    }
}

impl Value for PathBuf {
    const TYPE: &'static str = "path";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        String::read(value).map(Self::from)
    }
}

impl<const N: usize> Value for [f64; N]
where
    Self: Serialize,
{
    const TYPE: &'static str = "array of numbers";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let Some(items) = value.as_array().filter(|items| items.len() == N) else {
            return expected(&format!("an array of {N} numbers"), value);
        };
        let mut numbers = [0.0; N];
        for (number, item) in numbers.iter_mut().zip(items.iter()) {
            *number = f64::read(item.get_ref())?;
        }
        Ok(numbers)
    }
}

impl Value for Vec<String> {
    const TYPE: &'static str = "array of strings";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let Some(items) = value.as_array() else {
            return expected("an array of strings such as [\"stem\", \"A\"]", value);
        };
        items.iter().map(|item| String::read(item.get_ref())).collect()
    }
}

impl Value for BTreeMap<String, f64> {
    const TYPE: &'static str = "table of numbers";

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
    const TYPE: &'static str = "duration";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let form = "a duration such as \"560000 steps\", \"90 epochs\" or \"1.5M images\"";
        let Some(text) = value.as_str() else {
            return expected(form, value);
        };
        text.parse().map_err(|error| format!("{error}"))
    }
}

/// From when on paths are dropped; written `never`, `always`, `adaptive`, `from 20 epochs`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum When {
    /// `never`, the default.
    Never,
    /// `always`: from the first step.
    Always,
    /// `adaptive`: once training and validation are too far apart (§4: when there is serious
    /// overfitting). The paper gives no rule; ours is `gap` and `patience`.
    Adaptive,
    /// `from` a duration: `from 100K steps`.
    From(Duration),
}

impl Value for When {
    const TYPE: &'static str = "word";
    const WORDS: &'static [(&'static str, &'static str)] = &[
        ("never", "At no step."),
        ("always", "From the first step."),
        ("adaptive", "Once training top-1 is far above validation top-1, by `gap` and `patience`."),
        ("from 20 epochs", "From this time on."),
    ];

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_str();
        if let Some(duration) = text.and_then(|text| text.strip_prefix("from ")) {
            return duration.parse().map(Self::From).map_err(|error| format!("{error}"));
        }
        match text {
            Some("never") => Ok(Self::Never),
            Some("always") => Ok(Self::Always),
            Some("adaptive") => Ok(Self::Adaptive),
            _ => expected(
                "\"never\", \"always\", \"adaptive\" or a time such as \"from 20 epochs\"",
                value,
            ),
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Always => f.write_str("always"),
            Self::Adaptive => f.write_str("adaptive"),
            Self::From(duration) => write!(f, "from {duration}"),
        }
    }
}

impl Serialize for When {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How an image is resized for evaluation; written `exact:378`, `shorter-side:256` or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// To a square of this side in pixels, ignoring the aspect ratio.
    Exact(u32),
    /// Until the shorter side has this many pixels, keeping the aspect ratio.
    ShorterSide(u32),
    /// Not at all.
    None,
}

impl Value for Resize {
    const TYPE: &'static str = "word";
    const WORDS: &'static [(&'static str, &'static str)] = &[
        ("exact:378", "To a square of this side, ignoring the aspect ratio."),
        ("shorter-side:256", "Until the shorter side has this many pixels, keeping the aspect ratio."),
        ("none", "Not at all."),
    ];

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let resize = match value.as_str().map(|text| text.split_once(':').ok_or(text)) {
            Some(Err("none")) => Some(Self::None),
            Some(Ok(("exact", side))) => side.parse().ok().map(Self::Exact),
            Some(Ok(("shorter-side", side))) => side.parse().ok().map(Self::ShorterSide),
            _ => None,
        };
        resize.map_or_else(
            || expected("\"exact:378\", \"shorter-side:256\" or \"none\"", value),
            Ok,
        )
    }
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(side) => write!(f, "exact:{side}"),
            Self::ShorterSide(side) => write!(f, "shorter-side:{side}"),
            Self::None => f.write_str("none"),
        }
    }
}

impl Serialize for Resize {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

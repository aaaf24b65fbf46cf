//! The types that a recipe's values have, each with the words for what was expected, and what else a
//! value must be.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
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

    /// The numbers that it is or holds.
    fn numbers(&self) -> Vec<f64> {
        Vec::new()
    }
}

/// What a value must be besides its type.
pub(super) enum Bounds {
    /// Each number is finite and such a number.
    Number(&'static str, fn(f64) -> bool),
    /// Each number is so many of the unit.
    Count(RangeInclusive<u64>, &'static str),
    /// The condition holds.
    Rule(&'static str, bool),
    /// The condition holds, which is about other keys, too: it tells nothing where they have faults.
    Relative(&'static str, bool),
}

impl Bounds {
    /// What is expected, and the unit of what is counted.
    pub(super) fn says(&self) -> (String, &'static str) {
        match self {
            Self::Number(says, _) | Self::Rule(says, _) | Self::Relative(says, _) => {
                ((*says).to_owned(), "")
            }
            Self::Count(range, unit) if *range.end() == u64::MAX => {
                (format!("at least {} {unit}", range.start()), unit)
            }
            Self::Count(range, unit) => (
                format!("from {} to {} {unit}", range.start(), range.end()),
                unit,
            ),
        }
    }

    /// What came instead of it.
    pub(super) fn broken_by(&self, value: &impl Value) -> Option<String> {
        let holds = |x: &f64| match self {
            Self::Number(_, holds) => x.is_finite() && holds(*x),
            Self::Count(range, _) => (*range.start() as f64..=*range.end() as f64).contains(x),
            Self::Rule(..) | Self::Relative(..) => true,
        };
        match self {
            Self::Rule(_, false) | Self::Relative(_, false) => Some(shown(value)),
            _ => (value.numbers().iter().find(|x| !holds(x))).map(f64::to_string),
        }
    }
}

/// A value that breaks a rule, for its message.
fn shown(value: &impl Serialize) -> String {
    match toml::Value::try_from(value) {
        Ok(toml::Value::String(text)) if text.is_empty() => "none".to_owned(),
        Ok(toml::Value::String(text)) => text,
        Ok(toml::Value::Float(number)) => number.to_string(),
        Ok(toml::Value::Array(items)) => {
            format!(
                "[{}]",
                items.iter().map(shown).collect::<Vec<_>>().join(", ")
            )
        }
        Ok(other) => other.to_string(),
        Err(_) => "more than TOML can hold".to_owned(),
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

pub(super) fn expected(what: &str, value: &DeValue<'_>) -> String {
    format!("expected {what}, came {}", describe(value))
}

/// The words as a message and the listing show them.
pub(super) fn quoted(words: &[(&str, &str)]) -> String {
    let words: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
    words.join(", ")
}

/// Types that are read in one step: the name, what is expected, how it is read and its numbers.
macro_rules! values {
    ($($type:ty: $name:literal, $expected:literal, $of:expr, $numbers:expr;)+) => {$(
        impl Value for $type {
            const TYPE: &'static str = $name;

            fn read(value: &DeValue<'_>) -> Result<Self, String> {
                let of: fn(&DeValue<'_>) -> Option<Self> = $of;
                of(value).ok_or_else(|| expected($expected, value))
            }

            fn numbers(&self) -> Vec<f64> {
                let numbers: fn(&Self) -> Vec<f64> = $numbers;
                numbers(self)
            }
        }
    )+};
}

values! {
    u64: "whole number", "a whole number, not negative", whole, |n| vec![*n as f64];
    u32: "whole number", "a whole number, not negative and below 2^32",
        |value| whole(value)?.try_into().ok(), |n| vec![f64::from(*n)];
    f64: "number", "a number", number, |x| vec![*x];
    bool: "true or false", "true or false", |value| value.as_bool(), |_| Vec::new();
    String: "string", "a string in quotes", |value| value.as_str().map(str::to_owned), |_| Vec::new();
    PathBuf: "path", "a path in quotes", |value| value.as_str().map(Self::from), |_| Vec::new();
}

fn whole(value: &DeValue<'_>) -> Option<u64> {
    let number = value.as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    if let Some(number) = value.as_float() {
        return number.as_str().parse().ok();
    }
    let number = value.as_integer()?;
    let number = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
    Some(number as f64)
}

impl<T: Value> Value for Option<T> {
    const TYPE: &'static str = T::TYPE;
    const WORDS: &'static [(&'static str, &'static str)] = T::WORDS;

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        T::read(value).map(Some)
    }

    fn numbers(&self) -> Vec<f64> {
        self.as_ref().map_or_else(Vec::new, T::numbers)
    }
}

impl<const N: usize> Value for [f64; N]
where
    Self: Serialize,
{
    const TYPE: &'static str = "array of numbers";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let what = || expected(&format!("an array of {N} numbers"), value);
        let items = value.as_array().ok_or_else(what)?;
        let numbers: Result<Vec<f64>, _> = items.iter().map(|x| f64::read(x.get_ref())).collect();
        numbers?.try_into().map_err(|_| what())
    }

    fn numbers(&self) -> Vec<f64> {
        self.to_vec()
    }
}

impl Value for Vec<String> {
    const TYPE: &'static str = "array of strings";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let what = || expected("an array of strings such as [\"stem\", \"A\"]", value);
        let items = value.as_array().ok_or_else(what)?;
        items
            .iter()
            .map(|item| String::read(item.get_ref()))
            .collect()
    }
}

impl Value for BTreeMap<String, f64> {
    const TYPE: &'static str = "table of numbers";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let what = || expected("a table of numbers such as { head = 10.0 }", value);
        let entries = value
            .as_table()
            .ok_or_else(what)?
            .iter()
            .map(|(key, value)| {
                let number = f64::read(value.get_ref());
                let number = number.map_err(|message| format!("`{}`: {message}", key.get_ref()))?;
                Ok((key.get_ref().to_string(), number))
            });
        entries.collect()
    }

    fn numbers(&self) -> Vec<f64> {
        self.values().copied().collect()
    }
}

impl Value for Duration {
    const TYPE: &'static str = "duration";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let form = "a duration such as \"560000 steps\", \"90 epochs\" or \"1.5M images\"";
        let text = value.as_str().ok_or_else(|| expected(form, value))?;
        text.parse().map_err(|error| format!("{error}"))
    }
}

/// From when on paths are dropped; written `never`, `always`, `adaptive`, `from 20 epochs`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(into = "String")]
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
        (
            "adaptive",
            "Once training top-1 is above validation top-1 by `gap`, `patience` times.",
        ),
        ("from 20 epochs", "From this time on."),
    ];

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let words = "\"never\", \"always\", \"adaptive\" or a time such as \"from 20 epochs\"";
        match value.as_str() {
            Some("never") => Ok(Self::Never),
            Some("always") => Ok(Self::Always),
            Some("adaptive") => Ok(Self::Adaptive),
            text => match text.and_then(|text| text.strip_prefix("from ")) {
                Some(time) => time
                    .parse()
                    .map(Self::From)
                    .map_err(|error| format!("{error}")),
                None => Err(expected(words, value)),
            },
        }
    }
}

impl From<When> for String {
    fn from(when: When) -> Self {
        match when {
            When::Never => "never".to_owned(),
            When::Always => "always".to_owned(),
            When::Adaptive => "adaptive".to_owned(),
            When::From(duration) => format!("from {duration}"),
        }
    }
}

/// How an image is resized for evaluation; written `exact:378`, `shorter-side:256` or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
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
        (
            "exact:378",
            "To a square of this side, ignoring the aspect ratio.",
        ),
        (
            "shorter-side:256",
            "Until the shorter side has this length, keeping the aspect ratio.",
        ),
        ("none", "Not at all."),
    ];

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_str().unwrap_or_default();
        let resize = match text.split_once(':') {
            None if text == "none" => Some(Self::None),
            Some(("exact", side)) => side.parse().ok().map(Self::Exact),
            Some(("shorter-side", side)) => side.parse().ok().map(Self::ShorterSide),
            _ => None,
        };
        let words = "\"exact:378\", \"shorter-side:256\" or \"none\"";
        resize.ok_or_else(|| expected(words, value))
    }

    fn numbers(&self) -> Vec<f64> {
        match self {
            Self::Exact(side) | Self::ShorterSide(side) => side.numbers(),
            Self::None => Vec::new(),
        }
    }
}

impl From<Resize> for String {
    fn from(resize: Resize) -> Self {
        match resize {
            Resize::Exact(side) => format!("exact:{side}"),
            Resize::ShorterSide(side) => format!("shorter-side:{side}"),
            Resize::None => "none".to_owned(),
        }
    }
}

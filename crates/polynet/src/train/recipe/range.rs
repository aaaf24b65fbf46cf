//! Ranges: what a key's value must be besides its type.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::Serialize;

use super::value::Resize;
use crate::train::duration::Duration;

/// A range of values `T`, in words and as a predicate.
pub(super) struct Bounds<'a, T> {
    /// What is expected, as in `expected a number above 0`.
    pub(super) says: String,
    /// What the value counts.
    pub(super) unit: &'static str,
    /// Whether it depends on other keys.
    pub(super) is_relative: bool,
    pub(super) holds: Box<dyn Fn(&T) -> bool + 'a>,
}

/// A range of its own.
pub(super) fn rule<'a, T>(says: &str, holds: impl Fn(&T) -> bool + 'a) -> Bounds<'a, T> {
    Bounds {
        says: says.to_owned(),
        unit: "",
        is_relative: false,
        holds: Box::new(holds),
    }
}

/// A range that depends on keys above; it is not looked at where the section has a fault already.
pub(super) fn relative<'a, T>(says: &str, holds: impl Fn(&T) -> bool + 'a) -> Bounds<'a, T> {
    Bounds {
        is_relative: true,
        ..rule(says, holds)
    }
}

impl<T> Bounds<'_, T> {
    /// The same range, of so many of `unit`.
    pub(super) fn of(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }
}

/// From `range.start()` to `range.end()` of `unit`.
pub(super) fn within<T: PartialOrd + Display + 'static>(
    range: RangeInclusive<T>,
    unit: &'static str,
) -> Bounds<'static, T> {
    let says = format!("from {} to {} {unit}", range.start(), range.end());
    rule(&says, move |value| range.contains(value)).of(unit)
}

pub(super) fn at_least_one(unit: &'static str) -> Bounds<'static, u64> {
    rule(&format!("at least 1 {unit}"), |count| *count > 0).of(unit)
}

/// Finite numbers.
pub(super) fn number(says: &str, holds: impl Fn(f64) -> bool + 'static) -> Bounds<'static, f64> {
    rule(says, move |x: &f64| x.is_finite() && holds(*x))
}

pub(super) fn at_least_zero() -> Bounds<'static, f64> {
    number("a number of at least 0", |x| x >= 0.0)
}

pub(super) fn above_zero() -> Bounds<'static, f64> {
    number("a number above 0", |x| x > 0.0)
}

pub(super) fn below_one() -> Bounds<'static, f64> {
    number("a number of at least 0 and below 1", |x| (0.0..1.0).contains(&x))
}

pub(super) fn chance() -> Bounds<'static, f64> {
    number("a chance from 0 to 1", |x| (0.0..=1.0).contains(&x))
}

pub(super) fn some_time() -> Bounds<'static, Duration> {
    rule("a finite duration above 0", |time: &Duration| !time.is_zero())
}

/// Text or a path that is not empty.
pub(super) fn given<T: AsRef<OsStr>>(what: &str) -> Bounds<'static, T> {
    rule(what, |text: &T| !text.as_ref().is_empty())
}

/// The parts of a value that a range of `T` is about: itself, or what it contains.
pub(super) trait Parts<T> {
    fn parts(&self) -> Vec<&T>;
}

impl<T> Parts<T> for T {
    fn parts(&self) -> Vec<&T> {
        vec![self]
    }
}

impl<T> Parts<T> for Option<T> {
    fn parts(&self) -> Vec<&T> {
        self.iter().collect()
    }
}

impl<const N: usize> Parts<f64> for Option<[f64; N]> {
    fn parts(&self) -> Vec<&f64> {
        self.iter().flatten().collect()
    }
}

impl Parts<f64> for BTreeMap<String, f64> {
    fn parts(&self) -> Vec<&f64> {
        self.values().collect()
    }
}

impl Parts<u32> for Option<Resize> {
    fn parts(&self) -> Vec<&u32> {
        match self {
            Some(Resize::Exact(side) | Resize::ShorterSide(side)) => vec![side],
            _ => Vec::new(),
        }
    }
}

/// A value that is out of its bounds, as a message shows it.
pub(super) fn came(value: &impl Serialize) -> String {
    fn show(value: &toml::Value) -> String {
        match value {
            toml::Value::String(text) if text.is_empty() => "none".to_owned(),
            toml::Value::String(text) => text.clone(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Array(items) => {
                let items: Vec<String> = items.iter().map(show).collect();
                format!("[{}]", items.join(", "))
            }
            other => other.to_string(),
        }
    }
    toml::Value::try_from(value).map_or_else(|error| error.to_string(), |value| show(&value))
}

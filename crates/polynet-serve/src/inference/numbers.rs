//! A tensor's numbers as JSON: flat in row-major order, or nested as its shape is.

use serde::de::{Deserialize, DeserializeSeed, Deserializer, SeqAccess, Visitor};
use std::fmt;

/// The numbers of nested lists, one after another.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Numbers(pub(super) Vec<f32>);

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut numbers = Vec::new();
        deserializer.deserialize_seq(Append(&mut numbers))?;
        Ok(Self(numbers))
    }
}

/// Appends a number, or the numbers of a list.
struct Append<'a>(&'a mut Vec<f32>);

impl<'de> DeserializeSeed<'de> for Append<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Append<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers, or lists of them")
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.0.push(number as f32);
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.0.push(number as f32);
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.0.push(number as f32);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Append(self.0))?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn nested_and_flat_lists_give_the_same_numbers() {
        let read = |text| serde_json::from_str::<Numbers>(text).map(|numbers| numbers.0);
        assert_eq!(read("[1, -2, 0.5, 3e1]").unwrap(), [1.0, -2.0, 0.5, 30.0]);
        assert_eq!(
            read("[[[1, -2]], [[0.5, 3e1]]]").unwrap(),
            [1.0, -2.0, 0.5, 30.0]
        );
        for text in ["1", "[true]", "[\"1\"]", "[null]", "[{}]", "[1"] {
            assert!(read(text).is_err(), "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(read(&deep).is_err(), "depth is an error, not a full stack");
    }
}

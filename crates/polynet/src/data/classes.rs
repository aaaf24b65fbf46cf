//! The names of classes.
//!
//! Law: a list of classes has at least one name and none twice; what would make another is refused.

use std::{collections::HashSet, ops::Deref};

use serde::{Deserialize, Serialize};

use super::error::DataError;

/// Names of classes in the order of the logits: at least one, and none twice.
///
/// ```
/// use polynet::data::ClassNames;
///
/// let names = |names: &[&str]| ClassNames::new(names.iter().map(|name| name.to_string()).collect());
/// assert_eq!(names(&["cat", "dog"])?[1], "dog");
/// assert!(names(&["cat", "dog", "cat"]).is_err());
/// # Ok::<(), polynet::data::DataError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct ClassNames(Vec<String>);

impl ClassNames {
    /// The list.
    ///
    /// # Errors
    /// If there is no name, or two are the same: those that begin with a synset are if that is.
    pub fn new(names: Vec<String>) -> Result<Self, DataError> {
        if names.is_empty() {
            return Err(DataError::configuration(
                "expected at least one class, got none",
            ));
        }
        Self::check(&names)?;
        Ok(Self(names))
    }

    pub(crate) fn check(names: &[String]) -> Result<(), DataError> {
        let mut seen = HashSet::with_capacity(names.len());
        match names.iter().find(|name| !seen.insert(key(name))) {
            None => Ok(()),
            Some(name) => Err(DataError::configuration(format!(
                "expected each class once, {name:?} is named twice; every class needs a name of its \
                 own"
            ))),
        }
    }
}

impl Deref for ClassNames {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<Vec<String>> for ClassNames {
    type Error = DataError;

    fn try_from(names: Vec<String>) -> Result<Self, DataError> {
        Self::new(names)
    }
}

impl From<ClassNames> for Vec<String> {
    fn from(names: ClassNames) -> Self {
        names.0
    }
}

/// What a class is known by: the synset that its name begins with (`n01440764 tench, Tinca tinca`,
/// as in ILSVRC's lists), or else its name.
pub(crate) fn key(name: &str) -> &str {
    let first = name.split_whitespace().next().unwrap_or(name);
    if is_synset(first) { first } else { name }
}

/// Whether it reads like `n01440764`.
pub(crate) fn is_synset(word: &str) -> bool {
    word.len() == 9
        && word
            .strip_prefix('n')
            .is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_with_a_name_twice_or_none_is_not_made() {
        let read = |json: &str| serde_json::from_str::<ClassNames>(json);
        assert_eq!(read(r#"["b", "a", "B"]"#).unwrap().len(), 3);
        for (json, expected) in [
            (r#"["a", "b", "a"]"#, r#""a" is named twice"#),
            (
                r#"["n01440764 tench", "n01440764 fish"]"#,
                r#""n01440764 fish" is named twice"#,
            ),
            ("[]", "at least one class"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

//! Matching a data set's classes with a model's, by name.
//!
//! `[cat, dog]` against a model's `[bird, cat, dog]` gives `[1, 2]`: a data set may lack classes
//! of the model, never the other way round.

use std::collections::HashMap;

use polynet_algebra::nearest;

use crate::data::error::{DataError, DataErrorKind};

/// How many unknown names an error shows.
const SHOWN: usize = 10;

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

/// The position of each name of `classes` in `known`.
pub(crate) fn positions(classes: &[String], known: &[String]) -> Result<Vec<u32>, DataError> {
    let mut by_name = HashMap::with_capacity(known.len());
    for (position, name) in (0u32..).zip(known) {
        if by_name.insert(key(name), position).is_some() {
            return Err(DataError::configuration(format!(
                "expected each class of the model once, {name} is there twice"
            )));
        }
    }
    let unknown: Vec<_> = classes
        .iter()
        .filter(|name| !by_name.contains_key(key(name)))
        .collect();
    if !unknown.is_empty() {
        return Err(unknown_classes(&unknown, known));
    }
    Ok(classes.iter().map(|name| by_name[key(name)]).collect())
}

fn unknown_classes(unknown: &[&String], known: &[String]) -> DataError {
    let described: Vec<_> = unknown
        .iter()
        .take(SHOWN)
        .map(
            |name| match nearest(name, known.iter().map(String::as_str)) {
                Some(like) => format!("{name} (did you mean {like}?)"),
                None => (*name).clone(),
            },
        )
        .collect();
    let rest = match unknown.len().saturating_sub(SHOWN) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    DataError::new(
        DataErrorKind::UnknownClass,
        format!(
            "expected only the model's {} classes, the data set has others: {}{rest}; rename \
             their folders, or leave them out",
            known.len(),
            described.join(", ")
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn classes_are_matched_by_name_whatever_their_position() {
        let known = names(&["zebra", "cat", "dog"]);
        assert_eq!(
            positions(&names(&["cat", "dog", "zebra"]), &known).unwrap(),
            [1, 2, 0]
        );
        assert_eq!(positions(&names(&["dog"]), &known).unwrap(), [2]);
    }

    #[test]
    fn unknown_classes_are_listed_with_the_nearest_known_one() {
        let known = names(&["automobile", "fire truck", "dog"]);
        let error = positions(&names(&["dog", "Fire_Truck", "automobil", "yacht"]), &known);
        let error = error.unwrap_err();
        assert_eq!(error.kind(), DataErrorKind::UnknownClass);
        let text = error.to_string();
        for expected in [
            "Fire_Truck (did you mean fire truck?)",
            "automobil (did you mean automobile?)",
            "yacht;",
        ] {
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn a_long_list_of_unknown_classes_is_cut() {
        let classes: Vec<_> = (0..25).map(|n| format!("class {n}")).collect();
        let text = positions(&classes, &names(&["x"])).unwrap_err().to_string();
        assert!(text.contains("and 15 more"), "{text}");
    }

    #[test]
    fn a_model_that_names_a_class_twice_is_refused() {
        assert!(positions(&names(&["a"]), &names(&["a", "a"])).is_err());
    }
}

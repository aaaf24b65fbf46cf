//! Matching a data set's classes with a model's, by name.
//!
//! `[cat, dog]` against a model's `[bird, cat, dog]` gives `[1, 2]`: a data set may lack classes
//! of the model, never the other way round.

use std::collections::HashMap;

use polynet_algebra::nearest;

use crate::data::{
    ClassNames,
    classes::key,
    error::{DataError, DataErrorKind},
};

/// How many unknown names an error shows.
const SHOWN: usize = 10;

/// The position of each name of `classes` in `known`.
pub(crate) fn positions(classes: &[String], known: &[String]) -> Result<Vec<u32>, DataError> {
    ClassNames::check(known)?;
    let by_name: HashMap<&str, u32> = known.iter().map(|name| key(name)).zip(0..).collect();
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
}

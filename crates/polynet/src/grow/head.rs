//! Which rows of a classifier are kept when the classes change.

use crate::params::HostTensor;
use std::collections::HashMap;

/// For each class of `to` its row among the classes of `from`, matched by name.
///
/// ```
/// let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
/// let rows = polynet::grow::matching_rows(&names(&["cat", "dog"]), &names(&["dog", "fox", "cat"]));
/// assert_eq!(rows, [Some(1), None, Some(0)]);
/// ```
pub fn matching_rows(from: &[String], to: &[String]) -> Vec<Option<usize>> {
    let mut rows: HashMap<&str, usize> = HashMap::new();
    for (row, name) in from.iter().enumerate() {
        rows.entry(name).or_insert(row);
    }
    to.iter()
        .map(|name| rows.get(name.as_str()).copied())
        .collect()
}

/// A classifier's tensor with the matching rows of `old` put over those of `new`.
///
/// `old` and `new` have classes along their first axis; `rows` is as [`matching_rows`] gives it.
pub(crate) fn with_rows(
    old: &HostTensor,
    mut new: HostTensor,
    rows: &[Option<usize>],
) -> HostTensor {
    let length = new.values.len() / rows.len().max(1);
    if length > 0 {
        for (values, row) in new.values.chunks_exact_mut(length).zip(rows) {
            if let Some(row) = row {
                values.copy_from_slice(&old.values[row * length..(row + 1) * length]);
            }
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_where_their_class_went() {
        let old = HostTensor {
            shape: vec![2, 2],
            values: vec![1.0, 2.0, 3.0, 4.0],
        };
        let new = HostTensor {
            shape: vec![3, 2],
            values: vec![0.0; 6],
        };
        let matched = with_rows(&old, new, &[Some(1), None, Some(0)]);
        assert_eq!(matched.values, [3.0, 4.0, 0.0, 0.0, 1.0, 2.0]);
    }
}

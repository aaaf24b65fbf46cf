//! Names that were probably meant.
//!
//! ```
//! use polynet_algebra::nearest;
//!
//! assert_eq!(nearest("polly-2", ["poly-2", "2-way"]), Some("poly-2"));
//! assert_eq!(nearest("resnet", ["poly-2", "2-way"]), None);
//! ```

/// Letters beyond which a name is not compared with others.
const LONGEST: usize = 100;

/// The candidate that `word` is most likely a misspelling of, if any is near enough: at most a
/// third of its letters differ, or one. Upper and lower case count as the same, and so do spaces,
/// dashes and underscores.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = simplified(word);
    if word.len() > LONGEST {
        return None;
    }
    let allowed = (word.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (changes(&word, &simplified(candidate)), candidate))
        .filter(|(changes, _)| *changes <= allowed)
        .min_by_key(|(changes, _)| *changes)
        .map(|(_, candidate)| candidate)
}

/// Insertions, removals and replacements of letters that turn one word into the other
/// (Levenshtein's distance).
///
/// ```
/// assert_eq!(polynet_algebra::edit_distance("kitten", "sitting"), 3);
/// ```
pub fn edit_distance(from: &str, to: &str) -> usize {
    let letters = |word: &str| word.chars().collect::<Vec<char>>();
    changes(&letters(from), &letters(to))
}

fn simplified(word: &str) -> Vec<char> {
    let same = |letter| {
        if matches!(letter, ' ' | '-') {
            '_'
        } else {
            letter
        }
    };
    let letters = word.chars().map(same).flat_map(char::to_lowercase);
    letters.take(LONGEST + 1).collect()
}

fn changes(from: &[char], to: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, wanted) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != wanted);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_candidate_wins_and_far_ones_are_not_offered() {
        let names = ["residual", "poly-2", "mpoly-2", "2-way", "Fire truck"];
        for (word, nearest_name) in [
            ("polly-2", Some("poly-2")),
            ("mpoly2", Some("mpoly-2")),
            ("2way", Some("2-way")),
            ("Poly_2", Some("poly-2")),
            ("resdiual", Some("residual")),
            ("fire-truc", Some("Fire truck")),
            ("bottleneck", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, names), nearest_name, "{word}");
        }
        let long = "x".repeat(LONGEST + 1);
        assert_eq!(nearest(&long, [long.as_str()]), None);
    }

    #[test]
    fn distances_are_levenshteins() {
        for (from, to, expected) in [
            ("kitten", "sitting", 3),
            ("", "abc", 3),
            ("abc", "", 3),
            ("flaw", "lawn", 2),
            ("same", "same", 0),
        ] {
            assert_eq!(edit_distance(from, to), expected, "{from} {to}");
        }
    }
}

//! What stands at a place of the text: the parser's questions about the characters ahead.
//!
//! Each takes the rest of the text from that place, and none moves forward. They look no further
//! than the end of a word, except [`holds_sequence`], which looks for its parenthesis's end.

/// What the author of an unexpected mark may have to know.
pub(crate) fn hint(rest: &str) -> Option<&'static str> {
    let first = rest.chars().next()?;
    match first {
        _ if arrow(rest).is_some() => {
            Some("arrows join the modules of a sequence, not parts of a polynomial")
        }
        '-' | '−' => Some("there is no subtraction: a polynomial is a sum of compositions"),
        '^' => Some("only a polynomial has powers; repeat a sequence with `x 2`"),
        'x' | '×' | '*' if is_repetition(rest) => Some(
            "only the modules of a sequence are repeated, once each; compose by `F G`, raise by `F^2`",
        ),
        _ => None,
    }
}

/// The length of the arrow that the text starts with.
pub(crate) fn arrow(rest: &str) -> Option<usize> {
    ["->", "→"]
        .into_iter()
        .find(|arrow| rest.starts_with(arrow))
        .map(str::len)
}

/// The letters, digits, underscores and dashes that the text starts with, up to an arrow.
pub(crate) fn word(rest: &str) -> &str {
    let bytes = rest.as_bytes();
    let belongs = |index: &usize| match bytes[*index] {
        b'-' => bytes.get(index + 1) != Some(&b'>'),
        byte => byte.is_ascii_alphanumeric() || byte == b'_',
    };
    &rest[..(0..bytes.len()).take_while(belongs).count()]
}

/// The length of the uppercase letter and its subscript that the text starts with, or 0.
pub(crate) fn letter(rest: &str) -> usize {
    let Some(subscript) = rest.strip_prefix(|first: char| first.is_ascii_uppercase()) else {
        return 0;
    };
    let digits = subscript.strip_prefix('_').unwrap_or(subscript);
    rest.len()
        - digits
            .trim_start_matches(|digit: char| digit.is_ascii_digit())
            .len()
}

/// Whether the word is nothing but letters, a glued repetition aside: `GF2x3` is, `Foo` is a name.
pub(crate) fn is_letters(word: &str) -> bool {
    let mut rest = word;
    while letter(rest) > 0 {
        rest = &rest[letter(rest)..];
    }
    rest.len() < word.len() && (rest.is_empty() || is_repetition(rest))
}

pub(crate) fn starts_factor(rest: &str) -> bool {
    let starts = |first: char| first == '(' || first.is_ascii_alphanumeric();
    rest.starts_with(starts) && !is_repetition(rest)
}

/// Whether a sign of repetition stands here: `x` alone or with its count, `×`, `*`.
pub(crate) fn is_repetition(rest: &str) -> bool {
    let after_count = rest
        .strip_prefix('x')
        .map(|count| count.trim_start_matches(|c: char| c.is_ascii_digit()));
    rest.starts_with(['×', '*']) || after_count.is_some_and(|after| word(after).is_empty())
}

/// Whether the parenthesis that the text starts with holds an arrow or a repetition.
pub(crate) fn holds_sequence(rest: &str) -> bool {
    let mut depth = 0usize;
    let mut is_comment = false;
    let mut previous = '(';
    for (index, character) in rest.char_indices() {
        is_comment = (is_comment && character != '\n') || character == '#';
        if is_comment {
            continue;
        }
        let here = &rest[index..];
        let ends_name = !matches!(previous, 'a'..='z' | '-' | '_');
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            '→' | '×' | '*' => return true,
            '-' if here.starts_with("->") => return true,
            'x' if ends_name && is_repetition(here) => return true,
            _ => {}
        }
        if depth == 0 {
            return false;
        }
        previous = character;
    }
    false
}

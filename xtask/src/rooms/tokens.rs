//! The tokens of a Rust file that tell what it uses: words, `::` and single signs.
//!
//! Comments, texts, characters and lifetimes are left out: `// crate::train` names nothing.

/// A word, `::` or a sign, and the line that it stands in, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    pub(super) line: usize,
}

/// The tokens of a file that compiles.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let (mut rest, mut line, mut tokens) = (text, 1, Vec::new());
    while let Some(first) = rest.chars().next() {
        let (length, is_token) = match first {
            '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), false),
            '/' if rest.starts_with("/*") => (block_comment(rest), false),
            '"' => (quoted(rest, 1), false),
            '\'' => (character(rest), false),
            ':' if rest.starts_with("::") => (2, true),
            _ if is_word(first) => match raw_text(rest) {
                Some(length) => (length, false),
                None => (word(rest), true),
            },
            _ => (first.len_utf8(), !first.is_whitespace()),
        };
        let (token, after) = rest.split_at(length);
        if is_token {
            let text = token.strip_prefix("r#").unwrap_or(token);
            tokens.push(Token { text, line });
        }
        line += token.matches('\n').count();
        rest = after;
    }
    tokens
}

fn is_word(sign: char) -> bool {
    sign.is_alphanumeric() || sign == '_'
}

/// Length of the word, `r#type` included, that `text` starts with.
fn word(text: &str) -> usize {
    let prefix = if text.starts_with("r#") { 2 } else { 0 };
    let end = text[prefix..].find(|sign| !is_word(sign));
    end.map_or(text.len(), |end| prefix + end)
}

/// Length of a text with escapes that opens with `opening` signs, up to its `"`.
fn quoted(text: &str, opening: usize) -> usize {
    let mut is_escaped = false;
    for (at, sign) in text.char_indices().skip(opening) {
        match sign {
            '"' if !is_escaped => return at + 1,
            _ => is_escaped = sign == '\\' && !is_escaped,
        }
    }
    text.len()
}

/// Length of a text with a prefix: `b"…"`, `c"…"`, `r"…"`, `r#"…"#`, `br#"…"#`; `None` for a word.
fn raw_text(text: &str) -> Option<usize> {
    let prefix = text.find(|sign: char| !matches!(sign, 'b' | 'c' | 'r'))?;
    let after = &text[prefix..];
    let is_raw = text[..prefix].contains('r');
    let hashes = after.len() - after.trim_start_matches('#').len();
    match (prefix, is_raw) {
        (1..=2, true) if after[hashes..].starts_with('"') => {
            let open = prefix + hashes + 1;
            let close = format!("\"{}", "#".repeat(hashes));
            let end = text[open..].find(&close);
            Some(end.map_or(text.len(), |end| open + end + close.len()))
        }
        (1, false) if after.starts_with('"') => Some(quoted(text, 2)),
        (1, false) if text.starts_with("b'") => Some(1 + character(after)),
        _ => None,
    }
}

/// Length of a character `'x'`, `'\n'`, or of the `'` that opens a lifetime.
fn character(text: &str) -> usize {
    let mut signs = text.char_indices().skip(1);
    let Some((_, first)) = signs.next() else {
        return text.len();
    };
    if first == '\\' {
        // What is escaped may be a quote.
        let end = signs.skip(1).find(|(_, sign)| *sign == '\'');
        return end.map_or(text.len(), |(at, _)| at + 1);
    }
    match signs.next() {
        Some((at, '\'')) => at + 1,
        _ => 1,
    }
}

/// Length of a comment that may hold others.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                at += 2;
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::tokens;

    fn texts(text: &str) -> Vec<&str> {
        tokens(text).iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_texts_hold_no_tokens() {
        let empty = [
            "// crate::a \"",
            "/// crate::a",
            "/* crate::a /* b */ c */",
            r#""crate::a \" b""#,
            "b\"crate::a\"",
            "r\"crate\\\"",
            "r##\"crate \"# a\"##",
            "br#\"a\"b\"#",
            "'\"'",
            "'\\''",
            "'\\u{1f600}'",
            "b'a'",
            "b'\\''",
            "'ä'",
        ];
        for text in empty {
            assert_eq!(texts(text), [""; 0], "{text}");
            let with_more = format!("{text}\nnext");
            let found: Vec<_> = tokens(&with_more)
                .iter()
                .map(|t| (t.text, t.line))
                .collect();
            assert_eq!(found, [("next", 2)], "{text}");
        }
    }

    #[test]
    fn words_and_signs_are_tokens() {
        assert_eq!(
            texts("use r#type::b1;\n<'a>(c, 'd')"),
            [
                "use", "type", "::", "b1", ";", "<", "a", ">", "(", "c", ",", ")"
            ]
        );
        assert_eq!(texts("rb br c r"), ["rb", "br", "c", "r"]);
    }

    #[test]
    fn tokens_know_their_line() {
        let lines: Vec<usize> = tokens("a\n/* \n */ b \"\n\n\" c")
            .iter()
            .map(|t| t.line)
            .collect();
        assert_eq!(lines, [1, 3, 5]);
    }
}

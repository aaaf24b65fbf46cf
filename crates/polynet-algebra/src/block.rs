//! Blocks: the letters of the algebra.
//!
//! A block is an uppercase letter other than `I` (the identity), with an optional decimal
//! subscript: `F`, `G2`, in text also `G_2`. The same letter means the same parameters, so
//! `F`, `F0` and `F1` are three blocks.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Span};

/// The letters that [`Block::nth`] deals out before it turns to subscripts.
const DEALT: &[u8] = b"FGHJKLMNOPQRSTUVWXYZ";

/// One nonlinear block, named by a letter: `F`, `G`, `F2`.
///
/// Ordered by letter, then by subscript (`F < F2 < G`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    letter: char,
    subscript: Option<u64>,
}

impl Block {
    /// The block of that name; `None` if `letter` is not one of `A`…`H`, `J`…`Z`.
    pub fn new(letter: char, subscript: Option<u64>) -> Option<Self> {
        (letter.is_ascii_uppercase() && letter != 'I').then_some(Self { letter, subscript })
    }

    /// The `index`-th block of a named module: `F`, `G`, `H`, `J`, …, `Z`, `F2`, `G2`, …
    ///
    /// ```
    /// # use polynet_algebra::Block;
    /// let names: Vec<String> = [0, 1, 2, 3, 19, 20].map(|n| Block::nth(n).to_string()).into();
    /// assert_eq!(names, ["F", "G", "H", "J", "Z", "F2"]);
    /// ```
    pub fn nth(index: usize) -> Self {
        let round = (index / DEALT.len()) as u64;
        Self {
            letter: char::from(DEALT[index % DEALT.len()]),
            subscript: (round > 0).then_some(round + 1),
        }
    }

    /// The letter, without the subscript.
    pub fn letter(self) -> char {
        self.letter
    }

    /// The subscript, if the block has one.
    pub fn subscript(self) -> Option<u64> {
        self.subscript
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.letter)?;
        self.subscript
            .map_or(Ok(()), |number| write!(f, "{number}"))
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Block {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || {
            let kind = ErrorKind::InvalidBlock {
                found: text.chars().take(20).collect(),
            };
            Error::new(kind, text, Span::new(0, text.len()))
        };
        let mut chars = text.chars();
        let letter = chars.next().ok_or_else(invalid)?;
        let rest = chars.as_str();
        let digits = rest.strip_prefix('_').unwrap_or(rest);
        let subscript = match digits {
            "" if rest.is_empty() => None,
            _ if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().map_err(|_| invalid())?)
            }
            _ => return Err(invalid()),
        };
        Self::new(letter, subscript).ok_or_else(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_prints_without_underscore_and_reads_back() {
        for (text, printed) in [
            ("F", "F"),
            ("F2", "F2"),
            ("F_2", "F2"),
            ("Z007", "Z7"),
            ("A0", "A0"),
        ] {
            let block: Block = text.parse().unwrap();
            assert_eq!(block.to_string(), printed);
            assert_eq!(printed.parse::<Block>().unwrap(), block);
        }
    }

    #[test]
    fn text_that_names_no_block_is_refused() {
        for text in [
            "",
            "I",
            "I2",
            "f",
            "FG",
            "F_",
            "F2_",
            "_2",
            "É",
            "F99999999999999999999999",
            "F+1",
            "F-1",
        ] {
            assert!(text.parse::<Block>().is_err(), "{text}");
        }
    }

    #[test]
    fn dealt_blocks_are_distinct() {
        let dealt: std::collections::BTreeSet<Block> = (0..1000).map(Block::nth).collect();
        assert_eq!(dealt.len(), 1000);
    }
}

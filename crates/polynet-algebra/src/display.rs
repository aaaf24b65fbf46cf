//! How polynomials print: the canonical text, which parses back to the same polynomial.
//!
//! Terms stand in canonical order, runs of a block as powers, parentheses only around a sum that
//! a block is applied to: `I + F^2 + GF + F(I + H)`.

use std::fmt;

use crate::block::Block;
use crate::polynomial::{Polynomial, Term};

/// Writes blocks given outermost first, runs as powers: `F^2G`.
pub(crate) fn write_word(f: &mut impl fmt::Write, word: &[Block]) -> fmt::Result {
    for run in word.chunk_by(|left, right| left == right) {
        write!(f, "{}", run[0])?;
        if run.len() > 1 {
            write!(f, "^{}", run.len())?;
        }
    }
    Ok(())
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut word = Vec::new();
        let mut term = self;
        let inner = loop {
            let Self::Apply { block, argument } = term else {
                break None;
            };
            word.push(*block);
            match argument.terms() {
                [next] => term = next,
                _ => break Some(argument),
            }
        };
        if word.is_empty() {
            return f.write_str("I");
        }
        write_word(f, &word)?;
        inner.map_or(Ok(()), |sum| write!(f, "({sum})"))
    }
}

impl fmt::Display for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms().iter().enumerate() {
            write!(f, "{}{term}", if index > 0 { " + " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

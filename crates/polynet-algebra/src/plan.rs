//! The order in which to evaluate a polynomial, every operator once.
//!
//! Canonical forms make equal operators equal values, so that a table of the applications seen
//! so far finds every shared prefix: `I + F + GF` evaluates `F(x)` once and passes it on, which
//! is the paper's cascaded form `I + (I + G)F` (§3.1).
//!
//! ```
//! # use polynet_algebra::Polynomial;
//! let plan = Polynomial::mpoly(3)?.plan();
//! assert_eq!(plan.to_string(), "y1 = F(x); y2 = G(y1); y3 = H(y2); out = x + y1 + y2 + y3");
//! assert_eq!(plan.cascaded(), "I + (I + (I + H)G)F");
//! assert_eq!((plan.evaluations.len(), plan.naive_evaluations()), (3, 6));
//! # Ok::<(), polynet_algebra::Error>(())
//! ```

use std::collections::HashMap;
use std::fmt;

use crate::block::Block;
use crate::display::write_word;
use crate::polynomial::{Polynomial, Term};

/// The evaluations of a polynomial in an order in which every input is ready.
///
/// Made by [`Polynomial::plan`] only; the same polynomial always gives the same plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The block evaluations; each reads the input and evaluations before it.
    pub evaluations: Vec<Evaluation>,
    /// What is summed in the end.
    pub output: Sum,
    polynomial: Polynomial,
}

/// One evaluation of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// The block, whose parameters every evaluation of it shares.
    pub block: Block,
    /// What it is applied to.
    pub input: Sum,
    /// How many earlier evaluations of the plan have the same block: in `poly-3`, `F` has the
    /// uses 0, 1, 2. Parameters that are not shared between orders are told apart by it.
    pub use_index: usize,
}

/// A sum of values: in order, with repetition, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum(Vec<Value>);

/// Something that is ready to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// The input of the module.
    Input,
    /// The output of the evaluation of that index.
    Evaluation(usize),
}

impl Sum {
    /// The summands.
    pub fn values(&self) -> &[Value] {
        &self.0
    }

    /// The only summand, if there is just one.
    pub fn single(&self) -> Option<Value> {
        match self.0[..] {
            [value] => Some(value),
            _ => None,
        }
    }
}

impl<'a> IntoIterator for &'a Sum {
    type Item = Value;
    type IntoIter = std::iter::Copied<std::slice::Iter<'a, Value>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().copied()
    }
}

impl Polynomial {
    /// The plan that evaluates each distinct operator once.
    pub fn plan(&self) -> Plan {
        let mut planner = Planner::default();
        let output = planner.sum(self);
        Plan {
            evaluations: planner.evaluations,
            output,
            polynomial: self.clone(),
        }
    }

    /// The polynomial factored as the paper writes it, each shared prefix once:
    /// `I + F + GF` gives `I + (I + G)F`. The canonical text if a block is applied to a sum.
    pub fn cascaded(&self) -> String {
        match self.words() {
            Some(words) => cascade(&words.iter().map(Vec::as_slice).collect::<Vec<_>>()),
            None => self.to_string(),
        }
    }
}

#[derive(Default)]
struct Planner {
    evaluations: Vec<Evaluation>,
    seen: HashMap<Term, usize>,
    uses: HashMap<Block, usize>,
}

impl Planner {
    fn sum(&mut self, polynomial: &Polynomial) -> Sum {
        Sum(polynomial
            .terms()
            .iter()
            .map(|term| self.value(term))
            .collect())
    }

    fn value(&mut self, term: &Term) -> Value {
        let Term::Apply { block, argument } = term else {
            return Value::Input;
        };
        if let Some(&index) = self.seen.get(term) {
            return Value::Evaluation(index);
        }
        let input = self.sum(argument);
        let uses = self.uses.entry(*block).or_default();
        self.evaluations.push(Evaluation {
            block: *block,
            input,
            use_index: *uses,
        });
        *uses += 1;
        let index = self.evaluations.len() - 1;
        self.seen.insert(term.clone(), index);
        Value::Evaluation(index)
    }
}

impl Plan {
    /// The polynomial that the plan evaluates.
    pub fn polynomial(&self) -> &Polynomial {
        &self.polynomial
    }

    /// How many block evaluations the term-by-term evaluation takes.
    pub fn naive_evaluations(&self) -> usize {
        self.polynomial.letters()
    }

    /// How many of them the plan spares.
    pub fn evaluations_saved(&self) -> usize {
        self.naive_evaluations() - self.evaluations.len()
    }

    /// How many evaluations have that block.
    pub fn uses(&self, block: Block) -> usize {
        self.evaluations
            .iter()
            .filter(|evaluation| evaluation.block == block)
            .count()
    }

    /// See [`Polynomial::cascaded`].
    pub fn cascaded(&self) -> String {
        self.polynomial.cascaded()
    }

    /// Evaluates the plan at `x`.
    ///
    /// `apply` is told the block, the index of its evaluation and the block's input.
    pub fn evaluate<T: Clone>(
        &self,
        x: &T,
        mut apply: impl FnMut(Block, usize, &T) -> T,
        mut add: impl FnMut(&T, &T) -> T,
    ) -> T {
        let mut outputs: Vec<T> = Vec::with_capacity(self.evaluations.len());
        for (index, evaluation) in self.evaluations.iter().enumerate() {
            let input = total(&evaluation.input, x, &outputs, &mut add);
            outputs.push(apply(evaluation.block, index, &input));
        }
        total(&self.output, x, &outputs, &mut add)
    }
}

fn total<T: Clone>(sum: &Sum, x: &T, outputs: &[T], add: &mut impl FnMut(&T, &T) -> T) -> T {
    let read = |value: &Value| match *value {
        Value::Input => x,
        Value::Evaluation(index) => &outputs[index],
    };
    let first = read(&sum.0[0]).clone();
    sum.0[1..]
        .iter()
        .fold(first, |left, value| add(&left, read(value)))
}

/// The cascaded text of words given in order of application.
fn cascade(words: &[&[Block]]) -> String {
    let identities = words.iter().filter(|word| word.is_empty()).count();
    let mut summands = vec!["I".to_owned(); identities];
    let mut firsts: Vec<Block> = words
        .iter()
        .filter_map(|word| word.first().copied())
        .collect();
    firsts.sort();
    firsts.dedup();
    for first in firsts {
        let starting = words.iter().filter(|word| word.first() == Some(&first));
        let mut rests: Vec<&[Block]> = starting.map(|word| &word[1..]).collect();
        // Blocks that all of these words share next stand outside the parentheses too.
        let mut shared = vec![first];
        while let Some(&next) = rests[0].first() {
            if rests.iter().any(|rest| rest.first() != Some(&next)) {
                break;
            }
            shared.insert(0, next);
            rests.iter_mut().for_each(|rest| *rest = &rest[1..]);
        }
        let mut text = if let [[]] = rests[..] {
            String::new()
        } else {
            format!("({})", cascade(&rests))
        };
        // Writing to a string can't fail.
        let _ = write_word(&mut text, &shared);
        summands.push(text);
    }
    summands.join(" + ")
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input => f.write_str("x"),
            Self::Evaluation(index) => write!(f, "y{}", index + 1),
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, value) in self.into_iter().enumerate() {
            write!(f, "{}{value}", if index > 0 { " + " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Evaluation { block, input, .. }) in self.evaluations.iter().enumerate() {
            write!(f, "{} = {block}({input}); ", Value::Evaluation(index))?;
        }
        write!(f, "out = {}", self.output)
    }
}

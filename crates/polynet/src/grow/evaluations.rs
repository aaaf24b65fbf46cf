//! The evaluations of a module, known by the term that each computes.
//!
//! In `I + F + F^2` the block `F` is used twice: use 0 computes the term `F`, use 1 the term `F^2`.
//! A term means the same in every module that has it, and so the evaluations of a trained module
//! are found again in a larger one, whatever their numbers are there.

use polynet_algebra::{Block, Polynomial, Term, Value};
use std::collections::HashMap;

/// An evaluation of a block: the letter, and how many evaluations of it come before.
pub(super) type Use = (Block, usize);

/// The evaluations of one module.
#[derive(Debug)]
pub(super) struct Evaluations {
    by_term: HashMap<Term, Use>,
    by_use: HashMap<Use, Term>,
    uses: HashMap<Block, usize>,
}

impl Evaluations {
    pub(super) fn of(polynomial: &Polynomial) -> Self {
        let plan = polynomial.plan();
        let mut found = Self {
            by_term: HashMap::new(),
            by_use: HashMap::new(),
            uses: HashMap::new(),
        };
        let mut terms: Vec<Polynomial> = Vec::with_capacity(plan.evaluations.len());
        for evaluation in &plan.evaluations {
            let values = evaluation.input.into_iter().map(|value| match value {
                Value::Input => Polynomial::identity(),
                Value::Evaluation(index) => terms[index].clone(),
            });
            let block = Polynomial::block(evaluation.block);
            // Every part of a polynomial is within the limits that the whole one is within.
            let applied = Polynomial::sum(values).and_then(|argument| block.compose(&argument));
            let Ok(applied) = applied else { continue };
            let used = (evaluation.block, evaluation.use_index);
            if let [term] = applied.terms() {
                found.by_term.insert(term.clone(), used);
                found.by_use.insert(used, term.clone());
            }
            *found.uses.entry(evaluation.block).or_default() += 1;
            terms.push(applied);
        }
        found
    }

    /// The evaluation that computes a term.
    pub(super) fn find(&self, term: &Term) -> Option<Use> {
        self.by_term.get(term).copied()
    }

    /// The term that an evaluation computes.
    pub(super) fn term(&self, used: Use) -> Option<&Term> {
        self.by_use.get(&used)
    }

    /// How many evaluations have that block.
    pub(super) fn uses(&self, block: Block) -> usize {
        self.uses.get(&block).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_is_found_whatever_its_use_is_called() {
        let of = |text: &str| Evaluations::of(&text.parse().unwrap());
        let uses = |text: &str, module: &str| {
            let term: Polynomial = text.parse().unwrap();
            let found = of(module).find(&term.terms()[0]);
            found.map(|(block, index)| format!("{block}{index}"))
        };
        let table = [
            ("F", "poly-3", Some("F0")),
            ("F^3", "poly-3", Some("F2")),
            ("GF", "mpoly-2", Some("G0")),
            ("F", "I + FG", None),
            ("FG", "I + F + FG", Some("F1")),
            ("F(I + F)", "(I + F)^2", Some("F1")),
            ("G(I + F)", "(I + G)(I + F)", Some("G0")),
        ];
        for (term, module, expected) in table {
            assert_eq!(
                uses(term, module).as_deref(),
                expected,
                "{term} in {module}"
            );
        }
        assert_eq!(of("poly-3").uses(Block::nth(0)), 3);
    }
}

//! The space of modules: residual polynomials, their neighbours, and all up to a size.
//!
//! A module is a sum of `I` and other terms, none twice. Which letters its blocks have says which of them
//! are the same, and no more: `I + F + GF` and `I + G + FG` are one module.

use std::collections::{BTreeSet, HashSet};

use crate::block::Block;
use crate::polynomial::{Polynomial, Term};

/// The most blocks whose names are tried in every order.
const MAX_PERMUTED: usize = 6;

impl Polynomial {
    /// The same with other names for its blocks; blocks that get the same name become one.
    #[must_use]
    pub fn renamed(&self, rename: &impl Fn(Block) -> Block) -> Self {
        let terms = self.terms().iter().map(|term| match term {
            Term::Identity => Term::Identity,
            Term::Apply { block, argument } => Term::Apply {
                block: rename(*block),
                argument: argument.renamed(rename),
            },
        });
        Self::from_terms(terms.collect())
    }

    /// The first, in the order of polynomials, of all that differ in nothing but the names of their blocks,
    /// `F`, `G`, `H`, …: equal for equal modules. With more than six blocks they are named as they come in
    /// the canonical form, and two names of one module may both stay.
    ///
    /// ```
    /// # use polynet_algebra::parse_polynomial;
    /// let module = parse_polynomial("I + G + FG")?;
    /// assert_eq!(module.anonymous().to_string(), "I + F + GF");
    /// # Ok::<(), polynet_algebra::Error>(())
    /// ```
    #[must_use]
    pub fn anonymous(&self) -> Self {
        let blocks = self.blocks();
        let named = |order: &[usize]| {
            self.renamed(&|block| {
                let place = blocks.iter().position(|&known| known == block);
                Block::nth(place.map_or(0, |place| order[place]))
            })
        };
        let mut order: Vec<usize> = (0..blocks.len()).collect();
        let mut first = named(&order);
        if blocks.len() <= MAX_PERMUTED {
            while next_permutation(&mut order) {
                first = first.min(named(&order));
            }
        }
        first
    }

    /// The modules that one change makes of this one, in order, none twice: a term more, a term less, or
    /// another block as the last of a term. A new term applies one of the blocks, or one more, to the
    /// input, to a term or an argument that is there, or to the whole module.
    ///
    /// Those that contain every term of this one come from adding: they can be grown from it.
    ///
    /// ```
    /// # use polynet_algebra::parse_polynomial;
    /// let neighbours = parse_polynomial("I + F")?.neighbours();
    /// let texts: Vec<String> = neighbours.iter().map(ToString::to_string).collect();
    /// assert_eq!(texts, [
    ///     "I + G", "I + F + G", "I + F + F^2", "I + F + F(I + F)", "I + F + GF", "I + F + G(I + F)",
    /// ]);
    /// # Ok::<(), polynet_algebra::Error>(())
    /// ```
    pub fn neighbours(&self) -> Vec<Self> {
        let mut blocks = self.blocks();
        let unused = (0..).map(Block::nth);
        blocks.extend({ unused }.find(|block| !blocks.contains(block)));
        let mut found = BTreeSet::new();
        let mut arguments = BTreeSet::from([Self::identity(), self.clone()]);
        self.collect_arguments(&mut arguments);
        for block in &blocks {
            for argument in &arguments {
                found.extend(self.with(Term::Apply {
                    block: *block,
                    argument: argument.clone(),
                }));
            }
        }
        for (index, term) in self.terms().iter().enumerate() {
            let Term::Apply { argument, .. } = term else {
                continue;
            };
            let mut others = self.terms().to_vec();
            others.remove(index);
            let others = Self::from_terms(others);
            if others.order() > 0 {
                found.insert(others.clone());
            }
            for block in &blocks {
                found.extend(others.with(Term::Apply {
                    block: *block,
                    argument: argument.clone(),
                }));
            }
        }
        found.remove(self);
        found.into_iter().collect()
    }

    /// Every module, up to the names of its blocks, that is evaluated with at most `evaluations` of at most
    /// `blocks` different blocks: in the order of evaluations, then of polynomials.
    ///
    /// ```
    /// # use polynet_algebra::Polynomial;
    /// let modules = Polynomial::modules_within(2, 2);
    /// let texts: Vec<String> = modules.iter().map(ToString::to_string).collect();
    /// assert_eq!(texts, [
    ///     "I + F", "I + F + G", "I + F^2", "I + FG", "I + F(I + F)", "I + F(I + G)",
    ///     "I + F + F^2", "I + F + F(I + F)", "I + F + GF", "I + F + G(I + F)",
    /// ]);
    /// ```
    pub fn modules_within(evaluations: usize, blocks: usize) -> Vec<Self> {
        let fits = |module: &Self| {
            module.blocks().len() <= blocks && module.plan().evaluations.len() <= evaluations
        };
        let first = Self::from_terms(vec![Term::Identity, Term::plain(Block::nth(0))]);
        let mut open: Vec<Self> = Some(first).filter(fits).into_iter().collect();
        let mut found: HashSet<Self> = open.iter().cloned().collect();
        while let Some(module) = open.pop() {
            for neighbour in module.neighbours() {
                if !fits(&neighbour) {
                    continue;
                }
                let neighbour = neighbour.anonymous();
                if found.insert(neighbour.clone()) {
                    open.push(neighbour);
                }
            }
        }
        let mut modules: Vec<Self> = found.into_iter().collect();
        modules.sort_by_cached_key(|module| (module.plan().evaluations.len(), module.clone()));
        modules
    }

    /// With one term more, unless it is there or the polynomial becomes too large.
    fn with(&self, term: Term) -> Option<Self> {
        if self.terms().contains(&term) {
            return None;
        }
        Self::sum([self.clone(), Self::from_terms(vec![term])]).ok()
    }

    /// Every term and every argument within, as polynomials.
    fn collect_arguments(&self, found: &mut BTreeSet<Self>) {
        for term in self.terms() {
            if let Term::Apply { argument, .. } = term {
                found.insert(Self::from_terms(vec![term.clone()]));
                found.insert(argument.clone());
                argument.collect_arguments(found);
            }
        }
    }
}

impl Term {
    /// A block applied to the input.
    fn plain(block: Block) -> Self {
        Self::Apply {
            block,
            argument: Polynomial::identity(),
        }
    }
}

/// The next permutation in lexicographical order; whether there is one.
fn next_permutation(order: &mut [usize]) -> bool {
    let Some(turn) = order.windows(2).rposition(|pair| pair[0] < pair[1]) else {
        return false;
    };
    let larger = order.iter().rposition(|&value| value > order[turn]);
    order.swap(turn, larger.unwrap_or(turn));
    order[turn + 1..].reverse();
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_polynomial;

    fn module(text: &str) -> Polynomial {
        parse_polynomial(text).unwrap()
    }

    #[test]
    fn modules_are_equal_whatever_their_blocks_are_called() {
        for (one, other) in [
            ("I + F + GF", "I + G + FG"),
            ("I + F + G + HG", "I + H + F + GF"),
            ("I + F(I + G) + H", "I + F2 + A(I + B)"),
        ] {
            assert_eq!(module(one).anonymous(), module(other).anonymous());
        }
        for (one, other) in [
            ("I + F + GF", "I + F + FF"),
            ("I + F + GF", "I + F + G"),
            ("I + F + G + GF", "I + F + G + HF"),
        ] {
            assert_ne!(module(one).anonymous(), module(other).anonymous());
        }
    }

    #[test]
    fn all_permutations_come_once() {
        let mut order = [0, 1, 2, 3];
        let mut found = BTreeSet::from([order]);
        while next_permutation(&mut order) {
            assert!(found.insert(order));
        }
        assert_eq!(found.len(), 24);
    }

    #[test]
    fn what_the_paper_names_is_in_the_space() {
        let modules = Polynomial::modules_within(3, 3);
        for (index, name) in ["poly", "mpoly"].into_iter().enumerate() {
            for order in 1..=3 {
                let named = [Polynomial::poly, Polynomial::mpoly][index](order).unwrap();
                assert!(modules.contains(&named.anonymous()), "{name}-{order}");
            }
        }
        for ways in 1..=3 {
            assert!(modules.contains(&Polynomial::way(ways).unwrap()));
        }
        for module in &modules {
            assert_eq!(*module, module.anonymous());
            assert_eq!(module.terms()[0], Term::Identity, "{module}");
            let terms: HashSet<&Term> = module.terms().iter().collect();
            assert_eq!(terms.len(), module.terms().len(), "{module}");
        }
    }

    #[test]
    fn each_neighbour_has_the_module_for_a_neighbour() {
        for module in Polynomial::modules_within(2, 2) {
            for neighbour in module.neighbours() {
                let back = neighbour.neighbours();
                assert!(back.contains(&module), "{module} and {neighbour}");
            }
        }
    }
}

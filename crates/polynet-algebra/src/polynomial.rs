//! Operator polynomials in canonical form.
//!
//! A [`Polynomial`] is a sorted multiset of terms; a [`Term`] is `I`, or a block applied to a
//! polynomial. Composition distributes from the right only:
//!
//! ```text
//! (t1 + … + tn) ∘ Q = t1 ∘ Q + … + tn ∘ Q      I ∘ Q = Q      (L ∘ P) ∘ Q = L ∘ (P ∘ Q)
//! ```
//!
//! Read from left to right these rewrite every expression to exactly one form, so two operators
//! are equal under the laws for nonlinear blocks if and only if their polynomials are `==`.
//! For example `(I + F)^2 = (I + F) + F(I + F) = I + F + F(I + F)`.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};

use crate::block::Block;
use crate::error::{Error, ErrorKind};

/// The largest polynomial: blocks and identities written out in full, as `Display` does.
pub const MAX_SIZE: usize = 10_000;

/// The highest [order](Polynomial::order) of a polynomial.
pub const MAX_ORDER: usize = 256;

static IDENTITY: LazyLock<Polynomial> =
    LazyLock::new(|| Polynomial::from_terms(vec![Term::Identity]));

/// An operator polynomial in canonical form. Cheap to clone.
///
/// It never exceeds [`MAX_SIZE`] and [`MAX_ORDER`]: whatever would is refused before it is built.
#[derive(Clone)]
pub struct Polynomial(Arc<Canonical>);

/// Sorted terms, and what would take a walk over them to find out.
struct Canonical {
    terms: Vec<Term>,
    order: usize,
    paths: usize,
    letters: usize,
    hash: u64,
}

/// One summand.
///
/// Ordered by order, then alphabetically: `I < F < G < F^2 < GF`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Term {
    /// `I`, the input itself.
    Identity,
    /// `block` applied to the value of `argument`; the plain letter `F` has the argument `I`.
    Apply {
        /// The block applied last.
        block: Block,
        /// What it is applied to.
        argument: Polynomial,
    },
}

impl Polynomial {
    /// `I`.
    pub fn identity() -> Self {
        IDENTITY.clone()
    }

    /// The polynomial of a single block.
    pub fn block(block: Block) -> Self {
        Self::identity().under(block)
    }

    /// The sum of the summands, which may repeat. Fails if there is none or if the sum exceeds
    /// [`MAX_SIZE`].
    pub fn sum(summands: impl IntoIterator<Item = Self>) -> Result<Self, Error> {
        let mut terms = Vec::new();
        let mut size = 0usize;
        for summand in summands {
            size = size.saturating_add(summand.size());
            check_size(size)?;
            terms.extend_from_slice(summand.terms());
        }
        if terms.is_empty() {
            return Err(Error::unplaced(ErrorKind::EmptySum));
        }
        Ok(Self::from_terms(terms))
    }

    /// `self ∘ inner`: `inner` is applied first. Fails beyond [`MAX_SIZE`] or [`MAX_ORDER`].
    pub fn compose(&self, inner: &Self) -> Result<Self, Error> {
        // Composition puts `inner` in the place of every `I`, so the size is known beforehand.
        let (paths, letters) = self.composed_size(inner.0.paths, inner.0.letters);
        check_size(paths.saturating_add(letters))?;
        check_order(self.order() + inner.order())?;
        Ok(self.composed(inner))
    }

    /// `self` composed with itself `exponent` times; `I` for an exponent of 0. Fails beyond
    /// [`MAX_SIZE`] or [`MAX_ORDER`].
    pub fn pow(&self, exponent: usize) -> Result<Self, Error> {
        if *self == Self::identity() {
            return Ok(Self::identity());
        }
        check_order(self.order().saturating_mul(exponent))?;
        // Every round adds a letter or doubles the paths, so that the limit ends the loop.
        let (mut paths, mut letters) = (1, 0);
        for _ in 0..exponent {
            (paths, letters) = self.composed_size(paths, letters);
            check_size(paths.saturating_add(letters))?;
        }
        Ok((0..exponent).fold(Self::identity(), |power, _| self.composed(&power)))
    }

    /// `poly-k`: `I + F + F^2 + … + F^k` (§3.1). `k` is at least 1.
    pub fn poly(order: usize) -> Result<Self, Error> {
        Self::chain(order, |_| Block::nth(0))
    }

    /// `mpoly-k`: `I + F + GF + HGF + …` (§3.1). `k` is at least 1.
    pub fn mpoly(order: usize) -> Result<Self, Error> {
        Self::chain(order, Block::nth)
    }

    /// `k-way`: `I + F + G + H + …` with `k` blocks (§3.1). `k` is at least 1.
    pub fn way(blocks: usize) -> Result<Self, Error> {
        check_count("the number of ways", blocks)?;
        check_size(blocks.saturating_mul(2).saturating_add(1))?;
        let ways = (0..blocks).map(|index| Self::block(Block::nth(index)));
        Self::sum(std::iter::once(Self::identity()).chain(ways))
    }

    /// The identity and every prefix of the word that applies `block(0)`, `block(1)`, … in turn.
    fn chain(order: usize, block: impl Fn(usize) -> Block) -> Result<Self, Error> {
        check_count("the order", order)?;
        check_order(order)?;
        check_size(order * (order + 1) / 2 + order + 1)?;
        let words = std::iter::successors(Some((0, Self::identity())), |(length, word)| {
            Some((length + 1, word.under(block(*length))))
        });
        Self::sum(words.take(order + 1).map(|(_, word)| word))
    }

    /// The terms in canonical order; never empty.
    pub fn terms(&self) -> &[Term] {
        &self.0.terms
    }

    /// The largest number of blocks along one path (§3.1): 0 for `I`, 3 for `poly-3`.
    pub fn order(&self) -> usize {
        self.0.order
    }

    /// The number of paths from input to output: 4 for `poly-3`, 4 for `(I + F)^2`.
    pub fn paths(&self) -> u64 {
        self.0.paths as u64
    }

    /// The number of block letters written out in full, which is the number of block
    /// evaluations if every term is computed on its own: 6 for `poly-3`.
    pub fn letters(&self) -> usize {
        self.0.letters
    }

    /// The distinct blocks, sorted.
    pub fn blocks(&self) -> Vec<Block> {
        fn collect(polynomial: &Polynomial, found: &mut BTreeSet<Block>) {
            for term in polynomial.terms() {
                if let Term::Apply { block, argument } = term {
                    found.insert(*block);
                    collect(argument, found);
                }
            }
        }
        let mut found = BTreeSet::new();
        collect(self, &mut found);
        found.into_iter().collect()
    }

    /// The terms as words in order of application (`GF` is `[F, G]`, `I` is empty), or `None`
    /// if a block is applied to a sum.
    pub fn words(&self) -> Option<Vec<Vec<Block>>> {
        self.terms().iter().map(Term::word).collect()
    }

    /// Evaluates every term on its own, sharing nothing: what a plan has to agree with.
    ///
    /// `apply` is told the block and its input. Panics only if a closure does.
    pub fn evaluate_naive<T: Clone>(
        &self,
        x: &T,
        mut apply: impl FnMut(Block, &T) -> T,
        mut add: impl FnMut(&T, &T) -> T,
    ) -> T {
        self.evaluate_terms(x, &mut apply, &mut add)
    }

    fn evaluate_terms<T: Clone>(
        &self,
        x: &T,
        apply: &mut impl FnMut(Block, &T) -> T,
        add: &mut impl FnMut(&T, &T) -> T,
    ) -> T {
        let mut value = |term: &Term| match term {
            Term::Identity => x.clone(),
            Term::Apply { block, argument } => {
                let input = argument.evaluate_terms(x, apply, add);
                apply(*block, &input)
            }
        };
        let values: Vec<T> = self.terms().iter().map(&mut value).collect();
        values
            .into_iter()
            .reduce(|left, right| add(&left, &right))
            .unwrap_or_else(|| x.clone())
    }

    /// `block ∘ self`, unchecked.
    fn under(&self, block: Block) -> Self {
        Self::from_terms(vec![Term::Apply {
            block,
            argument: self.clone(),
        }])
    }

    /// Identities and letters, written out in full; see [`MAX_SIZE`].
    pub fn size(&self) -> usize {
        self.0.paths + self.0.letters
    }

    /// Paths and letters of `self` composed with an operator of so many paths and letters.
    fn composed_size(&self, paths: usize, letters: usize) -> (usize, usize) {
        let copied = self.0.paths.saturating_mul(letters);
        (
            self.0.paths.saturating_mul(paths),
            self.0.letters.saturating_add(copied),
        )
    }

    /// `self ∘ inner`, unchecked.
    fn composed(&self, inner: &Self) -> Self {
        let mut terms = Vec::with_capacity(self.terms().len());
        for term in self.terms() {
            match term {
                Term::Identity => terms.extend_from_slice(inner.terms()),
                Term::Apply { block, argument } => {
                    let argument = argument.composed(inner);
                    terms.push(Term::Apply {
                        block: *block,
                        argument,
                    });
                }
            }
        }
        // `I ∘ inner` shares `inner` itself.
        if self.is_identity() {
            inner.clone()
        } else {
            Self::from_terms(terms)
        }
    }

    fn is_identity(&self) -> bool {
        matches!(self.terms(), [Term::Identity])
    }

    /// The only constructor: sorts, and keeps the counts.
    pub(crate) fn from_terms(mut terms: Vec<Term>) -> Self {
        terms.sort();
        let mut hasher = DefaultHasher::new();
        terms.hash(&mut hasher);
        let mut canonical = Canonical {
            order: 0,
            paths: 0,
            letters: 0,
            hash: hasher.finish(),
            terms,
        };
        for term in &canonical.terms {
            match term {
                Term::Identity => canonical.paths += 1,
                Term::Apply { argument, .. } => {
                    canonical.order = canonical.order.max(1 + argument.0.order);
                    canonical.paths += argument.0.paths;
                    canonical.letters += 1 + argument.0.letters;
                }
            }
        }
        Self(Arc::new(canonical))
    }
}

fn check_size(size: usize) -> Result<(), Error> {
    within("the polynomial", size, MAX_SIZE, "blocks and identities")
}

fn check_order(order: usize) -> Result<(), Error> {
    within(
        "the order of the polynomial",
        order,
        MAX_ORDER,
        "blocks along one path",
    )
}

fn within(what: &'static str, value: usize, limit: usize, unit: &'static str) -> Result<(), Error> {
    let kind = ErrorKind::OverLimit { what, limit, unit };
    if value <= limit {
        Ok(())
    } else {
        Err(Error::unplaced(kind))
    }
}

fn check_count(what: &'static str, count: usize) -> Result<(), Error> {
    if count > 0 {
        Ok(())
    } else {
        Err(Error::unplaced(ErrorKind::Zero { what }))
    }
}

impl Term {
    /// The number of blocks along the term's longest path.
    pub fn order(&self) -> usize {
        match self {
            Self::Identity => 0,
            Self::Apply { argument, .. } => 1 + argument.order(),
        }
    }

    /// The term as a word in order of application (`GF` is `[F, G]`), or `None` if a block in
    /// it is applied to a sum.
    pub fn word(&self) -> Option<Vec<Block>> {
        let mut letters = Vec::with_capacity(self.order());
        let mut term = self;
        while let Self::Apply { block, argument } = term {
            letters.push(*block);
            let [next] = argument.terms() else {
                return None;
            };
            term = next;
        }
        letters.reverse();
        Some(letters)
    }
}

impl PartialEq for Polynomial {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.hash == other.0.hash && self.0.terms == other.0.terms)
    }
}

impl Eq for Polynomial {}

impl Hash for Polynomial {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl Ord for Polynomial {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) {
            return Ordering::Equal;
        }
        let measure = |polynomial: &Self| (polynomial.order(), polynomial.terms().len());
        measure(self)
            .cmp(&measure(other))
            .then_with(|| self.terms().cmp(other.terms()))
    }
}

impl PartialOrd for Polynomial {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Term {
    fn cmp(&self, other: &Self) -> Ordering {
        let alphabetical = || match (self, other) {
            (
                Self::Apply { block, argument },
                Self::Apply {
                    block: other_block,
                    argument: other_argument,
                },
            ) => block
                .cmp(other_block)
                .then_with(|| argument.cmp(other_argument)),
            // Only the identity has order 0.
            _ => Ordering::Equal,
        };
        self.order().cmp(&other.order()).then_with(alphabetical)
    }
}

impl PartialOrd for Term {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

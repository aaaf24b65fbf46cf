//! Whether a larger network computes what the model computes, and if not, why.
//!
//! Asked before any tensor is made, by comparing [expressions](super::symbolic). Every inserted
//! block is zero where it can be; what is left can't be made unchanged by weights:
//!
//! - a new term that applies a kept block once more with the same parameters (`I + F` to
//!   `I + F + F^2` with `sharing = full`): `F^2` is zero only where `F` is;
//! - a residual scale that changes, by its value or because a schedule follows the number of modules;
//! - an identity that is new: it has no weights;
//! - a new module without an identity, or over a map that can be negative before its ReLU;
//! - `sharing` that changes where there are higher orders: `release` passes `relu(F(x))` on.

use super::modules::ModuleSource;
use super::symbolic::{Expression, Expressions, Grown, Own};
use super::tensors::{Origin, TensorGrowth, last_layer, new_terms};
use super::{GrowError, ModuleMap};
use crate::arch::{Architecture, Graph};
use polynet_algebra::{Polynomial, Term};

/// What is compared.
pub(super) struct Comparison<'a> {
    pub(super) from: &'a Architecture,
    pub(super) to: &'a Architecture,
    pub(super) map: &'a ModuleMap,
    pub(super) tensors: &'a [TensorGrowth],
}

/// A module of the larger network that changes the function.
struct Changed {
    stage: usize,
    position: usize,
    /// Whether what enters it can be negative.
    input_can_be_negative: bool,
}

impl Comparison<'_> {
    /// Checks that the features before the classifier are the same functions of the image.
    ///
    /// # Errors
    /// Names the first module that changes them, and says why.
    pub(super) fn check(&self) -> Result<(), GrowError> {
        let (from, to) = (self.from.graph()?, self.to.graph()?);
        let mut expressions = Expressions::new();
        let old = expressions.of(&from, &Own);
        let new = expressions.of(&to, &Grown::new(self.tensors));
        match self.first_change(&from, &old, &to, &new, &expressions) {
            Some(changed) => Err(self.explain(&changed)),
            None => Ok(()),
        }
    }

    /// The first module of the larger network whose result is not that of its source, or for a new
    /// one, not what enters it.
    fn first_change(
        &self,
        from: &Graph,
        old: &[Expression],
        to: &Graph,
        new: &[Expression],
        expressions: &Expressions,
    ) -> Option<Changed> {
        let mut input = None;
        for part in &to.parts {
            let result = new[part.output];
            let Some((stage, position)) = part.module else {
                input = Some(result);
                continue;
            };
            let expected = match self.map.source(stage, position) {
                ModuleSource::Inserted => input,
                ModuleSource::Kept(j) => {
                    let mut parts = from.parts.iter();
                    let source = parts.find(|part| part.module == Some((stage, j)));
                    source.map(|part| old[part.output])
                }
            };
            if expected != Some(result) {
                return Some(Changed {
                    stage,
                    position,
                    input_can_be_negative: input
                        .is_none_or(|input| !expressions.is_nonnegative(input)),
                });
            }
            input = Some(result);
        }
        None
    }

    fn explain(&self, changed: &Changed) -> GrowError {
        let stage = &self.to.stages[changed.stage];
        let polynomial = &stage.modules[changed.position].polynomial;
        let source = self.map.source(changed.stage, changed.position);
        let kept = match source {
            ModuleSource::Kept(j) => Some((j, &self.from.stages[changed.stage].modules[j])),
            ModuleSource::Inserted => None,
        };
        let reason = (self.unsilenced(changed, kept.map(|(_, module)| &module.polynomial)))
            .or_else(|| self.identity(polynomial, kept.map(|(_, module)| &module.polynomial)))
            .or_else(|| kept.and_then(|(j, _)| self.scale(changed, j)))
            .or_else(|| self.sharing(kept.map(|(_, module)| &module.polynomial)))
            .or_else(|| {
                (kept.is_none() && changed.input_can_be_negative).then(|| {
                    "it is new, and what enters it can be negative, which its ReLU would cut off"
                        .to_owned()
                })
            })
            .unwrap_or_else(|| {
                "what follows its sum is not what follows it in the model (the last module of the \
                 network has no ReLU in this family); use `--placement interleaved` with a last \
                 stage that does not grow"
                    .to_owned()
            });
        GrowError::FunctionChanges {
            module: format!("{}.{}", stage.name(), changed.position),
            reason,
        }
    }

    /// A new term that could not be made zero.
    fn unsilenced(&self, changed: &Changed, kept: Option<&Polynomial>) -> Option<String> {
        let stage = &self.to.stages[changed.stage];
        let polynomial = &stage.modules[changed.position].polynomial;
        let terms = new_terms(polynomial, kept);
        let Some((_, _)) = last_layer(&stage.block) else {
            let term = terms.first()?;
            return Some(format!(
                "the new term `{term}` can't be zero: the family's block does not end in one layer"
            ));
        };
        let module = format!("{}.{}", stage.name(), changed.position);
        let silent = |term: &&Term| {
            let Term::Apply { block, .. } = term else {
                return true;
            };
            let prefix = format!("{module}.{block}.");
            let mut tensors = (self.tensors.iter()).filter(|t| t.name.starts_with(&prefix));
            tensors.any(|tensor| tensor.origin == Origin::Zero)
        };
        let term = terms.iter().find(|term| !silent(term))?;
        let Term::Apply { block, .. } = term else {
            return None;
        };
        Some(format!(
            "the new term `{term}` uses the kept block `{block}` again with the same parameters, so \
             it is zero only where the model's own are; write a new letter for it, as mpoly-k does, \
             or `sharing = release`"
        ))
    }

    /// An identity that the source does not have, or a new module without exactly one.
    fn identity(&self, polynomial: &Polynomial, kept: Option<&Polynomial>) -> Option<String> {
        let count = |polynomial: &Polynomial| {
            let terms = polynomial.terms().iter();
            terms.filter(|term| **term == Term::Identity).count()
        };
        match (kept, count(polynomial)) {
            (Some(kept), found) if found > count(kept) => Some(format!(
                "the term `I` of `{polynomial}` is new, and it has no weights that could be zero; \
                 keep `{kept}` as it is"
            )),
            (None, found) if found != 1 => Some(format!(
                "it is new and `{polynomial}` has {found} identities, so it can't pass its input on; \
                 write a module with one `I`"
            )),
            _ => None,
        }
    }

    fn scale(&self, changed: &Changed, source: usize) -> Option<String> {
        let index = |architecture: &Architecture, position: usize| {
            let before = architecture.stages[..changed.stage].iter();
            before.map(|stage| stage.modules.len()).sum::<usize>() + position
        };
        let old = *self.from.residual_scales().get(index(self.from, source))?;
        let new = *self
            .to
            .residual_scales()
            .get(index(self.to, changed.position))?;
        (old as f32 != new as f32).then(|| {
            format!(
                "its residual scale changes from {old} to {new}; write the model's `scale`, if it \
                 is a number"
            )
        })
    }

    fn sharing(&self, kept: Option<&Polynomial>) -> Option<String> {
        let is_higher = kept.is_some_and(|polynomial| polynomial.order() > 1);
        (is_higher && self.from.sharing != self.to.sharing).then(|| {
            "`sharing` changes, and only `release` passes relu(F(x)) on to the next order; write \
             the model's `sharing`"
                .to_owned()
        })
    }
}

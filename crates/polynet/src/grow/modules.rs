//! Which module of a trained network each module of a larger one comes from.
//!
//! A function on architectures: no tensor is looked at. Law: a trained module can become any module
//! whose terms contain all of its own, each as often. `I + F` becomes `I + F + GF` or `2-way`, and
//! `2-way` does not become `I + F + GF`, where the term `G` is missing.
//!
//! ```
//! use polynet::arch::Architecture;
//! use polynet::grow::{ModuleMap, Placement};
//! let trained: Architecture = "ir-3-6-3".parse()?;
//! let larger: Architecture = "ir-6-12-6-b-mixed".parse()?;
//! let map = ModuleMap::new(&trained, &larger, Placement::Interleaved)?;
//! assert_eq!(map.to_string(), "A: 0 + 1 + 2 +; B: 0 + 1 + 2 + 3 + 4 + 5 +; C: 0 + 1 + 2 +");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::GrowError;
use super::placement::{Placement, place};
use crate::arch::{Architecture, Stage, Width};
use polynet_algebra::{Polynomial, Term};
use std::fmt;

/// Where a module comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleSource {
    /// The module of that index in the same stage of the trained network.
    Kept(usize),
    /// Nowhere: it is new.
    Inserted,
}

/// The sources of all modules, by stage. A trained module can become any module whose terms contain
/// all of its own, each as often; of the ways to place them, [`place`] takes the nearest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleMap {
    /// Label of each stage, and the source of each of its modules.
    pub stages: Vec<(String, Vec<ModuleSource>)>,
}

impl ModuleMap {
    /// The map from one architecture to a larger one.
    ///
    /// # Errors
    /// If family or width differ, a stage has fewer modules than the trained one, or the terms of a
    /// trained module are missing.
    pub fn new(
        from: &Architecture,
        to: &Architecture,
        placement: Placement,
    ) -> Result<Self, GrowError> {
        if from.family != to.family {
            let (from, to) = (from.family.name(), to.family.name());
            return Err(GrowError::Family { from, to });
        }
        let widths = [
            ("width", from.width, to.width),
            ("block-width", from.block_width, to.block_width),
        ];
        for (setting, Width(from), Width(to)) in widths {
            if from != to {
                return Err(GrowError::Width { setting, from, to });
            }
        }
        let stages = from.stages.iter().zip(&to.stages);
        let stages = stages.map(|(from, to)| {
            let modules = stage_sources(from, to, placement)?;
            Ok((to.label.clone(), modules))
        });
        let stages = stages.collect::<Result<_, GrowError>>()?;
        Ok(Self { stages })
    }

    /// The source of a module, by stage and position.
    pub fn source(&self, stage: usize, position: usize) -> ModuleSource {
        let stage = self.stages.get(stage);
        let source = stage.and_then(|(_, modules)| modules.get(position));
        source.copied().unwrap_or(ModuleSource::Inserted)
    }
}

fn stage_sources(
    from: &Stage,
    to: &Stage,
    placement: Placement,
) -> Result<Vec<ModuleSource>, GrowError> {
    let (old, new) = (from.modules.len(), to.modules.len());
    if new < old {
        return Err(GrowError::FewerModules {
            stage: to.label.clone(),
            from: old,
            to: new,
        });
    }
    let missing =
        |j: usize, p: usize| missing_term(&from.modules[j].polynomial, &to.modules[p].polynomial);
    let Some(positions) = place(old, new, placement, |j, p| missing(j, p).is_none()) else {
        return Err(no_place(from, to, missing));
    };
    let mut sources = vec![ModuleSource::Inserted; new];
    for (j, position) in positions.into_iter().enumerate() {
        sources[position] = ModuleSource::Kept(j);
    }
    Ok(sources)
}

/// The first trained module that has no place when each takes the first one that fits.
fn no_place<'a>(
    from: &Stage,
    to: &Stage,
    missing: impl Fn(usize, usize) -> Option<&'a Term>,
) -> GrowError {
    let spare = to.modules.len() - from.modules.len();
    let mut next = 0;
    for (j, module) in from.modules.iter().enumerate() {
        let first = next.max(j);
        match (first..=j + spare).find(|&p| missing(j, p).is_none()) {
            Some(position) => next = position + 1,
            None => {
                let place = first.min(to.modules.len() - 1);
                return GrowError::MissingTerm {
                    module: format!("{}.{j}", from.name()),
                    from: module.polynomial.to_string(),
                    place: format!("{}.{place}", to.name()),
                    to: to.modules[place].polynomial.to_string(),
                    term: missing(j, place).map_or_else(String::new, Term::to_string),
                };
            }
        }
    }
    GrowError::FewerModules {
        stage: to.label.clone(),
        from: from.modules.len(),
        to: to.modules.len(),
    }
}

/// A term of `from` that `to` has less often, if there is one.
fn missing_term<'a>(from: &'a Polynomial, to: &Polynomial) -> Option<&'a Term> {
    let mut left = to.terms().iter();
    from.terms()
        .iter()
        .find(|term| !left.by_ref().any(|found| found == *term))
}

impl fmt::Display for ModuleMap {
    /// `A: 0 + 1 +`: by stage, the index of the kept module or `+` for a new one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (label, modules)) in self.stages.iter().enumerate() {
            write!(f, "{}{label}:", if index > 0 { "; " } else { "" })?;
            for module in modules {
                match module {
                    ModuleSource::Kept(old) => write!(f, " {old}")?,
                    ModuleSource::Inserted => f.write_str(" +")?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(from: &str, to: &str, placement: Placement) -> Result<String, String> {
        let (from, to): (Architecture, Architecture) = (from.parse().unwrap(), to.parse().unwrap());
        let map = ModuleMap::new(&from, &to, placement);
        map.map(|map| map.to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn modules_map_as_in_the_table() {
        use Placement::{Appended, Interleaved};
        let table = [
            (
                "ir-3-6-3",
                "ir-6-12-6",
                Interleaved,
                "A: 0 + 1 + 2 +; B: 0 + 1 + 2 + 3 + 4 + 5 +; C: 0 + 1 + 2 +",
            ),
            (
                "ir-3-6-3",
                "ir-6-12-6",
                Appended,
                "A: 0 1 2 + + +; B: 0 1 2 3 4 5 + + + + + +; C: 0 1 2 + + +",
            ),
            (
                "ir-3-6-3",
                "ir-3-6-3-b-mpoly-3",
                Interleaved,
                "A: 0 1 2; B: 0 1 2 3 4 5; C: 0 1 2",
            ),
            (
                "small-ir-1-2-1",
                "small-polynet; C: (I + F) -> 2-way",
                Interleaved,
                "A: 0; B: 0 1; C: 0 +",
            ),
            (
                "small-polynet",
                "small-polynet-deep",
                Interleaved,
                "A: 0 +; B: 0 + + 1; C: 0 + + 1",
            ),
            (
                "small-polynet",
                "small-polynet-deep",
                Appended,
                "A: 0 +; B: 0 1 + +; C: 0 1 + +",
            ),
            (
                "family = small; A: 2-way; B: 2-way; C: 2-way",
                "family = small; A: 3-way; B: I + F -> 2-way; C: I + G + F + GF",
                Interleaved,
                "A: 0; B: + 0; C: 0",
            ),
        ];
        for (from, to, placement, expected) in table {
            assert_eq!(map(from, to, placement).as_deref(), Ok(expected), "{to}");
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error_that_says_why() {
        let base = "family = small; A: 2-way; B: I + F; C: I + F";
        let table = [
            (base, "ir-3-6-3", "of the family `small`, not `imagenet`"),
            (
                base,
                "family = small; width = 0.5; A: 2-way; B: I + F; C: I + F",
                "width = 1",
            ),
            (
                base,
                "family = small; block-width = 2; A: 2-way; B: I + F; C: I + F",
                "write `block-width = 1`",
            ),
            (
                "small-ir-3-6-3",
                "small-polynet",
                "stage A has 3 modules, the larger network has 1",
            ),
            (
                base,
                "family = small; A: mpoly-2; B: I + F; C: I + F",
                "module stage_a.0, `I + F + G`, can't become stage_a.0, `I + F + GF`: the term `G`",
            ),
            (
                base,
                "family = small; A: 2-way; B: I + G -> I + G; C: I + F",
                "module stage_b.0, `I + F`, can't become stage_b.0, `I + G`: the term `F`",
            ),
        ];
        for (from, to, expected) in table {
            let error = map(from, to, Placement::Interleaved).unwrap_err();
            assert!(error.contains(expected), "{to}: {error}");
        }
    }

    #[test]
    fn terms_count_as_often_as_they_occur() {
        let parse = |text: &str| -> Polynomial { text.parse().unwrap() };
        let fits = |from: &str, to: &str| missing_term(&parse(from), &parse(to)).is_none();
        assert!(fits("I + F", "I + F + F"));
        assert!(!fits("I + F + F", "I + F + G"));
        assert!(fits("(I + F)^2", "I + F + F(I + F) + G"));
        assert!(!fits("(I + F)^2", "I + F + F^2"));
    }
}

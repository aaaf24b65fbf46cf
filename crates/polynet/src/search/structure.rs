//! What a candidate is: the polynomials of its stages, and random changes of them.

use crate::arch::Architecture;
use polynet_algebra::{Polynomial, Term};
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use std::fmt;

/// Draws until a change is found that the space allows.
const DRAWS: usize = 200;

/// The modules of every stage, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Structure {
    stages: Vec<(String, Vec<Polynomial>)>,
}

/// Which structures there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Space {
    /// Evaluations of blocks in a module, at most.
    pub(super) evaluations: usize,
    /// Different blocks of a module, at most.
    pub(super) blocks: usize,
    /// Modules of a stage, at most.
    pub(super) modules: usize,
    /// The stages that change.
    pub(super) stages: Vec<String>,
}

/// Which changes are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// All.
    Any,
    /// Those whose result contains what was there.
    Growing,
}

impl Structure {
    pub(super) fn of(network: &Architecture) -> Self {
        let stages = network.stages.iter().map(|stage| {
            let modules = stage.modules.iter();
            let modules = modules.map(|module| module.polynomial.clone());
            (stage.label.clone(), modules.collect())
        });
        Self {
            stages: stages.collect(),
        }
    }

    pub(super) fn labels(&self) -> impl Iterator<Item = &str> {
        self.stages.iter().map(|(label, _)| label.as_str())
    }

    /// The smallest space of all stages that has it.
    pub(super) fn largest(&self) -> Space {
        let modules = self.stages.iter().flat_map(|(_, modules)| modules);
        let most = |count: fn(&Polynomial) -> usize| modules.clone().map(count).max();
        Space {
            evaluations: most(evaluations).unwrap_or_default(),
            blocks: most(|module| module.blocks().len()).unwrap_or_default(),
            modules: (self.stages.iter().map(|(_, modules)| modules.len()))
                .max()
                .unwrap_or_default(),
            stages: Vec::new(),
        }
    }

    /// Equal for equal structures, whatever their blocks are called.
    pub(super) fn key(&self) -> String {
        let modules = |modules: &[Polynomial]| {
            let anonymous = modules.iter().map(|module| module.anonymous().to_string());
            anonymous.collect::<Vec<_>>().join(" -> ")
        };
        let stages = self.stages.iter();
        let stages = stages.map(|(label, all)| format!("{label}: {}", modules(all)));
        stages.collect::<Vec<_>>().join("; ")
    }

    /// A random change of one stage, if a few draws find one that the space allows.
    pub(super) fn changed(
        &self,
        space: &Space,
        pool: &[Polynomial],
        change: Change,
        rng: &mut ChaCha8Rng,
    ) -> Option<Self> {
        (0..DRAWS).find_map(|_| self.draw(space, (pool, change), rng))
    }

    fn draw(
        &self,
        space: &Space,
        (pool, change): (&[Polynomial], Change),
        rng: &mut ChaCha8Rng,
    ) -> Option<Self> {
        let label = space.stages.choose(rng)?;
        let mut changed = self.clone();
        let (_, modules) = (changed.stages.iter_mut()).find(|(known, _)| known == label)?;
        let place = rng.random_range(0..modules.len());
        match rng.random_range(0..4) {
            0 if modules.len() < space.modules => {
                let place = rng.random_range(0..=modules.len());
                modules.insert(place, pool.choose(rng)?.clone());
            }
            1 if change == Change::Any && modules.len() > 1 => {
                modules.remove(place);
            }
            2.. => {
                let module = &modules[place];
                let neighbours = module.neighbours().into_iter().filter(|neighbour| {
                    let is_in_space = evaluations(neighbour) <= space.evaluations
                        && neighbour.blocks().len() <= space.blocks;
                    is_in_space && (change == Change::Any || contains(neighbour, module))
                });
                let neighbours: Vec<Polynomial> = neighbours.collect();
                modules[place] = neighbours.choose(rng)?.clone();
            }
            _ => return None,
        }
        Some(changed)
    }
}

/// `A: 2-way; B: poly-3 -> I + FG`
impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (label, modules)) in self.stages.iter().enumerate() {
            let modules: Vec<String> = modules.iter().map(text).collect();
            let separator = if index > 0 { "; " } else { "" };
            write!(f, "{separator}{label}: {}", modules.join(" -> "))?;
        }
        Ok(())
    }
}

/// The module's name, if that names exactly these blocks, or its cascaded form.
fn text(module: &Polynomial) -> String {
    let name = module.name().filter(|name| {
        let named = Polynomial::named(name);
        named.is_ok_and(|named| named == *module)
    });
    name.unwrap_or_else(|| module.to_string())
}

pub(super) fn evaluations(module: &Polynomial) -> usize {
    module.plan().evaluations.len()
}

/// Whether every term of `smaller`, none of which is there twice, is one of `module`.
fn contains(module: &Polynomial, smaller: &Polynomial) -> bool {
    let has = |term: &Term| module.terms().contains(term);
    smaller.terms().iter().all(has)
}

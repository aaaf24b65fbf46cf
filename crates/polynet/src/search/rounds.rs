//! Which candidates stand on which rung, as far as a ledger says.

use super::Search;
use super::front::{Standing, rank};
use super::structure::{Change, Structure};
use super::times::StepTimes;
use crate::grow::{ModuleMap, Placement};
use crate::random::search_rng;
use crate::study::{Entry, Study, StudyError};
use polynet_algebra::Polynomial;
use rand::RngExt;
use std::collections::{HashMap, HashSet};

/// Changes of the start that make a candidate of the first rung, at most.
const FIRST_CHANGES: u32 = 5;
/// Structures that are looked at for one candidate.
const TRIES: u64 = 200;

/// A structure that is, or will be, trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// `start`, `c1`, `c2`, … in the order in which they were found.
    pub name: String,
    /// The stages in the algebra's language, without the settings.
    pub network: String,
    /// The candidate that it grew from.
    pub parent: Option<String>,
    /// The rung that it came in on, from 1.
    pub since: usize,
}

/// What there is to train, as far as the results so far say.
#[derive(Clone, Debug)]
pub struct Round {
    /// Every candidate so far.
    pub candidates: Vec<Candidate>,
    /// The names of those on each rung so far.
    pub rungs: Vec<Vec<String>>,
    /// Whether these are all rungs.
    pub is_last: bool,
    /// The jobs of all rungs so far.
    pub study: Study,
}

impl Round {
    /// How those on the last rung stand that are done.
    pub fn standings(&self, search: &Search, entries: &[Entry]) -> Vec<Standing> {
        let rung = self.rungs.len();
        self.rungs.last().map_or_else(Vec::new, |names| {
            standings_of(
                &self.candidates,
                names,
                &search.on_rung(rung, entries),
                search,
            )
        })
    }
}

fn standings_of(
    candidates: &[Candidate],
    names: &[String],
    entries: &HashMap<&str, &Entry>,
    search: &Search,
) -> Vec<Standing> {
    let known = names.iter().filter_map(|name| {
        let candidate = candidates.iter().find(|one| one.name == *name)?;
        let figures = entries.get(name.as_str())?.figures()?;
        Some(Standing::new(candidate, figures, search.rungs.cost))
    });
    rank(known.collect())
}

/// What has been found, while rungs are built.
struct Found {
    candidates: Vec<Candidate>,
    structures: Vec<Structure>,
    keys: HashSet<String>,
}

impl Search {
    /// The rungs that follow from the entries of a ledger. With none, the first.
    ///
    /// # Errors
    /// With the faults of recipe and networks, if the start or no other structure keeps to the limits, or
    /// if all candidates of a rung failed.
    pub fn round(&self, entries: &[Entry], times: &mut dyn StepTimes) -> Result<Round, StudyError> {
        let pool = Polynomial::modules_within(self.space.evaluations, self.space.blocks);
        let mut found = Found {
            candidates: Vec::new(),
            structures: Vec::new(),
            keys: HashSet::new(),
        };
        let mut rungs = vec![self.first_rung(&pool, &mut found, times)?];
        while rungs.len() < self.rungs.durations.len() {
            let done = self.on_rung(rungs.len(), entries);
            let last = &rungs[rungs.len() - 1];
            if !last.iter().all(|name| done.contains_key(name.as_str())) {
                break;
            }
            let standings = standings_of(&found.candidates, last, &done, self);
            if standings.is_empty() {
                return Err(fault(format!(
                    "every candidate of rung {} failed; the ledger says why",
                    rungs.len()
                )));
            }
            let survivors = last.len().div_ceil(self.rungs.keep);
            let names = standings.into_iter().map(|standing| standing.name);
            let mut next: Vec<String> = names.take(survivors).collect();
            for parent in next.clone() {
                self.children(
                    &parent,
                    rungs.len() + 1,
                    &pool,
                    &mut found,
                    times,
                    &mut next,
                )?;
            }
            rungs.push(next);
        }
        let study = self.study(&found.candidates, &rungs)?;
        Ok(Round {
            is_last: rungs.len() == self.rungs.durations.len(),
            candidates: found.candidates,
            rungs,
            study,
        })
    }

    /// The records of a rung by candidate.
    fn on_rung<'e>(&self, rung: usize, entries: &'e [Entry]) -> HashMap<&'e str, &'e Entry> {
        let variant = variant(rung);
        let on_rung = entries
            .iter()
            .filter(|entry| entry.variant == variant && entry.seed == self.seed);
        on_rung
            .map(|entry| (entry.architecture.as_str(), entry))
            .collect()
    }

    fn first_rung(
        &self,
        pool: &[Polynomial],
        found: &mut Found,
        times: &mut dyn StepTimes,
    ) -> Result<Vec<String>, StudyError> {
        if let Some(why) = self.beyond(&self.start, times)? {
            return Err(fault(format!(
                "the start does not keep to the limits: {why}"
            )));
        }
        let mut rung = vec![found.add(self.start.clone(), None, 1)];
        for index in 1..self.rungs.candidates {
            for attempt in 0..TRIES {
                let rng = &mut search_rng(self.seed, 1, index as u64, attempt);
                let mut structure = Some(self.start.clone());
                for _ in 0..rng.random_range(1..=FIRST_CHANGES) {
                    structure =
                        structure.and_then(|one| one.changed(&self.space, pool, Change::Any, rng));
                }
                let Some(structure) = structure else { continue };
                if !found.knows(&structure) && self.beyond(&structure, times)?.is_none() {
                    rung.push(found.add(structure, None, 1));
                    break;
                }
            }
        }
        match rung.len() {
            1 => Err(fault(
                "no structure but the start keeps to the limits: raise [limits], or widen [space]"
                    .to_owned(),
            )),
            _ => Ok(rung),
        }
    }

    /// Adds structures that grow from a candidate to the next rung.
    fn children(
        &self,
        parent: &str,
        rung: usize,
        pool: &[Polynomial],
        found: &mut Found,
        times: &mut dyn StepTimes,
        next: &mut Vec<String>,
    ) -> Result<(), StudyError> {
        let Some(place) = found.candidates.iter().position(|one| one.name == parent) else {
            return Ok(());
        };
        for child in 0..self.rungs.children as u64 {
            for attempt in 0..TRIES {
                let key = child << 32 | place as u64;
                let rng = &mut search_rng(self.seed, rung as u64, key, attempt);
                let from = &found.structures[place];
                let Some(structure) = from.changed(&self.space, pool, Change::Growing, rng) else {
                    continue;
                };
                let is_new = !found.knows(&structure) && self.grows(from, &structure)?;
                if is_new && self.beyond(&structure, times)?.is_none() {
                    next.push(found.add(structure, Some(parent.to_owned()), rung));
                    break;
                }
            }
        }
        Ok(())
    }

    /// Which limit a structure goes beyond, and by what.
    fn beyond(
        &self,
        structure: &Structure,
        times: &mut dyn StepTimes,
    ) -> Result<Option<String>, StudyError> {
        self.limits.beyond(&self.job(structure)?, times)
    }

    fn grows(&self, from: &Structure, to: &Structure) -> Result<bool, StudyError> {
        let (from, to) = (self.job(from)?.network, self.job(to)?.network);
        Ok(ModuleMap::new(&from, &to, Placement::default()).is_ok())
    }
}

impl Found {
    fn knows(&self, structure: &Structure) -> bool {
        self.keys.contains(&structure.key())
    }

    fn add(&mut self, structure: Structure, parent: Option<String>, since: usize) -> String {
        let name = match self.candidates.len() {
            0 => START.to_owned(),
            count => format!("c{count}"),
        };
        self.keys.insert(structure.key());
        self.candidates.push(Candidate {
            name: name.clone(),
            network: structure.to_string(),
            parent,
            since,
        });
        self.structures.push(structure);
        name
    }
}

/// The first candidate's name.
pub(super) const START: &str = "start";

pub(super) fn variant(rung: usize) -> String {
    format!("rung-{rung}")
}

pub(super) fn fault(message: String) -> StudyError {
    StudyError::Faults(vec![message])
}

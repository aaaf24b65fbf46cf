//! The studies that a search has its candidates trained by.

use super::rounds::{START, fault, variant};
use super::structure::Structure;
use super::{Candidate, Confirmation, Round, Search};
use crate::study::{Entry, Job, Study, StudyError};
use toml::{Table, Value};

impl Search {
    /// The comparison of the best of a last rung that is done with the baseline, if the text asks for one.
    ///
    /// # Errors
    /// With the faults of the baseline.
    pub fn confirmation(
        &self,
        round: &Round,
        entries: &[Entry],
    ) -> Result<Option<Study>, StudyError> {
        let Some(confirmation) = &self.confirmation else {
            return Ok(None);
        };
        let Confirmation {
            baseline,
            best,
            seeds,
            duration,
        } = confirmation;
        let mut standings = round.standings(self, entries);
        standings.retain(|standing| standing.is_on_front);
        let mut architectures = vec![architecture("baseline", baseline)];
        for standing in standings.iter().take(*best) {
            architectures.push(architecture(&standing.name, &standing.network));
        }
        let mut text = self.head(&format!("On fresh seeds: {}", self.title), seeds);
        text.insert("architectures".into(), architectures.into());
        let variant = table([
            ("name", "random".into()),
            (
                "recipe",
                table([("training.duration", duration.as_str().into())]).into(),
            ),
        ]);
        text.insert("variants".into(), vec![variant].into());
        text.insert(
            "report".into(),
            table([("kind", "bars".into()), ("baseline", "baseline".into())]).into(),
        );
        Study::parse(&text.to_string(), &self.overrides).map(Some)
    }

    /// The job of a structure, which checks its recipe and network.
    pub(super) fn job(&self, structure: &Structure) -> Result<Job, StudyError> {
        let mut text = self.head(&self.title, &[self.seed]);
        let network = structure.to_string();
        text.insert(
            "architectures".into(),
            vec![architecture("start", &network)].into(),
        );
        let study = Study::parse(&text.to_string(), &self.overrides)?;
        let job = study.jobs.into_iter().next();
        job.ok_or_else(|| fault("expected a job".to_owned()))
    }

    /// A study's text without what is trained.
    fn head(&self, title: &str, seeds: &[u64]) -> Table {
        let seeds: Vec<Value> = seeds.iter().map(|&seed| Value::from(seed as i64)).collect();
        let mut text = table([("title", title.into()), ("seeds", seeds.into())]);
        let optional = [("base", &self.base), ("settings", &self.settings)];
        for (key, value) in optional {
            if let Some(value) = value {
                text.insert(key.into(), value.as_str().into());
            }
        }
        if let Some(recipe) = &self.recipe {
            text.insert("recipe".into(), recipe.clone().into());
        }
        text
    }

    /// The study of all rungs. The seed of its runs is the search's.
    pub(super) fn study(
        &self,
        candidates: &[Candidate],
        rungs: &[Vec<String>],
    ) -> Result<Study, StudyError> {
        let mut text = self.head(&self.title, &[self.seed]);
        let architectures = candidates.iter().map(|candidate| {
            let mut entry = architecture(&candidate.name, &candidate.network);
            if let Some(parent) = &candidate.parent {
                entry.insert("from".into(), parent.as_str().into());
            }
            entry
        });
        text.insert(
            "architectures".into(),
            architectures.collect::<Vec<_>>().into(),
        );
        let variants = rungs.iter().enumerate().map(|(index, names)| {
            let rung = index + 1;
            let names: Vec<Value> = names.iter().map(|name| name.as_str().into()).collect();
            let duration = self.rungs.durations[index].as_str();
            let mut entry = table([
                ("name", variant(rung).into()),
                ("architectures", names.into()),
                (
                    "recipe",
                    table([("training.duration", duration.into())]).into(),
                ),
            ]);
            if rung > 1 {
                let grow = table([("variant", variant(index).into())]);
                entry.insert("grow".into(), grow.into());
            }
            entry
        });
        text.insert("variants".into(), variants.collect::<Vec<_>>().into());
        text.insert(
            "report".into(),
            table([("kind", "trade-off".into()), ("baseline", START.into())]).into(),
        );
        Study::parse(&text.to_string(), &self.overrides)
    }
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Table {
    // A key with a dot is a path in a recipe: the study reads it as one.
    let entries = entries.map(|(key, value)| (key.to_owned(), value));
    entries.into_iter().collect()
}

fn architecture(name: &str, network: &str) -> Table {
    table([("name", name.into()), ("network", network.into())])
}

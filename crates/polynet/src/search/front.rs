//! How candidates of a rung stand: by error and cost at once.

use super::{Candidate, CostKind};
use crate::study::Figures;
use serde::Serialize;

/// What a candidate gave on a rung.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// The candidate's name.
    pub name: String,
    /// Its stages in the algebra's language.
    pub network: String,
    /// What it grew from.
    pub parent: Option<String>,
    /// Share of held-out images whose best class is wrong.
    pub top1_error: f64,
    /// Multiply-accumulates of an image.
    pub macs: u64,
    /// Trained parameters.
    pub parameters: u64,
    /// Milliseconds of a training step.
    pub ms_per_step: Option<f64>,
    /// Whether no other has a lower error at no more cost.
    pub is_on_front: bool,
    #[serde(skip)]
    cost: f64,
}

impl Standing {
    pub(super) fn new(candidate: &Candidate, figures: &Figures, kind: CostKind) -> Self {
        Self {
            name: candidate.name.clone(),
            network: candidate.network.clone(),
            parent: candidate.parent.clone(),
            top1_error: figures.top1_error,
            macs: figures.macs,
            parameters: figures.parameters,
            ms_per_step: figures.ms_per_step,
            is_on_front: false,
            cost: match kind {
                CostKind::Macs => figures.macs as f64,
                CostKind::Parameters => figures.parameters as f64,
                CostKind::MsPerStep => figures.ms_per_step.unwrap_or(f64::INFINITY),
            },
        }
    }

    /// Whether this one is as good in both and better in one.
    fn is_better_than(&self, other: &Self) -> bool {
        let (mine, theirs) = ((self.top1_error, self.cost), (other.top1_error, other.cost));
        mine.0 <= theirs.0 && mine.1 <= theirs.1 && mine != theirs
    }
}

/// In the order in which they go on: those that nothing is better than, then those of which that holds
/// without these, and so on; within each by error, then by cost.
pub(super) fn rank(mut standings: Vec<Standing>) -> Vec<Standing> {
    let mut ranked: Vec<Standing> = Vec::with_capacity(standings.len());
    while !standings.is_empty() {
        let is_first = ranked.is_empty();
        let is_beaten = |one: &Standing| standings.iter().any(|other| other.is_better_than(one));
        let (rest, mut front): (Vec<_>, Vec<_>) = standings.iter().cloned().partition(is_beaten);
        front.sort_by(|one, other| {
            let error = one.top1_error.total_cmp(&other.top1_error);
            error.then_with(|| one.cost.total_cmp(&other.cost))
        });
        ranked.extend(front.into_iter().map(|one| Standing {
            is_on_front: is_first,
            ..one
        }));
        standings = rest;
    }
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(name: &str, top1_error: f64, cost: f64) -> Standing {
        Standing {
            name: name.to_owned(),
            network: String::new(),
            parent: None,
            top1_error,
            macs: 0,
            parameters: 0,
            ms_per_step: None,
            is_on_front: false,
            cost,
        }
    }

    #[test]
    fn trade_offs_go_before_what_another_beats_in_both() {
        let ranked = rank(vec![
            standing("beaten twice", 0.5, 9.0),
            standing("beaten", 0.4, 8.0),
            standing("cheap", 0.6, 1.0),
            standing("good", 0.1, 7.0),
            standing("as good and dear", 0.1, 7.5),
        ]);
        let names: Vec<&str> = ranked.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "good",
                "cheap",
                "as good and dear",
                "beaten",
                "beaten twice"
            ]
        );
        let front: Vec<bool> = ranked.iter().map(|one| one.is_on_front).collect();
        assert_eq!(front, [true, true, false, false, false]);
    }
}

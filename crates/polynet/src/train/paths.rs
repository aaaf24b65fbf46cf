//! When stochastic paths are on, and the rule that switches them on.
//!
//! The adaptive rule (the paper, §4, says only "serious overfitting"): after each validation but
//! the last, top-1 on all training images since the validation before, as they were augmented, is
//! set against top-1 on the validation images. Where training is ahead by more than `gap` at
//! `patience` validations in a row, paths are dropped from the next step on, until the run's end.
//! Augmentation and dropout make training's top-1 the lower of the two in a run that does not
//! overfit, so that a gap of 0.1 is much.

use super::Epoch;
use super::recipe::{StochasticPathsSection, When};
use super::window::Window;
use crate::arch::graph::Graph;
use crate::random::paths_rng;
use crate::step::Paths;
use serde::{Deserialize, Serialize};

/// A recipe's stochastic paths, resolved to steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PathSchedule {
    max_drop: f64,
    begin: Begin,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Begin {
    Never,
    At(u64),
    Adaptive { gap: f64, patience: u64 },
}

/// What the schedule remembers; part of the checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PathState {
    /// Training since the last validation.
    since_validation: Window,
    /// Validations in a row, up to the last, that showed overfitting.
    overfitted: u64,
    /// The steps that were made when the adaptive rule switched on.
    switched_on: Option<u64>,
    /// Block evaluations of the steps with stochastic paths.
    evaluations: u64,
    /// How many of them were left out.
    skipped: u64,
}

impl PathSchedule {
    pub(super) fn new(section: &StochasticPathsSection, epoch: &Epoch) -> Self {
        let begin = match section.when {
            When::Never => Begin::Never,
            When::Always => Begin::At(0),
            When::From(duration) => Begin::At(duration.steps(epoch)),
            When::Adaptive => Begin::Adaptive {
                // Reading a recipe gives an adaptive one both.
                gap: section.gap.unwrap_or(f64::INFINITY),
                patience: section.patience.unwrap_or(u64::MAX),
            },
        };
        Self {
            max_drop: section.max_drop,
            begin,
        }
    }

    /// The first step, from 0, that drops paths, as far as it is known.
    pub(super) fn first_step(&self, state: &PathState) -> Option<u64> {
        match self.begin {
            Begin::Never => None,
            Begin::At(step) => Some(step),
            Begin::Adaptive { .. } => state.switched_on,
        }
    }

    /// Whether paths were dropped in any of the first `steps` steps, so that prediction must scale
    /// them.
    pub(super) fn scales_prediction(&self, state: &PathState, steps: u64) -> bool {
        self.first_step(state).is_some_and(|first| steps > first)
    }

    /// The paths of a step (from 0): all of them, or drawn from the run's seed and the step.
    pub(super) fn draw(&self, graph: &Graph, seed: u64, step: u64, state: &mut PathState) -> Paths {
        if self.first_step(state).is_none_or(|first| step < first) {
            return Paths::all(graph);
        }
        let paths = Paths::draw(graph, self.max_drop, &mut paths_rng(seed, step));
        let count = paths.count();
        state.evaluations += count.evaluations as u64;
        state.skipped += (count.evaluations - count.computed) as u64;
        paths
    }

    /// What to say after `steps` steps if the next one is the first that drops paths, by the
    /// recipe alone.
    pub(super) fn announcement(&self, steps: u64) -> Option<String> {
        (self.begin == Begin::At(steps)).then(|| {
            let max_drop = self.max_drop;
            format!("stochastic paths on: dropped with chances from 0 to {max_drop}, by the recipe")
        })
    }

    /// Takes in a validation after `steps` steps; what to say if it switches paths on.
    pub(super) fn observe(
        &self,
        state: &mut PathState,
        steps: u64,
        validation_top1: f64,
    ) -> Option<String> {
        let window = std::mem::take(&mut state.since_validation);
        let Begin::Adaptive { gap, patience } = self.begin else {
            return None;
        };
        if state.switched_on.is_some() || window.images() == 0 {
            return None;
        }
        let ahead = window.top1() - validation_top1;
        state.overfitted = if ahead > gap { state.overfitted + 1 } else { 0 };
        if state.overfitted < patience {
            return None;
        }
        state.switched_on = Some(steps);
        Some(format!(
            "stochastic paths on: dropped with chances from 0 to {}, because top-1 of training \
             ({:.2} %) exceeds that of validation ({:.2} %) by more than {:.2} % at {} validations \
             in a row",
            self.max_drop,
            100.0 * window.top1(),
            100.0 * validation_top1,
            100.0 * gap,
            state.overfitted,
        ))
    }
}

impl PathState {
    /// Takes in a step of training.
    pub(super) fn add(&mut self, images: u64, correct: u64, mean_loss: f64) {
        self.since_validation.add(images, correct, mean_loss);
    }

    /// How much of the work was left out; none if no step dropped paths.
    pub(super) fn summary(&self) -> Option<String> {
        let (all, skipped) = (self.evaluations, self.skipped);
        (all > 0).then(|| {
            let share = 100.0 * skipped as f64 / all as f64;
            format!("stochastic paths left out {skipped} of {all} block evaluations ({share:.1} %)")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Architecture;
    use crate::train::Recipe;

    fn schedule(when: &str) -> PathSchedule {
        let text = "[model]\narchitecture = 'small-polynet'\n[data]\npath = '.'";
        let when = format!("stochastic_paths.when={when}");
        let recipe = Recipe::parse(text, &[when]).unwrap();
        let section = StochasticPathsSection {
            max_drop: 0.5,
            gap: Some(0.1),
            patience: Some(2),
            ..recipe.stochastic_paths
        };
        PathSchedule::new(&section, &Epoch::new(100, 10).unwrap())
    }

    /// Validates after training with so many of 100 images right.
    fn validate(state: &mut PathState, step: u64, correct: u64, top1: f64) -> Option<String> {
        state.add(100, correct, 1.0);
        schedule("adaptive").observe(state, step, top1)
    }

    #[test]
    fn enough_validations_in_a_row_switch_paths_on_for_good() {
        let mut state = PathState::default();
        assert_eq!(validate(&mut state, 10, 70, 0.5), None);
        assert_eq!(validate(&mut state, 20, 60, 0.5), None);
        assert_eq!(validate(&mut state, 30, 62, 0.5), None);
        let adaptive = schedule("adaptive");
        assert_eq!(adaptive.first_step(&state), None);
        let said = validate(&mut state, 40, 65, 0.5).unwrap();
        assert!(said.contains("training (65.00 %)"), "{said}");
        assert!(
            said.contains("validation (50.00 %) by more than 10.00 % at 2"),
            "{said}"
        );
        assert_eq!(adaptive.first_step(&state), Some(40));
        // Nothing was dropped yet: prediction stays as it is until a step drops.
        assert!(!adaptive.scales_prediction(&state, 40));
        assert!(adaptive.scales_prediction(&state, 41));
        assert_eq!(validate(&mut state, 50, 10, 0.5), None);
        assert_eq!(adaptive.first_step(&state), Some(40));
    }

    #[test]
    fn durations_say_the_first_step_and_announce_it() {
        let state = PathState::default();
        for (when, first) in [
            ("never", None),
            ("always", Some(0)),
            ("from 2 epochs", Some(20)),
            ("from 7 steps", Some(7)),
        ] {
            let schedule = schedule(when);
            assert_eq!(schedule.first_step(&state), first, "{when}");
            let said = (0..30).find(|&steps| schedule.announcement(steps).is_some());
            assert_eq!(said, first, "{when}");
        }
    }

    #[test]
    fn seed_and_step_decide_the_paths() {
        let graph = "small-polynet"
            .parse::<Architecture>()
            .unwrap()
            .graph()
            .unwrap();
        let always = schedule("from 5 steps");
        let mut state = PathState::default();
        let mut draw = |seed, step| always.draw(&graph, seed, step, &mut state);
        assert_eq!(draw(1, 4), Paths::all(&graph));
        assert_eq!(draw(1, 5), draw(1, 5));
        let mut differ = |a: (u64, u64), b: (u64, u64)| draw(a.0, a.1) != draw(b.0, b.1);
        assert!((5..15).any(|step| differ((1, step), (2, step))));
        assert!((5..15).any(|step| differ((1, step), (1, step + 1))));
        assert!(state.skipped > 0 && state.summary().is_some());
    }
}

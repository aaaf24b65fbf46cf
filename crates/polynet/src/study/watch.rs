//! Who watches a study.

use super::{Entry, Job};
use crate::report::ValidationRecord;
use crate::train::progress::{Progress, RunStart, StepReport, Warning};

/// What a watcher of a study is told. Several jobs may run at once: calls come from several threads.
pub trait Watch: Sync {
    /// Something happened to a job.
    fn job(&self, job: &Job, event: Event<'_>);

    /// What is left to do is done by others or waits for them: so many jobs.
    fn waiting(&self, _jobs: usize) {}
}

/// What happened to a job.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // as in `Progress`
pub enum Event<'e> {
    Started(&'e RunStart),
    Step(&'e StepReport),
    Validating {
        done: u64,
        total: u64,
    },
    Validation(&'e ValidationRecord),
    Message(&'e str),
    Warning(&'e Warning),
    /// It is finished or has failed, and is in the ledger.
    Recorded(&'e Entry),
    /// It was asked to stop, and can go on.
    Interrupted,
}

/// A run's progress as events of its job.
pub(super) struct JobProgress<'w> {
    pub(super) watch: &'w dyn Watch,
    pub(super) job: &'w Job,
}

impl JobProgress<'_> {
    fn say(&self, event: Event<'_>) {
        self.watch.job(self.job, event);
    }
}

impl Progress for JobProgress<'_> {
    fn started(&mut self, run: &RunStart) {
        self.say(Event::Started(run));
    }

    fn step(&mut self, report: &StepReport) {
        self.say(Event::Step(report));
    }

    fn validating(&mut self, done: u64, total: u64) {
        self.say(Event::Validating { done, total });
    }

    fn validation(&mut self, scores: &ValidationRecord) {
        self.say(Event::Validation(scores));
    }

    fn message(&mut self, text: &str) {
        self.say(Event::Message(text));
    }

    fn warning(&mut self, warning: &Warning) {
        self.say(Event::Warning(warning));
    }
}

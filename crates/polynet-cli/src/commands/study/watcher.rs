//! A study on stderr: a table of what runs where it is a terminal, plain lines where it is not.
//!
//! ```text
//! poly-2/plain/1  310/780 ████▌░░░░░  epoch 1.2  loss 1.203  top-1 56.1 %  812 images/s  40 s left
//! 3/24 ██░░░░░░░░░░░░  48 min left
//! ```

use crate::progress::{in_words, measured, started, validated};
use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use polynet::study::{Entry, Event, Job, Outcome, Study, StudyFolder, Watch};
use polynet::train::Duration as Training;
use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two plain lines about one job's steps.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// Who shows a study.
pub(in crate::commands) struct Watcher {
    folder: StudyFolder,
    bars: Option<MultiProgress>,
    all: ProgressBar,
    state: Mutex<State>,
}

struct State {
    begun: Instant,
    /// What each job that is not done will cost, in multiply-accumulates.
    left: HashMap<String, f64>,
    jobs: usize,
    /// What was done here since the beginning, of finished jobs.
    done: f64,
    running: HashMap<String, Running>,
}

struct Running {
    bar: ProgressBar,
    begun: Instant,
    first_step: u64,
    step: u64,
    total_steps: u64,
    said: Instant,
}

impl Running {
    /// Share of the job that was done here, and share that is left.
    fn shares(&self) -> (f64, f64) {
        let share = |steps: u64| steps as f64 / self.total_steps.max(1) as f64;
        (
            share(self.step.saturating_sub(self.first_step)),
            share(self.total_steps.saturating_sub(self.step)),
        )
    }

    fn time_left(&self) -> Option<Duration> {
        let (done, left) = self.shares();
        let seconds = self.begun.elapsed().as_secs_f64() * left / done;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// Relative cost of a job: all jobs learn from the same images, so an epoch of one is that of all.
fn cost(job: &Job) -> f64 {
    /// Where durations are in epochs and in steps, something must say how long an epoch is.
    const IMAGES_OF_AN_EPOCH: f64 = 50_000.0;
    let training = &job.recipe.training;
    let images = match training.duration {
        Training::Steps(steps) => (steps * training.batch_size) as f64,
        Training::Images(images) => images as f64,
        Training::Epochs(epochs) => epochs * IMAGES_OF_AN_EPOCH,
    };
    images * job.network.cost().map_or(1.0, |cost| cost.macs as f64)
}

impl Watcher {
    pub(in crate::commands) fn new(study: &Study, folder: &StudyFolder) -> Result<Self> {
        let done = folder.ledger().read()?;
        let is_done = |job: &&Job| done.iter().any(|entry| entry.job == job.id);
        let left = study.jobs.iter().filter(|job| !is_done(job));
        let left: HashMap<String, f64> = left.map(|job| (job.id.clone(), cost(job))).collect();
        let jobs = study.jobs.len();
        let (bars, all) = match io::stderr().is_terminal() {
            true => {
                let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
                let all = bars.add(ProgressBar::new(jobs as u64).with_style(style("")));
                all.set_position((jobs - left.len()) as u64);
                (Some(bars), all)
            }
            false => (None, ProgressBar::hidden()),
        };
        let watcher = Self {
            folder: folder.clone(),
            bars,
            all,
            state: Mutex::new(State {
                begun: Instant::now(),
                left,
                jobs,
                done: 0.0,
                running: HashMap::new(),
            }),
        };
        let state = watcher.state.lock().unwrap_or_else(PoisonError::into_inner);
        watcher.line(&format!("{}: {}", study.title, state.how_many()));
        drop(state);
        Ok(watcher)
    }

    pub(in crate::commands) fn finish(&self) {
        self.all.finish_and_clear();
    }

    fn line(&self, text: &str) {
        match &self.bars {
            Some(bars) => {
                let _ = bars.println(text);
            }
            // Nobody reading is no reason to stop.
            None => {
                let _ = writeln!(io::stderr(), "{text}");
            }
        }
    }

    fn begin(&self, state: &mut State, job: &Job, first_step: u64, total_steps: u64) {
        let bar = match &self.bars {
            Some(bars) => {
                let bar = ProgressBar::new(total_steps)
                    .with_style(style("{prefix}  "))
                    .with_prefix(job.id.clone())
                    .with_position(first_step);
                bars.insert_before(&self.all, bar)
            }
            None => ProgressBar::hidden(),
        };
        let now = Instant::now();
        let running = Running {
            bar,
            begun: now,
            first_step,
            step: first_step,
            total_steps,
            said: now,
        };
        state.running.insert(job.id.clone(), running);
    }

    fn recorded(&self, state: &mut State, job: &Job, entry: &Entry) {
        if let Some(running) = state.running.remove(&job.id) {
            running.bar.finish_and_clear();
            let cost = state.left.get(&job.id).copied().unwrap_or_default();
            state.done += cost * (running.total_steps - running.first_step) as f64
                / running.total_steps.max(1) as f64;
        }
        state.left.remove(&job.id);
        // Others may have done some, too.
        for entry in self.folder.ledger().read().unwrap_or_default() {
            if !state.running.contains_key(&entry.job) {
                state.left.remove(&entry.job);
            }
        }
        self.all
            .set_position((state.jobs - state.left.len()) as u64);
        let what = match &entry.outcome {
            Outcome::Finished(figures) => format!(
                "finished: top-1 error {:.2} %, top-5 error {:.2} %",
                100.0 * figures.top1_error,
                100.0 * figures.top5_error
            ),
            Outcome::Failed { reason } => format!("failed: {reason}"),
        };
        self.line(&format!("{}  {what}  ({})", job.id, state.how_many()));
    }

    fn step(&self, state: &mut State, job: &Job, text: &str, step: u64) {
        let Some(running) = state.running.get_mut(&job.id) else {
            return;
        };
        running.step = step;
        running.bar.set_position(step);
        let is_due = running.said.elapsed() >= LINE_EVERY;
        if is_due && self.bars.is_none() {
            running.said = Instant::now();
            self.line(&format!(
                "{}  step {step}/{}  {text}",
                job.id, running.total_steps
            ));
        }
        running.bar.set_message(text.to_owned());
        if let Some(left) = state.time_left() {
            self.all.set_message(format!("{} left", in_words(left)));
        }
    }
}

impl State {
    fn time_left(&self) -> Option<Duration> {
        let (mut done, mut left) = (self.done, self.left.values().sum::<f64>());
        for (id, running) in &self.running {
            let cost = self.left.get(id).copied().unwrap_or_default();
            let (done_here, left_here) = running.shares();
            done += cost * done_here;
            left -= cost * (1.0 - left_here);
        }
        let seconds = self.begun.elapsed().as_secs_f64() * left / done;
        Duration::try_from_secs_f64(seconds).ok()
    }

    fn how_many(&self) -> String {
        let text = format!("{} of {} jobs done", self.jobs - self.left.len(), self.jobs);
        match self.time_left().filter(|_| self.done > 0.0) {
            Some(left) => format!("{text}, {} left", in_words(left)),
            None => text,
        }
    }
}

impl Watch for Watcher {
    fn job(&self, job: &Job, event: Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let say = |text: &str| self.line(&format!("{}  {text}", job.id));
        match event {
            Event::Started(run) => {
                self.begin(&mut state, job, run.step, run.total_steps);
                self.line(&started(run));
            }
            Event::Step(report) => {
                let running = state.running.get(&job.id);
                let left = running.and_then(Running::time_left);
                self.step(&mut state, job, &measured(report, left), report.step);
            }
            Event::Validating { done, total } => {
                if let Some(running) = state.running.get(&job.id) {
                    running
                        .bar
                        .set_message(format!("validating {done}/{total}"));
                }
            }
            Event::Validation(scores) => say(&validated(scores)),
            Event::Message(text) => say(text),
            Event::Warning(warning) => say(&format!("warning: {warning}")),
            Event::Recorded(entry) => self.recorded(&mut state, job, entry),
            Event::Interrupted => {
                if let Some(running) = state.running.remove(&job.id) {
                    running.bar.finish_and_clear();
                }
            }
        }
    }

    fn waiting(&self, jobs: usize) {
        self.line(&format!(
            "waiting for {jobs} jobs that others do, or that start from theirs"
        ));
    }
}

fn style(before: &str) -> ProgressStyle {
    ProgressStyle::with_template(&format!("{before}{{pos}}/{{len}} {{wide_bar}}  {{msg}}"))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("█▌░")
}

//! One job from its start, or from where it was cut off, to its figures.

use super::ledger::{Figures, Validation};
use super::watch::JobProgress;
use super::{Job, StudyError, StudyFolder, Watch, grid};
use crate::grow::grow;
use crate::params::ModelFolder;
use crate::report::{Record, TrainRecord, peak_memory, read_metrics};
use crate::train::{self, Recipe, Trainer};
use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// What a job's work needs beside the job.
pub(super) struct Workplace<'w> {
    pub(super) folder: &'w StudyFolder,
    /// Threads that decode, where the recipe does not say.
    pub(super) threads: usize,
    pub(super) command: &'w [String],
    pub(super) watch: &'w dyn Watch,
    pub(super) stop: &'w AtomicBool,
}

/// How work on a job ended.
pub(super) enum Ended {
    Finished(Box<Figures>),
    Failed(String),
    Interrupted,
}

impl Workplace<'_> {
    /// Does the job. `earlier_images` were seen by the jobs that it starts from.
    ///
    /// # Errors
    /// If its run folder is another recipe's, or the file system refuses. What goes wrong in the run itself
    /// is the job's failure.
    pub(super) fn work(&self, job: &Job, earlier_images: u64) -> Result<Ended, StudyError> {
        let run = self.folder.run(&job.id);
        let is_begun = run.join("recipe.toml").exists();
        if is_begun && !is_run_of(job, &run) {
            return Err(StudyError::Changed {
                job: job.id.clone(),
                path: run,
            });
        }
        if !is_begun {
            self.folder.clear(job)?;
        }
        Ok(match self.train(job, is_begun) {
            Ok(train::Outcome::Interrupted { .. }) => Ended::Interrupted,
            Ok(train::Outcome::Finished(_)) => match self.figures(job, earlier_images) {
                Ok(figures) => Ended::Finished(Box::new(figures)),
                Err(fault) => fault.of(job)?,
            },
            Err(fault) => fault.of(job)?,
        })
    }

    fn train(&self, job: &Job, is_begun: bool) -> Result<train::Outcome, Fault> {
        let mut progress = JobProgress {
            watch: self.watch,
            job,
        };
        let run = self.folder.run(&job.id);
        let mut trainer = if is_begun {
            Trainer::resume(&run, self.command, &mut progress)?
        } else {
            let recipe = self.prepared(job)?;
            Trainer::start(recipe, &run, self.command, &mut progress)?
        };
        Ok(trainer.run(&mut progress, self.stop)?)
    }

    /// The job's recipe with the model that it starts from.
    fn prepared(&self, job: &Job) -> Result<Recipe, Fault> {
        let mut recipe = job.recipe.clone();
        if recipe.data.threads == 0 {
            recipe.data.threads = self.threads as u64;
        }
        if let Some(growing) = &job.growing {
            let model = ModelFolder::open(&self.folder.model(&growing.from))?;
            let start = self.folder.start(&job.id);
            grow(&model, &growing.from, &job.network, None, growing.options)
                .and_then(|grown| grown.save(&start))
                .map_err(|error| Fault {
                    reason: format!("it can't grow from {}: {error}", growing.from),
                    ..Fault::from(error)
                })?;
            recipe.model.init = Some(start);
        }
        Ok(recipe)
    }

    fn figures(&self, job: &Job, earlier_images: u64) -> Result<Figures, Fault> {
        let run = self.folder.run(&job.id);
        let metrics = read_metrics(&run.join("metrics.jsonl"))?;
        let batch_size = job.recipe.training.batch_size;
        let validations = validations(&metrics.records, batch_size);
        let Some(last) = validations.last().copied() else {
            return Err(Fault {
                reason: "the data has no images to validate on; hold some out with data.hold_out"
                    .to_owned(),
                is_of_the_disk: false,
            });
        };
        let least = |error: fn(&Validation) -> f64| {
            validations.iter().map(error).fold(f64::INFINITY, f64::min)
        };
        let cost = job.network.cost()?;
        let records = metrics.records.iter().filter_map(|record| match record {
            Record::Train(record) => Some(record),
            _ => None,
        });
        let records: Vec<&TrainRecord> = records.collect();
        Ok(Figures {
            top1_error: last.top1_error,
            top5_error: last.top5_error,
            best_top1_error: least(|validation| validation.top1_error),
            best_top5_error: least(|validation| validation.top5_error),
            loss: last.loss,
            parameters: cost.parameters.total(),
            macs: cost.macs,
            steps: last.step,
            batch_size,
            images: last.images,
            total_images: earlier_images + last.images,
            ms_per_step: median_speed(&records).map(|speed| 1e3 * batch_size as f64 / speed),
            seconds: seconds(&records),
            peak_memory_bytes: peak_memory(),
            validations,
        })
    }
}

/// Why a job's work ended early.
struct Fault {
    reason: String,
    /// Whether the file system refused something that it might not refuse the next time.
    is_of_the_disk: bool,
}

impl<E: Error + 'static> From<E> for Fault {
    fn from(error: E) -> Self {
        let reason = error.to_string();
        let first: &(dyn Error + 'static) = &error;
        let causes = std::iter::successors(Some(first), |error| (**error).source());
        let mut refusals = causes.filter_map(|cause| cause.downcast_ref::<io::Error>());
        Self {
            reason,
            is_of_the_disk: refusals.any(|refusal| refusal.kind() != io::ErrorKind::NotFound),
        }
    }
}

impl Fault {
    /// What the fault is to the job, unless it says nothing of it.
    fn of(self, job: &Job) -> Result<Ended, StudyError> {
        let Self {
            reason,
            is_of_the_disk,
        } = self;
        if is_of_the_disk {
            let job = job.id.clone();
            return Err(StudyError::Disk { job, reason });
        }
        Ok(Ended::Failed(reason))
    }
}

/// Whether the run folder was begun by the job's recipe.
pub(super) fn is_run_of(job: &Job, run: &Path) -> bool {
    let Ok(mut begun) = Recipe::load(&run.join("recipe.toml"), &[]) else {
        return false;
    };
    if job.growing.is_some() {
        begun.model.init = None;
    }
    grid::hash(&begun) == grid::hash(&job.recipe)
}

/// Every validation once: of a run whose data has changed since its end the new one.
fn validations(records: &[Record], batch_size: u64) -> Vec<Validation> {
    let mut validations: Vec<Validation> = Vec::new();
    for record in records {
        let Record::Validation(record) = record else {
            continue;
        };
        validations.retain(|known| known.step != record.step);
        validations.push(Validation {
            step: record.step,
            images: record.step * batch_size,
            top1_error: error(record.top1),
            top5_error: error(record.top5),
            loss: record.loss.is_finite().then_some(record.loss),
        });
    }
    validations
}

/// `1 - share` without the digits that subtraction brings: shares of up to 10⁹ images stay exact.
fn error(share: f64) -> f64 {
    ((1.0 - share) * 1e12).round() / 1e12
}

/// Images a second.
fn median_speed(records: &[&TrainRecord]) -> Option<f64> {
    let speeds = records.iter().map(|record| record.images_per_s);
    let mut speeds: Vec<f64> = speeds.filter(|speed| *speed > 0.0).collect();
    speeds.sort_by(f64::total_cmp);
    speeds.get(speeds.len() / 2).copied()
}

/// Time of the training steps, those before a cut included.
fn seconds(records: &[&TrainRecord]) -> Option<f64> {
    let mut seconds = 0.0;
    let mut before = 0;
    for record in records {
        if record.images_per_s > 0.0 {
            seconds += (record.images - before) as f64 / record.images_per_s;
        }
        before = record.images;
    }
    (seconds > 0.0).then_some(seconds)
}

//! What a study will cost, measured by a few steps of each architecture and variant.

use super::{Job, Study, StudyError};
use crate::report::ValidationRecord;
use crate::train::progress::{Progress, StepReport};
use crate::train::{Duration, Epoch, TrainError, Trainer};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Measured steps.
const STEPS: u64 = 10;
/// Steps before, which fill caches and memory.
const WARM_UP: u64 = 2;

/// What the jobs of one architecture and variant will cost.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// The architecture's name.
    pub architecture: String,
    /// The variant's name.
    pub variant: String,
    /// Jobs: one a seed.
    pub jobs: usize,
    /// Parameters of the network.
    pub parameters: u64,
    /// Multiply-accumulates of one image.
    pub macs: u64,
    /// Steps of a job.
    pub steps: u64,
    /// Images of a step.
    pub batch_size: u64,
    /// Milliseconds of a step, the median.
    pub ms_per_step: f64,
    /// Seconds of a job, validations included.
    pub seconds: f64,
}

/// Measures ten steps and a validation of each architecture and variant, on `threads` threads, and
/// hands each estimate to `found` as it is there. A network that starts from another's model is measured
/// with random weights.
///
/// # Errors
/// If a job can't start.
pub fn estimate(
    study: &Study,
    threads: usize,
    mut found: impl FnMut(&Estimate),
) -> Result<Vec<Estimate>, StudyError> {
    let pool = pool(threads)?;
    let mut estimates: Vec<Estimate> = Vec::new();
    for job in &study.jobs {
        let known = (estimates.iter_mut())
            .find(|known| known.architecture == job.architecture && known.variant == job.variant);
        if let Some(known) = known {
            known.jobs += 1;
            continue;
        }
        let estimate = measure_on(&pool, job, threads)?;
        found(&estimate);
        estimates.push(estimate);
    }
    Ok(estimates)
}

/// Milliseconds of a training step of a job: the median of ten, on `threads` threads.
pub(crate) fn measure_step(job: &Job, threads: usize) -> Result<f64, StudyError> {
    measure_on(&pool(threads)?, job, threads).map(|estimate| estimate.ms_per_step)
}

fn pool(threads: usize) -> Result<rayon::ThreadPool, StudyError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|error| StudyError::Threads(error.to_string()))
}

fn measure_on(pool: &rayon::ThreadPool, job: &Job, threads: usize) -> Result<Estimate, StudyError> {
    let estimate = pool.install(|| measure(job, threads));
    estimate.map_err(|source| StudyError::Measure {
        job: job.id.clone(),
        source: Box::new(source),
    })
}

fn measure(job: &Job, threads: usize) -> Result<Estimate, TrainError> {
    let mut recipe = job.recipe.clone();
    let training = &mut recipe.training;
    training.duration = Duration::Steps(WARM_UP + STEPS);
    training.validate_every = Duration::Steps(0);
    training.checkpoint_every = Duration::Steps(0);
    if recipe.data.threads == 0 {
        recipe.data.threads = threads as u64;
    }
    let root = tempfile::tempdir().map_err(|source| {
        TrainError::Folder(crate::report::RunFolderError::Folder {
            path: std::env::temp_dir(),
            source,
        })
    })?;
    let mut clock = Clock::default();
    let mut trainer = Trainer::start(recipe, &root.path().join("run"), &[], &mut clock)?;
    trainer.run(&mut clock, &AtomicBool::new(false))?;
    let training = &job.recipe.training;
    let epoch = Epoch::new(trainer.dataset().len() as u64, training.batch_size)?;
    let steps = training.duration.steps(&epoch);
    let validations = match training.validate_every.steps(&epoch) {
        0 => 1,
        every => steps.div_ceil(every),
    };
    let cost = job.network.cost()?;
    let seconds = clock.step_seconds();
    Ok(Estimate {
        architecture: job.architecture.clone(),
        variant: job.variant.clone(),
        jobs: 1,
        parameters: cost.parameters.total(),
        macs: cost.macs,
        steps,
        batch_size: training.batch_size,
        ms_per_step: 1e3 * seconds,
        seconds: steps as f64 * seconds + validations as f64 * clock.validation_seconds(),
    })
}

/// When each step was done.
#[derive(Default)]
struct Clock {
    steps: Vec<Instant>,
    validated: Option<Instant>,
}

impl Progress for Clock {
    fn step(&mut self, _: &StepReport) {
        self.steps.push(Instant::now());
    }

    fn validation(&mut self, _: &ValidationRecord) {
        self.validated = Some(Instant::now());
    }
}

impl Clock {
    fn step_seconds(&self) -> f64 {
        let pairs = self.steps.windows(2).skip(WARM_UP as usize - 1);
        let mut seconds: Vec<f64> = pairs
            .map(|pair| (pair[1] - pair[0]).as_secs_f64())
            .collect();
        seconds.sort_by(f64::total_cmp);
        seconds.get(seconds.len() / 2).copied().unwrap_or_default()
    }

    fn validation_seconds(&self) -> f64 {
        match (self.validated, self.steps.last()) {
            (Some(validated), Some(last)) => (validated - *last).as_secs_f64(),
            _ => 0.0,
        }
    }
}

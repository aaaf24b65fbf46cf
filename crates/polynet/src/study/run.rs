//! Doing what a study has left to do, whoever else does so.
//!
//! A thread takes the first job of the grid that has no record, whose start is there, and whose lock
//! it gets; it looks at the ledger again under the lock, so that no job is done twice. Where all that
//! is left is others' it waits: a process that dies gives its lock back.

use super::job::{Ended, Workplace, is_run_of};
use super::ledger::{Entry, Machine, Outcome};
use super::watch::Event;
use super::{Job, Study, StudyError, StudyFolder, Watch};
use crate::files::FolderLock;
use crate::report::{forget_peak_memory, processor};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

/// Time between two looks at what others do.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How a study is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// Jobs at once in this process.
    pub jobs: usize,
    /// Threads of each; 0: as many as the cores divided among the jobs.
    pub threads: usize,
    /// What becomes of jobs that failed before.
    pub failed: FailedBefore,
}

/// What becomes of jobs that failed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedBefore {
    /// Their record stands.
    Kept,
    /// They are done anew.
    Retried,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            jobs: 1,
            threads: 0,
            failed: FailedBefore::Kept,
        }
    }
}

impl RunOptions {
    /// Threads of a job.
    pub fn threads_of_a_job(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        match self.threads {
            0 => (cores / self.jobs.max(1)).max(1),
            threads => threads,
        }
    }
}

/// Where a study stands after [`run`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Jobs that are finished.
    pub finished: usize,
    /// Jobs that failed.
    pub failed: usize,
    /// Jobs that are not done: the study was asked to stop.
    pub left: usize,
}

/// Does every job that is not in the ledger, until all are or `stop` is set, which lets running jobs
/// save a checkpoint first. `command` is noted in the run folders.
///
/// # Errors
/// If the folder can't be used or holds another study's jobs. A job that fails is recorded, and the
/// others go on.
pub fn run(
    study: &Study,
    folder: &StudyFolder,
    options: RunOptions,
    command: &[String],
    (watch, stop): (&dyn Watch, &AtomicBool),
) -> Result<Summary, StudyError> {
    folder.prepare(&study.text)?;
    let mut runner = Runner {
        study,
        folder,
        options,
        command,
        watch,
        stop,
        retried: Vec::new(),
        running: AtomicUsize::new(0),
    };
    runner.begin()?;
    std::thread::scope(|scope| {
        let workers = (0..options.jobs.max(1)).map(|_| scope.spawn(|| runner.work()));
        let workers: Vec<_> = workers.collect();
        for worker in workers {
            // A panic of the runner itself goes on.
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok::<(), StudyError>(())
    })?;
    let records = runner.records()?;
    let mut summary = Summary::default();
    for job in &study.jobs {
        match records.get(job.id.as_str()).map(|entry| &entry.outcome) {
            Some(Outcome::Finished(_)) => summary.finished += 1,
            Some(Outcome::Failed { .. }) => summary.failed += 1,
            None => summary.left += 1,
        }
    }
    Ok(summary)
}

struct Runner<'r> {
    study: &'r Study,
    folder: &'r StudyFolder,
    options: RunOptions,
    command: &'r [String],
    watch: &'r dyn Watch,
    stop: &'r AtomicBool,
    /// Failures that don't count.
    retried: Vec<Entry>,
    /// Jobs that threads of this process do now.
    running: AtomicUsize,
}

type Records = HashMap<String, Entry>;

/// What there is to do.
enum Next<'r> {
    Job(&'r Job, FolderLock, Records),
    /// Others do the rest.
    Wait(usize),
    Nothing,
}

impl<'r> Runner<'r> {
    /// The records that count.
    fn records(&self) -> Result<Records, StudyError> {
        let entries = self.folder.ledger().read()?.into_iter();
        let entries = entries.filter(|entry| !self.retried.contains(entry));
        Ok(entries.map(|entry| (entry.job.clone(), entry)).collect())
    }

    /// Compares the jobs with their records, tidies up what was cut off after a record was written, and
    /// notes the failures that are tried again: if asked to, and where the recipe is another now.
    fn begin(&mut self) -> Result<(), StudyError> {
        let mut records = self.records()?;
        for job in &self.study.jobs {
            let Some(record) = records.remove(&job.id) else {
                continue;
            };
            let is_same = record.recipe == job.hash;
            let is_retried = !is_same || self.options.failed == FailedBefore::Retried;
            match record.outcome {
                Outcome::Finished(_) if is_same => {
                    if let Some(_owner) = self.folder.take(&job.id)? {
                        self.folder.tidy(job)?;
                    }
                }
                Outcome::Finished(_) => {
                    return Err(StudyError::Changed {
                        job: job.id.clone(),
                        path: self.folder.ledger().path().to_owned(),
                    });
                }
                Outcome::Failed { .. } if is_retried => self.retried.push(record),
                Outcome::Failed { .. } => {}
            }
        }
        Ok(())
    }

    fn work(&self) -> Result<(), StudyError> {
        let mut waits_for = None;
        while !self.stop.load(Ordering::Relaxed) {
            match self.next()? {
                Next::Nothing => break,
                Next::Wait(jobs) => {
                    let others = jobs.saturating_sub(self.running.load(Ordering::Relaxed));
                    if others > 0 && waits_for != Some(others) {
                        self.watch.waiting(others);
                    }
                    waits_for = Some(others);
                    std::thread::sleep(LOOK_EVERY);
                }
                Next::Job(job, owner, records) => {
                    waits_for = None;
                    self.running.fetch_add(1, Ordering::Relaxed);
                    let done = self.job(job, &records);
                    self.running.fetch_sub(1, Ordering::Relaxed);
                    drop(owner);
                    if done.is_err() {
                        // The other threads of this process stop, too.
                        self.stop.store(true, Ordering::Relaxed);
                    }
                    done?;
                }
            }
        }
        Ok(())
    }

    fn next(&self) -> Result<Next<'r>, StudyError> {
        let records = self.records()?;
        let open = self
            .study
            .jobs
            .iter()
            .filter(|job| !records.contains_key(&job.id));
        let mut waits_for = 0;
        for job in open {
            waits_for += 1;
            let from = job.growing.as_ref().map(|growing| &growing.from);
            if from.is_some_and(|from| !records.contains_key(from)) {
                continue;
            }
            let Some(owner) = self.folder.take(&job.id)? else {
                continue;
            };
            // Who had the lock before may have done it since the ledger was read.
            let records = self.records()?;
            if records.contains_key(&job.id) {
                waits_for -= 1;
                continue;
            }
            return Ok(Next::Job(job, owner, records));
        }
        Ok(match waits_for {
            0 => Next::Nothing,
            jobs => Next::Wait(jobs),
        })
    }

    fn job(&self, job: &Job, records: &Records) -> Result<(), StudyError> {
        let mut retried = self.retried.iter();
        let is_replaced = retried.any(|entry| entry.job == job.id && entry.recipe != job.hash);
        if is_replaced && !is_run_of(job, &self.folder.run(&job.id)) {
            self.folder.clear(job)?;
        }
        let from = job
            .growing
            .as_ref()
            .and_then(|growing| records.get(&growing.from));
        let earlier = from.map(Entry::figures);
        let ended = match earlier {
            Some(None) => Ended::Failed("the job that it starts from failed".to_owned()),
            Some(Some(figures)) => self.in_pool(job, figures.total_images)?,
            None => self.in_pool(job, 0)?,
        };
        let outcome = match ended {
            Ended::Interrupted => {
                self.watch.job(job, Event::Interrupted);
                return Ok(());
            }
            Ended::Finished(figures) => Outcome::Finished(*figures),
            Ended::Failed(reason) => Outcome::Failed { reason },
        };
        let entry = self.entry(job, outcome);
        self.folder.ledger().append(&entry)?;
        if entry.figures().is_some() {
            self.folder.tidy(job)?;
        }
        self.watch.job(job, Event::Recorded(&entry));
        Ok(())
    }

    /// Does the job on threads of its own. A panic is the job's failure.
    fn in_pool(&self, job: &Job, earlier_images: u64) -> Result<Ended, StudyError> {
        let threads = self.options.threads_of_a_job();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|error| StudyError::Threads(error.to_string()))?;
        forget_peak_memory();
        let workplace = Workplace {
            folder: self.folder,
            threads,
            command: self.command,
            watch: self.watch,
            stop: self.stop,
        };
        let work = AssertUnwindSafe(|| pool.install(|| workplace.work(job, earlier_images)));
        catch_unwind(work).unwrap_or_else(|panic| Ok(Ended::Failed(what_panicked(&*panic))))
    }

    fn entry(&self, job: &Job, outcome: Outcome) -> Entry {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Entry {
            job: job.id.clone(),
            architecture: job.architecture.clone(),
            variant: job.variant.clone(),
            seed: job.seed,
            network: job.network.to_string(),
            from: job.growing.as_ref().map(|growing| growing.from.clone()),
            recipe: job.hash.clone(),
            outcome,
            machine: Machine {
                processor: processor(),
                instructions: polynet_kernels::Isa::best().to_string(),
                threads: self.options.threads_of_a_job(),
                device: job.recipe.device.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ended: now.map_or(0, |time| time.as_secs()),
            },
        }
    }
}

fn what_panicked(panic: &(dyn std::any::Any + Send)) -> String {
    let text = (panic.downcast_ref::<String>().map(String::as_str))
        .or_else(|| panic.downcast_ref::<&str>().copied());
    format!(
        "a fault of the program: {}",
        text.unwrap_or("it does not say which")
    )
}

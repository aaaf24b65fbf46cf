//! Who watches a run: [`Progress`] is told what happens, and shows it or not.
//!
//! The library writes to no terminal. A watcher implements what it cares about:
//!
//! ```
//! use polynet::train::progress::{Progress, StepReport, Warning};
//!
//! struct LastLoss(f64);
//!
//! impl Progress for LastLoss {
//!     fn step(&mut self, report: &StepReport) {
//!         self.0 = report.loss;
//!     }
//! }
//! ```

use std::path::PathBuf;

use crate::data::printable;
use crate::report::ValidationRecord;

/// A run as it starts or is resumed.
#[derive(Debug, Clone, PartialEq)]
pub struct RunStart {
    /// The recipe's name.
    pub name: String,
    /// Steps already finished: 0, or those of the checkpoint.
    pub step: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// Steps of an epoch.
    pub epoch_steps: u64,
    /// Images of a step.
    pub batch_size: u64,
}

/// A finished step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Finished steps, this one included.
    pub step: u64,
    /// The same in epochs.
    pub epoch: f64,
    /// Mean loss per image since the last training record, in nats.
    pub loss: f64,
    /// Share of images that were right since the last training record.
    pub top1: f64,
    /// Training images in a second, lately.
    pub images_per_s: f64,
}

/// What a watcher of a run is told, in order. Each method does nothing unless it is implemented.
pub trait Progress {
    /// The run starts or is resumed.
    fn started(&mut self, _run: &RunStart) {}

    /// A step is finished.
    fn step(&mut self, _report: &StepReport) {}

    /// `done` of `total` validation images are scored.
    fn validating(&mut self, _done: u64, _total: u64) {}

    /// A validation is finished.
    fn validation(&mut self, _scores: &ValidationRecord) {}

    /// Something worth a line.
    fn message(&mut self, _text: &str) {}

    /// Something that the user may want to act on.
    fn warning(&mut self, _warning: &Warning) {}

    /// The run has ended or was interrupted; the last call.
    fn finished(&mut self) {}
}

/// A watcher that looks away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Silent;

impl Progress for Silent {}

/// What does not stop a run, but its user should know; its text says what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// The metrics ended in the middle of a line.
    #[error(
        "{}:{line}: dropped an unfinished line, the run was killed while writing it; \
         there is nothing to do", path.display()
    )]
    TornMetrics {
        /// The metrics file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An image is left out.
    #[error(
        "left out {}: {}; replace or remove it, or stop at such images with data.on_error = \"fail\"",
        printable(path),
        printable(reason)
    )]
    SkippedImage {
        /// Where it lies.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The newest checkpoint can't be used.
    #[error(
        "{reason}: the checkpoint is damaged; it is now {}, and the run goes on from the one before",
        aside.display()
    )]
    DamagedCheckpoint {
        /// Its new name.
        aside: PathBuf,
        /// What is wrong, with its old name.
        reason: String,
    },
    /// The run ends before its warm-up does.
    #[error(
        "the warm-up of {warm_up} steps is longer than the run of {total_steps}, the learning \
         rate never reaches its peak; shorten schedule.warm_up or lengthen training.duration"
    )]
    WarmUpTooLong {
        /// Steps of warm-up.
        warm_up: u64,
        /// Steps of the run.
        total_steps: u64,
    },
    /// Batch norm sees few images at a time.
    #[error(
        "batch norm takes its statistics from {group} images at a time, fewer than {least}, the \
         paper's least (§4): training is noisier and prediction differs more from it; raise \
         training.batch_size{}",
        if *is_whole_step {
            ""
        } else {
            ", lower training.accumulate or start fewer ranks (activations = \"recomputed\" makes \
             room for more images), or write training.batch_norm = \"synchronised\""
        }
    )]
    SmallNormGroup {
        /// Whether these are all images of a step.
        is_whole_step: bool,
        /// Images that share statistics.
        group: u64,
        /// The least that is no cause for a warning.
        least: u64,
    },
    /// An asked-for stop.
    #[error("interrupted after step {step}, the checkpoint is saved; continue with --resume")]
    Interrupted {
        /// Finished steps.
        step: u64,
    },
}

//! What the jobs of a study gave, one JSON object a line in `ledger.jsonl`.
//!
//! ```text
//! {"job":"poly-2/plain/1",…,"outcome":"finished","top1_error":0.31,…}
//! {"job":"3-way/plain/1",…,"outcome":"failed","reason":"the loss is NaN at step 12 …"}
//! ```
//!
//! Errors are shares from 0 to 1 of the images that the run validates on, losses means in nats.
//!
//! Law: a line, and the file's name, are forced to the disk before [`Ledger::append`] returns. A process that is killed while
//! writing leaves at most one torn last line, which reading leaves out and the next append removes.
//! Of several records of one job the last counts.

use super::StudyError;
use crate::files::{OpenFile, sync_folder};
use serde::{Deserialize, Serialize};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// What one job gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The job's id: `ARCHITECTURE/VARIANT/SEED`.
    pub job: String,
    /// The architecture's name.
    pub architecture: String,
    /// The variant's name.
    pub variant: String,
    /// The seed.
    pub seed: u64,
    /// The network in the algebra's language.
    pub network: String,
    /// The job that it started from.
    pub from: Option<String>,
    /// Says which experiment it is: [`Job::hash`](super::Job::hash).
    pub recipe: String,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What it ran on.
    #[serde(flatten)]
    pub machine: Machine,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
#[allow(clippy::large_enum_variant)] // most are finished
pub enum Outcome {
    /// To its end.
    Finished(Figures),
    /// In an error.
    Failed {
        /// Which.
        reason: String,
    },
}

/// What a finished job gave and took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Share of images whose best class is wrong, at the end.
    pub top1_error: f64,
    /// Share of images whose class is not among the best five, at the end.
    pub top5_error: f64,
    /// The lowest of all validations.
    pub best_top1_error: f64,
    /// The lowest of all validations.
    pub best_top5_error: f64,
    /// Mean loss per image at the end, in nats; none where it is no number.
    pub loss: Option<f64>,
    /// Parameters of the network.
    pub parameters: u64,
    /// Multiply-accumulates of one image.
    pub macs: u64,
    /// Steps of the run.
    pub steps: u64,
    /// Images of a step.
    pub batch_size: u64,
    /// Training images seen, counted with repetition.
    pub images: u64,
    /// The same with those of the jobs that it started from.
    pub total_images: u64,
    /// Milliseconds of a step, the median over the run's records.
    pub ms_per_step: Option<f64>,
    /// Time of the training steps.
    pub seconds: Option<f64>,
    /// Largest resident memory of the process while the job ran, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// Every validation, in order.
    pub validations: Vec<Validation>,
}

/// One validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Finished steps.
    pub step: u64,
    /// Training images seen.
    pub images: u64,
    /// Share of images whose best class is wrong.
    pub top1_error: f64,
    /// Share of images whose class is not among the best five.
    pub top5_error: f64,
    /// Mean loss per image in nats.
    pub loss: Option<f64>,
}

/// What a job ran on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// The instruction set of the kernels.
    pub instructions: String,
    /// Threads of the job.
    pub threads: usize,
    /// The device that trained.
    pub device: String,
    /// The program's version.
    pub version: String,
    /// When the job ended, in seconds since 1970.
    pub ended: u64,
}

impl Entry {
    /// What the job gave, if it was finished.
    pub fn figures(&self) -> Option<&Figures> {
        match &self.outcome {
            Outcome::Finished(figures) => Some(figures),
            Outcome::Failed { .. } => None,
        }
    }

    /// What of the record is the same in every run of one study on one machine: all but times, memory
    /// and threads.
    pub fn deterministic(&self) -> Self {
        let mut entry = self.clone();
        (entry.machine.ended, entry.machine.threads) = (0, 0);
        if let Outcome::Finished(figures) = &mut entry.outcome {
            (figures.ms_per_step, figures.seconds) = (None, None);
            figures.peak_memory_bytes = None;
        }
        entry
    }
}

/// The ledger of a study, whether its file is there or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    path: PathBuf,
}

impl Ledger {
    /// The file, whether it is there or not.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The record of each job that has one, the last that it has, in the order of the file.
    ///
    /// # Errors
    /// When the file can't be read, and when a line that is not the last one is no record.
    pub fn read(&self) -> Result<Vec<Entry>, StudyError> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StudyError::file(&self.path)(error)),
        };
        let mut entries: Vec<Entry> = Vec::new();
        for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            // A record ends with its newline, so only a line without one can be torn.
            if !line.ends_with(b"\n") || line.trim_ascii().is_empty() {
                continue;
            }
            let entry: Entry = serde_json::from_slice(line).map_err(|source| StudyError::Line {
                path: self.path.clone(),
                line: index + 1,
                source,
            })?;
            entries.retain(|known| known.job != entry.job);
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Appends a record, after removing a torn last line.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn append(&self, entry: &Entry) -> Result<(), StudyError> {
        self.write(entry).map_err(StudyError::file(&self.path))
    }

    fn write(&self, entry: &Entry) -> io::Result<()> {
        let mut file = OpenFile::edit(&self.path)?;
        // Others append, too.
        file.lock()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n');
        let whole = whole.map_or(0, |newline| newline + 1) as u64;
        file.set_length(whole)?;
        file.seek(SeekFrom::Start(whole))?;
        let line = serde_json::to_string(entry)? + "\n";
        file.write_all(line.as_bytes())?;
        file.sync()?;
        match self.path.parent() {
            // The file may be new.
            Some(folder) if whole == 0 => sync_folder(folder),
            _ => Ok(()),
        }
    }
}

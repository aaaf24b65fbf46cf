//! How long a candidate's training step takes, measured once.

use crate::files::write_text;
use crate::study::{Job, StudyError, measure_step};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Who knows how long a step takes.
pub trait StepTimes {
    /// Milliseconds of a training step of the job.
    ///
    /// # Errors
    /// If it can't be measured.
    fn ms_per_step(&mut self, job: &Job) -> Result<f64, StudyError>;
}

/// For searches without a limit of time: measures nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLimitOfTime;

impl StepTimes for NoLimitOfTime {
    fn ms_per_step(&mut self, _: &Job) -> Result<f64, StudyError> {
        Ok(0.0)
    }
}

/// Times by ten steps, kept in a file: a search that goes on takes the same structures.
#[derive(Clone, Debug)]
pub struct MeasuredTimes {
    path: Option<PathBuf>,
    threads: usize,
    known: BTreeMap<String, f64>,
}

impl MeasuredTimes {
    /// Times measured on so many threads that no file keeps.
    pub fn unsaved(threads: usize) -> Self {
        Self {
            path: None,
            threads,
            known: BTreeMap::new(),
        }
    }

    /// The times in a JSON file, which may not be there yet; others are measured on so many threads.
    ///
    /// # Errors
    /// If the file is there and can't be read.
    pub fn open(path: &Path, threads: usize) -> Result<Self, StudyError> {
        let known = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| StudyError::Line {
                path: path.to_owned(),
                line: source.line(),
                source,
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(StudyError::file(path)(error)),
        };
        Ok(Self {
            path: Some(path.to_owned()),
            threads,
            known,
        })
    }
}

impl StepTimes for MeasuredTimes {
    fn ms_per_step(&mut self, job: &Job) -> Result<f64, StudyError> {
        let network = job.network.to_string();
        if let Some(known) = self.known.get(&network) {
            return Ok(*known);
        }
        let measured = measure_step(job, self.threads)?;
        self.known.insert(network, measured);
        if let Some(path) = &self.path {
            let text = serde_json::to_string_pretty(&self.known).unwrap_or_default();
            write_text(path, &text)?;
        }
        Ok(measured)
    }
}

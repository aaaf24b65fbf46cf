//! Why a study can't be read or go on. That a job failed is no such reason: the ledger has it.

use crate::files::WriteError;
use crate::report::RunFolderError;
use crate::train::TrainError;
use std::io;
use std::path::{Path, PathBuf};

/// Why a study can't be read or go on.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// A file can't be read.
    #[error("{}: expected a file in TOML: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Everything that is wrong with the text.
    #[error("{}", .0.join("\n"))]
    Faults(Vec<String>),
    /// What is done and what the study says differ.
    #[error(
        "job {job}: {} was made by another recipe than the study has now; restore the study, choose \
         another folder with --out, or remove what is there of this job", path.display()
    )]
    Changed {
        /// The job.
        job: String,
        /// Its record or its run folder.
        path: PathBuf,
    },
    /// A line of the ledger, other than a torn last one, that is no record.
    #[error("{}:{line}: expected a job's record: {source}; remove the line or restore the file", path.display())]
    Line {
        /// The ledger.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// The file system refused.
    #[error("{}: can't read or write the study: {source}", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The threads of a job can't be started.
    #[error("can't start the threads of a job: {0}")]
    Threads(String),
    /// A job can't be measured.
    #[error("job {job}: {source}")]
    Measure {
        /// The job.
        job: String,
        /// Why.
        source: Box<TrainError>,
    },
    /// The file system refused what a job needs; that says nothing of the job.
    #[error(
        "job {job}: {reason}\nnothing is recorded of it; the same command goes on with it once the disk \
         is mended or has room"
    )]
    Disk {
        /// The job.
        job: String,
        /// What was refused.
        reason: String,
    },
    /// A job's folder can't be taken.
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    /// A file can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl StudyError {
    /// The same with the file before each fault.
    pub(crate) fn at(self, path: &Path) -> Self {
        match self {
            Self::Faults(faults) => {
                let faults = faults.into_iter();
                Self::Faults(
                    faults
                        .map(|fault| format!("{}: {fault}", path.display()))
                        .collect(),
                )
            }
            other => other,
        }
    }

    pub(crate) fn file(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        |source| Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

//! What a study leaves behind.
//!
//! ```text
//! study.toml                        the study's text
//! ledger.jsonl                      one record a job   (see `ledger`)
//! jobs/ARCHITECTURE/VARIANT/SEED/
//!     run/                          the job's run folder; its checkpoints go when the job is done
//!     start/                        the grown model that it starts from, while it is not done
//!     .lock                         who works on the job now
//! ```

use super::{Job, Ledger, StudyError};
use crate::files::{FolderLock, make_folder, remove_folder, write_text};
use crate::report::{RunFolder, RunFolderError};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The folder of a study.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StudyFolder {
    root: PathBuf,
}

impl StudyFolder {
    /// The folder, whether it is there or not.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `study.toml`
    pub fn study(&self) -> PathBuf {
        self.root.join("study.toml")
    }

    /// `ledger.jsonl`
    pub fn ledger(&self) -> Ledger {
        Ledger::new(self.root.join("ledger.jsonl"))
    }

    /// The folder of a job.
    pub fn job(&self, id: &str) -> PathBuf {
        self.root.join("jobs").join(id)
    }

    /// The run folder of a job.
    pub fn run(&self, id: &str) -> PathBuf {
        self.job(id).join("run")
    }

    /// The model that a job left behind.
    pub fn model(&self, id: &str) -> PathBuf {
        RunFolder::of_writer(&self.run(id)).model()
    }

    /// The model that a job starts from.
    pub(super) fn start(&self, id: &str) -> PathBuf {
        self.job(id).join("start")
    }

    /// Makes the folder, and keeps the study's text there.
    pub(super) fn prepare(&self, text: &str) -> Result<(), StudyError> {
        make_folder(&self.root).map_err(StudyError::file(&self.root))?;
        if fs::read_to_string(self.study()).is_ok_and(|known| known == text) {
            return Ok(());
        }
        Ok(write_text(&self.study(), text)?)
    }

    /// Takes a job for this thread, unless somebody else has it.
    pub(super) fn take(&self, id: &str) -> Result<Option<FolderLock>, StudyError> {
        let folder = self.job(id);
        make_folder(&folder).map_err(StudyError::file(&folder))?;
        match RunFolder::of_writer(&folder).own() {
            Ok(owner) => Ok(Some(owner)),
            Err(RunFolderError::Owned { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what only a job that goes on needs.
    pub(super) fn tidy(&self, job: &Job) -> Result<(), StudyError> {
        let checkpoints = RunFolder::of_writer(&self.run(&job.id)).checkpoints();
        remove(&checkpoints)?;
        remove(&self.start(&job.id))
    }

    /// Removes all that there is of a job, but its lock.
    pub(super) fn clear(&self, job: &Job) -> Result<(), StudyError> {
        remove(&self.run(&job.id))?;
        remove(&self.start(&job.id))
    }
}

fn remove(folder: &Path) -> Result<(), StudyError> {
    match remove_folder(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StudyError::file(folder)(error))
        }
        _ => Ok(()),
    }
}

//! Errors of weight files and model folders.

use super::TensorMismatch;
use std::path::{Path, PathBuf};

/// Why weights could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what its name says.
    #[error("{}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What was expected and what came.
        message: String,
    },
    /// Names or shapes do not fit the network.
    #[error("{}: {mismatch}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The tensors by name.
        mismatch: Box<TensorMismatch>,
    },
    /// The architecture has no counterpart among the public implementations.
    #[error("no public weights have this structure: {0}")]
    NoPort(String),
}

impl WeightError {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl Fn(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io {
            path: path.clone(),
            action,
            source,
        }
    }

    pub(crate) fn invalid(path: &Path, message: impl std::fmt::Display) -> Self {
        Self::Invalid {
            path: path.to_owned(),
            message: message.to_string(),
        }
    }

    /// What is wrong, without the file's name.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Invalid { message, .. } => message.clone(),
            Self::Io { action, source, .. } => format!("cannot {action}: {source}"),
            Self::Mismatch { mismatch, .. } => mismatch.to_string(),
            Self::NoPort(message) => message.clone(),
        }
    }

    pub(crate) fn mismatch(path: &Path, mismatch: TensorMismatch) -> Self {
        Self::Mismatch {
            path: path.to_owned(),
            mismatch: Box::new(mismatch),
        }
    }
}

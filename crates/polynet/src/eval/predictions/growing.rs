//! A file that grows beside its place, and takes it when it is whole.

use super::{PredictionFileError, PredictionRequest};
use crate::files::{OpenFile, folder_of, rename, sync_folder, write_text};
use std::ffi::OsString;
use std::fs::{self, TryLockError};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(super) struct Growing {
    path: PathBuf,
    part: PathBuf,
    file: OpenFile,
}

impl Growing {
    /// Opens the part of a file for this process alone.
    pub(super) fn open(path: &Path) -> Result<Self, PredictionFileError> {
        if path.exists() {
            return Err(PredictionFileError {
                path: path.to_owned(),
                reason: "is there already; remove it, or choose another file".to_owned(),
            });
        }
        Self::open_part(path)
    }

    /// As [`Growing::open`], of a file that is made of its part: one that was made when its part was about
    /// to be removed is made again.
    pub(super) fn open_made(path: &Path) -> Result<Self, PredictionFileError> {
        match beside(path, ".part").exists() {
            true => Self::open_part(path),
            false => Self::open(path),
        }
    }

    /// As [`Growing::open`], of a file that was begun: one that has taken its place before others of its
    /// request did gives it back.
    pub(super) fn open_again(path: &Path) -> Result<Self, PredictionFileError> {
        let part = beside(path, ".part");
        if path.exists() && !part.exists() {
            let reason = |error| format!("can't be written: {error}");
            rename(path, &part).map_err(|error| PredictionFileError {
                path: path.to_owned(),
                reason: reason(error),
            })?;
        }
        Self::open(path)
    }

    fn open_part(path: &Path) -> Result<Self, PredictionFileError> {
        let part = beside(path, ".part");
        let error = |reason: String| PredictionFileError {
            path: path.to_owned(),
            reason,
        };
        let file = OpenFile::edit(&part)
            .map_err(|refused| error(format!("can't be written: {refused}")))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(error("another process writes it".to_owned())),
            // A file system that knows no locks is used without.
            _ => Ok(Self {
                path: path.to_owned(),
                part,
                file,
            }),
        }
    }

    /// Whether the request was begun; else it is noted down.
    pub(super) fn begin(
        &mut self,
        request: &PredictionRequest,
    ) -> Result<bool, PredictionFileError> {
        let asked = self.request_path();
        let both = format!("remove {} and {}", self.part.display(), asked.display());
        let begun = fs::read(&asked).ok();
        let begun = begun.and_then(|text| serde_json::from_slice(&text).ok());
        match begun.map(|begun| request.difference(&begun)) {
            Some(None) => Ok(true),
            Some(Some(difference)) => Err(self.error(format!(
                "another request was begun: {difference}; {both}, or choose another file"
            ))),
            None if self.length()? > 0 => Err(self.error(format!(
                "it is not known what was asked of its beginning; {both}, or choose another file"
            ))),
            None => {
                let text = serde_json::to_string(request).unwrap_or_default();
                let written = write_text(&asked, &text);
                written.map_err(|error| self.refused(&error.into_source()))?;
                Ok(false)
            }
        }
    }

    /// Where it is said what was asked.
    pub(super) fn request_path(&self) -> PathBuf {
        beside(&self.part, ".json")
    }

    fn error(&self, reason: String) -> PredictionFileError {
        PredictionFileError {
            path: self.path.clone(),
            reason,
        }
    }

    fn refused(&self, error: &io::Error) -> PredictionFileError {
        self.error(format!(
            "can't be written: {error}; what is done stands in {}, and the same command goes on",
            self.part.display()
        ))
    }

    pub(super) fn length(&mut self) -> Result<u64, PredictionFileError> {
        let end = self.file.seek(SeekFrom::End(0));
        end.map_err(|error| self.refused(&error))
    }

    /// Calls `read` with each whole line, its newline included, until it wants no more; from the
    /// beginning.
    pub(super) fn read_lines(
        &mut self,
        mut read: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), PredictionFileError> {
        let each = each_line(&mut self.file, &mut read);
        each.map_err(|error| self.refused(&error))
    }

    /// Forgets what is behind a length.
    pub(super) fn cut(&mut self, length: u64) -> Result<(), PredictionFileError> {
        let cut = self.file.set_length(length);
        let cut = cut.and_then(|()| self.file.seek(SeekFrom::End(0)));
        cut.map(|_| ()).map_err(|error| self.refused(&error))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), PredictionFileError> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| self.refused(&error))
    }

    pub(super) fn finish(self) -> Result<(), PredictionFileError> {
        let finished = self.file.sync();
        let finished = finished.and_then(|()| rename(&self.part, &self.path));
        let finished = finished.and_then(|()| sync_folder(folder_of(&self.path)));
        finished.map_err(|error| self.refused(&error))
    }
}

#[cfg(feature = "parquet")]
impl Growing {
    /// Ends with what `make` makes of the part. Until that is whole the part stays.
    pub(super) fn finish_made(
        mut self,
        make: impl FnOnce(&mut OpenFile, OpenFile) -> io::Result<OpenFile>,
    ) -> Result<(), PredictionFileError> {
        let made = self.make(make);
        made.map_err(|error| self.refused(&error))
    }

    fn make(
        &mut self,
        make: impl FnOnce(&mut OpenFile, OpenFile) -> io::Result<OpenFile>,
    ) -> io::Result<()> {
        // A killed process leaves it, and the next one writes it anew.
        let unfinished = beside(&self.part, ".made");
        let target = OpenFile::edit(&unfinished)?;
        target.set_length(0)?;
        self.file.rewind()?;
        make(&mut self.file, target)?.sync()?;
        rename(&unfinished, &self.path)?;
        sync_folder(folder_of(&self.path))?;
        crate::files::remove_file(&self.part)
    }
}

/// Calls `read` with each whole line until it wants no more.
fn each_line(file: &mut OpenFile, read: &mut impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    file.rewind()?;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") || !read(&line) {
            return Ok(());
        }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

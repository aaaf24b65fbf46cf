//! Predictions of many pictures, in files that grow with the work.
//!
//! Law: until everything is there `FILE` is not; what is done stands in `FILE.part`, beside it in
//! `FILE.part.json` what was asked. The same request goes on behind the last whole batch, so no picture
//! is there twice or missing; another request is refused.

use crate::data::{Dataset, SplitDigest};
use crate::files::{OpenFile, folder_of, remove_file, rename, sync_folder, write_text};
use crate::model::Ranked;
use crate::report::quoted;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{self, TryLockError};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What is asked of a [`PredictionFile`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PredictionRequest {
    /// SHA-256 of the model's files.
    model: String,
    /// What computes: device, precision, instruction set.
    compute: String,
    pictures: SplitDigest,
    top: usize,
    batch_size: usize,
    /// Length of an embedding, where embeddings are written.
    features: Option<usize>,
    /// Where they are written.
    embeddings: Option<PathBuf>,
}

/// What became of a picture: classes, or an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PredictionRow {
    /// Where the picture lies.
    pub image: String,
    /// Its most probable classes, the best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<Ranked>,
    /// Why it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Predictions that can't be written, with what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct PredictionFileError {
    path: PathBuf,
    reason: String,
}

/// A file of predictions, and one of embeddings, on their way.
#[derive(Debug)]
pub struct PredictionFile {
    table: Growing,
    format: Format,
    embeddings: Option<Growing>,
    request: PredictionRequest,
    done: usize,
    failed: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Csv,
    JsonLines,
}

/// A file that takes its place when it is whole.
#[derive(Debug)]
struct Growing {
    path: PathBuf,
    part: PathBuf,
    file: OpenFile,
}

impl PredictionRequest {
    /// The `top` classes of `pictures`, so many at once, by the model with this
    /// [digest](crate::Model::digest); with embeddings where they have a length. `compute` tells what
    /// computes.
    pub fn new(
        model: String,
        compute: impl Into<String>,
        pictures: &Dataset,
        [top, batch_size]: [usize; 2],
        features: Option<usize>,
    ) -> Self {
        Self {
            model,
            compute: compute.into(),
            pictures: pictures.digest(0),
            top,
            batch_size,
            features,
            embeddings: None,
        }
    }

    /// How this differs from a request that was begun.
    pub(super) fn difference(&self, begun: &Self) -> Option<String> {
        let pictures = begun.pictures.difference(&self.pictures);
        let differs = [
            (self.model != begun.model, "the model is another"),
            (
                self.compute != begun.compute,
                "device, precision or instruction set are others",
            ),
            (self.top != begun.top, "--top is another"),
            (self.batch_size != begun.batch_size, "--batch is another"),
            (
                (self.features, &self.embeddings) != (begun.features, &begun.embeddings),
                "--embeddings is another",
            ),
        ];
        let found = differs.into_iter().find(|(differs, _)| *differs);
        let found = found.map(|(_, how)| how.to_owned());
        found.or_else(|| pictures.map(|how| format!("the pictures are others: {how}")))
    }
}

impl PredictionFile {
    /// Begins `path`, a `.csv` or `.jsonl`, and the `.npy` of the embeddings (`f32`, `[pictures,
    /// features]`; a broken picture's are not a number), or goes on with what is there of the same
    /// request.
    ///
    /// # Errors
    /// If a file is there already, another request was begun, another process writes there, or the
    /// operating system refuses.
    pub fn begin(
        path: &Path,
        embeddings: Option<&Path>,
        request: PredictionRequest,
    ) -> Result<Self, PredictionFileError> {
        let format = Format::of(path)?;
        let request = PredictionRequest {
            embeddings: embeddings.map(Path::to_owned),
            ..request
        };
        let mut table = Growing::open(path)?;
        let is_begun = table.begin(&request)?;
        let reopen = |path| match is_begun {
            true => Growing::open_again(path),
            false => Growing::open(path),
        };
        let mut found = Self {
            format,
            table,
            embeddings: embeddings.map(reopen).transpose()?,
            request,
            done: 0,
            failed: 0,
        };
        match (is_begun, &mut found.embeddings) {
            (true, _) => found.go_on()?,
            (false, Some(embeddings)) => embeddings.cut(0)?,
            (false, None) => {}
        }
        Ok(found)
    }

    /// How many pictures have their rows, and how many of these have an error.
    pub fn done(&self) -> [usize; 2] {
        [self.done, self.failed]
    }

    /// Adds the rows of a batch, and the embeddings of those of them that have no error.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn write(
        &mut self,
        rows: &[PredictionRow],
        embeddings: &[f32],
    ) -> Result<(), PredictionFileError> {
        let features = self.request.features.unwrap_or_default();
        if let Some(growing) = &mut self.embeddings {
            let mut bytes = Vec::new();
            if self.done == 0 {
                bytes.extend(npy_header([
                    self.request.pictures.images as usize,
                    features,
                ]));
            }
            let mut found = embeddings.chunks_exact(features.max(1));
            let broken = vec![f32::NAN; features];
            for row in rows {
                let embedding = row.error.is_none().then(|| found.next()).flatten();
                let numbers = embedding.unwrap_or(&broken).iter();
                bytes.extend(numbers.flat_map(|number| number.to_le_bytes()));
            }
            growing.write(&bytes)?;
        }
        let header = (self.done == 0).then(|| self.format.header(self.request.top));
        let lines = rows
            .iter()
            .map(|row| self.format.line(row, self.request.top));
        let text: String = header.into_iter().flatten().chain(lines).collect();
        self.table.write(text.as_bytes())?;
        self.done += rows.len();
        self.failed += rows.iter().filter(|row| row.error.is_some()).count();
        Ok(())
    }

    /// Puts the files in their places.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn finish(self) -> Result<(), PredictionFileError> {
        let asked = self.table.request_path();
        if let Some(embeddings) = self.embeddings {
            embeddings.finish()?;
        }
        self.table.finish()?;
        // Without its part it means nothing.
        let _ = remove_file(&asked);
        Ok(())
    }

    /// Keeps the whole batches of what was begun.
    fn go_on(&mut self) -> Result<(), PredictionFileError> {
        let (pictures, batch) = (
            self.request.pictures.images as usize,
            self.request.batch_size,
        );
        let whole = |rows: usize| {
            if rows < pictures {
                rows - rows % batch
            } else {
                pictures
            }
        };
        let header = usize::from(self.format.header(self.request.top).is_some());
        let lines = self.table.lines()?;
        let mut done = whole(lines.len().saturating_sub(header));
        if let Some(growing) = &mut self.embeddings {
            let features = self.request.features.unwrap_or_default();
            let before = npy_header([pictures, features]).len() as u64;
            let row = (4 * features) as u64;
            let rows = growing.length()?.saturating_sub(before) / row.max(1);
            done = done.min(whole(rows as usize));
            growing.cut(if done == 0 {
                0
            } else {
                before + row * done as u64
            })?;
        }
        let kept = if done == 0 { 0 } else { header + done };
        let kept = &lines[..kept];
        self.table
            .cut(kept.iter().map(|(length, _)| length).sum())?;
        self.done = done;
        let rows = kept.iter().skip(header);
        self.failed = rows.filter(|(_, line)| self.format.has_error(line)).count();
        Ok(())
    }
}

impl Format {
    fn of(path: &Path) -> Result<Self, PredictionFileError> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("csv") => Ok(Self::Csv),
            Some("jsonl") => Ok(Self::JsonLines),
            _ => Err(PredictionFileError {
                path: path.to_owned(),
                reason: "expected a name that ends in .csv or .jsonl".to_owned(),
            }),
        }
    }

    fn header(self, top: usize) -> Option<String> {
        let columns = (1..=top).map(|place| format!("class_{place},probability_{place},"));
        (self == Self::Csv).then(|| format!("image,{}error\n", columns.collect::<String>()))
    }

    /// A row with its newline, the only one in it.
    fn line(self, row: &PredictionRow, top: usize) -> String {
        match self {
            Self::JsonLines => serde_json::to_string(row).unwrap_or_default() + "\n",
            Self::Csv => {
                let mut line = quoted(&row.image) + ",";
                for place in 0..top {
                    line += &row.classes.get(place).map_or(",,".to_owned(), |found| {
                        format!("{},{},", quoted(&found.class), found.probability)
                    });
                }
                line + &quoted(row.error.as_deref().unwrap_or_default()) + "\n"
            }
        }
    }

    /// Whether a line is that of a picture without classes.
    fn has_error(self, line: &str) -> bool {
        match self {
            Self::Csv => !line.trim_end().ends_with(','),
            Self::JsonLines => {
                let row = serde_json::from_str::<serde_json::Value>(line);
                row.is_ok_and(|row| row.get("error").is_some())
            }
        }
    }
}

impl Growing {
    /// Opens the part of a file for this process alone.
    fn open(path: &Path) -> Result<Self, PredictionFileError> {
        let part = beside(path, ".part");
        let error = |reason: String| PredictionFileError {
            path: path.to_owned(),
            reason,
        };
        if path.exists() {
            let reason = "is there already; remove it, or choose another file";
            return Err(error(reason.to_owned()));
        }
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

    /// As [`Growing::open`], of a file that was begun: one that has taken its place before others of its
    /// request did gives it back.
    fn open_again(path: &Path) -> Result<Self, PredictionFileError> {
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

    /// Whether the request was begun; else it is noted down.
    fn begin(&mut self, request: &PredictionRequest) -> Result<bool, PredictionFileError> {
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
    fn request_path(&self) -> PathBuf {
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

    fn length(&mut self) -> Result<u64, PredictionFileError> {
        let end = self.file.seek(SeekFrom::End(0));
        end.map_err(|error| self.refused(&error))
    }

    /// The whole lines with their lengths in bytes.
    fn lines(&mut self) -> Result<Vec<(u64, String)>, PredictionFileError> {
        let mut lines = Vec::new();
        let mut reader = BufReader::new(&mut self.file);
        loop {
            let mut line = Vec::new();
            let read = reader.read_until(b'\n', &mut line);
            let length = match read {
                Ok(length) => length,
                Err(error) => return Err(self.refused(&error)),
            };
            if line.pop() != Some(b'\n') {
                return Ok(lines);
            }
            lines.push((length as u64, String::from_utf8_lossy(&line).into_owned()));
        }
    }

    /// Forgets what is behind a length.
    fn cut(&mut self, length: u64) -> Result<(), PredictionFileError> {
        let cut = self.file.set_length(length);
        let cut = cut.and_then(|()| self.file.seek(SeekFrom::End(0)));
        cut.map(|_| ()).map_err(|error| self.refused(&error))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PredictionFileError> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| self.refused(&error))
    }

    fn finish(self) -> Result<(), PredictionFileError> {
        let finished = self.file.sync();
        let finished = finished.and_then(|()| rename(&self.part, &self.path));
        let finished = finished.and_then(|()| sync_folder(folder_of(&self.path)));
        finished.map_err(|error| self.refused(&error))
    }
}

/// The head of NumPy's format 1.0 for `f32` in row-major order.
fn npy_header([rows, columns]: [usize; 2]) -> Vec<u8> {
    let text =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    // What comes after it is aligned to 64 bytes.
    let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((length as u16).to_le_bytes());
    header.extend(format!("{text:<width$}\n", width = length - 1).bytes());
    header
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests;

//! Predictions of many pictures, in files that grow with the work.
//!
//! Law: until everything is there `FILE` is not; what is done stands in `FILE.part`, beside it in
//! `FILE.part.json` what was asked. The same request goes on behind the last whole batch, so no picture
//! is there twice or missing; another request is refused. A Parquet file can't grow: its part has JSON
//! lines, of which it is made at the end.

mod format;
mod growing;
#[cfg(feature = "parquet")]
mod parquet;

use crate::data::{Dataset, SplitDigest};
use crate::files::remove_file;
use crate::model::Ranked;
use format::{Format, npy_header};
use growing::Growing;
use serde::{Deserialize, Serialize};
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
    /// Begins `path`, a `.csv`, `.jsonl` or, with the feature `parquet`, `.parquet`, and the `.npy` of the
    /// embeddings (`f32`, `[pictures, features]`; a broken picture's are not a number), or goes on with
    /// what is there of the same request.
    ///
    /// # Errors
    /// If the name ends otherwise, a file is there already, another request was begun, another process
    /// writes there, or the operating system refuses.
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
        let mut table = match format {
            Format::Parquet => Growing::open_made(path)?,
            Format::Csv | Format::JsonLines => Growing::open(path)?,
        };
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
        match self.format {
            #[cfg(feature = "parquet")]
            Format::Parquet => {
                let top = self.request.top;
                let make = |lines: &mut _, target| parquet::of_lines(lines, target, top);
                self.table.finish_made(make)?;
            }
            _ => self.table.finish()?,
        }
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
        let mut lines = 0;
        self.table.read_lines(|_| {
            lines += 1;
            true
        })?;
        let mut done = whole(usize::saturating_sub(lines, header));
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
        let (mut length, mut passed, mut failed) = (0, 0, 0);
        let format = self.format;
        self.table.read_lines(|line| {
            let is_kept = passed < kept;
            if is_kept {
                length += line.len() as u64;
                failed += usize::from(passed >= header && format.has_error(line));
                passed += 1;
            }
            is_kept
        })?;
        self.table.cut(length)?;
        self.done = done;
        self.failed = failed;
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! What a run measures, one JSON object a line in `metrics.jsonl` and the same in `metrics.csv`.
//!
//! ```text
//! {"kind":"train","step":50,"epoch":0.1,"images":12800,"loss":2.1,"top1":0.2,"learning_rate":0.4,"images_per_s":310.0}
//! {"kind":"validation","step":500,"epoch":1.0,"loss":1.7,"top1":0.4,"top5":0.9}
//! {"kind":"event","step":500,"epoch":1.0,"message":"interrupted"}
//! ```
//!
//! `step` counts finished optimizer steps, accuracies are shares from 0 to 1, losses are means in
//! nats; a loss that is no number is `null`. Each record reaches the file before [`MetricsLog::record`]
//! returns, and a process that is killed while writing leaves at most one torn last line, which
//! reading drops and reports.
//!
//! Law: a run resumed at step `s` keeps the records of steps up to `s` and forgets the later ones,
//! so that it leaves the [deterministic](Record::deterministic) records of an uninterrupted run,
//! provided that it records, and [syncs](MetricsLog::sync), before it saves the checkpoint of a step.
//!
//! ```
//! use polynet::report::{MetricsLog, Record, ValidationRecord, read_metrics};
//!
//! let folder = tempfile::tempdir()?;
//! let (jsonl, csv) = (folder.path().join("metrics.jsonl"), folder.path().join("metrics.csv"));
//! let mut log = MetricsLog::create(&jsonl, &csv)?;
//! let record = ValidationRecord { step: 500, epoch: 1.0, loss: 1.7, top1: 0.4, top5: 0.9 };
//! log.record(&Record::Validation(record))?;
//! assert_eq!(read_metrics(&jsonl)?.records, [Record::Validation(record)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::tensorboard::EventFile;
use crate::files::{OpenFile, write_atomically};

mod csv;
pub(crate) use csv::quoted;
#[cfg(test)]
mod tests;

/// One line of the metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Record {
    /// Means over the training steps since the last such record.
    Train(TrainRecord),
    /// The whole validation set.
    Validation(ValidationRecord),
    /// Something that happened to the run.
    Event(EventRecord),
}

/// Means over the training steps since the last such record.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrainRecord {
    /// Finished optimizer steps.
    pub step: u64,
    /// The same in epochs.
    pub epoch: f64,
    /// Training images shown so far.
    pub images: u64,
    /// Mean loss per image, in nats.
    #[serde(with = "number_or_null")]
    pub loss: f64,
    /// Share of images whose best class is right.
    #[serde(with = "number_or_null")]
    pub top1: f64,
    /// The learning rate of the last of these steps.
    pub learning_rate: f64,
    /// Speed; the only field that differs between two runs of one recipe.
    #[serde(with = "number_or_null")]
    pub images_per_s: f64,
}

/// Scores on the whole validation set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ValidationRecord {
    /// Finished optimizer steps.
    pub step: u64,
    /// The same in epochs.
    pub epoch: f64,
    /// Mean loss per image, in nats.
    #[serde(with = "number_or_null")]
    pub loss: f64,
    /// Share of images whose best class is right.
    pub top1: f64,
    /// Share of images with the right class among the best five.
    pub top5: f64,
}

/// Something that happened to the run: it was resumed, interrupted, stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Finished optimizer steps.
    pub step: u64,
    /// The same in epochs.
    pub epoch: f64,
    /// What happened.
    pub message: String,
}

impl Record {
    /// Finished optimizer steps at this record.
    pub fn step(&self) -> u64 {
        match self {
            Self::Train(record) => record.step,
            Self::Validation(record) => record.step,
            Self::Event(record) => record.step,
        }
    }

    /// What of the record is the same in every run of one recipe on one machine, resumed or not:
    /// all but the speed, and nothing of an event.
    pub fn deterministic(&self) -> Option<Self> {
        match self {
            Self::Train(record) => Some(Self::Train(TrainRecord {
                images_per_s: 0.0,
                ..*record
            })),
            Self::Validation(_) => Some(self.clone()),
            Self::Event(_) => None,
        }
    }
}

/// JSON has no NaN or infinity: they become `null`, and `null` becomes NaN.
mod number_or_null {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if value.is_finite() {
            serializer.serialize_f64(*value)
        } else {
            serializer.serialize_none()
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(value: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(value)?.unwrap_or(f64::NAN))
    }
}

/// Metrics that can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The file system refused.
    #[error("{}: can't read or write the metrics: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line, other than a torn last one, that is no record.
    #[error("{}:{line}: expected a metrics record: {source}; remove the line or restore the file", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
}

impl MetricsError {
    pub(super) fn file(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        |source| Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

/// The records of a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics {
    /// In the order they were written.
    pub records: Vec<Record>,
    /// The number, from 1, of a last line that was torn by a killed process and left out.
    pub torn_line: Option<usize>,
}

/// Reads `metrics.jsonl`.
///
/// # Errors
/// When the file can't be read, and when a line that is not the last one is no record.
pub fn read_metrics(path: &Path) -> Result<Metrics, MetricsError> {
    let bytes = fs::read(path).map_err(MetricsError::file(path))?;
    let mut metrics = Metrics::default();
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    for (index, line) in lines.enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(line) {
            Ok(record) => metrics.records.push(record),
            // A record ends with its newline, so only a line without one can be torn.
            Err(_) if !line.ends_with(b"\n") => metrics.torn_line = Some(index + 1),
            Err(source) => {
                return Err(MetricsError::Line {
                    path: path.to_owned(),
                    line: index + 1,
                    source,
                });
            }
        }
    }
    Ok(metrics)
}

/// Appends records to `metrics.jsonl` and `metrics.csv`, and shows them to TensorBoard where that is asked for.
#[derive(Debug)]
pub struct MetricsLog {
    jsonl: Sink,
    csv: Sink,
    events: Option<EventFile>,
    /// The last that is recorded.
    validation: Option<ValidationRecord>,
}

#[derive(Debug)]
struct Sink {
    path: PathBuf,
    file: OpenFile,
}

impl Sink {
    fn append_to(path: &Path) -> Result<Self, MetricsError> {
        let file = OpenFile::append_to(path);
        Ok(Self {
            path: path.to_owned(),
            file: file.map_err(MetricsError::file(path))?,
        })
    }

    /// One write for the whole line, so that lines of a killed process are whole but for the last.
    fn write_line(&mut self, line: &str) -> Result<(), MetricsError> {
        let written = self.file.write_all(line.as_bytes());
        written.map_err(MetricsError::file(&self.path))
    }
}

impl MetricsLog {
    /// Starts both files anew.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn create(jsonl: &Path, csv: &Path) -> Result<Self, MetricsError> {
        Self::rewrite(jsonl, csv, &[])
    }

    /// Goes on after `step`: later records and a torn last line are forgotten, and both files are
    /// rewritten atomically from what stays. Gives the number of the torn line, if there was one.
    ///
    /// # Errors
    /// When `metrics.jsonl` is damaged, and when a file can't be read or written.
    pub fn resume(
        jsonl: &Path,
        csv: &Path,
        step: u64,
    ) -> Result<(Self, Option<usize>), MetricsError> {
        let mut metrics = if jsonl.exists() {
            read_metrics(jsonl)?
        } else {
            Metrics::default()
        };
        metrics.records.retain(|record| record.step() <= step);
        let log = Self::rewrite(jsonl, csv, &metrics.records)?;
        Ok((log, metrics.torn_line))
    }

    fn rewrite(jsonl: &Path, csv: &Path, records: &[Record]) -> Result<Self, MetricsError> {
        write_lines(jsonl, records.iter().map(json_line))?;
        let rows = records.iter().map(csv::line);
        write_lines(csv, std::iter::once(csv::HEADER.to_owned()).chain(rows))?;
        let mut log = Self {
            jsonl: Sink::append_to(jsonl)?,
            csv: Sink::append_to(csv)?,
            events: None,
            validation: None,
        };
        records.iter().for_each(|record| log.remember(record));
        Ok(log)
    }

    fn remember(&mut self, record: &Record) {
        if let Record::Validation(record) = record {
            self.validation = Some(*record);
        }
    }

    /// Appends one record; not so a validation that is the last one again, which a run makes that is resumed
    /// at its end. Whether it was appended.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn record(&mut self, record: &Record) -> Result<bool, MetricsError> {
        if matches!(record, Record::Validation(again) if self.validation == Some(*again)) {
            return Ok(false);
        }
        self.remember(record);
        self.jsonl.write_line(&json_line(record))?;
        self.csv.write_line(&csv::line(record))?;
        if let Some(events) = &mut self.events {
            events.record(record)?;
        }
        Ok(true)
    }

    /// Shows TensorBoard what is recorded from now on, after `step` steps, by event files in a folder.
    pub(crate) fn begin_events(
        &mut self,
        folder: &Path,
        step: u64,
    ) -> Result<&mut EventFile, MetricsError> {
        Ok(self.events.insert(EventFile::begin(folder, step)?))
    }

    /// What TensorBoard is shown by, if it is.
    pub(crate) fn events(&mut self) -> Option<&mut EventFile> {
        self.events.as_mut()
    }

    /// Forces what was recorded to the disk.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn sync(&self) -> Result<(), MetricsError> {
        for sink in [&self.jsonl, &self.csv] {
            sink.file.sync().map_err(MetricsError::file(&sink.path))?;
        }
        Ok(())
    }
}

fn json_line(record: &Record) -> String {
    // A record has no map and no number that JSON lacks, so it always has a text.
    serde_json::to_string(record).unwrap_or_default() + "\n"
}

fn write_lines(path: &Path, lines: impl Iterator<Item = String>) -> Result<(), MetricsError> {
    let written = write_atomically(path, |file| {
        let mut file = BufWriter::new(file);
        for line in lines {
            file.write_all(line.as_bytes())?;
        }
        file.flush()
    });
    written.map_err(|error| MetricsError::File {
        path: path.to_owned(),
        source: error.into_source(),
    })
}

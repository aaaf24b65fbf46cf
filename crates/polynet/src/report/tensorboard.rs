//! What a run measures as TensorBoard reads it: event files, beside the metrics, which stay the source.
//!
//! ```text
//! file  := record*
//! record := length (8 bytes), its checksum (4), an `Event` in protobuf's format, its checksum (4)
//! ```
//!
//! A resumed run begins a file of its own that says from which step on it goes: TensorBoard forgets what
//! an earlier one has of later steps.

use super::confusion::confusion_picture;
use super::{ConfusionMatrix, MetricsError, Record};
use crate::data::encode_png;
use crate::files::{OpenFile, make_folder};
use crate::protobuf::Message;
use image::RgbImage;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Fields of TensorFlow's messages, by the message.
mod field {
    pub(super) const EVENT_WALL_TIME: u64 = 1;
    pub(super) const EVENT_STEP: u64 = 2;
    pub(super) const EVENT_FILE_VERSION: u64 = 3;
    pub(super) const EVENT_SUMMARY: u64 = 5;
    pub(super) const EVENT_SESSION_LOG: u64 = 7;
    pub(super) const SESSION_LOG_STATUS: u64 = 1;
    pub(super) const SUMMARY_VALUE: u64 = 1;
    pub(super) const VALUE_TAG: u64 = 1;
    pub(super) const VALUE_SIMPLE_VALUE: u64 = 2;
    pub(super) const VALUE_IMAGE: u64 = 4;
    pub(super) const VALUE_TENSOR: u64 = 8;
    pub(super) const VALUE_METADATA: u64 = 9;
    pub(super) const IMAGE_HEIGHT: u64 = 1;
    pub(super) const IMAGE_WIDTH: u64 = 2;
    pub(super) const IMAGE_COLORSPACE: u64 = 3;
    pub(super) const IMAGE_ENCODED: u64 = 4;
    pub(super) const TENSOR_DTYPE: u64 = 1;
    pub(super) const TENSOR_SHAPE: u64 = 2;
    pub(super) const TENSOR_STRING: u64 = 8;
    pub(super) const METADATA_PLUGIN_DATA: u64 = 1;
    pub(super) const PLUGIN_DATA_NAME: u64 = 1;
}

/// `SessionLog.START`
const START: i64 = 1;
/// `DataType.DT_STRING`
const STRING: i64 = 7;
/// Channels of a picture in red, green and blue.
const RGB: i64 = 3;

/// The event file of a process that trains.
#[derive(Debug)]
pub(crate) struct EventFile {
    path: PathBuf,
    file: OpenFile,
}

impl EventFile {
    /// Begins a file in a folder, which is made if it is not there, for a run that goes on after `step` steps.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn begin(folder: &Path, step: u64) -> Result<Self, MetricsError> {
        make_folder(folder).map_err(MetricsError::file(folder))?;
        let (seconds, process) = (seconds_since_1970() as u64, std::process::id());
        let path = folder.join(format!(
            "events.out.tfevents.{seconds:010}.{process}.polynet"
        ));
        let file = OpenFile::append_to(&path).map_err(MetricsError::file(&path))?;
        let mut events = Self { path, file };
        let version = Message::new().text(field::EVENT_FILE_VERSION, "brain.Event:2");
        events.write(0, version)?;
        let start = Message::new().int(field::SESSION_LOG_STATUS, START);
        let start = Message::new().message(field::EVENT_SESSION_LOG, start);
        // What is there of this step and later ones is forgotten.
        events.write(step + 1, start)?;
        Ok(events)
    }

    /// A record of the metrics: its numbers as scalars, what happened as text.
    pub(crate) fn record(&mut self, record: &Record) -> Result<(), MetricsError> {
        let values = match record {
            Record::Train(record) => vec![
                scalar("train/loss", record.loss),
                scalar("train/top1", record.top1),
                scalar("train/learning_rate", record.learning_rate),
                scalar("train/images_per_s", record.images_per_s),
            ],
            Record::Validation(record) => vec![
                scalar("validation/loss", record.loss),
                scalar("validation/top1", record.top1),
                scalar("validation/top5", record.top5),
            ],
            Record::Event(record) => vec![text("event", &record.message)],
        };
        self.summary(record.step(), values)
    }

    /// A text, in Markdown.
    pub(crate) fn text(
        &mut self,
        step: u64,
        tag: &str,
        markdown: &str,
    ) -> Result<(), MetricsError> {
        self.summary(step, vec![text(tag, markdown)])
    }

    /// Pictures, numbered from 0.
    pub(crate) fn pictures(
        &mut self,
        step: u64,
        tag: &str,
        pictures: &[RgbImage],
    ) -> Result<(), MetricsError> {
        let pictures = pictures.iter().enumerate();
        let values = pictures.map(|(number, image)| picture(&format!("{tag}/{number}"), image));
        self.summary(step, values.collect())
    }

    /// A confusion matrix, as a picture: a row for the true class.
    pub(crate) fn confusion(
        &mut self,
        step: u64,
        matrix: &ConfusionMatrix,
    ) -> Result<(), MetricsError> {
        let value = picture("validation/confusion", &confusion_picture(matrix));
        self.summary(step, vec![value])
    }

    fn summary(&mut self, step: u64, values: Vec<Message<'static>>) -> Result<(), MetricsError> {
        let summary = Message::new().messages(field::SUMMARY_VALUE, values);
        self.write(step, Message::new().message(field::EVENT_SUMMARY, summary))
    }

    /// One write for the whole record, so that those of a killed process are whole but for the last.
    fn write(&mut self, step: u64, what: Message<'_>) -> Result<(), MetricsError> {
        let event = Message::new()
            .double(field::EVENT_WALL_TIME, seconds_since_1970())
            .int(field::EVENT_STEP, step as i64)
            .fields(what);
        let record = framed(&event.to_bytes());
        let written = self.file.write_all(&record);
        written.map_err(MetricsError::file(&self.path))
    }
}

fn seconds_since_1970() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0.0, |now| now.as_secs_f64())
}

fn scalar(tag: &str, value: f64) -> Message<'static> {
    Message::new()
        .text(field::VALUE_TAG, tag)
        .float(field::VALUE_SIMPLE_VALUE, value as f32)
}

fn text(tag: &str, markdown: &str) -> Message<'static> {
    let plugin = Message::new().text(field::PLUGIN_DATA_NAME, "text");
    let tensor = Message::new()
        .int(field::TENSOR_DTYPE, STRING)
        .message(field::TENSOR_SHAPE, Message::new())
        .text(field::TENSOR_STRING, markdown);
    Message::new()
        .text(field::VALUE_TAG, tag)
        .message(field::VALUE_TENSOR, tensor)
        .message(
            field::VALUE_METADATA,
            Message::new().message(field::METADATA_PLUGIN_DATA, plugin),
        )
}

fn picture(tag: &str, picture: &RgbImage) -> Message<'static> {
    let image = Message::new()
        .int(field::IMAGE_HEIGHT, i64::from(picture.height()))
        .int(field::IMAGE_WIDTH, i64::from(picture.width()))
        .int(field::IMAGE_COLORSPACE, RGB)
        .blob(field::IMAGE_ENCODED, &encode_png(picture));
    Message::new()
        .text(field::VALUE_TAG, tag)
        .message(field::VALUE_IMAGE, image)
}

/// A record of a file.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(bytes.len() + 16);
    record.extend(length);
    record.extend(checksum(&length).to_le_bytes());
    record.extend(bytes);
    record.extend(checksum(bytes).to_le_bytes());
    record
}

/// CRC-32C, turned by 15 bits and moved, so that checksums of what holds checksums stay good.
fn checksum(bytes: &[u8]) -> u32 {
    let crc = crc32c::crc32c(bytes);
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{TrainRecord, ValidationRecord};

    #[test]
    fn a_record_is_the_bytes_that_tensorboard_writes() {
        // tensorboard.summary.writer.record_writer.RecordWriter of TensorBoard 2.21, given b"polynet".
        let expected = b"\x07\0\0\0\0\0\0\0\xbb\xd7\x9f\x11polynet\xd0'\xe13";
        assert_eq!(framed(b"polynet"), expected);
    }

    /// The events of a file, each its step and what follows its time and step.
    fn events(file: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let (mut rest, mut events) = (file, Vec::new());
        while let Some((length, after)) = rest.split_first_chunk() {
            let length = u64::from_le_bytes(*length) as usize;
            assert_eq!(rest[..length + 16], framed(&after[4..][..length]));
            // A field of eight bytes, then a number below 128.
            let event = &after[4..][..length];
            assert_eq!((event[0], event[9]), (1 << 3 | 1, 2 << 3));
            events.push((event[10], event[11..].to_vec()));
            rest = &rest[length + 16..];
        }
        events
    }

    #[test]
    fn a_resumed_run_goes_on_behind_the_steps_that_it_keeps() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::begin(folder.path(), 20).unwrap();
        let train = TrainRecord {
            step: 21,
            epoch: 0.5,
            images: 42,
            loss: 0.5,
            top1: 0.25,
            learning_rate: 0.125,
            images_per_s: 2.0,
        };
        file.record(&Record::Train(train)).unwrap();
        let validation = ValidationRecord {
            step: 22,
            epoch: 0.5,
            loss: 0.5,
            top1: 0.25,
            top5: 1.0,
        };
        file.record(&Record::Validation(validation)).unwrap();
        file.confusion(22, &ConfusionMatrix::new(3)).unwrap();
        let events = events(&std::fs::read(&file.path).unwrap());
        let steps: Vec<u8> = events.iter().map(|(step, _)| *step).collect();
        // TensorBoard forgets earlier files' events from the start's step on, so that is the next one.
        assert_eq!(steps, [0, 21, 21, 22, 22]);
        let [version, start, train, validation, confusion] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(version.1, b"\x1a\x0dbrain.Event:2");
        assert_eq!(start.1, b"\x3a\x02\x08\x01");
        let scalar = |tag: &str, value: f32| {
            let tag = [&[1 << 3 | 2, tag.len() as u8][..], tag.as_bytes()];
            [&tag.concat()[..], &[2 << 3 | 5], &value.to_le_bytes()].concat()
        };
        let holds =
            |event: &(u8, Vec<u8>), part: &[u8]| event.1.windows(part.len()).any(|w| w == part);
        for (event, tag, value) in [
            (train, "train/loss", 0.5),
            (train, "train/top1", 0.25),
            (train, "train/learning_rate", 0.125),
            (train, "train/images_per_s", 2.0),
            (validation, "validation/loss", 0.5),
            (validation, "validation/top1", 0.25),
            (validation, "validation/top5", 1.0),
        ] {
            assert!(holds(event, &scalar(tag, value)), "{tag}");
        }
        assert!(holds(confusion, b"validation/confusion") && holds(confusion, b"\x89PNG"));
    }
}

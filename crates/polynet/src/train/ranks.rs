//! How the ranks of a run share its steps.
//!
//! A step's batch has `training.accumulate` parts, each with its own dropout and its own batch-norm
//! statistics, if they are not synchronised. Rank `r` of `n` takes the parts from `r · parts / n` on, in
//! order, and everything that is added up over parts is added in their order: a run's weights are the
//! same to the bit for every number of ranks, one included. Running statistics move by each part in
//! turn, as with one rank (the paper is silent there), or once by those of the step.

use super::error::TrainError;
use super::recipe::{NormGroup, Recipe};
use crate::bytes::{self, put_f32s, take_f32s, take_word};
use crate::data::{Batch, DataError, Skipped};
use crate::distributed::Communicator;
use crate::engine::Device;
use crate::step::NormStatistics;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// A rank's place in a run.
#[derive(Clone, Debug)]
pub(super) struct Ranks {
    communicator: Arc<Communicator>,
    /// Parts of a batch.
    parts: usize,
    /// Images of a part.
    part_size: usize,
    norm_group: NormGroup,
}

/// What all ranks know before they compute a step.
#[derive(Debug, Default)]
pub(super) struct StepStart {
    /// Images of each part of the batch, those left out not counted.
    pub(super) images: Vec<usize>,
    /// Images left out.
    pub(super) skipped: Vec<Skipped>,
    /// Whether some rank was asked to stop.
    pub(super) stop: bool,
}

/// One rank's part in a [`StepStart`].
#[derive(Debug, Default, Serialize, Deserialize)]
struct Ready {
    images: Vec<usize>,
    skipped: Vec<Skipped>,
    stop: bool,
    error: Option<String>,
}

/// What a part's gradients come with.
#[derive(Clone, Debug)]
pub(super) struct PartRecord {
    /// Mean loss of its images.
    pub(super) loss: f64,
    /// Images whose highest logit is their label's.
    pub(super) correct: u64,
    pub(super) images: usize,
    /// What its batch norms saw, where each part has its own statistics.
    pub(super) statistics: Vec<NormStatistics>,
}

impl Ranks {
    /// The ranks of a run by `recipe`, whose parts become one for each rank where it leaves a batch
    /// whole.
    pub(super) fn new(
        communicator: &Arc<Communicator>,
        recipe: &mut Recipe,
    ) -> Result<Self, TrainError> {
        let ranks = communicator.ranks() as u64;
        let device = recipe.device.parse::<Device>()?;
        let training = &mut recipe.training;
        let is_synchronised = training.batch_norm == NormGroup::Synchronised;
        let parts = match training.accumulate {
            _ if is_synchronised && !device.shares_statistics() => {
                whole_batch(ranks, &recipe.device)?
            }
            0 | 1 => ranks,
            parts => parts,
        };
        if !parts.is_multiple_of(ranks) || !training.batch_size.is_multiple_of(parts) {
            return Err(TrainError::Parts {
                parts,
                batch_size: training.batch_size,
                ranks,
            });
        }
        training.accumulate = parts;
        Ok(Self {
            communicator: Arc::clone(communicator),
            parts: parts as usize,
            part_size: (training.batch_size / parts) as usize,
            // One part has the statistics of all images as it is.
            norm_group: match parts {
                1 => NormGroup::Local,
                _ => training.batch_norm,
            },
        })
    }

    pub(super) fn communicator(&self) -> &Communicator {
        &self.communicator
    }

    /// Whether this rank writes files.
    pub(super) fn is_writer(&self) -> bool {
        self.communicator.is_writer()
    }

    /// Whether there is only this one.
    pub(super) fn is_alone(&self) -> bool {
        self.communicator.ranks() == 1
    }

    /// Whose images batch norm takes its statistics from.
    pub(super) fn norm_group(&self) -> NormGroup {
        self.norm_group
    }

    /// The parts of a batch that rank `rank` computes.
    fn parts_of(&self, rank: usize) -> Range<usize> {
        let each = self.parts / self.communicator.ranks();
        rank * each..(rank + 1) * each
    }

    /// The parts of a batch that this rank computes.
    pub(super) fn own_parts(&self) -> Range<usize> {
        self.parts_of(self.communicator.rank())
    }

    /// The positions of a part in a batch.
    pub(super) fn positions(&self, part: usize) -> Range<usize> {
        part * self.part_size..(part + 1) * self.part_size
    }

    /// The positions of this rank's parts in a batch.
    pub(super) fn own_positions(&self) -> Range<usize> {
        let parts = self.own_parts();
        parts.start * self.part_size..parts.end * self.part_size
    }

    /// How many parts with images each rank has.
    pub(super) fn rows(&self, start: &StepStart) -> Vec<usize> {
        let rows = |rank| {
            let parts = self.parts_of(rank);
            parts.filter(|&part| start.images[part] > 0).count()
        };
        (0..self.communicator.ranks()).map(rows).collect()
    }

    /// Lets all ranks go on if all could, or end with the error of the first that could not.
    pub(super) fn agree<T>(&self, result: Result<T, TrainError>) -> Result<T, TrainError> {
        agree(&self.communicator, result)
    }

    /// Whether all ranks make the same run in the same way: what they say of it must be equal.
    pub(super) fn compare(&self, description: &str) -> Result<(), TrainError> {
        let all = self.communicator.gather(description.as_bytes().to_vec())?;
        let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match all.iter().position(|other| *other != all[0]) {
            None => Ok(()),
            Some(rank) => Err(TrainError::Different {
                rank,
                expected: words(&all[0]),
                found: words(&all[rank]),
            }),
        }
    }

    /// Exchanges what each rank has of the next step's batch.
    ///
    /// # Errors
    /// On every rank, if a batch could not be loaded on one.
    pub(super) fn begin_step(
        &self,
        batch: Result<Batch, DataError>,
        stop: bool,
    ) -> Result<(Batch, StepStart), TrainError> {
        let own = match &batch {
            Err(_) if self.is_alone() => Ready::default(),
            Err(error) => Ready {
                error: Some(error.to_string()),
                ..Ready::default()
            },
            Ok(batch) => self.ready(batch, stop),
        };
        if self.is_alone() {
            return Ok((batch?, StepStart::of(vec![own])));
        }
        let all: Vec<Ready> = gather(&self.communicator, &own)?;
        let failed = all.iter().enumerate();
        for (rank, ready) in failed {
            if let Some(message) = &ready.error {
                let message = message.clone();
                return Err(TrainError::Rank { rank, message });
            }
        }
        Ok((batch?, StepStart::of(all)))
    }

    fn ready(&self, batch: &Batch, stop: bool) -> Ready {
        let images = |part| {
            let positions = self.positions(part);
            let inside = batch.positions.iter().filter(|p| positions.contains(p));
            inside.count()
        };
        Ready {
            images: self.own_parts().map(images).collect(),
            skipped: batch.skipped.clone(),
            stop,
            error: None,
        }
    }

    /// The records of all parts of all ranks, in the order of the parts.
    pub(super) fn gather_parts(&self, own: &[PartRecord]) -> Result<Vec<PartRecord>, TrainError> {
        let mut bytes = Vec::new();
        for record in own {
            record.write(&mut bytes);
        }
        let mut records = Vec::new();
        for (rank, bytes) in self.communicator.gather(bytes)?.iter().enumerate() {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let record = PartRecord::read(&mut rest);
                records.push(record.ok_or_else(|| TrainError::Rank {
                    rank,
                    message: "its record of a step is torn".to_owned(),
                })?);
            }
        }
        Ok(records)
    }
}

/// The parts of a batch where batch norm sees all of it and a GPU computes: one, on one rank.
fn whole_batch(ranks: u64, device: &str) -> Result<u64, TrainError> {
    match ranks {
        1 => Ok(1),
        _ => Err(TrainError::Synchronised {
            device: device.to_owned(),
            ranks,
        }),
    }
}

impl StepStart {
    fn of(all: Vec<Ready>) -> Self {
        let mut start = Self::default();
        for ready in all {
            start.images.extend(ready.images);
            start.skipped.extend(ready.skipped);
            start.stop |= ready.stop;
        }
        start
    }

    /// Images of the whole batch.
    pub(super) fn total(&self) -> usize {
        self.images.iter().sum()
    }
}

impl PartRecord {
    /// Loss, correct, images, number of batch norms; for each its number, channels, mean, variance.
    /// All in 64-bit words, little-endian, the statistics in 32-bit floats.
    fn write(&self, to: &mut Vec<u8>) {
        let (images, norms) = (self.images as u64, self.statistics.len() as u64);
        to.extend(bytes::of_words([
            self.loss.to_bits(),
            self.correct,
            images,
            norms,
        ]));
        for statistics in &self.statistics {
            let (norm, channels) = (statistics.norm as u64, statistics.mean.len() as u64);
            to.extend(bytes::of_words([norm, channels]));
            put_f32s(to, statistics.mean.iter().chain(&statistics.unbiased_var));
        }
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let loss = f64::from_bits(take_word(from)?);
        let correct = take_word(from)?;
        let images = take_word(from)? as usize;
        let norms = take_word(from)?;
        let statistics = (0..norms).map(|_| {
            let norm = take_word(from)? as usize;
            let channels = take_word(from)? as usize;
            Some(NormStatistics {
                norm,
                mean: take_f32s(from, channels)?,
                unbiased_var: take_f32s(from, channels)?,
            })
        });
        let statistics = statistics.collect::<Option<_>>()?;
        Some(Self {
            loss,
            correct,
            images,
            statistics,
        })
    }
}

/// See [`Ranks::agree`].
pub(super) fn agree<T>(
    communicator: &Communicator,
    result: Result<T, TrainError>,
) -> Result<T, TrainError> {
    if communicator.ranks() == 1 {
        return result;
    }
    let own = result.as_ref().err().map(ToString::to_string);
    let all: Vec<Option<String>> = gather(communicator, &own)?;
    let mut failures = all.into_iter().enumerate();
    match failures.find_map(|(rank, message)| Some((rank, message?))) {
        Some((rank, message)) => Err(TrainError::Rank { rank, message }),
        None => result,
    }
}

/// A value of each rank, as JSON.
fn gather<T: Serialize + serde::de::DeserializeOwned>(
    communicator: &Communicator,
    own: &T,
) -> Result<Vec<T>, TrainError> {
    let torn = |rank, error: serde_json::Error| TrainError::Rank {
        rank,
        message: format!("its message cannot be read: {error}"),
    };
    let own = serde_json::to_vec(own).map_err(|error| torn(communicator.rank(), error))?;
    let all = communicator.gather(own)?.into_iter().enumerate();
    all.map(|(rank, bytes)| serde_json::from_slice(&bytes).map_err(|error| torn(rank, error)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_gpus_are_whole_where_statistics_are_synchronised() {
        assert_eq!(whole_batch(1, "cuda").ok(), Some(1));
        let error = whole_batch(4, "cuda").unwrap_err().to_string();
        let says = error.contains("over 4 ranks on device `cuda`") && error.contains("one rank");
        assert!(says, "{error}");
    }
}

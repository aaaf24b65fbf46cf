//! A step whose batch norms see the images of all parts, on whatever rank they are.

use super::{Part, StepGradients, Trainee};
use crate::bytes;
use crate::distributed::{Buckets, CommunicationError, Communicator, Exchange, Summed};
use crate::eval::count_correct;
use crate::step::{SharedStep, StepOptions};
use crate::train::error::TrainError;
use crate::train::ranks::{PartRecord, Ranks, StepStart};
use rand_chacha::ChaCha8Rng;
use std::time::{Duration, Instant};

/// The gradients of the parts of all ranks. They are sent while the backward pass goes on, between the
/// sums of its batch norms.
pub(super) fn gradients(
    trainee: &mut Trainee<'_>,
    parts: &[Part<'_>],
    options: &StepOptions<'_>,
    rng: impl Fn(&Part<'_>) -> ChaCha8Rng,
    ranks: &Ranks,
    start: &StepStart,
) -> Result<StepGradients, TrainError> {
    let images = start.images.iter().copied().filter(|&n| n > 0).collect();
    let (rows, tensors) = (ranks.rows(start), trainee.params.len());
    let mut shared = StepOfRanks::new(ranks.communicator(), images, rows, tensors);
    let labels: Vec<&[usize]> = parts.iter().map(|part| part.labels).collect();
    let parts = parts.iter().map(|part| part.with(rng(part))).collect();
    let Trainee { params, engine, .. } = trainee;
    let output = engine.synchronised_gradients(params, parts, options, &mut shared)?;
    let summed = shared.finish()?;
    let records = output
        .parts
        .iter()
        .zip(labels)
        .map(|(part, labels)| PartRecord {
            loss: part.loss,
            correct: count_correct(&part.logits, labels),
            images: labels.len(),
            statistics: Vec::new(),
        });
    let records: Vec<PartRecord> = records.collect();
    let mut step = StepGradients::none(trainee.params);
    for record in ranks.gather_parts(&records)? {
        step.loss += record.loss * (record.images as f64 / start.total() as f64);
        step.correct += record.correct;
    }
    trainee.update_statistics(&output.statistics);
    step.tensors = summed.tensors;
    step.exchange = summed.exchange;
    Ok(step)
}

/// A step whose batch norms have their statistics in common, as one of the ranks sees it.
pub struct StepOfRanks<'a> {
    communicator: &'a Communicator,
    /// Images of each part that has some.
    images: Vec<usize>,
    /// How many of these parts each rank has.
    rows: Vec<usize>,
    gradients: GradientSum<'a>,
    /// For how long this rank has waited for rows.
    waited: Duration,
}

/// The gradients of all parts, added in their order.
enum GradientSum<'a> {
    OfRanks(Buckets<'a>),
    /// By tensor index, of the only rank.
    Alone(Vec<Option<Vec<f32>>>),
}

impl<'a> StepOfRanks<'a> {
    /// A step with so many images in each part, none empty; `rows` says how many of the parts each rank
    /// has, and `tensors` how many tensors have gradients.
    pub fn new(
        communicator: &'a Communicator,
        images: Vec<usize>,
        rows: Vec<usize>,
        tensors: usize,
    ) -> Self {
        Self {
            communicator,
            images,
            rows: rows.clone(),
            gradients: match communicator.ranks() == 1 {
                true => GradientSum::Alone(vec![None; tensors]),
                false => {
                    GradientSum::OfRanks(Buckets::new(communicator, rows, Vec::new(), tensors))
                }
            },
            waited: Duration::ZERO,
        }
    }

    /// The gradients of all parts, and for how long this rank has waited for others.
    ///
    /// # Errors
    /// If a rank is gone or does not answer in time, or the ranks do not exchange the same.
    pub fn finish(self) -> Result<Summed, CommunicationError> {
        match self.gradients {
            GradientSum::Alone(tensors) => Ok(Summed {
                tensors,
                exchange: Exchange::default(),
            }),
            GradientSum::OfRanks(buckets) => {
                let mut summed = buckets.finish()?;
                summed.exchange.communication += self.waited;
                summed.exchange.waited += self.waited;
                Ok(summed)
            }
        }
    }

    /// The rows in the bytes of a rank.
    fn rows_of(
        &self,
        (rank, bytes): (usize, &[u8]),
        length: usize,
    ) -> Result<Vec<Vec<f64>>, CommunicationError> {
        let expected = 8 * length * self.rows[rank];
        if bytes.len() != expected {
            let found = bytes.len();
            return Err(CommunicationError::Disagreement {
                what: format!(
                    "expected {expected} bytes of batch-norm statistics from rank {rank}, found {found}"
                ),
            });
        }
        let row = |row: &[u8]| bytes::words(row).map(f64::from_bits).collect();
        Ok(bytes.chunks_exact((8 * length).max(1)).map(row).collect())
    }
}

impl SharedStep for StepOfRanks<'_> {
    type Error = CommunicationError;

    fn images(&self) -> &[usize] {
        &self.images
    }

    fn gather(
        &mut self,
        own: Vec<Vec<f64>>,
        length: usize,
    ) -> Result<Vec<Vec<f64>>, CommunicationError> {
        if self.communicator.ranks() == 1 {
            return Ok(own);
        }
        let own = bytes::of_words(own.into_iter().flatten().map(f64::to_bits));
        let started = Instant::now();
        let all = self.communicator.gather(own)?;
        self.waited += started.elapsed();
        let mut rows = Vec::with_capacity(self.images.len());
        for (rank, bytes) in all.iter().enumerate() {
            rows.extend(self.rows_of((rank, bytes), length)?);
        }
        Ok(rows)
    }

    fn observe(&mut self, tensor: usize, gradients: &[Vec<f32>]) {
        match &mut self.gradients {
            GradientSum::OfRanks(buckets) => buckets.add_parts(tensor, gradients),
            GradientSum::Alone(sums) => {
                sums[tensor] = gradients.iter().cloned().reduce(|mut sum, gradient| {
                    for (sum, value) in sum.iter_mut().zip(gradient) {
                        *sum += value;
                    }
                    sum
                });
            }
        }
    }
}

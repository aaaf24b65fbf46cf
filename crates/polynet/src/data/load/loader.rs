//! Batches, decoded and augmented in parallel ahead of whoever consumes them.
//!
//! ```no_run
//! use std::sync::Arc;
//! use polynet::data::{Augmentation, Dataset, Loader, LoaderConfig, Preprocessing, Split, View};
//!
//! let photos = Arc::new(Dataset::open("photos", Split::Train)?);
//! let view = View::Train {
//!     augmentation: Augmentation::multi_area_crop(),
//!     preprocessing: Preprocessing::imagenet(331),
//! };
//! let loader = Loader::new(photos, LoaderConfig::new(32, view))?;
//! for batch in loader.epoch(0, 0) {
//!     let batch = batch?;
//!     println!("{:?}", batch.shape()); // [32, 3, 331, 331]
//! }
//! # Ok::<(), polynet::data::DataError>(())
//! ```
//!
//! Laws: batch `b` of epoch `e` is the same to the bit for any number of threads, and for an
//! epoch begun at batch `b`. At most `prefetch` batches exist that were not handed over yet.
//! Dropping an [`Epoch`] stops its work after at most one image a thread.

use std::{
    any::Any,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use rand::seq::SliceRandom;
use rayon::{ThreadPool, ThreadPoolBuilder, prelude::*};

use super::batch::{Batch, LastBatch, LoaderConfig, OnError, Order, Share, Skipped, View};
use crate::{
    data::{
        error::{DataError, DataErrorKind},
        index::{Dataset, SHUFFLE_BUFFER, order_of_shards},
    },
    random::{order_rng, sample_rng},
};

/// Makes the batches of any epoch of a data set.
#[derive(Debug)]
pub struct Loader {
    work: Arc<Work>,
    pool: Arc<ThreadPool>,
}

/// The batches of one epoch, in order; ends after the first error.
#[derive(Debug)]
pub struct Epoch {
    receiver: Option<Receiver<Result<Batch, DataError>>>,
    cancelled: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    failure: Option<DataError>,
    remaining: usize,
    usable: Usable,
}

/// Whether an epoch has had any image that can be used.
#[derive(Debug)]
enum Usable {
    /// Some, or others load the rest of the epoch.
    NoMatter,
    /// None so far, and how many were left out.
    NoneOf(usize),
}

/// What the loading threads share.
#[derive(Debug)]
struct Work {
    dataset: Arc<Dataset>,
    config: LoaderConfig,
}

impl Loader {
    /// A loader with its own threads.
    ///
    /// # Errors
    /// If a setting makes no sense or the threads can't be started.
    pub fn new(dataset: Arc<Dataset>, config: LoaderConfig) -> Result<Self, DataError> {
        config.validate(dataset.len())?;
        let pool = ThreadPoolBuilder::new()
            .num_threads(config.threads)
            .thread_name(|number| format!("loader-{number}"))
            .build()
            .map_err(|error| worker(format!("can't start the loading threads: {error}")))?;
        Ok(Self {
            work: Arc::new(Work { dataset, config }),
            pool: Arc::new(pool),
        })
    }

    /// The data set that is loaded.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.work.dataset
    }

    /// How it is loaded.
    pub fn config(&self) -> &LoaderConfig {
        &self.work.config
    }

    /// How many batches every epoch has.
    pub fn batches_per_epoch(&self) -> usize {
        self.work.batches()
    }

    /// The batches of `epoch` from number `first_batch` on: none if there are not that many.
    pub fn epoch(&self, epoch: u64, first_batch: usize) -> Epoch {
        let cancelled = Arc::new(AtomicBool::new(false));
        // One batch is in the making while the channel is full.
        let (sender, receiver) = sync_channel(self.config().prefetch - 1);
        let producer = Producer {
            work: Arc::clone(&self.work),
            pool: Arc::clone(&self.pool),
            cancelled: Arc::clone(&cancelled),
            epoch,
        };
        let thread = thread::Builder::new()
            .name("loader".into())
            .spawn(move || producer.run(first_batch, &sender));
        let (thread, failure) = match thread {
            Ok(thread) => (Some(thread), None),
            Err(error) => {
                let message = format!("can't start a loading thread: {error}");
                (None, Some(DataError::new(DataErrorKind::Worker, message)))
            }
        };
        Epoch {
            receiver: Some(receiver),
            cancelled,
            thread,
            failure,
            remaining: self.batches_per_epoch().saturating_sub(first_batch),
            usable: match first_batch == 0 && self.work.loads_all() {
                true => Usable::NoneOf(0),
                false => Usable::NoMatter,
            },
        }
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failure.take() {
            self.remaining = 0;
            return Some(Err(error));
        }
        self.remaining = self.remaining.checked_sub(1)?;
        let received = self.receiver.as_ref().and_then(|from| from.recv().ok());
        let batch = received.unwrap_or_else(|| {
            let message = "the loading thread ended before its last batch";
            Err(DataError::new(DataErrorKind::Worker, message))
        });
        let batch = batch.and_then(|batch| self.expect_some(batch));
        if batch.is_err() {
            self.remaining = 0;
        }
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (
            0,
            Some(self.remaining + usize::from(self.failure.is_some())),
        )
    }
}

impl std::iter::FusedIterator for Epoch {}

impl Epoch {
    /// Refuses the last batch of an epoch without a single image that can be used.
    fn expect_some(&mut self, batch: Batch) -> Result<Batch, DataError> {
        let Usable::NoneOf(left_out) = self.usable else {
            return Ok(batch);
        };
        let left_out = left_out + batch.skipped.len();
        self.usable = match batch.is_empty() {
            true => Usable::NoneOf(left_out),
            false => Usable::NoMatter,
        };
        match batch.skipped.first() {
            Some(skipped) if batch.is_empty() && self.remaining == 0 => Err(DataError::new(
                DataErrorKind::NoImages,
                format!(
                    "none of the {left_out} images can be used, the last batch begins with {}: {}",
                    skipped.path, skipped.reason
                ),
            )),
            _ => Ok(batch),
        }
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        // Without a receiver, a producer that waits to hand over a batch gives up.
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            // Its panic, if any, was an error of the iterator already.
            let _ = thread.join();
        }
    }
}

/// What the thread behind an [`Epoch`] does.
struct Producer {
    work: Arc<Work>,
    pool: Arc<ThreadPool>,
    cancelled: Arc<AtomicBool>,
    epoch: u64,
}

impl Producer {
    fn run(self, first_batch: usize, batches: &SyncSender<Result<Batch, DataError>>) {
        let order = self.work.order(self.epoch);
        for number in first_batch..self.work.batches() {
            let start = number * self.work.config.batch_size;
            let end = order.len().min(start + self.work.config.batch_size);
            let (first, indices) = self.work.share_of(&order[start..end]);
            let batch = self.batch(number, first, indices);
            let failed = batch.is_err();
            if batches.send(batch).is_err() || failed {
                return;
            }
        }
    }

    /// The batch of `indices`, which begin at position `first` of the whole batch.
    fn batch(&self, number: usize, first: usize, indices: &[usize]) -> Result<Batch, DataError> {
        let Work { dataset, config } = &*self.work;
        let preprocessing = config.view.preprocessing();
        let mut images = vec![0.0; indices.len() * preprocessing.input_len()];
        let outcomes = self.pool.install(|| {
            fill(&mut images, indices, &self.cancelled, |index, input| {
                self.work.load(self.epoch, index, input)
            })
        });
        let mut batch = Batch {
            images,
            labels: Vec::with_capacity(indices.len()),
            indices: Vec::with_capacity(indices.len()),
            positions: Vec::with_capacity(indices.len()),
            skipped: Vec::new(),
            number,
            input_size: preprocessing.input_size,
        };
        for (position, (&index, outcome)) in indices.iter().zip(outcomes).enumerate() {
            match outcome.map_err(|error| error.at(dataset.location(index))) {
                Ok(()) => batch.keep(first, position, index, dataset.sample(index).label),
                Err(error) if config.on_error == OnError::Fail => return Err(error),
                Err(error) => batch.skipped.push(Skipped {
                    path: dataset.location(index),
                    reason: error.message().to_owned(),
                }),
            }
        }
        batch
            .images
            .truncate(batch.labels.len() * preprocessing.input_len());
        Ok(batch)
    }
}

impl Work {
    fn batches(&self) -> usize {
        let images = match &self.config.share {
            Share::OfEpoch(range) => clip(range, self.dataset.len()).len(),
            Share::Whole | Share::OfBatch(_) => self.dataset.len(),
        };
        match self.config.last {
            LastBatch::Keep => images.div_ceil(self.config.batch_size),
            LastBatch::Drop => images / self.config.batch_size,
        }
    }

    /// Whether no other rank loads a part of its own.
    fn loads_all(&self) -> bool {
        match &self.config.share {
            Share::Whole => true,
            Share::OfBatch(range) => {
                clip(range, self.config.batch_size).len() == self.config.batch_size
            }
            Share::OfEpoch(range) => clip(range, self.dataset.len()).len() == self.dataset.len(),
        }
    }

    /// The part of a batch that is loaded, and its first position.
    fn share_of<'a>(&self, batch: &'a [usize]) -> (usize, &'a [usize]) {
        match &self.config.share {
            Share::OfBatch(range) => {
                let range = clip(range, batch.len());
                (range.start, &batch[range])
            }
            Share::Whole | Share::OfEpoch(_) => (0, batch),
        }
    }

    /// The samples of an epoch, in order.
    fn order(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.dataset.len()).collect();
        if self.config.order == Order::Shuffled {
            let mut rng = order_rng(self.config.seed, epoch);
            let shards = self.dataset.shards();
            if !shards.is_empty() {
                return order_of_shards(shards, SHUFFLE_BUFFER, &mut rng);
            }
            order.shuffle(&mut rng);
        }
        if let Share::OfEpoch(range) = &self.config.share {
            order = order[clip(range, order.len())].to_vec();
        }
        order
    }

    /// Makes one network input, `[3, input_size, input_size]`.
    fn load(&self, epoch: u64, index: usize, input: &mut [f32]) -> Result<(), DataError> {
        match &self.config.view {
            View::Evaluate { preprocessing } => {
                preprocessing.apply_into(&self.dataset.decode(index)?, input);
            }
            View::Train {
                augmentation,
                preprocessing,
            } => {
                let mut rng = sample_rng(self.config.seed, epoch, index);
                let bytes = self.dataset.read(index)?;
                augmentation.decode_into(&bytes, preprocessing, &mut rng, input)?;
            }
        }
        Ok(())
    }
}

/// The part of a range that is below `length`.
fn clip(range: &Range<usize>, length: usize) -> Range<usize> {
    let end = range.end.min(length);
    range.start.min(end)..end
}

/// Fills each image's part of `images` on the threads of the pool it is called in. A crash of a
/// decoder is an error of its image.
fn fill(
    images: &mut [f32],
    indices: &[usize],
    cancelled: &AtomicBool,
    load: impl Fn(usize, &mut [f32]) -> Result<(), DataError> + Sync,
) -> Vec<Result<(), DataError>> {
    let length = (images.len() / indices.len().max(1)).max(1);
    images
        .par_chunks_exact_mut(length)
        .zip(indices)
        .map(|(input, &index)| {
            if cancelled.load(Ordering::Relaxed) {
                return Err(worker("stopped"));
            }
            catch_unwind(AssertUnwindSafe(|| load(index, input)))
                .unwrap_or_else(|panic| Err(worker(format!("crashed: {}", words_of(&*panic)))))
        })
        .collect()
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a word")
}

fn worker(message: impl Into<String>) -> DataError {
    DataError::new(DataErrorKind::Worker, message)
}

#[cfg(test)]
mod tests;

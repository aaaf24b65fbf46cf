//! What a batch is and how it is to be made; [`Loader`](super::Loader) makes it.
//!
//! ```
//! use polynet::data::{LoaderConfig, Order, Preprocessing, View};
//!
//! let view = View::Evaluate { preprocessing: Preprocessing::small(32) };
//! let config = LoaderConfig { order: Order::InOrder, ..LoaderConfig::new(100, view) };
//! assert_eq!(config.prefetch, 2);
//! ```

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::data::{
    error::DataError,
    picture::{Augmentation, Preprocessing},
};

/// How a [`Loader`](super::Loader) makes batches.
#[derive(Debug, Clone, PartialEq)]
pub struct LoaderConfig {
    /// Images a batch.
    pub batch_size: usize,
    /// What order and augmentation are drawn from.
    pub seed: u64,
    /// The order of an epoch.
    pub order: Order,
    /// What becomes of a last batch that isn't full.
    pub last: LastBatch,
    /// Threads that decode; 0 for as many as there are processors.
    pub threads: usize,
    /// The most batches that are ready or being made but not handed over, at least 1.
    pub prefetch: usize,
    /// What happens when an image can't be read or decoded.
    pub on_error: OnError,
    /// What a picture becomes.
    pub view: View,
    /// Which images are loaded.
    pub share: Share,
}

/// Which images of an epoch are loaded: those of one rank, where several share the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Share {
    /// All of them.
    Whole,
    /// Those at these positions of every batch.
    OfBatch(Range<usize>),
    /// Those at these positions of the epoch; batches are made of them alone.
    OfEpoch(Range<usize>),
}

/// The order of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// A new permutation each epoch, drawn from seed and epoch alone. Shards are read one after
    /// the other, in a drawn order, and mixed by a buffer of 4096 samples.
    Shuffled,
    /// The data set's own.
    InOrder,
}

/// What becomes of a last batch that isn't full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastBatch {
    /// It comes, smaller than the others.
    Keep,
    /// It is left out.
    Drop,
}

/// What happens when an image can't be read or decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The epoch ends with an error that names the file.
    Fail,
    /// It is left out of its batch and listed in [`Batch::skipped`]. The batch is smaller then,
    /// in the worst case empty; nothing else moves up, so batch numbers keep their meaning.
    Skip,
}

/// What a picture becomes.
#[derive(Debug, Clone, PartialEq)]
pub enum View {
    /// A varied input for training.
    Train {
        /// How it is varied.
        augmentation: Augmentation,
        /// Input size, interpolation and normalisation.
        preprocessing: Preprocessing,
    },
    /// The one input that evaluation and prediction see.
    Evaluate {
        /// How it is made.
        preprocessing: Preprocessing,
    },
}

/// Some images as a network's input, with their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `[n, 3, input_size, input_size]`, normalised.
    pub images: Vec<f32>,
    /// The class of each image, `[n]`.
    pub labels: Vec<usize>,
    /// Which sample of the data set each image is, `[n]`.
    pub indices: Vec<usize>,
    /// The place of each image in the batch as it was drawn, before any were left out, `[n]`.
    pub positions: Vec<usize>,
    /// What was left out because of [`OnError::Skip`].
    pub skipped: Vec<Skipped>,
    /// The batch's number in its epoch.
    pub number: usize,
    /// Height and width of an image.
    pub input_size: usize,
}

/// An image that was left out of its batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The file, or `archive.tar:member`.
    pub path: String,
    /// Why.
    pub reason: String,
}

impl LoaderConfig {
    /// Shuffled, with the last batch kept, on all processors, two batches ahead, failing on
    /// broken files, seed 0.
    pub fn new(batch_size: usize, view: View) -> Self {
        Self {
            batch_size,
            seed: 0,
            order: Order::Shuffled,
            last: LastBatch::Keep,
            threads: 0,
            prefetch: 2,
            on_error: OnError::Fail,
            view,
            share: Share::Whole,
        }
    }

    pub(super) fn validate(&self, samples: usize) -> Result<(), DataError> {
        let expected = |what: &str| Err(DataError::configuration(format!("expected {what}")));
        if self.batch_size == 0 {
            return expected("a batch size of at least 1, got 0");
        }
        if self.prefetch == 0 {
            return expected("prefetch of at least 1 batch, got 0");
        }
        if self.last == LastBatch::Drop && samples < self.batch_size {
            return expected(&format!(
                "at least as many images as a batch has ({}), the data set has {samples}; keep \
                 the last batch or make batches smaller",
                self.batch_size
            ));
        }
        self.view.preprocessing().validate()?;
        match &self.view {
            View::Evaluate { .. } => Ok(()),
            View::Train {
                augmentation,
                preprocessing,
            } => augmentation.validate(preprocessing.input_size),
        }
    }
}

impl View {
    pub(super) fn preprocessing(&self) -> &Preprocessing {
        let (Self::Train { preprocessing, .. } | Self::Evaluate { preprocessing }) = self;
        preprocessing
    }
}

impl Batch {
    /// `[n, 3, input_size, input_size]`.
    pub fn shape(&self) -> [usize; 4] {
        [self.len(), 3, self.input_size, self.input_size]
    }

    /// How many images it has.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether all its images were skipped.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Counts the image at `position` of the share in, moving it up if others were skipped; the share
    /// begins at `first` of the whole batch.
    pub(super) fn keep(&mut self, first: usize, position: usize, index: usize, label: usize) {
        let length = 3 * self.input_size * self.input_size;
        let target = self.labels.len();
        if target != position {
            self.images
                .copy_within(position * length..(position + 1) * length, target * length);
        }
        self.labels.push(label);
        self.indices.push(index);
        self.positions.push(first + position);
    }
}

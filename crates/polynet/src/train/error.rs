//! Why a run could not start or go on.

use super::recipe::RecipeError;
use crate::arch::ArchError;
use crate::data::DataError;
use crate::engine::DeviceError;
use crate::eval::EvalError;
use crate::params::WeightError;
use crate::report::{MetricsError, RunFolderError};
use std::path::PathBuf;

/// Why a run could not start or go on.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the wrapped errors say what they are
pub enum TrainError {
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error("model.architecture: {0}")]
    Architecture(#[from] ArchError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error("device: {0}")]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Weights(#[from] WeightError),
    #[error(transparent)]
    FineTuning(#[from] super::FineTuningError),
    /// The model to start from is of another structure.
    #[error(
        "model.init: {source}\nif the model is a smaller one of the same family and width, grow it \
         first: polynet grow {} --to \"{architecture}\" --out GROWN", folder.display()
    )]
    Init {
        /// The model's folder.
        folder: PathBuf,
        /// The recipe's architecture.
        architecture: String,
        /// What does not fit.
        source: Box<WeightError>,
    },
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error(transparent)]
    Evaluation(#[from] EvalError),
    #[error(transparent)]
    Epoch(#[from] super::duration::IncompleteBatch),
    /// The classes of data and architecture differ in number.
    #[error(
        "the architecture has {expected} classes, {} has {found}: write `classes = {found}` in \
         model.architecture", path.display()
    )]
    Classes {
        /// Of the architecture.
        expected: usize,
        /// Of the data.
        found: usize,
        /// The data.
        path: PathBuf,
    },
    /// Stochastic paths on an architecture whose residual scale varies.
    #[error(
        "stochastic_paths: the architecture's residual scale varies from module to module, which is \
         how prediction scales paths that training drops; it would be scaled twice. Write `scale = 1` \
         (or another number) in model.architecture, or stochastic_paths.when = \"never\""
    )]
    ScaledPaths,
    /// The device does not compute in the recipe's precision.
    #[error(
        "training.precision: the device `{device}` does not compute in `bf16`; write \
         precision = \"f32\" (activations = \"recomputed\" saves memory)"
    )]
    Precision {
        /// The device.
        device: String,
    },
    /// A checkpoint's tensor does not fit the network.
    #[error(
        "{}: the newest checkpoint does not fit recipe.toml, beginning with {tensor}; restore the \
         recipe that the run began with", folder.display()
    )]
    Checkpoint {
        /// The checkpoints' folder.
        folder: PathBuf,
        /// The tensor's name.
        tensor: String,
    },
    /// No image can be decoded.
    #[error(
        "{}: none of the {split} images can be used; `polynet data check` says what is wrong with \
         each", path.display()
    )]
    Unusable {
        /// The data.
        path: PathBuf,
        /// Which of its splits.
        split: &'static str,
    },
    /// The data is not what the run began with.
    #[error(
        "{}: the data is not what the run began with\n  {}\nto go on all the same: polynet train \
         --resume {} --accept-changed-data", path.display(), differences.join("\n  "),
        folder.display()
    )]
    DataChanged {
        /// The data.
        path: PathBuf,
        /// The run's folder.
        folder: PathBuf,
        /// What is different, a sentence each.
        differences: Vec<String>,
    },
    #[error(transparent)]
    Launch(#[from] crate::distributed::LaunchError),
    #[error(transparent)]
    Communication(#[from] crate::distributed::CommunicationError),
    /// One rank cannot go on, so none can.
    #[error("rank {rank}: {message}")]
    Rank {
        /// Which one.
        rank: usize,
        /// What it says.
        message: String,
    },
    /// Ranks that would not train the same network.
    #[error(
        "rank {rank} differs from rank 0, and all must have the same program, recipe, data and \
         processor features: expected\n{expected}\nfound\n{found}"
    )]
    Different {
        /// The first that differs.
        rank: usize,
        /// What rank 0 says of itself.
        expected: String,
        /// What the other says.
        found: String,
    },
    /// A batch that the ranks cannot share.
    #[error(
        "training.accumulate: a batch of {batch_size} images in {parts} equal parts cannot be shared \
         evenly by {ranks} ranks; start as many ranks as divide {parts} parts, or set \
         training.batch_size and training.accumulate to multiples of the ranks in a new run"
    )]
    Parts {
        /// Parts of a batch.
        parts: u64,
        /// Images of a batch.
        batch_size: u64,
        /// Ranks.
        ranks: u64,
    },
    /// Ranks whose devices keep their batch-norm statistics to themselves.
    #[error(
        "training.batch_norm: `synchronised` statistics over {ranks} ranks on device `{device}`: only \
         the processor's training steps share them; write device = \"cpu\", or batch_norm = \"local\", \
         as in the paper, with parts of at least 16 images, or train on one rank, which computes its \
         batches whole"
    )]
    Synchronised {
        /// The device.
        device: String,
        /// How many.
        ranks: u64,
    },
    /// The loss is infinite or no number.
    #[error(
        "the loss is {loss} at step {step} (learning rate {learning_rate}); lower \
         schedule.learning_rate or lengthen its warm-up, the last checkpoint is from before"
    )]
    NotFinite {
        /// The step, counted from 1.
        step: u64,
        /// The loss.
        loss: f64,
        /// The learning rate of the step.
        learning_rate: f64,
    },
}

impl TrainError {
    /// Whether every rank of the run has the same error, so that none waits for another.
    pub fn is_known_to_all_ranks(&self) -> bool {
        matches!(
            self,
            Self::Rank { .. } | Self::Different { .. } | Self::NotFinite { .. }
        )
    }
}

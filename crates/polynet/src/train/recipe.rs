//! A recipe: one experiment as text, from the architecture to the last learning rate.
//!
//! ```toml
//! name = "small-photos"
//! seed = 7
//!
//! [model]
//! architecture = "small-polynet; classes = 10"
//!
//! [data]
//! path = "photos"
//!
//! [optimizer]
//! kind = "sgd"
//! weight_decay = 5e-4
//!
//! [schedule]
//! kind = "one-cycle"
//! learning_rate = 0.4
//! warm_up = "2 epochs"
//!
//! [training]
//! batch_size = 64
//! duration = "12 epochs"
//! ```
//!
//! Only `model.architecture` and `data.path` are required; every other key has a default, and the
//! defaults are the paper's training (§4): RMSProp with decay 0.9 and ε = 1, learning rate 0.45,
//! ×0.1 every 160 K of 560 K steps of 256 images, multi-area crops. The defaults stand at the
//! fields below. A key that no recipe has, a value of another type and a number out of range are
//! errors; all of a recipe's faults are reported at once, each with its line.
//!
//! Gradient accumulation, clipping, averaged weights, bf16 and recomputation are keys of
//! [`TrainingSection`]; `[stochastic_paths]` is [`StochasticPathsSection`].
//!
//! Overrides from the command line are `key.path=value` with a value in TOML's syntax, or a bare
//! word or phrase, which is a string: `training.duration=3 epochs`. They are read after the file,
//! in order. A value `{…}` replaces the whole section, and so it changes the kind of an optimizer
//! or a schedule: `schedule={kind="constant", learning_rate=0.1}`.
//!
//! Durations are described in [`duration`](super::duration). Paths are relative to the working
//! directory.

mod document;
mod error;
mod fine_tuning;
mod method;
mod read;
mod validate;
mod value;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::duration::{Duration, Epoch};
use super::schedule::Schedule;
use crate::step::{Activations, Precision};

pub use error::{Fault, RecipeError};
pub use fine_tuning::FineTuningSection;
pub use method::{MomentumForm, NormGroup, StochasticPathsSection, When};

/// The longest recipe that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// A whole experiment. See the [module](self) for its text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recipe {
    /// What the run is called. Default: the file's name without its ending.
    pub name: String,
    /// Seed of everything random: weights, split, shuffles, crops. Default 0.
    pub seed: u64,
    /// The run folder. Default: none, the command chooses one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,
    /// The device: `cpu`, or one that the program was built with. Default `cpu`.
    pub device: String,
    /// `[model]`
    pub model: ModelSection,
    /// `[fine_tuning]`
    #[serde(skip_serializing_if = "FineTuningSection::is_empty")]
    pub fine_tuning: FineTuningSection,
    /// `[data]`
    pub data: DataSection,
    /// `[preprocessing]`
    pub preprocessing: PreprocessingSection,
    /// `[augmentation]`
    pub augmentation: AugmentationSection,
    /// `[optimizer]`
    pub optimizer: OptimizerSection,
    /// `[schedule]`
    pub schedule: ScheduleSection,
    /// `[stochastic_paths]`
    pub stochastic_paths: StochasticPathsSection,
    /// `[training]`
    pub training: TrainingSection,
}

/// `[model]`: the network and where it starts from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelSection {
    /// A preset's name or a whole network in the algebra's language. Required.
    pub architecture: String,
    /// A model folder whose weights the run starts from; of the classifier, the rows of classes that
    /// have the same name in the data. Default: none, random weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
}

/// `[data]`: the images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataSection {
    /// The image folder or its `.tar`. Required.
    pub path: PathBuf,
    /// The share of images to hold out where the folder has no split of its own, in (0, 1).
    /// Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_fraction: Option<f64>,
    /// Threads that decode and augment. Default 0: one for each core.
    pub threads: u64,
    /// What becomes of an image that can't be decoded. Default `fail`.
    pub on_error: OnError,
}

/// What becomes of an image that can't be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// `fail`: the run stops with its path.
    Fail,
    /// `skip`: it is left out and counted.
    Skip,
}

/// `[preprocessing]`: what differs from the architecture's own preprocessing. All default to none.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct PreprocessingSection {
    /// Side of the square input, in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// How an image is resized before its centre is cut out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<Resize>,
    /// Mean of each channel, for values in 0…1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<[f64; 3]>,
    /// Standard deviation of each channel, for values in 0…1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<[f64; 3]>,
}

/// How an image is resized for evaluation; written `exact:378`, `shorter-side:256` or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// To a square of this side in pixels, ignoring the aspect ratio.
    Exact(u32),
    /// Until the shorter side has this many pixels, keeping the aspect ratio.
    ShorterSide(u32),
    /// Not at all.
    None,
}

/// `[augmentation]`: what happens to a training image.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AugmentationSection {
    /// `multi-area` (§4), the default: a crop of random area and aspect ratio, resized to the input.
    MultiArea {
        /// The smallest share of the image's area that a crop has, in (0, 1]. Default 0.08.
        min_area: f64,
        /// The range of aspect ratios, width over height. Default [0.75, 1.3333333333333333].
        aspect: [f64; 2],
        /// Chance of a horizontal flip. Default 0.5.
        flip: f64,
    },
    /// `pad-crop`: zeros around the image and a random window of the input's size.
    PadCrop {
        /// Pixels of padding on each side. Default 4.
        padding: u32,
        /// Chance of a horizontal flip. Default 0.5.
        flip: f64,
    },
    /// `none`: as for evaluation.
    None,
}

/// `[optimizer]`: the algorithm and its weight decay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OptimizerSection {
    /// `kind` and the keys of that kind.
    #[serde(flatten)]
    pub algorithm: OptimizerAlgorithm,
    /// Weight decay: added to the gradient (rmsprop, sgd) or, decoupled, taken from the weight
    /// itself times the learning rate (adamw). Default 0.
    pub weight_decay: f64,
    /// Which parameters decay. Default `weights`.
    pub weight_decay_on: DecayedParameters,
}

/// The update rule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum OptimizerAlgorithm {
    /// `rmsprop`, the default and the paper's (§4); the paper leaves all but decay and ε open. The
    /// key `convention` gives the last four their defaults: `tensorflow` (the default) or `pytorch`.
    #[serde(rename = "rmsprop")]
    RmsProp {
        /// How much of the running square is kept at a step, in [0, 1). Default 0.9.
        decay: f64,
        /// ε. Default 1.
        epsilon: f64,
        /// Where ε stands. Default `inside`, as in TensorFlow; PyTorch has `outside`.
        epsilon_position: EpsilonPosition,
        /// The running square before the first step. Default 1, as in TensorFlow; PyTorch has 0.
        initial_square: f64,
        /// What momentum gathers. Default `steps`, as in TensorFlow; PyTorch has `directions`.
        momentum_form: MomentumForm,
        /// Heavy-ball momentum, in [0, 1). Default 0.
        momentum: f64,
    },
    /// `sgd`: stochastic gradient descent with momentum.
    Sgd {
        /// Momentum, in [0, 1). Default 0.9.
        momentum: f64,
        /// Nesterov's look-ahead. Default true.
        nesterov: bool,
        /// How much of the gradient is kept out of the momentum, in [0, 1); 0 with Nesterov.
        /// Default 0.
        dampening: f64,
    },
    /// `adamw`: Adam with decoupled weight decay.
    #[serde(rename = "adamw")]
    AdamW {
        /// Decay of the running mean, in [0, 1). Default 0.9.
        beta1: f64,
        /// Decay of the running square, in [0, 1). Default 0.999.
        beta2: f64,
        /// ε, outside the root. Default 1e-8.
        epsilon: f64,
    },
}

/// Where RMSProp's ε stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EpsilonPosition {
    /// `inside`: gradient / √(square + ε).
    Inside,
    /// `outside`: gradient / (√square + ε).
    Outside,
}

/// Which parameters weight decay acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecayedParameters {
    /// `weights`: those of convolutions and the linear layer; batch norm's affine parameters and
    /// biases are spared.
    Weights,
    /// `all`: every parameter.
    All,
}

/// `[schedule]`: the learning rate over time, durations unresolved.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ScheduleSection {
    /// `steps`, the default and the paper's (§4).
    Steps {
        /// The first learning rate. Default 0.45.
        learning_rate: f64,
        /// Time between two drops. Default 160000 steps.
        every: Duration,
        /// What a drop multiplies by, in (0, 1]. Default 0.1.
        factor: f64,
    },
    /// `cosine`: linear warm-up, then half a cosine down.
    Cosine {
        /// The peak. Required.
        learning_rate: f64,
        /// Default 0 steps.
        warm_up: Duration,
        /// The last learning rate. Default 0.
        final_learning_rate: f64,
    },
    /// `one-cycle`: linear warm-up, then linearly down.
    OneCycle {
        /// The peak. Required.
        learning_rate: f64,
        /// Default 1 epoch.
        warm_up: Duration,
        /// The last learning rate. Default 0.
        final_learning_rate: f64,
    },
    /// `constant`: always the same.
    Constant {
        /// The learning rate. Required.
        learning_rate: f64,
    },
}

/// `[training]`: how long, in what batches, and what is kept on the way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainingSection {
    /// Images of a step. Default 256.
    pub batch_size: u64,
    /// Parts that a step's batch is computed in, one after the other, to save memory; batch norm
    /// sees one part at a time unless it is synchronised, and the gradient is the mean over all images.
    /// Ranks share the parts.
    /// Default 1, or as many as there are ranks.
    pub accumulate: u64,
    /// Whose images batch norm takes its statistics from. Default `local` (§4).
    pub batch_norm: NormGroup,
    /// Length of the whole run. Default 560000 steps.
    pub duration: Duration,
    /// Share of the target that is spread over all classes, in [0, 1). Default 0 (§4: none).
    pub label_smoothing: f64,
    /// The largest norm of all gradients together; a larger gradient is shortened to it. Default:
    /// none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// The largest absolute value of a gradient's element; larger ones are cut. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_value: Option<f64>,
    /// How much of the weights' moving average is kept at a step, in [0, 1): the average is what is
    /// validated and saved. Default: none, the weights themselves are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// What convolutions and feature maps are computed in: `f32`, or `bf16` where the device has it.
    /// Default `f32`.
    #[serde(serialize_with = "method::precision")]
    pub precision: Precision,
    /// `kept`, or `recomputed`: feature maps within a module are computed again for the backward
    /// pass, which trades time for memory. Default `kept`.
    #[serde(serialize_with = "method::activations")]
    pub activations: Activations,
    /// Time between two validations; zero: only at the end. Default 1 epoch.
    pub validate_every: Duration,
    /// Time between two checkpoints; zero: only at the end. Default 1 epoch.
    pub checkpoint_every: Duration,
    /// Steps of one training record. Default 50.
    pub log_every: u64,
}

impl Recipe {
    /// Reads a recipe file and then the overrides, in order.
    ///
    /// # Errors
    /// When the file can't be read, and with every fault of its text and of the overrides.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, RecipeError> {
        let fail = |source| RecipeError::read(path, source);
        let length = fs::metadata(path).map_err(fail)?.len();
        if length > LONGEST {
            return Err(RecipeError::too_long(path, length, LONGEST));
        }
        let text = fs::read_to_string(path).map_err(fail)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        read::recipe(&path.display().to_string(), &text, overrides, &name)
    }

    /// Reads a recipe's text and then the overrides, in order. A run without a name is `polynet`.
    ///
    /// # Errors
    /// With every fault of the text and of the overrides.
    pub fn parse(text: &str, overrides: &[String]) -> Result<Self, RecipeError> {
        read::recipe("recipe", text, overrides, "polynet")
    }

    /// Checks every range, as reading does: for a recipe that a program has put together.
    ///
    /// # Errors
    /// With every key out of its range.
    pub fn validate(&self) -> Result<(), RecipeError> {
        let faults = validate::faults(self);
        if faults.is_empty() {
            return Ok(());
        }
        Err(RecipeError::faults(
            faults.into_iter().map(|fault| Fault::unplaced(&fault)),
        ))
    }

    /// The recipe as text with every default written out; reading it gives the same recipe.
    ///
    /// # Errors
    /// When TOML can't hold a value: a path that is not UTF-8.
    pub fn to_toml(&self) -> Result<String, RecipeError> {
        toml::to_string(self).map_err(RecipeError::write)
    }
}

impl ScheduleSection {
    /// The schedule with its durations in steps of `epoch`.
    pub fn resolve(&self, epoch: &Epoch) -> Schedule {
        match *self {
            Self::Steps {
                learning_rate,
                every,
                factor,
            } => Schedule::Steps {
                learning_rate,
                every: every.steps(epoch),
                factor,
            },
            Self::Cosine {
                learning_rate,
                warm_up,
                final_learning_rate,
            } => Schedule::Cosine {
                learning_rate,
                warm_up: warm_up.steps(epoch),
                final_learning_rate,
            },
            Self::OneCycle {
                learning_rate,
                warm_up,
                final_learning_rate,
            } => Schedule::OneCycle {
                learning_rate,
                warm_up: warm_up.steps(epoch),
                final_learning_rate,
            },
            Self::Constant { learning_rate } => Schedule::Constant { learning_rate },
        }
    }
}

#[cfg(test)]
mod tests;

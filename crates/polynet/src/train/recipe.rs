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
//! ×0.1 every 160 K of 560 K steps of 256 images, multi-area crops. A key that no recipe has, a value
//! of another type and a number out of range are errors; all of a recipe's faults are reported at
//! once, each with its line.
//!
//! Type, range, default and explanation of a key stand in one entry of the table `recipe/keys.rs`;
//! [`keys`] lists them.
//!
//! Overrides from the command line are `key.path=value` with a value in TOML's syntax, or a bare
//! word or phrase, which is a string: `training.duration=3 epochs`. They are read after the file,
//! in order. A value `{…}` replaces the whole section, and so it changes the kind of an optimizer
//! or a schedule: `schedule={kind="constant", learning_rate=0.1}`.
//!
//! Durations are described in [`duration`](super::duration). Paths are relative to the working
//! directory.

#[macro_use]
mod table;

mod document;
mod error;
mod keys;
mod listing;
mod read;
mod value;

use std::fs;
use std::path::Path;

use super::duration::Epoch;
use super::schedule::Schedule;
use error::{ErrorKind, LONGEST};

pub use error::{Fault, RecipeError};
pub use keys::{
    AugmentationSection, DataSection, DecayedParameters, EpsilonPosition, FineTuningSection,
    FirstFilters, ModelSection, MomentumForm, NormGroup, OnError, OptimizerAlgorithm,
    OptimizerSection, PreprocessingSection, Recipe, ScheduleSection, StochasticPathsSection,
    TrainingSection,
};
pub use listing::{Key, keys, markdown};
pub use value::{Resize, When};

impl Recipe {
    /// Reads a recipe file and then the overrides, in order.
    ///
    /// # Errors
    /// When the file can't be read, and with every fault of its text and of the overrides.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, RecipeError> {
        let path_buf = || path.to_owned();
        let fail = |source| ErrorKind::Read {
            path: path_buf(),
            source,
        };
        let length = fs::metadata(path).map_err(fail)?.len();
        if length > LONGEST {
            return Err(ErrorKind::TooLong {
                path: path_buf(),
                length,
            }
            .into());
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
    /// With every key out of its range, and when TOML can't hold a value.
    pub fn validate(&self) -> Result<(), RecipeError> {
        // A recipe is what its text says.
        let Err(error) = Self::parse(&self.to_toml()?, &[]) else {
            return Ok(());
        };
        let faults = error.faults_found().iter().cloned();
        let unplaced = faults.map(|fault| Fault {
            place: None,
            ..fault
        });
        Err(ErrorKind::Faults(unplaced.collect()).into())
    }

    /// The recipe as text with every default written out; reading it gives the same recipe.
    ///
    /// # Errors
    /// When TOML can't hold a value: a path that is not UTF-8.
    pub fn to_toml(&self) -> Result<String, RecipeError> {
        Ok(toml::to_string(self).map_err(ErrorKind::Write)?)
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

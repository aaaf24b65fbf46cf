//! Training: from a recipe to a run folder.
//!
//! A [`Recipe`] is the whole experiment as text. Its durations become steps through the [`Epoch`] of
//! the data set, its schedule becomes the pure function [`Schedule::learning_rate`], and everything
//! checkpoints and the model. Whoever watches the run implements [`Progress`].
//!
//! ```
//! use polynet::train::{Epoch, Recipe};
//!
//! let recipe = Recipe::parse(
//!     "[model]\narchitecture = 'ir-3-6-3'\n[data]\npath = 'photos'",
//!     &["training.duration=90 epochs".to_owned()],
//! )?;
//! let epoch = Epoch::new(1_281_167, recipe.training.batch_size)?;
//! assert_eq!(epoch.steps(), 5004);
//! assert_eq!(recipe.training.duration.steps(&epoch), 90 * 5004);
//! assert_eq!(recipe.schedule.resolve(&epoch).learning_rate(0, 90 * 5004), 0.45);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod average;
pub mod checkpoint;
mod clipping;
pub mod duration;
mod error;
mod fine_tuning;
pub mod optimizer;
mod paths;
pub mod progress;
mod ranks;
pub mod recipe;
mod run_data;
pub mod schedule;
mod setup;
mod speed;
mod step;
mod trainer;
mod whitening;
mod window;

pub use checkpoint::Position;
pub use duration::{Duration, Epoch};
pub use error::TrainError;
pub use fine_tuning::FineTuningError;
pub use optimizer::Optimizer;
pub use paths::PathState;
pub use progress::{Progress, Warning};
pub use recipe::{Recipe, RecipeError};
pub use run_data::ChangedData;
pub use schedule::Schedule;
pub use step::StepOfRanks;
pub use trainer::{Outcome, Trainer};

//! Studies: which structure pays, by a grid of training runs.
//!
//! A [`Study`] is a text that names architectures, variants of one recipe and seeds; each combination
//! is a [`Job`], a run in a folder of its own. [`run`] does them one after another or several at once
//! and appends what each gave to a [`Ledger`] the moment it ends.
//!
//! Law: whatever is killed, and whoever goes on, the ledger in the end has every job once, with the
//! figures of an uninterrupted study; only times and memory differ. A job is whose process holds the
//! lock of its folder, which the system takes away with the process, and a run goes on from its
//! checkpoint.
//!
//! ```
//! use polynet::study::Study;
//!
//! let study = Study::parse(
//!     r#"
//!     title = "poly-2 against a residual unit"
//!     seeds = [1, 2]
//!     [recipe]
//!     data.path = "photos"
//!     [[architectures]]
//!     name = "residual"
//!     network = "small-ir-1-2-1"
//!     [[architectures]]
//!     name = "poly-2"
//!     network = "small-ir-1-2-1; B: poly-2 x2"
//!     "#,
//!     &[],
//! )?;
//! let jobs: Vec<&str> = study.jobs.iter().map(|job| job.id.as_str()).collect();
//! assert_eq!(jobs, ["residual/plain/1", "poly-2/plain/1", "residual/plain/2", "poly-2/plain/2"]);
//! # Ok::<(), polynet::study::StudyError>(())
//! ```

mod csv;
mod error;
mod estimate;
mod file;
mod folder;
mod grid;
mod job;
mod keys;
mod ledger;
mod markdown;
mod outline;
mod page;
mod plots;
mod results;
mod run;
mod statistics;
mod watch;

pub use csv::csv;
pub use error::StudyError;
pub(crate) use estimate::measure_step;
pub use estimate::{Estimate, estimate};
pub use file::Study;
pub(crate) use file::text_of;
pub use folder::StudyFolder;
pub use grid::{Growing, Job};
pub(crate) use keys::Keys;
pub use ledger::{Entry, Figures, Ledger, Machine, Outcome, Validation};
pub use markdown::markdown;
pub use outline::{Outline, ReportKind};
pub use page::{Report, report};
pub use results::{COLUMNS, ResultRow, Results, SeedResult};
pub use run::{FailedBefore, RunOptions, Summary, run};
pub use statistics::{Difference, Spread, Verdict};
pub use watch::{Event, Watch};

#[cfg(test)]
mod tests;

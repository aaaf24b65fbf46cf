//! Search: structures of the algebra under limits of cost, by successive halving.
//!
//! A [`Search`] is a text: where to begin, which structures are allowed, what they may cost, how long each
//! rung trains. On the first rung stand a start and random changes of it, from random weights. Of each rung
//! the best trade-offs of error and cost go on to the next, as they are and, by insertion, as larger
//! structures that contain them ([`grow`](crate::grow)): whoever stands on a rung has been trained equally
//! long, insertions included.
//!
//! Law: a search is a function of its text and its ledger. [`Search::round`] says which jobs there are, as a
//! [`Study`](crate::study::Study): the runner of studies does them, and the same command goes on after
//! whatever stopped it. No structure is tried twice, whatever its blocks are called.
//!
//! ```
//! use polynet::search::{NoLimitOfTime, Search};
//! let search = Search::parse(
//!     r#"
//!     title = "What pays below 4 MMAC?"
//!     settings = "family = small; width = 0.0625; classes = 2"
//!     start = "A: I + F; B: I + F; C: I + F"
//!     [recipe]
//!     data.path = "photos"
//!     [limits]
//!     macs = 4e6
//!     [rungs]
//!     candidates = 4
//!     durations = ["1 epoch", "1 epoch"]
//!     "#,
//!     &[],
//! )?;
//! let round = search.round(&[], &mut NoLimitOfTime)?;
//! let networks: Vec<&str> = round.candidates.iter().map(|one| one.network.as_str()).collect();
//! assert_eq!(networks[0], "A: residual; B: residual; C: residual");
//! assert_eq!((round.study.jobs.len(), round.is_last), (4, false));
//! # Ok::<(), polynet::study::StudyError>(())
//! ```

mod front;
mod limits;
mod rounds;
mod structure;
mod studies;
mod text;
mod times;

pub use front::Standing;
pub use limits::Limits;
pub use rounds::{Candidate, Round};
pub use text::{Confirmation, CostKind, Search};
pub use times::{MeasuredTimes, NoLimitOfTime, StepTimes};

#[cfg(test)]
mod tests;

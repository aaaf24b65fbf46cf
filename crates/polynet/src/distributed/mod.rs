//! Many processes that train one network together: *ranks*, numbered from 0.
//!
//! A [`Communicator`] is what a rank knows of the others. Its collectives must be called by every rank
//! in the same order. It works on any [`Transport`]: threads of one process ([`threads`]), or MPI where
//! the crate is built with the feature `mpi`.
//!
//! Law: [`Communicator::sum`] adds in the order of the ranks, and of their parts, so that the result is
//! the same to the bit for every number of ranks that shares the same parts, and on every rank.
//!
//! ```
//! use polynet::distributed::{Communicator, Contribution, threads};
//!
//! let ranks = threads::group(2).into_iter().map(|transport| {
//!     std::thread::spawn(move || {
//!         let ranks = Communicator::over(transport).unwrap();
//!         let own = vec![ranks.rank() as f32 + 0.5; 3];
//!         let rows = vec![1, 1]; // one part each
//!         ranks.sum(Contribution { parts: vec![own], rows, length: 3 }).wait()
//!     })
//! });
//! for rank in ranks.collect::<Vec<_>>() {
//!     assert_eq!(rank.join().unwrap()?, [2.0, 2.0, 2.0]); // 0.5 + 1.5
//! }
//! # Ok::<(), polynet::distributed::CommunicationError>(())
//! ```

mod buckets;
mod communicator;
pub mod cost;
mod launch;
#[cfg(feature = "mpi")]
mod mpi;
mod sum;
pub mod threads;
mod transport;

pub use buckets::{BUCKET_BYTES, Buckets, Exchange, Summed};
pub use communicator::{Communicator, Pending};
pub use launch::{LaunchError, local_rank};
pub use sum::Contribution;
pub use transport::{CommunicationError, Transport};

//! Ranks that are processes, over MPI.
//!
//! MPI is started, used and ended by one thread. Collectives are begun and polled with pauses, so that
//! a rank that waits leaves its core to the computation.

use super::launch::LaunchError;
use super::transport::{CommunicationError, Transport};
use mpi::Threading;
use mpi::environment::Universe;
use mpi::request::Request;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Equivalence};
use std::time::Duration;

/// Polls without a pause at first: most collectives are short.
const EAGER_POLLS: usize = 200;
const PAUSE: Duration = Duration::from_micros(50);

/// All processes that were started together.
pub(super) struct MpiTransport {
    world: SimpleCommunicator,
    // Ends MPI when it is dropped, after `world`.
    _universe: Universe,
}

impl MpiTransport {
    /// Starts MPI on the calling thread, which must be the only one to use the result.
    pub(super) fn start() -> Result<Self, LaunchError> {
        let started = mpi::initialize_with_threading(Threading::Funneled);
        let (universe, provided) = started.ok_or_else(|| LaunchError::Start {
            reason: "it was started before".to_owned(),
        })?;
        if provided < Threading::Funneled {
            return Err(LaunchError::Start {
                reason: "it allows no threads in the process".to_owned(),
            });
        }
        Ok(Self {
            world: universe.world(),
            _universe: universe,
        })
    }

    /// Every rank's elements, as many from each, in the order of the ranks.
    fn gather<E: Equivalence + Clone + Default>(&self, own: &[E]) -> Vec<E> {
        let mut all = vec![E::default(); own.len() * self.ranks()];
        // Every rank has as many, and MPI refuses none.
        if all.is_empty() {
            return all;
        }
        mpi::request::scope(|scope| {
            let all = &mut all[..];
            finish(self.world.immediate_all_gather_into(scope, own, all));
        });
        all
    }
}

/// Waits for a collective.
fn finish<'a, D: ?Sized, S: mpi::request::Scope<'a>>(mut request: Request<'a, D, S>) {
    let mut polls = 0;
    loop {
        match request.test() {
            Ok(_) => return,
            Err(unfinished) => request = unfinished,
        }
        polls += 1;
        if polls < EAGER_POLLS {
            std::thread::yield_now();
        } else {
            std::thread::sleep(PAUSE);
        }
    }
}

impl Transport for MpiTransport {
    fn rank(&self) -> usize {
        usize::try_from(self.world.rank()).unwrap_or_default()
    }

    fn ranks(&self) -> usize {
        usize::try_from(self.world.size()).unwrap_or(1)
    }

    fn all_gather(&mut self, own: Vec<u8>) -> Result<Vec<u8>, CommunicationError> {
        Ok(self.gather(&own))
    }

    fn all_gather_values(&mut self, own: Vec<f32>) -> Result<Vec<f32>, CommunicationError> {
        Ok(self.gather(&own))
    }

    fn all_to_all(&mut self, own: Vec<f32>) -> Result<Vec<f32>, CommunicationError> {
        let mut all = vec![0.0; own.len()];
        // Every rank has as many, and MPI refuses none.
        if all.is_empty() {
            return Ok(all);
        }
        mpi::request::scope(|scope| {
            let (own, all) = (&own[..], &mut all[..]);
            finish(self.world.immediate_all_to_all_into(scope, own, all));
        });
        Ok(all)
    }
}

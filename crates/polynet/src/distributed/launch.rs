//! Which ranks there are, by how the process was started.

use super::Communicator;
use super::communicator::PATIENCE;
use std::time::Duration;

/// Variables by which launchers tell a process how many there are: Open MPI, MPICH and its relatives.
const SIZES: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"];
/// Variables by which launchers number the processes of one machine.
const LOCAL_RANKS: [&str; 4] = [
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALRANKID",
    "MV2_COMM_WORLD_LOCAL_RANK",
    "SLURM_LOCALID",
];

/// Why the ranks of a run cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// Started by mpirun, but without MPI in the build.
    #[error(
        "started as one of {ranks} processes, but this build has no MPI, so that they would train \
         {ranks} times the same: build with `cargo build --release --features mpi`"
    )]
    NotBuilt {
        /// How many processes there are.
        ranks: usize,
    },
    /// MPI did not start.
    #[error(
        "MPI does not start: {reason}; start the command by the mpirun of the MPI it was built with"
    )]
    Start {
        /// Why not.
        reason: String,
    },
    /// How long to wait for other ranks is badly written.
    #[error("expected POLYNET_RANK_PATIENCE as a whole number of seconds from 1, got {text}")]
    Patience {
        /// What it is.
        text: String,
    },
}

impl Communicator {
    /// The ranks that `mpirun` or a relative has started, or the only rank where none has.
    ///
    /// # Errors
    /// If there are several and the build has no MPI, or MPI does not start.
    pub fn of_launcher() -> Result<Self, LaunchError> {
        match launched() {
            None => Ok(Self::alone()),
            Some(ranks) => Ok(open(ranks)?.with_patience(patience()?)),
        }
    }
}

/// How long the user lets a rank wait for others.
fn patience() -> Result<Duration, LaunchError> {
    let Some(text) = std::env::var_os("POLYNET_RANK_PATIENCE") else {
        return Ok(PATIENCE);
    };
    match text.to_str().and_then(|text| text.trim().parse().ok()) {
        Some(seconds @ 1..) => Ok(Duration::from_secs(seconds)),
        _ => Err(LaunchError::Patience {
            text: text.to_string_lossy().into_owned(),
        }),
    }
}

#[cfg(feature = "mpi")]
fn open(_ranks: usize) -> Result<Communicator, LaunchError> {
    Communicator::open(super::mpi::MpiTransport::start)
}

#[cfg(not(feature = "mpi"))]
fn open(ranks: usize) -> Result<Communicator, LaunchError> {
    match ranks {
        1 => Ok(Communicator::alone()),
        _ => Err(LaunchError::NotBuilt { ranks }),
    }
}

/// How many processes a launcher says that it has started.
fn launched() -> Option<usize> {
    SIZES.iter().find_map(|name| number(name))
}

/// The number of this process among those of its machine, where a launcher says so.
pub fn local_rank() -> Option<usize> {
    LOCAL_RANKS.iter().find_map(|name| number(name))
}

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.trim().parse().ok()
}

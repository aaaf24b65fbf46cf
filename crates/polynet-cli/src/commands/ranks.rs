//! Commands that `mpirun` starts on several ranks.

use crate::output;
use anyhow::{Result, bail};
use polynet::TrainError;
use polynet::distributed::Communicator;
use std::process::ExitCode;
use std::sync::Arc;

/// Runs a command as the ranks that a launcher has started, or as the only one.
pub(crate) fn run(
    command: impl FnOnce(&Arc<Communicator>) -> Result<ExitCode>,
) -> Result<ExitCode> {
    let ranks = Arc::new(Communicator::of_launcher()?);
    let result = command(&ranks);
    if ranks.ranks() == 1 {
        return result;
    }
    let code = match result {
        Ok(code) => code,
        Err(error) => failed_rank(&ranks, &error),
    };
    // All ranks come here: MPI ends in order.
    drop(ranks);
    Ok(code)
}

/// Says what has ended the run. If the other ranks do not know, they are waiting for this one: the
/// process ends at once, and mpirun ends them.
fn failed_rank(ranks: &Communicator, error: &anyhow::Error) -> ExitCode {
    let trained = error.downcast_ref::<TrainError>();
    let is_known =
        error.is::<FailedRank>() || trained.is_some_and(TrainError::is_known_to_all_ranks);
    if is_known && ranks.is_writer() {
        eprintln!("error: {}", output::explain(error));
    } else if !is_known {
        eprintln!("error: rank {}: {}", ranks.rank(), output::explain(error));
        std::process::exit(1);
    }
    ExitCode::FAILURE
}

/// The first rank that could not do what all must do, and why.
#[derive(Debug)]
struct FailedRank(String);

impl std::fmt::Display for FailedRank {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FailedRank {}

/// Lets all ranks go on if all could, or end with the error of the first that could not.
pub(crate) fn agree<T>(ranks: &Communicator, result: Result<T>) -> Result<T> {
    if ranks.ranks() == 1 {
        return result;
    }
    let own = result.as_ref().err().map(output::explain);
    let all = ranks.gather(own.unwrap_or_default().into_bytes())?;
    match all.iter().position(|words| !words.is_empty()) {
        None => result,
        Some(rank) => {
            let words = String::from_utf8_lossy(&all[rank]);
            bail!(FailedRank(format!("rank {rank}: {words}")))
        }
    }
}

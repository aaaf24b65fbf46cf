//! An evaluation that several ranks share.
//!
//! Law: every image is scored by one rank, and the report is the same to the bit for every number of
//! ranks.

use super::Scores;
use crate::bytes;
use crate::data::Skipped;
use crate::distributed::{CommunicationError, Communicator};
use std::ops::Range;

/// This rank's share of `images` images, which are computed `together` at a time: whole such groups,
/// in the order of the ranks, so that a group holds the same images for every number of ranks.
///
/// ```
/// use polynet::distributed::Communicator;
///
/// assert_eq!(polynet::eval::share_of(&Communicator::alone(), 10, 4), 0..10);
/// ```
pub fn share_of(ranks: &Communicator, images: usize, together: usize) -> Range<usize> {
    let together = together.max(1);
    let groups = images.div_ceil(together);
    let first = |rank| images.min(groups * rank / ranks.ranks() * together);
    first(ranks.rank())..first(ranks.rank() + 1)
}

/// The scores of all ranks together, on every rank.
///
/// # Errors
/// If a rank is gone, or scores other classes.
pub fn merged(ranks: &Communicator, own: Scores) -> Result<Scores, CommunicationError> {
    if ranks.ranks() == 1 {
        return Ok(own);
    }
    let bytes = bytes::of_words(own.to_words());
    let mut all = own.cleared();
    for (rank, bytes) in ranks.gather(bytes)?.iter().enumerate() {
        let words: Vec<u64> = bytes::words(bytes).collect();
        all.add_words(&words).ok_or_else(|| other_classes(rank))?;
    }
    Ok(all)
}

fn other_classes(rank: usize) -> CommunicationError {
    CommunicationError::Disagreement {
        what: format!("rank {rank} scores other classes"),
    }
}

/// What all ranks have left out, in the order of the ranks, on every rank.
///
/// # Errors
/// If a rank is gone, or sends something else.
pub fn all_skipped(
    ranks: &Communicator,
    own: Vec<Skipped>,
) -> Result<Vec<Skipped>, CommunicationError> {
    if ranks.ranks() == 1 {
        return Ok(own);
    }
    let mut all = Vec::new();
    for bytes in ranks.gather(serde_json::to_vec(&own).unwrap_or_default())? {
        let skipped: Result<Vec<Skipped>, _> = serde_json::from_slice(&bytes);
        all.extend(skipped.map_err(|error| CommunicationError::Disagreement {
            what: format!("expected the images that a rank has left out, found {error}"),
        })?);
    }
    Ok(all)
}

//! An evaluation, or a prediction of many pictures, that several ranks share.
//!
//! Law: every image is computed by one rank, and reports and files are the same to the bit for every number
//! of ranks.

use super::{PredictionRequest, PredictionRow, Scores};
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

/// What ranks have made of a batch of pictures: a row each, and the embeddings of those without an error.
pub type PredictedRows = (Vec<PredictionRow>, Vec<f32>);

/// What each rank has made of its part of a batch, in the order of the ranks, on every rank.
///
/// # Errors
/// If a rank is gone, or sends something else.
pub fn all_rows(
    ranks: &Communicator,
    own: PredictedRows,
) -> Result<Vec<PredictedRows>, CommunicationError> {
    if ranks.ranks() == 1 {
        return Ok(vec![own]);
    }
    let (rows, embeddings) = own;
    let rows = serde_json::to_vec(&rows).unwrap_or_default();
    let mut bytes = (rows.len() as u64).to_le_bytes().to_vec();
    bytes.extend(rows);
    bytes.extend(embeddings.iter().flat_map(|number| number.to_le_bytes()));
    let all = ranks.gather(bytes)?;
    let all = all.iter().enumerate();
    all.map(|(rank, bytes)| {
        rows_of(bytes).ok_or_else(|| CommunicationError::Disagreement {
            what: format!("expected rows of pictures from rank {rank}"),
        })
    })
    .collect()
}

fn rows_of(bytes: &[u8]) -> Option<PredictedRows> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (rows, embeddings) = rest.split_at_checked(length)?;
    let embeddings = embeddings.as_chunks::<4>().0.iter();
    let embeddings = embeddings.map(|number| f32::from_le_bytes(*number));
    Some((serde_json::from_slice(rows).ok()?, embeddings.collect()))
}

/// Checks that all ranks were asked the same.
///
/// # Errors
/// If a rank is gone, or has another model or other pictures: which, and what differs.
pub fn agree_on(
    ranks: &Communicator,
    request: &PredictionRequest,
) -> Result<(), CommunicationError> {
    let own = serde_json::to_vec(request).unwrap_or_default();
    for (rank, bytes) in ranks.gather(own)?.iter().enumerate() {
        let what = match serde_json::from_slice(bytes) {
            Ok(theirs) => request.difference(&theirs),
            Err(error) => Some(format!("it asks for something else: {error}")),
        };
        if let Some(what) = what {
            return Err(CommunicationError::Disagreement {
                what: format!(
                    "rank {rank} is not asked what rank {} is: {what}",
                    ranks.rank()
                ),
            });
        }
    }
    Ok(())
}

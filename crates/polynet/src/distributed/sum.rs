//! Sums over ranks in a fixed order.
//!
//! A rank sends each other rank the share of the numbers that the other adds up, and gets the finished
//! shares back: with one part a rank that is what a ring all-reduce moves, `2 (n − 1) / n` of the
//! numbers, but the order of the additions is ours. Parts of one rank are not added up before they are
//! sent: `(a + b) + (c + d)` is not `((a + b) + c) + d`.

use super::transport::{CommunicationError, Transport};

/// What a rank brings to a sum.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// Its parts, each of `length` values.
    pub parts: Vec<Vec<f32>>,
    /// How many parts each rank has, the same on every rank. Their sum is at least 1.
    pub rows: Vec<usize>,
    /// Values of a part, the same on every rank.
    pub length: usize,
}

/// The sum of all parts of all ranks: `((part 0 of rank 0 + part 1 of rank 0) + part 0 of rank 1) + …`.
pub(super) fn ordered(
    transport: &mut dyn Transport,
    own: &Contribution,
) -> Result<Vec<f32>, CommunicationError> {
    let ranks = transport.ranks();
    let fits = own.rows.len() == ranks
        && own.rows[transport.rank()] == own.parts.len()
        && own.parts.iter().all(|part| part.len() == own.length);
    if !fits {
        let what = "a contribution that does not have its announced parts".to_owned();
        return Err(CommunicationError::Disagreement { what });
    }
    let rows = own.rows.iter().copied().max().unwrap_or(0);
    let block = own.length.div_ceil(ranks);
    let received = transport.all_to_all(blocks(own, rows, block))?;
    let mut sum: Option<Vec<f32>> = None;
    for (rank, &count) in own.rows.iter().enumerate() {
        for row in 0..count {
            let start = (rank * rows + row) * block;
            let part = &received[start..start + block];
            match &mut sum {
                None => sum = Some(part.to_vec()),
                Some(sum) => {
                    for (sum, value) in sum.iter_mut().zip(part) {
                        *sum += value;
                    }
                }
            }
        }
    }
    let sum = sum.unwrap_or_else(|| vec![0.0; block]);
    let mut all = transport.all_gather_values(sum)?;
    all.truncate(own.length);
    Ok(all)
}

/// `[ranks, rows, block]`: for each rank its share of each part, with zeros behind the last.
fn blocks(own: &Contribution, rows: usize, block: usize) -> Vec<f32> {
    let mut blocks = vec![0.0; own.rows.len() * rows * block];
    for (rank, blocks) in blocks.chunks_exact_mut((rows * block).max(1)).enumerate() {
        let start = (rank * block).min(own.length);
        let end = (start + block).min(own.length);
        for (part, to) in own.parts.iter().zip(blocks.chunks_exact_mut(block.max(1))) {
            to[..end - start].copy_from_slice(&part[start..end]);
        }
    }
    blocks
}

//! How bytes and numbers get from rank to rank.

/// Why a collective failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommunicationError {
    /// Another rank is gone.
    #[error(
        "rank {rank} has left the run; go on from the newest checkpoint with the same or another \
         number of ranks: polynet train --resume DIR"
    )]
    Left {
        /// Which one.
        rank: usize,
    },
    /// Another rank is there, but does not answer.
    #[error(
        "the other ranks have not answered for {seconds} s: one hangs, or computes for longer than \
         POLYNET_RANK_PATIENCE allows ({seconds}, in seconds; 1800 unless it is set); look what each of \
         them does, and go on from the newest checkpoint: polynet train --resume DIR"
    )]
    Silent {
        /// How long it was waited.
        seconds: u64,
    },
    /// The ranks do not call the same collectives with data of the same form.
    #[error("the ranks disagree on what to exchange ({what}): start all of them by one command")]
    Disagreement {
        /// What was expected and what came.
        what: String,
    },
    /// This rank's own communication has ended.
    #[error("the communication of this rank has ended, its last error says why")]
    Closed,
}

/// Blocking collectives, which every rank calls in the same order.
pub trait Transport {
    /// This rank, from 0.
    fn rank(&self) -> usize;

    /// How many there are, at least 1.
    fn ranks(&self) -> usize;

    /// Every rank's bytes, as many from each, one after the other in the order of the ranks.
    ///
    /// # Errors
    /// If a rank is gone or sends another number of bytes.
    fn all_gather(&mut self, own: Vec<u8>) -> Result<Vec<u8>, CommunicationError>;

    /// As [`Transport::all_gather`], for numbers.
    ///
    /// # Errors
    /// If a rank is gone or sends another number of values.
    fn all_gather_values(&mut self, own: Vec<f32>) -> Result<Vec<f32>, CommunicationError>;

    /// Block `j` of `own`, `[ranks, block]`, goes to rank `j`; block `i` of the result is from rank `i`.
    ///
    /// # Errors
    /// If a rank is gone or sends blocks of another length.
    fn all_to_all(&mut self, own: Vec<f32>) -> Result<Vec<f32>, CommunicationError>;
}

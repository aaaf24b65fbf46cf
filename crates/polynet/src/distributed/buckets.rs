//! Gradients gathered into buckets, which are summed over the ranks while the backward pass goes on.

use super::communicator::{Communicator, Pending};
use super::sum::Contribution;
use super::transport::CommunicationError;
use std::time::{Duration, Instant};

/// Bytes of a full bucket: long enough for a network's bandwidth, short enough that most of the
/// gradients are on their way before the backward pass ends.
pub const BUCKET_BYTES: u64 = 4 << 20;
/// Values of a full bucket.
const BUCKET: usize = BUCKET_BYTES as usize / size_of::<f32>();

/// The tensors of a bucket in their order, each with its number of values.
type Layout = Vec<(usize, usize)>;

/// The gradients of one rank's parts of a step, by tensor index.
pub struct Buckets<'a> {
    communicator: &'a Communicator,
    /// Parts with images, by rank.
    rows: Vec<usize>,
    /// Gradients of the parts before the last.
    earlier: Vec<Vec<Option<Vec<f32>>>>,
    /// Of the open bucket.
    layout: Layout,
    parts: Vec<Vec<f32>>,
    under_way: Vec<(Layout, Pending<Vec<f32>>)>,
    added: Vec<bool>,
}

/// The summed gradients and where the time went.
pub struct Summed {
    /// By tensor index.
    pub tensors: Vec<Option<Vec<f32>>>,
    /// Where the time went.
    pub exchange: Exchange,
}

/// Where the time of ranks goes that exchange gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// How long the sums took, waiting for slower ranks included.
    pub communication: Duration,
    /// For how much of that a rank had nothing else to do.
    pub waited: Duration,
}

impl<'a> Buckets<'a> {
    /// For a network of `tensors` tensors; `rows[r]` is how many parts with images rank `r` has, which
    /// every rank knows.
    /// `earlier` holds this rank's gradients of all its parts but the last.
    pub fn new(
        communicator: &'a Communicator,
        rows: Vec<usize>,
        earlier: Vec<Vec<Option<Vec<f32>>>>,
        tensors: usize,
    ) -> Self {
        let parts = vec![Vec::new(); rows[communicator.rank()]];
        Self {
            communicator,
            rows,
            earlier,
            layout: Vec::new(),
            parts,
            under_way: Vec::new(),
            added: vec![false; tensors],
        }
    }

    /// Adds the last part's gradient of a tensor, which then is final. Every rank adds the same
    /// tensors in the same order.
    pub fn add(&mut self, index: usize, gradient: impl Iterator<Item = f32>) {
        let Some((last, earlier)) = self.parts.split_last_mut() else {
            return;
        };
        let start = last.len();
        last.extend(gradient);
        let length = last.len() - start;
        for (part, gradients) in earlier.iter_mut().zip(&self.earlier) {
            match &gradients[index] {
                Some(gradient) => part.extend(gradient),
                // All parts of a step take the same paths.
                None => part.resize(start + length, 0.0),
            }
        }
        self.added(index, length);
    }

    /// Adds all parts' gradients of a tensor, which then are final. Every rank with parts adds the
    /// same tensors in the same order.
    ///
    /// # Panics
    /// If there is not one gradient for each part, or they differ in length.
    pub fn add_parts(&mut self, index: usize, gradients: &[Vec<f32>]) {
        assert_eq!(gradients.len(), self.parts.len(), "a gradient of each part");
        let length = gradients.first().map_or(0, Vec::len);
        for (part, gradient) in self.parts.iter_mut().zip(gradients) {
            assert_eq!(gradient.len(), length, "the values of a tensor");
            part.extend_from_slice(gradient);
        }
        self.added(index, length);
    }

    fn added(&mut self, index: usize, length: usize) {
        self.layout.push((index, length));
        self.added[index] = true;
        // A rank without images cannot know the buckets: then there is one, and it is described.
        let values = self.parts.first().map_or(0, Vec::len);
        if values >= BUCKET && self.all_have_images() {
            self.send();
        }
    }

    /// Whether [`Buckets::add`] has had a tensor.
    pub fn has(&self, index: usize) -> bool {
        self.added[index]
    }

    fn all_have_images(&self) -> bool {
        self.rows.iter().all(|&rows| rows > 0)
    }

    fn send(&mut self) {
        let layout = std::mem::take(&mut self.layout);
        let parts: Vec<Vec<f32>> = self.parts.iter_mut().map(std::mem::take).collect();
        let pending = self.communicator.sum(Contribution {
            length: layout.iter().map(|(_, length)| length).sum(),
            parts,
            rows: self.rows.clone(),
        });
        self.under_way.push((layout, pending));
    }

    /// Sends what is left and waits for the sums.
    ///
    /// # Errors
    /// If a rank is gone.
    pub fn finish(mut self) -> Result<Summed, CommunicationError> {
        let started = Instant::now();
        if !self.all_have_images() {
            self.layout = self.shared_layout()?;
        }
        if !self.layout.is_empty() {
            self.send();
        }
        let mut communication = Duration::ZERO;
        let mut tensors = vec![None; self.added.len()];
        for (layout, pending) in self.under_way {
            let (sum, took) = pending.wait_timed()?;
            communication += took;
            let mut values = &sum[..];
            for (index, length) in layout {
                let (gradient, rest) = values.split_at(length);
                tensors[index] = Some(gradient.to_vec());
                values = rest;
            }
        }
        Ok(Summed {
            tensors,
            exchange: Exchange {
                communication,
                waited: started.elapsed(),
            },
        })
    }

    /// The layout of the first rank that has images.
    fn shared_layout(&self) -> Result<Layout, CommunicationError> {
        let text = serde_json::to_vec(&self.layout).unwrap_or_default();
        let all = self.communicator.gather(text)?;
        let first = self.rows.iter().position(|&rows| rows > 0);
        let text = first.map_or(&[][..], |rank| &all[rank][..]);
        serde_json::from_slice(text).map_err(|error| CommunicationError::Disagreement {
            what: format!("expected the gradients of a rank, found {error}"),
        })
    }
}

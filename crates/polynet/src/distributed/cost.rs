//! What a step costs on many ranks.
//!
//! A step computes, and exchanges its gradients while the backward pass goes on:
//!
//! ```text
//! step     = forward + backward + exposed + norms
//! exposed  = max(exchange of the last bucket, exchange of all gradients − backward)
//! exchange = 2 (n − 1) · (latency + bytes / n / rate)
//! norms    = Σ (n − 1) · (2 latency + bytes / rate)
//! ```
//!
//! The exchange is a ring all-reduce's; ours moves as many bytes to and from each rank. The last bucket
//! is full only when the backward pass is at its end, so it cannot be hidden. `rate` and `latency` are those of
//! the slowest link that a rank's data goes through.
//!
//! `norms` are the exchanges of synchronised batch norm: two for each, of two numbers of 8 bytes for each channel, for
//! which the computing waits. Every rank gets the rows of all others, and their lengths before.
//!
//! The paper's Very Deep PolyNet on 32 TITAN X in 4 machines, at the rate at which 8 of them trained
//! Inception-ResNet-v2 (314 images/s), over 10 Gbit Ethernet:
//!
//! ```
//! use polynet::distributed::cost::{Cluster, Link, StepCost};
//!
//! // 9.19 and 34.70 GMAC an image; backward costs twice what forward does.
//! let seconds_per_gmac = 8.0 / 314.0 / 9.19;
//! let compute_s = 16.0 * 34.70 * seconds_per_gmac;
//! let step = StepCost::new(compute_s, 4 * 95_366_600, 4 << 20);
//! let ethernet = Link { latency_s: 50e-6, bytes_per_s: 1.25e9 };
//! let images_per_s = 512.0 / step.seconds(&Cluster { ranks: 32, link: ethernet });
//! // The exchange is hidden but for its last bucket. The paper trained 290 images/s.
//! assert_eq!(images_per_s.round(), 331.0);
//! ```

use serde::Serialize;

/// What data passes through on its way from rank to rank.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Link {
    /// Seconds that a message takes, however short.
    pub latency_s: f64,
    /// Bytes in a second to one rank, and from it at the same time.
    pub bytes_per_s: f64,
}

/// Ranks on a ring of equal links.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cluster {
    /// How many.
    pub ranks: usize,
    /// The slowest link.
    pub link: Link,
}

/// What one rank does in a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepCost {
    /// Seconds of the forward pass and the update.
    pub forward_s: f64,
    /// Seconds of the backward pass.
    pub backward_s: f64,
    /// Bytes of all gradients.
    pub gradient_bytes: u64,
    /// Bytes of a bucket.
    pub bucket_bytes: u64,
    /// Exchanges of synchronised batch norms.
    pub norm_exchanges: u64,
    /// Bytes of a rank in all of them.
    pub norm_bytes: u64,
}

impl Link {
    /// The link over which `ranks` ranks (at least 2) have exchanged `(bytes, seconds)`, once few bytes
    /// and once many.
    pub fn measured(ranks: usize, few: (u64, f64), many: (u64, f64)) -> Self {
        let rounds = 2.0 * (ranks as f64 - 1.0);
        let bytes = (many.0.saturating_sub(few.0)) as f64 / ranks as f64;
        Self {
            latency_s: few.1 / rounds,
            bytes_per_s: bytes * rounds / (many.1 - few.1).max(f64::MIN_POSITIVE),
        }
    }
}

impl Cluster {
    /// Seconds in which all ranks add up `bytes` bytes each has.
    pub fn exchange_s(&self, bytes: u64) -> f64 {
        let ranks = self.ranks.max(1) as f64;
        let block = bytes as f64 / ranks;
        2.0 * (ranks - 1.0) * (self.link.latency_s + block / self.link.bytes_per_s)
    }

    /// Seconds in which every rank gets the rows of all ranks, in so many exchanges of together `bytes`
    /// bytes from each.
    pub fn gather_s(&self, exchanges: u64, bytes: u64) -> f64 {
        let others = self.ranks.max(1) as f64 - 1.0;
        let latency = 2.0 * self.link.latency_s * exchanges as f64;
        others * (latency + bytes as f64 / self.link.bytes_per_s)
    }
}

impl StepCost {
    /// A step that computes for `compute_s` seconds, two thirds of them backward.
    pub fn new(compute_s: f64, gradient_bytes: u64, bucket_bytes: u64) -> Self {
        Self {
            forward_s: compute_s / 3.0,
            backward_s: compute_s * 2.0 / 3.0,
            gradient_bytes,
            bucket_bytes: bucket_bytes.max(1),
            norm_exchanges: 0,
            norm_bytes: 0,
        }
    }

    /// With batch norms whose statistics are synchronised, by their channels.
    pub fn with_synchronised_norms(self, channels: impl IntoIterator<Item = usize>) -> Self {
        let mut cost = self;
        for channels in channels {
            cost.norm_exchanges += 2;
            cost.norm_bytes += 2 * 2 * 8 * channels as u64;
        }
        cost
    }

    /// Seconds of exchanging all gradients, bucket by bucket.
    pub fn exchange_s(&self, cluster: &Cluster) -> f64 {
        let full = self.gradient_bytes / self.bucket_bytes;
        let last = self.gradient_bytes % self.bucket_bytes;
        full as f64 * cluster.exchange_s(self.bucket_bytes)
            + if last > 0 {
                cluster.exchange_s(last)
            } else {
                0.0
            }
    }

    /// Seconds of the exchange that the backward pass does not hide.
    pub fn exposed_s(&self, cluster: &Cluster) -> f64 {
        let last = match self.gradient_bytes % self.bucket_bytes {
            0 => self.bucket_bytes.min(self.gradient_bytes),
            rest => rest,
        };
        let hidden = self.exchange_s(cluster) - self.backward_s;
        hidden.max(if last > 0 {
            cluster.exchange_s(last)
        } else {
            0.0
        })
    }

    /// Seconds of a step.
    pub fn seconds(&self, cluster: &Cluster) -> f64 {
        let norms = cluster.gather_s(self.norm_exchanges, self.norm_bytes);
        self.forward_s + self.backward_s + self.exposed_s(cluster) + norms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: Link = Link {
        latency_s: 1e-3,
        bytes_per_s: 1e9,
    };

    #[test]
    fn an_exchange_is_that_of_a_ring() {
        for (ranks, bytes, expected) in [
            (1, 1_000_000_000, 0.0),
            (2, 0, 2e-3),
            (2, 1_000_000_000, 2e-3 + 1.0),
            (4, 1_000_000_000, 6e-3 + 1.5),
        ] {
            let found = Cluster { ranks, link: LINK }.exchange_s(bytes);
            assert!((found - expected).abs() < 1e-12, "{ranks} {bytes}: {found}");
        }
    }

    #[test]
    fn a_link_is_found_again_from_what_it_does() {
        for ranks in [2, 3, 32] {
            let cluster = Cluster { ranks, link: LINK };
            let measured = |bytes| (bytes, cluster.exchange_s(bytes));
            let found = Link::measured(ranks, measured(0), measured(1 << 26));
            assert!((found.latency_s / LINK.latency_s - 1.0).abs() < 1e-9);
            assert!((found.bytes_per_s / LINK.bytes_per_s - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn the_backward_pass_hides_all_but_the_last_bucket() {
        let cluster = Cluster {
            ranks: 2,
            link: LINK,
        };
        // Ten buckets of 102 ms each.
        let bytes = 1_000_000_000;
        let long = StepCost::new(9.0, bytes, bytes / 10);
        assert!((long.exchange_s(&cluster) - 1.02).abs() < 1e-9);
        assert!((long.seconds(&cluster) - (9.0 + 0.102)).abs() < 1e-9);
        // 0.6 s of backward hide as much.
        let short = StepCost::new(0.9, bytes, bytes / 10);
        assert!((short.seconds(&cluster) - (0.9 + 0.42)).abs() < 1e-9);
        let alone = Cluster {
            ranks: 1,
            link: LINK,
        };
        assert_eq!(short.seconds(&alone), 0.3 + 0.6);
    }

    #[test]
    fn the_computing_waits_for_every_synchronised_batch_norm() {
        let local = StepCost::new(3.0, 4000, 4000);
        let synchronised = local.with_synchronised_norms([1000, 250_000]);
        // Four exchanges of 2 ms for each other rank, and 8.032 MB at 1 GB/s.
        for (ranks, expected) in [(1, 0.0), (2, 8e-3 + 8.032e-3), (5, 32e-3 + 32.128e-3)] {
            let cluster = Cluster { ranks, link: LINK };
            let found = synchronised.seconds(&cluster) - local.seconds(&cluster);
            assert!((found - expected).abs() < 1e-9, "{ranks}: {found}");
        }
    }
}

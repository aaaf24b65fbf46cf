//! Batches, made in parallel ahead of whoever consumes them.

mod batch;
mod loader;

pub use batch::{Batch, LastBatch, LoaderConfig, OnError, Order, Share, Skipped, View};
pub use loader::{Epoch, Loader};

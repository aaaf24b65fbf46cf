//! What a data set is made of: its splits, classes and samples, and where the bytes of each lie.
//!
//! Law: a folder, an archive and shards are first listed as paths and then read by the same rules.

mod classes;
mod dataset;
mod digest;
mod folder;
mod ground_truth;
mod layout;
mod meta_mat;
mod reading;
mod shards;
mod splitting;
mod tarball;
mod unlabelled;

pub use dataset::{Dataset, HoldOut, Sample, Side};
pub use digest::{ContentDigest, SplitDigest};
pub use folder::image_files;
pub use reading::{Layout, Reading};
pub(crate) use shards::{SHUFFLE_BUFFER, order as order_of_shards};
pub use splitting::{Split, Splitting};

//! What a data set is made of: its splits, classes and samples, and where the bytes of each lie.
//!
//! Law: a folder, an archive and shards are first listed as paths and then read by the same rules.

mod classes;
mod dataset;
mod folder;
mod ground_truth;
mod layout;
mod shards;
mod splitting;
mod tarball;

pub(crate) use classes::key as class_key;
pub use dataset::{Dataset, Sample};
pub use folder::image_files;
pub(crate) use shards::{SHUFFLE_BUFFER, order as order_of_shards};
pub use splitting::{Split, Splitting};

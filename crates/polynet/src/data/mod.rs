//! From image files to batches of numbers.
//!
//! ```text
//! folder or .tar ─ Dataset ─ bytes ─ decode ─ RgbImage ─ Augmentation | Preprocessing ─ Batch
//!                  (index)                               (training)     (everything else)
//! ```
//!
//! Laws:
//! 1. Labels follow class *names*, never positions: [`Dataset::with_classes`].
//! 2. One [`Preprocessing`] travels with a model's weights; evaluation during training, `eval`
//!    and `predict` all use it.
//! 3. A batch depends on (seed, epoch, batch number) alone, not on threads or timing, so a run
//!    goes on at (epoch, batch) exactly where it stopped.
//! 4. Memory is bounded by the index, the batches in flight and one image a thread.
//! 5. Evaluation and prediction decode whole pictures, training only what its crop needs.
//!
//! ```
//! use polynet::data::Preprocessing;
//!
//! let photo = image::RgbImage::from_pixel(640, 480, image::Rgb([124, 116, 104]));
//! let preprocessing = Preprocessing::imagenet(331);
//! let pixels = preprocessing.apply(&photo); // [3, 331, 331]
//! assert_eq!(pixels.len(), 3 * 331 * 331);
//! assert!(pixels.iter().all(|value| value.abs() < 0.02)); // the mean colour becomes zero
//! ```

mod augment;
mod batch;
mod check;
mod classes;
mod dataset;
mod decode;
mod error;
mod excerpt;
mod folder;
mod ground_truth;
mod inspection;
mod jpeg;
mod layout;
mod loader;
mod preprocessing;
mod random;
mod resample;
mod shards;
mod splitting;
mod tarball;

#[cfg(test)]
mod agreement;
#[cfg(test)]
pub(crate) mod sample_images;

pub use augment::{Augmentation, PadFill};
pub use batch::{Batch, LastBatch, LoaderConfig, OnError, Order, Share, Skipped, View};
pub use check::{CheckReport, FileFinding, Sizes, SplitReport, check};
pub use dataset::{Dataset, Sample};
pub use decode::{MAX_FILE_BYTES, MAX_PIXELS, decode, read_image};
pub use error::{DataError, DataErrorKind};
pub use folder::image_files;
pub use inspection::{Finding, OVERSIZED_PIXELS};
pub use loader::{Epoch, Loader};
pub(crate) use preprocessing::centre_offset;
pub use preprocessing::{Crop, Preprocessing, Resize};
pub use random::sample_rng;
pub(crate) use resample::with_resized;
pub use resample::{Interpolation, Region};
pub use splitting::{Split, Splitting};

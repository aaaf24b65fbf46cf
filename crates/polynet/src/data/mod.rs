//! From image files to batches of numbers.
//!
//! ```text
//! folder or .tar ─ Dataset ─ bytes ─ decode ─ RgbImage ─ Augmentation | Preprocessing ─ Batch
//!                  (index)           (picture)           (training)     (everything else) (load)
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

#[cfg(feature = "train")]
mod check;
mod classes;
mod error;
#[cfg(feature = "train")]
mod index;
#[cfg(feature = "train")]
mod load;
mod picture;

#[cfg(test)]
pub(crate) mod sample_images;

#[cfg(feature = "train")]
pub use crate::random::sample_rng;
#[cfg(feature = "train")]
pub use check::{
    CheckReport, FileFinding, Finding, OVERSIZED_PIXELS, Sizes, SplitReport, check, check_until,
};
pub use classes::ClassNames;
pub use error::{DataError, DataErrorKind, printable};
#[cfg(feature = "train")]
pub use index::{
    ContentDigest, Dataset, HoldOut, Layout, Reading, Sample, Side, Split, SplitDigest, Splitting,
    image_files,
};
#[cfg(feature = "train")]
pub use load::{
    Batch, Epoch, LastBatch, Loader, LoaderConfig, OnError, Order, Share, Skipped, View,
};
#[cfg(feature = "train")]
pub use picture::{Augmentation, PadFill};
pub use picture::{
    Crop, DecodeLimits, Interpolation, MAX_FILE_BYTES, Preprocessing, Region, Resize, decode,
    decode_within, encode_png, read_image,
};
pub(crate) use picture::{centre_offset, with_resized};

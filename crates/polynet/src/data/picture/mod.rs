//! From a file's bytes to a network's input: decoding, resizing, normalising, and how a training
//! picture is varied.

#[cfg(test)]
pub(crate) mod agreement;
mod augment;
mod decode;
mod excerpt;
mod jpeg;
mod preprocessing;
mod resample;

pub use augment::{Augmentation, PadFill};
pub use decode::{MAX_FILE_BYTES, MAX_PIXELS, decode, read_image};
pub(crate) use decode::{check_file_size, read_file};
pub(crate) use preprocessing::centre_offset;
pub use preprocessing::{Crop, Preprocessing, Resize};
pub(crate) use resample::with_resized;
pub use resample::{Interpolation, Region};

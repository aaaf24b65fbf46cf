//! From a file's bytes to a network's input: decoding, resizing, normalising, and how a training
//! picture is varied.

#[cfg(test)]
pub(crate) mod agreement;
#[cfg(feature = "train")]
mod augment;
mod decode;
mod excerpt;
mod jpeg;
mod limits;
mod orient;
mod png;
mod preprocessing;
mod resample;

#[cfg(feature = "train")]
pub use augment::{Augmentation, PadFill};
pub(crate) use decode::{Format, check_file_size, read_file, traits};
pub use decode::{MAX_FILE_BYTES, decode, decode_within, read_image};
pub use limits::Limits as DecodeLimits;
pub use png::encode as encode_png;
pub(crate) use preprocessing::centre_offset;
pub use preprocessing::{Crop, Preprocessing, Resize};
pub(crate) use resample::with_resized;
pub use resample::{Interpolation, Region};

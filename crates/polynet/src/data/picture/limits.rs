//! How much memory one picture may take.
//!
//! ```
//! use polynet::data::{DecodeLimits, decode_within};
//!
//! # let mut png = Vec::new();
//! # let mut encoder = png::Encoder::new(&mut png, 100, 100);
//! # encoder.write_header().unwrap().write_image_data(&[0; 10_000]).unwrap();
//! let limits = DecodeLimits { memory: 30_000 };
//! let error = decode_within(&png, limits).unwrap_err().to_string(); // grey, 100×100
//! assert!(error.contains("40000 bytes"), "{error}");
//! ```

use std::sync::OnceLock;

use crate::data::error::{DataError, DataErrorKind};

/// How much memory decoding one picture may take, its pixels included. More is refused before it
/// is asked for. Threads that load each decode one picture at a time. Resizing it takes about 100 bytes more for each
/// row and column.
///
/// The limit of the process is 2 GiB, which reads any grey or colour JPEG of 200 megapixels, or what the
/// environment variable `POLYNET_IMAGE_MEMORY` says: bytes, or a number with `MiB` or `GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes.
    pub memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 2 << 30 }
    }
}

impl Limits {
    /// What to do about a picture that is too large.
    pub(super) const HELP: &str =
        "shrink it, or raise POLYNET_IMAGE_MEMORY (2GiB unless it is set)";

    /// Those of the process.
    ///
    /// # Errors
    /// If the environment variable is none of what it may be.
    pub fn of_process() -> Result<Self, DataError> {
        static LIMITS: OnceLock<Result<Limits, DataError>> = OnceLock::new();
        let read = || match std::env::var("POLYNET_IMAGE_MEMORY") {
            Ok(text) => Self::parse(&text),
            Err(std::env::VarError::NotPresent) => Ok(Self::default()),
            Err(_) => Self::parse("what is no text"),
        };
        LIMITS.get_or_init(read).clone()
    }

    fn parse(text: &str) -> Result<Self, DataError> {
        let text = text.trim();
        let units = [("GiB", 30), ("MiB", 20), ("", 0)];
        let unit = |(unit, bits)| Some((text.strip_suffix(unit)?, bits));
        let (number, bits) = units.into_iter().find_map(unit).unwrap_or((text, 0));
        let number = number.trim().parse::<u64>().ok();
        let memory = number.and_then(|number| number.checked_mul(1 << bits));
        match memory {
            Some(memory @ 1..) => Ok(Self { memory }),
            _ => Err(DataError::configuration(format!(
                "expected POLYNET_IMAGE_MEMORY as a number of bytes, MiB or GiB such as 4GiB, got \
                 {text}"
            ))),
        }
    }

    /// Refuses a picture of `(width, height)` that takes more.
    pub(super) fn expect(self, (width, height): (u32, u32), bytes: u64) -> Result<(), DataError> {
        if bytes <= self.memory {
            return Ok(());
        }
        Err(DataError::new(
            DataErrorKind::TooLarge,
            format!(
                "expected a picture that takes at most {} bytes of memory, one of {width}x{height} \
                 takes {bytes} bytes; {}",
                self.memory,
                Self::HELP
            ),
        ))
    }
}

/// Memory for `bytes`, or an error where there is none.
pub(super) fn reserved(bytes: usize) -> Result<Vec<u8>, DataError> {
    let mut memory = Vec::new();
    memory.try_reserve_exact(bytes).map_err(|_| {
        let message = format!("there is not enough memory for the picture: {bytes} bytes");
        DataError::new(DataErrorKind::TooLarge, message)
    })?;
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_written_in_bytes_or_with_a_unit() {
        for (text, memory) in [
            ("1000000", 1_000_000),
            ("300MiB", 300 << 20),
            (" 4 GiB ", 4 << 30),
        ] {
            assert_eq!(Limits::parse(text).unwrap(), Limits { memory }, "{text}");
        }
        for text in ["", "0", "many", "4 GB", "-1", "99999999999GiB"] {
            let error = Limits::parse(text).unwrap_err().to_string();
            assert!(error.contains("POLYNET_IMAGE_MEMORY"), "{error}");
        }
    }
}

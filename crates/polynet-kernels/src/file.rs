//! Files in memory, at the alignment of the numbers in them.
//!
//! A file is read and not mapped: the bytes of a mapping change when somebody writes to the file, and a
//! file that somebody cuts short takes the process with it. What is read here is a copy, whatever happens
//! to the file, and a file that is found to change length meanwhile is an error.

use crate::layout::Arena;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Deref;
use std::path::Path;

/// A file's bytes, which begin at a cache line.
#[derive(Debug)]
pub struct FileBytes {
    memory: Arena,
    len: usize,
}

impl FileBytes {
    /// Reads a file.
    ///
    /// # Errors
    /// If the file cannot be read, or has another length at the end than at the beginning.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        Self::read(&mut file, len)
    }

    /// Reads exactly `len` bytes, up to the end.
    fn read(file: &mut impl Read, len: usize) -> io::Result<Self> {
        let mut memory = Arena::new(len.div_ceil(size_of::<f32>()));
        let changed = |how: &str| {
            let message = format!("the file {how} while it was read: it had {len} bytes");
            io::Error::new(io::ErrorKind::InvalidData, message)
        };
        file.read_exact(&mut memory.as_mut_bytes()[..len])
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => changed("became shorter"),
                _ => error,
            })?;
        let more = file.by_ref().take(1).read_to_end(&mut Vec::new())?;
        match more {
            0 => Ok(Self { memory, len }),
            _ => Err(changed("grew")),
        }
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory.as_bytes()[..self.len]
    }
}

/// The numbers in bytes in the processor's own order, where the bytes begin at a number's alignment.
///
/// ```
/// let bytes = 1.5_f32.to_ne_bytes();
/// if let Some(numbers) = polynet_kernels::file::as_f32(&bytes) {
///     assert_eq!(numbers, [1.5]);
/// }
/// ```
pub fn as_f32(bytes: &[u8]) -> Option<&[f32]> {
    // SAFETY: every pattern of 32 bits is a number.
    let (before, numbers, after) = unsafe { bytes.align_to::<f32>() };
    (before.is_empty() && after.is_empty()).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_where_they_are() {
        let numbers = [1.5_f32, -0.0, 1e30, f32::MIN_POSITIVE];
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_ne_bytes()).collect();
        let read = FileBytes::read(&mut &bytes[..], 16).unwrap();
        assert_eq!(as_f32(&read), Some(&numbers[..]));
        assert_eq!(read.as_ptr() as usize % 64, 0);
        assert_eq!(as_f32(&read[1..5]), None);
        assert_eq!(as_f32(&read[..3]), None);
    }

    #[test]
    fn a_file_whose_length_changes_is_an_error() {
        let bytes = [7; 100];
        for (len, how) in [(101, "became shorter"), (99, "grew"), (0, "grew")] {
            let error = FileBytes::read(&mut &bytes[..], len).unwrap_err();
            assert!(error.to_string().contains(how), "{error}");
        }
        assert_eq!(&*FileBytes::read(&mut &bytes[..], 100).unwrap(), bytes);
        assert!(FileBytes::read(&mut &bytes[..0], 0).unwrap().is_empty());
    }

    #[test]
    fn what_is_read_stays_when_the_file_is_cut_short() {
        let name = format!("polynet-kernels-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, vec![3; 100_000]).unwrap();
        let read = FileBytes::open(&path);
        File::create(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&*read.unwrap(), vec![3; 100_000]);
        assert!(FileBytes::open(&path).is_err());
    }
}

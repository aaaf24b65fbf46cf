//! Files in memory, at the alignment of the numbers in them.
//!
//! A file is read and not mapped: the bytes of a mapping change when somebody writes to the file, and a
//! file that somebody cuts short takes the process with it. What is read here is a copy, whatever happens
//! to the file, and a file that is found to change length meanwhile is an error.

use crate::layout::Arena;
use std::fs::File;
use std::io;
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
        let file = File::open(path)?;
        let len = length(&file)?;
        Self::read(&file, len)
    }

    /// Reads a file that had `len` bytes when it was opened.
    fn read(file: &File, len: usize) -> io::Result<Self> {
        let mut memory = Arena::new(len.div_ceil(size_of::<f32>()));
        let changed = |now: &str| {
            let message = format!("the file changed while it was read: it had {len} bytes, {now}");
            io::Error::new(io::ErrorKind::InvalidData, message)
        };
        fill(file, &mut memory.as_mut_bytes()[..len]).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => changed("and now fewer"),
            _ => error,
        })?;
        match length(file)? {
            now if now == len => Ok(Self { memory, len }),
            now => Err(changed(&format!("and now {now}"))),
        }
    }
}

fn length(file: &File) -> io::Result<usize> {
    let len = file.metadata()?.len();
    usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

/// Fills memory from the beginning of a file, by all threads: most of the time goes into pages that are
/// touched for the first time.
#[cfg(unix)]
fn fill(file: &File, bytes: &mut [u8]) -> io::Result<()> {
    use rayon::prelude::*;
    use std::os::unix::fs::FileExt;

    /// Bytes of a task.
    const PART: usize = 4 << 20;
    let parts = bytes.par_chunks_mut(PART).enumerate();
    parts.try_for_each(|(index, part)| file.read_exact_at(part, (index * PART) as u64))
}

/// Fills memory from the beginning of a file.
#[cfg(not(unix))]
fn fill(mut file: &File, bytes: &mut [u8]) -> io::Result<()> {
    io::Read::read_exact(&mut file, bytes)
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
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A file of some bytes that has no name any more.
    fn file(bytes: &[u8]) -> File {
        let path = path();
        std::fs::write(&path, bytes).unwrap();
        let file = File::options().read(true).write(true).open(&path);
        std::fs::remove_file(&path).unwrap();
        file.unwrap()
    }

    /// A path of its own for every call.
    fn path() -> PathBuf {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("polynet-kernels-{}-{count}", std::process::id());
        std::env::temp_dir().join(name)
    }

    #[test]
    fn numbers_are_read_where_they_are() {
        let numbers = [1.5_f32, -0.0, 1e30, f32::MIN_POSITIVE];
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_ne_bytes()).collect();
        let read = FileBytes::read(&file(&bytes), 16).unwrap();
        assert_eq!(as_f32(&read), Some(&numbers[..]));
        assert_eq!(read.as_ptr() as usize % 64, 0);
        assert_eq!(as_f32(&read[1..5]), None);
        assert_eq!(as_f32(&read[..3]), None);
    }

    #[test]
    fn a_file_whose_length_changes_is_an_error() {
        let file = file(&[7; 100]);
        for len in [101, 99, 0] {
            let error = FileBytes::read(&file, len).unwrap_err().to_string();
            assert!(error.contains(&format!("it had {len} bytes")), "{error}");
        }
        assert_eq!(&*FileBytes::read(&file, 100).unwrap(), [7; 100]);
    }

    #[test]
    fn what_is_read_stays_when_the_file_is_cut_short() {
        let bytes: Vec<u8> = (0..9_000_000_u32).map(|i| (i % 251) as u8).collect();
        let file = file(&bytes);
        let read = FileBytes::read(&file, bytes.len()).unwrap();
        file.set_len(0).unwrap();
        assert!(*read == *bytes);
        assert!(FileBytes::read(&file, 0).unwrap().is_empty());
    }

    #[test]
    fn a_file_is_read_by_its_path() {
        let path = path();
        std::fs::write(&path, b"polynet").unwrap();
        let read = FileBytes::open(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&*read.unwrap(), b"polynet");
        assert!(FileBytes::open(&path).is_err());
    }
}

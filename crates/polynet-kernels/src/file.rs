//! Files read through the page cache, without a copy.

use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

/// A file's bytes, mapped into memory: reading begins at once, and what is not touched is not read.
///
/// Nobody may change the file while it is mapped. polynet replaces the files that it writes by
/// renaming new ones over them, so a mapped one stays as it is.
#[derive(Debug)]
pub struct MappedFile(Mmap);

impl MappedFile {
    /// Maps a file.
    ///
    /// # Errors
    /// If the file cannot be opened or mapped.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the mapping is read-only; that nobody changes the file is the contract above.
        Ok(Self(unsafe { Mmap::map(&file)? }))
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
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

//! Numbers read from a place of a file into memory that is there already.
//!
//! A file is read and not mapped: the bytes of a mapping change when somebody writes to the file, and a
//! file that somebody cuts short takes the process with it. What is read here is a copy, and a file that
//! has become too short is an error. Tensor by tensor, into memory that is used again, that costs no more
//! than a mapping: 380 MB took 75 ms of one core, mapped 101 ms, and as a whole 479 ms, most of it for
//! pages that were touched for the first time.

use std::fs::File;
use std::io;

/// Fills `bytes` from `place` on. Threads may read one file side by side.
///
/// # Errors
/// If the file cannot be read, or ends before.
#[cfg(unix)]
pub fn read_at(file: &File, place: u64, bytes: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, place)
}

/// Fills `bytes` from `place` on. Threads may read one file side by side.
///
/// # Errors
/// If the file cannot be read, or ends before.
#[cfg(not(unix))]
pub fn read_at(mut file: &File, place: u64, bytes: &mut [u8]) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    use std::sync::{Mutex, PoisonError};

    /// A file has one position.
    static POSITION: Mutex<()> = Mutex::new(());
    let _position = POSITION.lock().unwrap_or_else(PoisonError::into_inner);
    file.seek(SeekFrom::Start(place))?;
    file.read_exact(bytes)
}

/// Fills `numbers` from `place` on with numbers in little-endian order.
///
/// ```
/// use polynet_kernels::file::read_f32_at;
///
/// let path = std::env::temp_dir().join(format!("numbers-{}", std::process::id()));
/// std::fs::write(&path, [1.5_f32.to_le_bytes(), (-2.0_f32).to_le_bytes()].concat())?;
/// let mut numbers = [0.0];
/// read_f32_at(&std::fs::File::open(&path)?, 4, &mut numbers)?;
/// assert_eq!(numbers, [-2.0]);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// As [`read_at`].
pub fn read_f32_at(file: &File, place: u64, numbers: &mut [f32]) -> io::Result<()> {
    let len = size_of_val(numbers);
    // SAFETY: the bytes of the same numbers; any bytes are numbers, and the borrow is exclusive.
    let bytes = unsafe { std::slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), len) };
    read_at(file, place, bytes)?;
    for number in numbers {
        *number = f32::from_bits(u32::from_le(number.to_bits()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A file of some bytes that has no name any more.
    fn file(bytes: &[u8]) -> File {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("polynet-kernels-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).unwrap();
        let file = File::options().read(true).write(true).open(&path);
        std::fs::remove_file(&path).unwrap();
        file.unwrap()
    }

    #[test]
    fn numbers_are_read_from_any_place() {
        let numbers = [1.5_f32, -0.0, 1e30, f32::MIN_POSITIVE];
        let mut bytes = vec![7];
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        let file = file(&bytes);
        let mut found = [0.0; 3];
        for (place, expected) in [(5, &numbers[1..]), (1, &numbers[..3])] {
            read_f32_at(&file, place, &mut found).unwrap();
            assert_eq!(
                found.map(f32::to_bits),
                [0, 1, 2].map(|i| expected[i].to_bits())
            );
        }
        read_f32_at(&file, 100, &mut []).unwrap();
    }

    #[test]
    fn a_file_that_was_cut_short_is_an_error() {
        let file = file(&[7; 100]);
        let (mut bytes, mut numbers) = ([0; 10], [0.0; 2]);
        read_at(&file, 90, &mut bytes).unwrap();
        file.set_len(95).unwrap();
        assert_eq!(bytes, [7; 10]);
        for error in [
            read_at(&file, 90, &mut bytes).unwrap_err(),
            read_at(&file, 96, &mut bytes).unwrap_err(),
            read_f32_at(&file, 90, &mut numbers).unwrap_err(),
        ] {
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}

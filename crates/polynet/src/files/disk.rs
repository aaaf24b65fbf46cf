//! What changes a disk, operation by operation: all that this library writes goes through these.
//!
//! Law: a machine that stops keeps what was synced, a file's bytes by [`OpenFile::sync`] and its name by
//! [`sync_folder`]; of the rest anything may be there or not. In this crate's tests a folder can be given a
//! disk that fails, fills up, or stops and forgets.

#[cfg(test)]
use super::faults::perform;
use super::folder_of;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The kinds of operations; each is done to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation<'p> {
    Open,
    Write,
    SetLength,
    Sync,
    /// From the path to this one, in the same folder.
    Rename(&'p Path),
    /// A file, or a folder with all that is in it.
    Remove,
    MakeFolder,
    SyncFolder,
}

#[cfg(not(test))]
fn perform<T>(
    _operation: Operation<'_>,
    _path: &Path,
    act: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    act()
}

/// A file that is written to.
#[derive(Debug)]
pub(crate) struct OpenFile {
    file: File,
    path: PathBuf,
}

impl OpenFile {
    /// A file that is not there yet.
    pub(super) fn create_new(path: &Path) -> io::Result<Self> {
        Self::open(path, File::options().write(true).create_new(true))
    }

    /// A file, made where it is not there, whose every write goes to its end.
    pub(crate) fn append_to(path: &Path) -> io::Result<Self> {
        Self::open(path, File::options().append(true).create(true))
    }

    /// A file, made where it is not there, to be read and written.
    pub(crate) fn edit(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        Self::open(path, options)
    }

    fn open(path: &Path, options: &fs::OpenOptions) -> io::Result<Self> {
        let file = perform(Operation::Open, path, || options.open(path))?;
        let path = path.to_owned();
        Ok(Self { file, path })
    }

    /// Forgets what is behind the first `bytes`.
    pub(crate) fn set_length(&self, bytes: u64) -> io::Result<()> {
        perform(Operation::SetLength, &self.path, || {
            self.file.set_len(bytes)
        })
    }

    /// Forces the file's bytes to the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        perform(Operation::Sync, &self.path, || self.file.sync_all())
    }

    /// Waits for the file's lock. File systems that know no locks are used without.
    pub(crate) fn lock(&self) -> io::Result<()> {
        loop {
            match self.file.lock() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() != io::ErrorKind::Unsupported => return Err(error),
                _ => return Ok(()),
            }
        }
    }

    /// Takes the file's lock if nobody has it.
    pub(crate) fn try_lock(&self) -> Result<(), TryLockError> {
        self.file.try_lock()
    }
}

impl Read for OpenFile {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read(bytes)
    }
}

impl Seek for OpenFile {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

impl Write for OpenFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        #[cfg(test)]
        let bytes = super::faults::what_fits(&self.path, bytes)?;
        perform(Operation::Write, &self.path, || self.file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a folder and those that it is in, where they are not there, so that they outlast a machine that
/// stops.
///
/// # Errors
/// When a file stands there, or the file system refuses.
pub fn make_folder(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    make_folder(folder_of(path))?;
    match perform(Operation::MakeFolder, path, || fs::create_dir(path)) {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder(folder_of(path)),
    }
}

/// Gives a file another name in its folder, of which another file may be robbed.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    perform(Operation::Rename(to), from, || fs::rename(from, to))
}

/// Removes a file.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    perform(Operation::Remove, path, || fs::remove_file(path))
}

/// Removes a folder with all that is in it.
pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    perform(Operation::Remove, path, || fs::remove_dir_all(path))
}

/// Forces the names in a folder to the disk: renames, new files, removals.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    perform(Operation::SyncFolder, folder, || sync_names(folder))
}

#[cfg(unix)]
fn sync_names(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Elsewhere a folder can't be opened as a file; a rename is as safe as the system makes it.
#[cfg(not(unix))]
fn sync_names(_folder: &Path) -> io::Result<()> {
    Ok(())
}

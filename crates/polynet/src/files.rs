//! Files that are written whole or not at all, and folders that one process writes at a time.
//!
//! ```
//! use polynet::write_text;
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("config.json");
//! write_text(&path, "{}")?;
//! assert_eq!(std::fs::read(&path)?, b"{}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// A file that was not written; what stood there before still does.
#[derive(Debug, thiserror::Error)]
#[error("{}: can't write the file: {source}", path.display())]
pub struct WriteError {
    path: PathBuf,
    source: io::Error,
}

impl WriteError {
    /// Why, without the path.
    pub fn into_source(self) -> io::Error {
        self.source
    }
}

/// Writes a file whole or not at all, even when the machine stops in between.
///
/// The content goes to a new file in the same folder, is forced to the disk, and takes the place of
/// `path` by one rename, which is then forced to the disk too. Where `write` fails, `path` keeps
/// what it held and nothing else is left behind.
///
/// # Errors
/// When `write` fails or the file system refuses.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), WriteError> {
    replace(path, write).map_err(|source| WriteError {
        path: path.to_owned(),
        source,
    })
}

/// Writes a text whole or not at all, as [`write_atomically`].
///
/// # Errors
/// When the file system refuses.
pub fn write_text(path: &Path, text: &str) -> Result<(), WriteError> {
    write_atomically(path, |file| file.write_all(text.as_bytes()))
}

/// Whether a file can be written there, to be asked before the work that it is to hold.
///
/// # Errors
/// When its folder is not there or the file system refuses.
pub fn try_target(path: &Path) -> Result<(), WriteError> {
    match tempfile::tempfile_in(folder_of(path)) {
        Ok(_) => Ok(()),
        Err(source) => Err(WriteError {
            path: path.to_owned(),
            source,
        }),
    }
}

/// A folder that is this process's alone, until the lock is dropped or the process ends in whatever way.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

/// A folder that can't be had.
#[derive(Debug)]
pub enum LockError {
    /// Another process has it, and says this of itself.
    Taken(String),
    /// The file of the lock can't be made.
    Io(io::Error),
}

impl FolderLock {
    /// Takes a folder by a file `.lock` in it. File systems that know no locks are used without.
    ///
    /// # Errors
    /// When another process has it, or the file can't be made.
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(folder.join(".lock")).map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0).map_err(LockError::Io)?;
                write!(file, "process {}", std::process::id()).map_err(LockError::Io)?;
            }
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // What it says is a help, no more.
                let _ = file.read_to_string(&mut owner);
                return Err(LockError::Taken(owner));
            }
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        Ok(Self { _file: file })
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let folder = folder_of(path);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".unfinished-");
    share(&mut builder);
    let mut file = builder.tempfile_in(folder)?;
    write(file.as_file_mut())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(folder)
}

/// The permissions of any new file: a temporary file would be for its owner alone.
#[cfg(unix)]
fn share(builder: &mut tempfile::Builder<'_, '_>) {
    use std::os::unix::fs::PermissionsExt;
    // The process's mask still applies.
    builder.permissions(std::fs::Permissions::from_mode(0o666));
}

#[cfg(not(unix))]
fn share(_builder: &mut tempfile::Builder<'_, '_>) {}

/// A rename is on the disk once its folder is.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Elsewhere a folder can't be opened as a file; the rename is as safe as the system makes it.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for content in ["first", "second, which is longer", "third"] {
            write_atomically(&path, |file| file.write_all(content.as_bytes())).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "old").unwrap();
        let error = write_atomically(&path, |file| {
            file.write_all(b"half of the ne")?;
            Err(io::Error::other("the disk is full"))
        })
        .unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("file: can't write the file: the disk is full"),
            "{message}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(folder.path()), ["file"]);
        assert!(write_atomically(&folder.path().join("no/file"), |_| Ok(())).is_err());
        assert!(try_target(&folder.path().join("no/file")).is_err());
        try_target(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_has_the_permissions_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write_atomically(&ours, |_| Ok(())).unwrap();
        fs::write(&plain, "").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(ours), mode(plain));
    }
}

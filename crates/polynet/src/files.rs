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

use std::fs::{self, TryLockError};
use std::io::{self, Read as _, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

mod disk;
#[cfg(test)]
pub(crate) mod faults;

pub use disk::make_folder;
pub(crate) use disk::{OpenFile, remove_file, remove_folder, rename, sync_folder};

/// How the names of files begin that are not whole yet.
const UNFINISHED: &str = ".unfinished-";

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

/// A file on its way: written from its beginning, and anywhere in it again.
pub trait NewFile: Write + Seek {}

impl<T: Write + Seek> NewFile for T {}

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
    write: impl FnOnce(&mut dyn NewFile) -> io::Result<()>,
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
    match Unfinished::new(folder_of(path)) {
        Ok(_) => Ok(()),
        Err(source) => Err(WriteError {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Removes the files of a folder that a process did not finish that was killed. Only who has the folder
/// may do so.
pub(crate) fn remove_unfinished(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if is_unfinished(&path) {
            remove_file(&path)?;
        }
    }
    Ok(())
}

/// Whether the file is one that a process that was killed did not finish.
pub(crate) fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(UNFINISHED))
}

/// A folder that is this process's alone, until the lock is dropped or the process ends in whatever way.
#[derive(Debug)]
pub struct FolderLock {
    _file: OpenFile,
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
    /// The name of the file whose lock is the folder's.
    pub(crate) const NAME: &str = ".lock";

    /// Takes a folder by a file `.lock` in it. File systems that know no locks are used without.
    ///
    /// # Errors
    /// When another process has it, or the file can't be made.
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let mut file = OpenFile::edit(&folder.join(Self::NAME)).map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_length(0).map_err(LockError::Io)?;
                let owner = format!("process {}", std::process::id());
                file.write_all(owner.as_bytes()).map_err(LockError::Io)?;
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

pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn replace(path: &Path, write: impl FnOnce(&mut dyn NewFile) -> io::Result<()>) -> io::Result<()> {
    let folder = folder_of(path);
    let mut unfinished = Unfinished::new(folder)?;
    write(&mut unfinished.file)?;
    unfinished.file.sync()?;
    unfinished.take_place_of(path)?;
    sync_folder(folder)
}

/// A new file that goes away unless it takes a place.
struct Unfinished {
    file: OpenFile,
    path: Option<PathBuf>,
}

impl Unfinished {
    fn new(folder: &Path) -> io::Result<Self> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{UNFINISHED}{}-{number}", std::process::id()));
            match OpenFile::create_new(&path) {
                // One that was killed had the number of this process.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                file => {
                    let (file, path) = (file?, Some(path));
                    return Ok(Self { file, path });
                }
            }
        }
    }

    fn take_place_of(mut self, path: &Path) -> io::Result<()> {
        if let Some(own) = &self.path {
            rename(own, path)?;
        }
        self.path = None;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // The error that led here is the one to tell.
            let _ = remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

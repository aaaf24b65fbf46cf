//! Files for what reads files.

use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder of this thread, in memory where there is such a place.
struct Scratch(TempDir);

impl Scratch {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        Self(folder.expect("a folder for temporary files"))
    }
}

thread_local! {
    static SCRATCH: Scratch = Scratch::new();
}

/// Writes a file of this thread, which the next one of this name replaces; gives its path.
pub(crate) fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).expect("a folder for temporary files");
    }
    fs::write(&path, bytes).expect("room for a temporary file");
    path
}

/// The folder of this thread's files.
pub(crate) fn folder() -> PathBuf {
    SCRATCH.with(|scratch| scratch.0.path().to_owned())
}

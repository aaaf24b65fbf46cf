//! A folder as a listing of paths. Nothing but names is read.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::layout::{Listing, Place, is_hidden};
use crate::data::error::{DataError, DataErrorKind};

/// Folders inside each other beyond this are a loop of links, not a data set.
const MAX_DEPTH: usize = 16;

/// The image files below a folder, by their extensions, sorted by path.
///
/// # Errors
/// If a folder can't be read.
pub fn image_files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files: Vec<PathBuf> = list(folder)?
        .image_paths()
        .map(|path| folder.join(path))
        .collect();
    files.sort();
    Ok(files)
}

/// Lists all files below `root`; links are followed.
pub(crate) fn list(root: &Path) -> Result<Listing, DataError> {
    let mut listing = Listing::default();
    let mut pending = vec![(String::new(), 0)];
    while let Some((folder, depth)) = pending.pop() {
        let path = root.join(&folder);
        let at = |error: &std::io::Error| DataError::io(path.display().to_string(), error);
        if depth > MAX_DEPTH {
            return Err(DataError::new(
                DataErrorKind::Layout,
                format!(
                    "expected at most {MAX_DEPTH} folders inside each other; is a link a loop?"
                ),
            )
            .at(path.display().to_string()));
        }
        for entry in fs::read_dir(&path).map_err(|error| at(&error))? {
            let entry = entry.map_err(|error| at(&error))?;
            let name = entry.file_name().into_string().map_err(|name| {
                DataError::new(
                    DataErrorKind::Layout,
                    "expected a name in UTF-8; rename the file",
                )
                .at(path.join(name).display().to_string())
            })?;
            let inner = match folder.as_str() {
                "" => name,
                _ => format!("{folder}/{name}"),
            };
            // A link to nowhere stays listed as a file: reading it will say so.
            let is_folder = match entry.file_type().map_err(|error| at(&error))? {
                kind if kind.is_symlink() => entry.path().is_dir(),
                kind => kind.is_dir(),
            };
            if !is_folder {
                listing.add_file(&inner, Place::File);
            } else if !is_hidden(&inner) {
                listing.add_folder(&inner);
                pending.push((inner, depth + 1));
            }
        }
    }
    Ok(listing)
}

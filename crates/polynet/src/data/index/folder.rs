//! A folder as a listing of paths. Nothing but names is read.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::layout::{Listing, Place, has_image_extension, is_hidden};
use crate::data::error::{DataError, DataErrorKind};

/// Folders inside each other beyond this are a loop of links, not a data set.
const MAX_DEPTH: usize = 16;

/// The image files below a folder, by their extensions, sorted by path. Their names may be any
/// bytes.
///
/// # Errors
/// If a folder can't be read.
pub fn image_files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    walk(folder, |path, kind| {
        let name = path.to_string_lossy();
        if kind == Kind::File && has_image_extension(&name) && !is_hidden(&name) {
            files.push(folder.join(path));
        }
    })?;
    files.sort();
    Ok(files)
}

/// Lists all files below `root`; links are followed.
pub(crate) fn list(root: &Path) -> Result<Listing, DataError> {
    let mut listing = Listing::default();
    walk(root, |path, kind| {
        let names: Option<Vec<&str>> = path.iter().map(|name| name.to_str()).collect();
        let Some(names) = names else {
            // What lies in such a folder needs no telling.
            if path.parent().is_none_or(|folder| folder.to_str().is_some()) {
                listing.add_unreadable(path.as_os_str().as_encoded_bytes());
            }
            return;
        };
        match kind {
            Kind::File => listing.add_file(&names.join("/"), Place::File),
            Kind::Folder => listing.add_folder(&names.join("/")),
        }
    })?;
    Ok(listing)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
}

/// Visits what lies below `root`, by its path from there. Of hidden folders nothing is seen; hidden
/// files are.
fn walk(root: &Path, mut visit: impl FnMut(&Path, Kind)) -> Result<(), DataError> {
    let mut pending = vec![(PathBuf::new(), 0)];
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
            let inner = folder.join(entry.file_name());
            // A link to nowhere stays listed as a file: reading it will say so.
            let is_folder = match entry.file_type().map_err(|error| at(&error))? {
                kind if kind.is_symlink() => entry.path().is_dir(),
                kind => kind.is_dir(),
            };
            if !is_folder {
                visit(&inner, Kind::File);
            } else if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                visit(&inner, Kind::Folder);
                pending.push((inner, depth + 1));
            }
        }
    }
    Ok(())
}

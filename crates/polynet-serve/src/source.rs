//! Model folders by name: `[NAME=]FOLDER`.
//!
//! A folder is a model folder, or holds numbered ones, each a version:
//!
//! ```text
//! flowers/config.json, flowers/model.safetensors        version 1
//! flowers/1/config.json, …, flowers/2/config.json, …    versions 1 and 2; 2 is what is asked by default
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A model's name and folder, written `NAME=FOLDER`, or `FOLDER`, whose name is then the model's.
///
/// ```
/// let source: polynet_serve::ModelSource = "flowers=runs/flowers/model".parse()?;
/// assert_eq!(source.name(), "flowers");
/// # Ok::<(), polynet_serve::SourceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSource {
    name: String,
    folder: PathBuf,
}

/// Why a folder cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The name cannot stand in an address.
    #[error(
        "expected a model's name of letters, digits, `-`, `_` and `.`, got `{}`; give it one: \
         NAME=FOLDER",
        polynet::data::printable(name)
    )]
    Name {
        /// What was to be the name.
        name: String,
    },
    /// There is no model in the folder.
    #[error(
        "{}: expected a model folder with config.json and model.safetensors, or numbered folders of \
         them, one a version; found neither",
        folder.display()
    )]
    NoModel {
        /// The folder.
        folder: PathBuf,
    },
}

impl ModelSource {
    /// A folder by a name.
    ///
    /// # Errors
    /// If the name is not of letters, digits, `-`, `_` and `.`.
    pub fn new(name: &str, folder: impl Into<PathBuf>) -> Result<Self, SourceError> {
        if !is_name(name) {
            let name = name.to_owned();
            return Err(SourceError::Name { name });
        }
        Ok(Self {
            name: name.to_owned(),
            folder: folder.into(),
        })
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl FromStr for ModelSource {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        if let Some((name, folder)) = text.split_once('=')
            && is_name(name)
        {
            return Self::new(name, folder);
        }
        let folder = Path::new(text);
        let whole = folder.canonicalize();
        let named = whole.as_deref().unwrap_or(folder).file_name();
        let name = named.unwrap_or_default().to_string_lossy();
        Self::new(&name, folder)
    }
}

/// Whether a model may have this name: it is a part of addresses, and of paths below a repository.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    (1..=128).contains(&name.len()) && !name.starts_with('.') && name.chars().all(allowed)
}

/// The versions in a folder, by number.
pub(crate) fn versions(folder: &Path) -> Result<BTreeMap<u64, PathBuf>, SourceError> {
    if folder.join("config.json").exists() {
        return Ok(BTreeMap::from([(1, folder.to_owned())]));
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let numbered = entries.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let path = entry.path();
        path.join("config.json").exists().then_some((number, path))
    });
    let versions: BTreeMap<u64, PathBuf> = numbered.collect();
    if versions.is_empty() {
        let folder = folder.to_owned();
        return Err(SourceError::NoModel { folder });
    }
    Ok(versions)
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn a_model_has_the_name_that_is_given_or_its_folders() {
        let named: ModelSource = "a-1=some/where".parse().unwrap();
        assert_eq!(
            (named.name(), named.folder()),
            ("a-1", "some/where".as_ref())
        );
        let plain: ModelSource = "some/where".parse().unwrap();
        assert_eq!(plain.name(), "where");
        let odd: ModelSource = "some/x=y".parse::<ModelSource>().unwrap_or(plain);
        assert_eq!(odd.name(), "where", "a name with a sign is none");
    }

    #[test]
    fn a_name_stays_in_its_place() {
        for name in ["", ".", "..", "../x", "a/b", "a b", "ä", ".hidden", "a\n"] {
            let error = ModelSource::new(name, "x").unwrap_err().to_string();
            assert!(error.contains("NAME=FOLDER"), "{error}");
        }
    }

    #[test]
    fn numbered_folders_are_versions_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        for (name, file) in [
            ("1", "config.json"),
            ("12", "config.json"),
            ("3", "other"),
            ("x", "config.json"),
        ] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join(file), "").unwrap();
        }
        let found = versions(folder.path()).unwrap();
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [1, 12]);
        let error = versions(&folder.path().join("3")).unwrap_err().to_string();
        assert!(error.contains("numbered folders"), "{error}");
    }
}

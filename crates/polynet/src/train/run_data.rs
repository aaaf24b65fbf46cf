//! The data of a run, and what the run remembers of it in `data.json`.
//!
//! Law: a run goes on with the data that it began with, or its user has said otherwise.
//!
//! ```text
//! data.json  := { directory, train, validation, changes }
//! directory   where the run was started: its recipe's relative paths begin there
//! train, validation := SplitDigest
//! changes    := [{ step, what }]      what was let through since
//! ```

use super::error::TrainError;
use super::recipe::Recipe;
use crate::data::{Dataset, HoldOut, Side, Split, SplitDigest, Splitting};
use crate::files::write_text;
use crate::report::{RunFolder, RunFolderError};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::PathBuf;

/// Bytes of a split's files up to which they are read and compared themselves; of larger splits names,
/// labels and sizes.
const READ_UP_TO: u64 = 256 << 20;

/// What happens to a run whose data is not what it began with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChangedData {
    /// It does not go on.
    #[default]
    Refuse,
    /// It goes on and remembers what has changed.
    Accept,
}

/// Both splits, opened; labels of both count the classes of the training images.
pub(super) struct RunData {
    pub(super) train: Dataset,
    pub(super) validation: Dataset,
    /// What a run that is started here remembers of them.
    pub(super) record: DataRecord,
}

/// What a run remembers of its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DataRecord {
    /// None where it is no text: paths then begin where the program is started.
    directory: Option<PathBuf>,
    train: SplitDigest,
    validation: SplitDigest,
    #[serde(default)]
    changes: Vec<Change>,
}

/// A difference that was let through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Change {
    /// Steps made before.
    step: u64,
    what: Vec<String>,
}

impl RunData {
    pub(super) fn open(recipe: &Recipe) -> Result<Self, TrainError> {
        let mut splitting = Splitting {
            seed: recipe.seed,
            ..Splitting::default()
        };
        if let Some(fraction) = recipe.data.validation_fraction {
            splitting.validation_fraction = fraction;
        }
        let open = |split| Dataset::open_with(&recipe.data.path, split, splitting);
        let (train, validation) = match recipe.data.hold_out {
            None => (open(Split::Train)?, open(Split::Validation)?),
            Some(images) => {
                let hold_out = HoldOut {
                    images: usize::try_from(images).unwrap_or(usize::MAX),
                    seed: recipe.data.hold_out_seed,
                };
                let side = |side| open(Split::Train)?.side(hold_out, side);
                (side(Side::Kept)?, side(Side::HeldOut)?)
            }
        };
        let validation = validation.with_classes(train.classes())?;
        let directory = std::env::current_dir().ok();
        let record = DataRecord {
            directory: directory.filter(|directory| directory.to_str().is_some()),
            train: train.digest(READ_UP_TO),
            validation: validation.digest(READ_UP_TO),
            changes: Vec::new(),
        };
        Ok(Self {
            train,
            validation,
            record,
        })
    }
}

impl DataRecord {
    /// What `folder` remembers; nothing if its run began with a version that remembered nothing.
    pub(super) fn read(folder: &RunFolder) -> Result<Option<Self>, TrainError> {
        let path = folder.data();
        let fail = |source| RunFolderError::Folder {
            path: path.clone(),
            source,
        };
        match fs::read(&path) {
            Ok(json) => Ok(Some(
                serde_json::from_slice(&json).map_err(|error| fail(error.into()))?,
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fail(error).into()),
        }
    }

    pub(super) fn write(&self, folder: &RunFolder) -> Result<(), TrainError> {
        let path = folder.data();
        let json = serde_json::to_string_pretty(self).map_err(|error| RunFolderError::Folder {
            path: path.clone(),
            source: error.into(),
        })?;
        Ok(write_text(&path, &(json + "\n")).map_err(RunFolderError::from)?)
    }

    /// The recipe with its relative paths where they were when the run was started.
    pub(super) fn placed(&self, recipe: &Recipe) -> Recipe {
        let mut recipe = recipe.clone();
        if let Some(directory) = &self.directory {
            recipe.data.path = directory.join(&recipe.data.path);
            let init = recipe.model.init.as_deref();
            recipe.model.init = init.map(|path| directory.join(path));
        }
        recipe
    }

    /// What of the data is not as it was, a sentence for each split.
    pub(super) fn differences(&self, now: &Self) -> Vec<String> {
        let train = self.train.difference(&now.train);
        let validation = self.validation.difference(&now.validation);
        if train == validation {
            let both = train.map(|difference| format!("training and validation: {difference}"));
            return both.into_iter().collect();
        }
        let named = [("training", train), ("validation", validation)];
        named
            .into_iter()
            .filter_map(|(name, difference)| Some(format!("{name}: {}", difference?)))
            .collect()
    }

    /// The memory of a run that goes on with `now` after `step` steps, its differences let through.
    pub(super) fn changed_to(&self, now: Self, step: u64, what: &[String]) -> Self {
        let mut changes = self.changes.clone();
        if !what.is_empty() {
            let what = what.to_vec();
            changes.push(Change { step, what });
        }
        Self {
            directory: self.directory.clone(),
            changes,
            ..now
        }
    }

    /// What the ranks of a run compare.
    pub(super) fn summary(&self) -> String {
        let split = |name: &str, digest: &SplitDigest| {
            let (images, listing) = (digest.images, &digest.listing);
            format!("{images} {name} images, digest {listing}")
        };
        format!(
            "{}\n{}",
            split("training", &self.train),
            split("validation", &self.validation)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn digest(images: u64, listing: &str) -> SplitDigest {
        SplitDigest {
            classes: vec!["cat".to_owned()],
            images,
            bytes: 100,
            listing: listing.to_owned(),
            contents: None,
        }
    }

    fn record(train: SplitDigest, directory: Option<&str>) -> DataRecord {
        DataRecord {
            directory: directory.map(PathBuf::from),
            train,
            validation: digest(1, "b"),
            changes: Vec::new(),
        }
    }

    #[test]
    fn ranks_compare_what_their_data_is_made_of() {
        let one = record(digest(2, "a"), None);
        // Where it lies is nothing to compare.
        let elsewhere = record(digest(2, "a"), Some("/photos"));
        assert_eq!(one.summary(), elsewhere.summary());
        for other in [digest(3, "a"), digest(2, "c")] {
            assert_ne!(one.summary(), record(other, None).summary());
        }
    }

    #[test]
    fn only_relative_paths_begin_where_the_run_was_started() {
        let text =
            "[model]\narchitecture = 'ir-3-6-3'\ninit = 'old/model'\n[data]\npath = '/photos'";
        let recipe = Recipe::parse(text, &[]).unwrap();
        let placed = record(digest(1, "a"), Some("/home/ann")).placed(&recipe);
        assert_eq!(placed.data.path, Path::new("/photos"));
        assert_eq!(
            placed.model.init.as_deref(),
            Some(Path::new("/home/ann/old/model"))
        );
        assert_eq!(record(digest(1, "a"), None).placed(&recipe), recipe);
    }

    #[test]
    fn what_was_let_through_stays_known() {
        let first = record(digest(2, "a"), Some("/home/ann"));
        let now = record(digest(3, "a"), Some("/elsewhere"));
        let what = first.differences(&now);
        assert_eq!(what, ["training: it had 2 images and has 3"]);
        let second = first.changed_to(now.clone(), 7, &what);
        let third = second.changed_to(now, 9, &[]);
        assert_eq!(third, second);
        assert_eq!(third.changes, [Change { step: 7, what }]);
        assert_eq!(third.directory.as_deref(), Some(Path::new("/home/ann")));
    }
}

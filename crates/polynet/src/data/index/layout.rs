//! What the paths of a data set mean: splits, classes, samples.
//!
//! ```text
//! layout := [top/] split/ class/ image…      both train and val|valid|validation|test
//!         | [top/] class/ image…             one folder, split here by a seed
//! ```
//!
//! ILSVRC's own layout counts, too: images directly in `val`, and a list of their classes
//! (`ground_truth.rs`).
//!
//! Folders and archives are both listed as paths with `/` and then read by the same rules, so an
//! archive means what the folder it was made from means. Images may lie deeper inside their
//! class. A single folder around everything (`cifar10/train/…`) is stepped into.

use std::{borrow::Cow, collections::BTreeSet};

use super::{
    ground_truth::{GroundTruth, LABEL_FILES},
    reading::{Layout, Reading},
    splitting::{Split, Splitting},
};
use crate::data::error::{DataError, DataErrorKind};

/// The names under which held-out images are found, the preferred one first.
pub(crate) const VALIDATION_NAMES: [&str; 4] = ["val", "valid", "validation", "test"];

pub(crate) const TRAIN_NAME: &str = "train";

const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "jpe", "jfif", "png"];

/// Where the bytes of a file lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a file of its own.
    File,
    /// In a file of a flat folder: its class, the folder in its path, was read from a list.
    FlatFile,
    /// Inside an archive.
    Member {
        /// Which of the archives.
        archive: u32,
        offset: u64,
        size: u64,
    },
}

/// An image of a listing; its path uses `/` and is relative to the folder or archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedImage {
    pub(crate) path: Box<str>,
    pub(crate) place: Place,
}

/// What a folder or an archive holds.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    images: Vec<ListedImage>,
    folders: BTreeSet<String>,
    /// Files that say what images show.
    label_files: Vec<ListedImage>,
    ignored: usize,
    /// Names that are no text, escaped.
    pub(super) unreadable: Vec<String>,
}

/// A sample of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexedImage {
    pub(crate) image: ListedImage,
    pub(crate) label: u32,
}

/// The part of a listing that was asked for.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) classes: Vec<String>,
    pub(crate) samples: Vec<IndexedImage>,
    pub(crate) ignored: usize,
    pub(crate) reading: Reading,
}

impl ListedImage {
    /// Its path as a file or member.
    pub(crate) fn real_path(&self) -> Cow<'_, str> {
        match (self.place, self.path.rsplit_once('/')) {
            (Place::FlatFile, Some((folder, name))) => {
                let above = folder.rsplit_once('/').map_or("", |(above, _)| above);
                Cow::Owned(join(above, name))
            }
            _ => Cow::Borrowed(&self.path),
        }
    }
}

impl Listing {
    /// Adds a file: to the images if its extension says so, else to the count of ignored ones.
    /// Hidden files (`.DS_Store`, `._1.jpg`) are never images.
    pub(crate) fn add_file(&mut self, path: &str, place: Place) {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.add_folder(folder);
        }
        if has_image_extension(path) && !is_hidden(path) {
            self.images.push(ListedImage {
                path: path.into(),
                place,
            });
            return;
        }
        let name = path.rsplit('/').next().unwrap_or(path);
        if LABEL_FILES.contains(&name) {
            self.label_files.push(ListedImage {
                path: path.into(),
                place,
            });
        }
        self.ignored += 1;
    }

    /// All images in the order of the listing.
    pub(super) fn into_images(self) -> Vec<ListedImage> {
        self.images
    }

    /// The files that say what images show.
    pub(crate) fn label_files(&self) -> &[ListedImage] {
        &self.label_files
    }

    /// Whether images lie directly in a folder for validation.
    pub(crate) fn has_flat_validation(&self) -> bool {
        self.images
            .iter()
            .any(|image| flat_validation(&image.path).is_some())
    }

    /// Gives images that lie directly in a folder for validation the classes that `truth` says,
    /// as if they lay in folders of these names. Folders of which it knows no image (`test`) are
    /// left out.
    pub(crate) fn label_flat_validation(&mut self, truth: &GroundTruth) -> Result<(), DataError> {
        let mut labelled = BTreeSet::new();
        let mut unlabelled = Vec::new();
        for (index, image) in self.images.iter_mut().enumerate() {
            let Some((folder, name)) = flat_validation(&image.path) else {
                continue;
            };
            let Some(class) = truth.class_of(name) else {
                unlabelled.push(index);
                continue;
            };
            let class_folder = format!("{folder}/{class}");
            labelled.insert(folder.to_owned());
            image.path = format!("{class_folder}/{name}").into();
            if image.place == Place::File {
                image.place = Place::FlatFile;
            }
            self.folders.insert(class_folder);
        }
        let folder_of = |index: &usize| self.images[*index].path.rsplit_once('/').map(|(f, _)| f);
        let is_known = |index: &usize| folder_of(index).is_some_and(|f| labelled.contains(f));
        if let Some(index) = unlabelled.iter().find(|index| is_known(index)) {
            return Err(DataError::new(
                DataErrorKind::Layout,
                format!(
                    "expected a class for every validation image, {} has none in the list of \
                     classes; add it, or take the image away",
                    self.images[*index].path
                ),
            ));
        }
        let left_out: BTreeSet<String> = unlabelled
            .iter()
            .filter_map(folder_of)
            .map(str::to_owned)
            .collect();
        self.ignored += unlabelled.len();
        self.folders.retain(|folder| !left_out.contains(folder));
        for index in unlabelled.into_iter().rev() {
            self.images.swap_remove(index);
        }
        Ok(())
    }

    /// Adds a folder and those around it, unless hidden.
    pub(crate) fn add_folder(&mut self, path: &str) {
        if is_hidden(path) || self.folders.contains(path) {
            return;
        }
        self.folders.insert(path.to_owned());
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.add_folder(parent);
        }
    }

    /// Reads the listing as a data set and takes one split of it.
    pub(crate) fn index(mut self, split: Split, splitting: Splitting) -> Result<Index, DataError> {
        // Of members with one name the last counts, as when an archive is unpacked.
        self.images.reverse();
        self.images.sort_by(|a, b| a.path.cmp(&b.path));
        self.images.dedup_by(|next, kept| next.path == kept.path);
        if self.images.is_empty() {
            return Err(self.no_images(""));
        }
        let root = self.root();
        let Some(splits) = self.split_folders(&root) else {
            splitting.validate()?;
            let layout = self.divided(&root, splitting)?;
            return self.divide(&root, layout, split, splitting);
        };
        let trained = splits.iter().filter(|name| **name == TRAIN_NAME);
        let held_out = splits.iter().filter(|name| **name != TRAIN_NAME).take(1);
        let read = trained.chain(held_out).map(|name| (*name).to_owned());
        let layout = Layout::Splits {
            folders: read.collect(),
        };
        let chosen = choose(&splits, split)?;
        let folders: Vec<String> = chosen.into_iter().map(|name| join(&root, name)).collect();
        self.gather(&root, &folders, layout)
    }

    /// Counts a file or folder out whose name is no text.
    pub(crate) fn add_unreadable(&mut self, name: &[u8]) {
        self.unreadable.push(name.escape_ascii().to_string());
    }

    /// Everything in the class folders of `folders`.
    fn gather(self, root: &str, folders: &[String], layout: Layout) -> Result<Index, DataError> {
        let warnings = self.oddities(root, &layout);
        let mut classes = BTreeSet::new();
        for folder in folders {
            classes.extend(self.classes(folder)?);
        }
        let loose: usize = folders.iter().map(|folder| self.loose(folder)).sum();
        let mut ranges = Vec::new();
        for (label, class) in (0..).zip(&classes) {
            for folder in folders {
                ranges.push((label, self.images_below(&join(folder, class))));
            }
        }
        let mut slots: Vec<_> = self.images.into_iter().map(Some).collect();
        let mut samples = Vec::new();
        for (label, range) in ranges {
            let images = slots[range].iter_mut().filter_map(Option::take);
            samples.extend(images.map(|image| IndexedImage { image, label }));
        }
        let classes: Vec<String> = classes.into_iter().collect();
        Ok(Index {
            reading: Reading::new(layout, &classes, warnings),
            classes,
            samples,
            ignored: self.ignored + loose,
        })
    }

    /// One part of the class folders of `root`.
    fn divide(
        self,
        root: &str,
        layout: Layout,
        split: Split,
        splitting: Splitting,
    ) -> Result<Index, DataError> {
        let folder = root.to_owned();
        let mut index = self.gather(root, std::slice::from_ref(&folder), layout)?;
        if split == Split::All {
            return Ok(index);
        }
        let rank = |sample: &IndexedImage| splitting.rank(within(&folder, &sample.image.path));
        let limits: Vec<u64> = index
            .samples
            .chunk_by(|a, b| a.label == b.label)
            .map(|class| {
                let mut ranks: Vec<_> = class.iter().map(rank).collect();
                ranks.sort_unstable();
                ranks[splitting.held_out(class.len())]
            })
            .collect();
        let is_held_out = |sample: &IndexedImage| rank(sample) < limits[sample.label as usize];
        index
            .samples
            .retain(|sample| is_held_out(sample) == (split == Split::Validation));
        if index.samples.is_empty() {
            return Err(DataError::new(
                DataErrorKind::NoImages,
                "expected at least two images in some class, to hold one out",
            ));
        }
        Ok(index)
    }

    /// The innermost folder that holds everything, but is not a class itself.
    fn root(&self) -> String {
        let mut root = String::new();
        loop {
            let children = self.children(&root);
            let [only] = children.as_slice() else {
                return root;
            };
            let inner = join(&root, only);
            if VALIDATION_NAMES.contains(only) || self.loose(&root) > 0 || self.loose(&inner) > 0 {
                return root;
            }
            root = inner;
        }
    }

    /// The split folders below `root`, if that is what its folders are. A folder `train` beside
    /// `bus` and `car` is a class.
    fn split_folders(&self, root: &str) -> Option<Vec<&str>> {
        let children = self.children(root);
        let held_out = VALIDATION_NAMES
            .into_iter()
            .filter(|name| children.contains(name));
        let trained = children.contains(&TRAIN_NAME).then_some(TRAIN_NAME);
        let splits: Vec<_> = trained.into_iter().chain(held_out).collect();
        let has_held_out = splits.iter().any(|name| *name != TRAIN_NAME);
        let has_both = has_held_out && trained.is_some();
        (has_both || (has_held_out && splits.len() == children.len())).then_some(splits)
    }

    /// The class folders below `folder`, in order; each has images.
    fn classes(&self, folder: &str) -> Result<Vec<String>, DataError> {
        let classes = self.children(folder);
        if classes.is_empty() && self.loose(folder) > 0 {
            return Err(DataError::new(
                DataErrorKind::Layout,
                format!(
                    "expected a folder for each class in {}, found images lying directly in it",
                    shown(folder)
                ),
            ));
        }
        if classes.is_empty() {
            return Err(self.no_images(folder));
        }
        for class in &classes {
            let path = join(folder, class);
            if self.images_below(&path).is_empty() {
                return Err(self.no_images(&path));
            }
        }
        Ok(classes.into_iter().map(str::to_owned).collect())
    }

    fn no_images(&self, folder: &str) -> DataError {
        DataError::new(
            DataErrorKind::NoImages,
            format!(
                "expected images ({}) in {}, found none; {} files have other names",
                EXTENSIONS.join(", "),
                shown(folder),
                self.ignored
            ),
        )
    }

    /// Names of the folders directly below `folder`, in order.
    pub(super) fn children(&self, folder: &str) -> Vec<&str> {
        let prefix = prefix_of(folder);
        self.folders
            .range(prefix.clone()..)
            .take_while(|path| path.starts_with(&prefix))
            .filter_map(|path| path.strip_prefix(&prefix))
            .filter(|name| !name.is_empty() && !name.contains('/'))
            .collect()
    }

    /// How many images lie directly in `folder`.
    pub(super) fn loose(&self, folder: &str) -> usize {
        let prefix = prefix_of(folder);
        let below = &self.images[self.images_below(folder)];
        let is_loose = |image: &&ListedImage| !image.path[prefix.len()..].contains('/');
        below.iter().filter(is_loose).count()
    }

    /// The range of images inside `folder`, at any depth.
    pub(super) fn images_below(&self, folder: &str) -> std::ops::Range<usize> {
        let prefix = prefix_of(folder);
        let start = self.images.partition_point(|image| *image.path < *prefix);
        let count = self.images[start..].partition_point(|image| image.path.starts_with(&prefix));
        start..start + count
    }
}

/// Which of the split folders that are there make up `split`.
fn choose<'a>(splits: &[&'a str], split: Split) -> Result<Vec<&'a str>, DataError> {
    let (train, held_out): (Vec<_>, Vec<_>) = splits.iter().partition(|name| **name == TRAIN_NAME);
    let chosen = match split {
        Split::Train => train,
        Split::Validation => held_out.into_iter().take(1).collect(),
        Split::All => splits.to_vec(),
    };
    if chosen.is_empty() {
        return Err(DataError::new(
            DataErrorKind::Layout,
            format!(
                "expected a folder {TRAIN_NAME}, found only {}",
                splits.join(", ")
            ),
        ));
    }
    Ok(chosen)
}

/// Folder and name of an image that lies directly in a folder for validation.
fn flat_validation(path: &str) -> Option<(&str, &str)> {
    let (folder, name) = path.rsplit_once('/')?;
    let split = folder.rsplit('/').next().unwrap_or(folder);
    VALIDATION_NAMES.contains(&split).then_some((folder, name))
}

pub(super) fn join(folder: &str, name: &str) -> String {
    prefix_of(folder) + name
}

fn prefix_of(folder: &str) -> String {
    match folder {
        "" => String::new(),
        _ => format!("{folder}/"),
    }
}

fn within<'a>(folder: &str, path: &'a str) -> &'a str {
    path.strip_prefix(&prefix_of(folder)).unwrap_or(path)
}

fn shown(folder: &str) -> &str {
    if folder.is_empty() { "it" } else { folder }
}

pub(crate) fn has_image_extension(path: &str) -> bool {
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    EXTENSIONS
        .iter()
        .any(|known| known.eq_ignore_ascii_case(extension))
}

/// Whether a path goes through anything whose name begins with a dot.
pub(crate) fn is_hidden(path: &str) -> bool {
    path.split('/').any(|name| name.starts_with('.'))
}

#[cfg(test)]
mod tests;

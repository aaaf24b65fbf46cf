//! A labelled set of image files, as an index: about a hundred bytes a sample, whatever the
//! images weigh.
//!
//! ```no_run
//! use polynet::data::{Dataset, Split};
//!
//! let train = Dataset::open("photos.tar", Split::Train)?;
//! let held_out = Dataset::open("photos.tar", Split::Validation)?.with_classes(train.classes())?;
//! let image = held_out.decode(0)?;
//! println!("{} is a {}", held_out.sample(0).name, train.classes()[held_out.sample(0).label]);
//! # Ok::<(), polynet::data::DataError>(())
//! ```

mod hold_out;

use std::{
    collections::HashMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use image::RgbImage;

use super::{
    classes, folder,
    ground_truth::{GroundTruth, LABEL_FILES},
    layout::{Index, IndexedImage, ListedImage, Listing, Place},
    reading::{Layout, Reading},
    shards,
    splitting::{Split, Splitting},
    tarball,
};
use crate::data::{
    error::{DataError, DataErrorKind, printable},
    picture,
};

pub use hold_out::{HoldOut, Side};

/// A labelled set of image files.
#[derive(Debug)]
pub struct Dataset {
    path: PathBuf,
    archives: Vec<Archive>,
    classes: Vec<String>,
    samples: Vec<IndexedImage>,
    ignored: usize,
    reading: Reading,
}

/// An open archive.
#[derive(Debug)]
pub(crate) struct Archive {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
}

/// What the index knows of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample<'a> {
    /// Position of its class in [`Dataset::classes`].
    pub label: usize,
    /// Its path inside the folder or archive, with `/`.
    pub name: &'a str,
}

impl Dataset {
    /// Indexes one part of a folder or an uncompressed `.tar`, which hold
    /// `train/<class>/…` and `val|valid|validation|test/<class>/…`, or one folder for each class
    /// that is then split by [`Splitting::default`]. Or ILSVRC's own layout: synset folders in
    /// `train`, images directly in `val`, and a list of their classes in the data set or in one
    /// of the three folders above it. Or shards: `train-000000.tar`, … and `val-000000.tar`, … in
    /// a folder, or a path such as `photos-{000000..000099}.tar`; each holds a folder for each
    /// class, or `key.jpg` and `key.cls` side by side. One more folder around it all is fine.
    ///
    /// # Errors
    /// If the path can't be read, is laid out otherwise, or has a class without images.
    pub fn open(path: impl AsRef<Path>, split: Split) -> Result<Self, DataError> {
        Self::open_with(path, split, Splitting::default())
    }

    /// [`Self::open`], saying how one folder without splits is divided. Splits that are there as
    /// folders are kept as they are.
    ///
    /// # Errors
    /// As [`Self::open`], and if the fraction is not between 0 and 1.
    pub fn open_with(
        path: impl AsRef<Path>,
        split: Split,
        splitting: Splitting,
    ) -> Result<Self, DataError> {
        let path = path.as_ref();
        let place = || path.display().to_string();
        let (archives, mut listing) = list(path)?;
        if listing.has_flat_validation()
            && let Some(truth) = ground_truth(path, &listing, archives.first())?
        {
            listing
                .label_flat_validation(&truth)
                .map_err(|error| error.at(place()))?;
        }
        let Index {
            classes,
            samples,
            ignored,
            reading,
        } = listing
            .index(split, splitting)
            .map_err(|error| error.at(place()))?;
        Ok(Self {
            path: path.to_owned(),
            archives,
            classes,
            samples,
            ignored,
            reading,
        })
    }

    /// Images without a class.
    pub(super) fn of_pictures(archives: Vec<Archive>, samples: Vec<IndexedImage>) -> Self {
        let folders = Vec::new();
        Self {
            path: PathBuf::new(),
            archives,
            classes: Vec::new(),
            samples,
            ignored: 0,
            reading: Reading::new(Layout::Splits { folders }, &[], Vec::new()),
        }
    }

    /// The same images with the labels of a model whose classes are `classes`, matched by name.
    /// Classes without images are fine.
    ///
    /// # Errors
    /// [`DataErrorKind::UnknownClass`] naming every class that the model doesn't have.
    pub fn with_classes(mut self, classes: &[String]) -> Result<Self, DataError> {
        let positions = classes::positions(&self.classes, classes)
            .map_err(|error| error.at(self.path.display().to_string()))?;
        for sample in &mut self.samples {
            sample.label = positions[sample.label as usize];
        }
        self.classes = classes.to_vec();
        Ok(self)
    }

    /// The classes that labels count, sorted by name unless [`Self::with_classes`] said otherwise.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// How the folder or archive was understood, with the classes that it has itself.
    pub fn reading(&self) -> &Reading {
        &self.reading
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there are none; never so for a set that was opened.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The folder or archive.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many files of the whole folder or archive were passed over because their names are
    /// not those of images, or because they lie beside the class folders.
    pub fn ignored(&self) -> usize {
        self.ignored
    }

    /// How many images each class has, in the order of [`Self::classes`].
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for sample in &self.samples {
            counts[sample.label as usize] += 1;
        }
        counts
    }

    /// Label and name of image `index`.
    ///
    /// # Panics
    /// If there are not that many.
    pub fn sample(&self, index: usize) -> Sample<'_> {
        let sample = &self.samples[index];
        Sample {
            label: sample.label as usize,
            name: &sample.image.path,
        }
    }

    /// Where image `index` lies, as messages name it: a path, or `archive.tar:member`.
    ///
    /// # Panics
    /// If there are not that many.
    pub fn location(&self, index: usize) -> String {
        let image = &self.samples[index].image;
        let name = image.real_path();
        let location = match image.place {
            Place::Member { archive, .. } => {
                let archive = self.archives[archive as usize].path.display();
                format!("{archive}:{name}")
            }
            _ => self.path.join(&*name).display().to_string(),
        };
        printable(&location).into_owned()
    }

    pub(super) fn image(&self, index: usize) -> &ListedImage {
        &self.samples[index].image
    }

    /// For a set of several archives the numbers of the images of each, as they lie in it; for
    /// any other set nothing.
    pub(crate) fn shards(&self) -> Vec<Vec<usize>> {
        if self.archives.len() < 2 {
            return Vec::new();
        }
        let mut shards = vec![Vec::new(); self.archives.len()];
        for (index, sample) in self.samples.iter().enumerate() {
            if let Place::Member {
                archive, offset, ..
            } = sample.image.place
            {
                shards[archive as usize].push((offset, index));
            }
        }
        shards
            .into_iter()
            .map(|mut shard| {
                shard.sort_unstable();
                shard.into_iter().map(|(_, index)| index).collect()
            })
            .collect()
    }

    /// The bytes of image `index`.
    ///
    /// # Errors
    /// If they can't be read or are beyond [`MAX_FILE_BYTES`](crate::data::MAX_FILE_BYTES).
    ///
    /// # Panics
    /// If there are not that many.
    pub fn read(&self, index: usize) -> Result<Vec<u8>, DataError> {
        let image = &self.samples[index].image;
        match image.place {
            Place::Member {
                archive,
                offset,
                size,
            } => tarball::read_member(&self.archives[archive as usize].file, offset, size),
            _ => picture::read_file(&self.path.join(&*image.real_path())),
        }
        .map_err(|error| error.at(self.location(index)))
    }

    /// Image `index` as pixels.
    ///
    /// # Errors
    /// As [`Self::read`] and [`decode`](crate::data::decode); each names the file.
    ///
    /// # Panics
    /// If there are not that many.
    pub fn decode(&self, index: usize) -> Result<RgbImage, DataError> {
        let bytes = self.read(index)?;
        picture::decode(&bytes).map_err(|error| error.at(self.location(index)))
    }
}

/// Opens archives and lists what is there.
fn list(path: &Path) -> Result<(Vec<Archive>, Listing), DataError> {
    if let Some(shards) = shards::find(path)? {
        return shards::list(&shards);
    }
    let place = || path.display().to_string();
    let metadata = fs::metadata(path).map_err(|error| DataError::io(place(), &error))?;
    if metadata.is_dir() {
        return Ok((Vec::new(), folder::list(path)?));
    }
    if !metadata.is_file() {
        let message = "expected a folder or a .tar file";
        return Err(DataError::new(DataErrorKind::Layout, message).at(place()));
    }
    let (file, listing) = tarball::list(path)?;
    let path = path.to_owned();
    Ok((vec![Archive { path, file }], listing))
}

/// How far above a folder the list of its classes may lie: Kaggle's archive has it four folders
/// above `val`.
const FOLDERS_ABOVE: usize = 3;

/// The classes of a flat validation folder, from lists inside the data set or beside it.
fn ground_truth(
    path: &Path,
    listing: &Listing,
    archive: Option<&Archive>,
) -> Result<Option<GroundTruth>, DataError> {
    let mut files = HashMap::new();
    let mut add = |at: String, bytes: Result<Vec<u8>, DataError>| -> Result<(), DataError> {
        let Some(&name) = LABEL_FILES.iter().find(|name| at.ends_with(**name)) else {
            return Ok(());
        };
        let bytes = bytes.map_err(|error| error.at(at.clone()))?;
        files.entry(name).or_insert(bytes);
        Ok(())
    };
    for file in listing.label_files() {
        let at = path.join(&*file.path);
        let bytes = match (archive, file.place) {
            (Some(archive), Place::Member { offset, size, .. }) => {
                tarball::read_member(&archive.file, offset, size)
            }
            _ => picture::read_file(&at),
        };
        add(at.display().to_string(), bytes)?;
    }
    let whole = fs::canonicalize(path)
        .map_err(|error| DataError::io(path.display().to_string(), &error))?;
    for folder in whole.ancestors().skip(1).take(FOLDERS_ABOVE) {
        for name in LABEL_FILES {
            let at = folder.join(name);
            if at.is_file() {
                add(at.display().to_string(), picture::read_file(&at))?;
            }
        }
    }
    GroundTruth::parse(&files).map_err(|error| error.at(path.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::sample_images::{flat_png, picture_set, write_files, write_tar};

    fn sample_set() -> Vec<(String, Vec<u8>)> {
        let mut files = picture_set("train/", &[("cat", 3), ("dog", 2)]);
        files.extend(picture_set("val/", &[("dog", 1), ("cat", 2)]));
        files.push(("train/cat/notes.txt".into(), b"ignore me".to_vec()));
        files
    }

    #[test]
    fn an_archive_equals_the_folder_it_was_made_from() {
        let root = tempfile::tempdir().unwrap();
        let (folder, archive) = (root.path().join("set"), root.path().join("set.tar"));
        write_files(&folder, &sample_set());
        write_tar(&archive, &sample_set());
        for split in [Split::Train, Split::Validation, Split::All] {
            let folder = Dataset::open(&folder, split).unwrap();
            let archive = Dataset::open(&archive, split).unwrap();
            assert_eq!(folder.classes(), archive.classes());
            assert_eq!(folder.class_counts(), archive.class_counts());
            assert_eq!((folder.ignored(), archive.ignored()), (1, 1));
            assert_eq!(folder.len(), archive.len());
            for index in 0..folder.len() {
                assert_eq!(folder.sample(index), archive.sample(index));
                assert_eq!(
                    folder.decode(index).unwrap(),
                    archive.decode(index).unwrap()
                );
            }
        }
    }

    #[test]
    fn a_compressed_archive_or_a_missing_path_is_an_error_that_names_it() {
        let root = tempfile::tempdir().unwrap();
        let error = Dataset::open(root.path().join("none"), Split::All).unwrap_err();
        assert_eq!(error.kind(), DataErrorKind::Io);
        assert!(error.to_string().contains("none: "), "{error}");
        let error = Dataset::open(root.path(), Split::All).unwrap_err();
        assert_eq!(error.kind(), DataErrorKind::NoImages);
    }

    fn ilsvrc() -> Vec<(String, Vec<u8>)> {
        let mut files = picture_set("train/", &[("n01440764", 2), ("n01751748", 1)]);
        for (number, value) in [(1, 77), (2, 88)] {
            files.push((
                format!("val/ILSVRC2012_val_{number:08}.JPEG"),
                flat_png(9, value),
            ));
        }
        files.push(("test/ILSVRC2012_test_00000001.JPEG".into(), flat_png(9, 1)));
        files
    }

    #[test]
    fn a_flat_validation_folder_is_labelled_by_its_list() {
        let list = b"ImageId,PredictionString\nILSVRC2012_val_00000001,n01751748 1 2 3 4\n\
            ILSVRC2012_val_00000002,n01440764 1 2 3 4\n";
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("ILSVRC/Data/CLS-LOC");
        write_files(&path, &ilsvrc());
        let error = Dataset::open(&path, Split::Validation).unwrap_err();
        assert!(
            error.to_string().contains("images lying directly"),
            "{error}"
        );

        std::fs::write(root.path().join("LOC_val_solution.csv"), list).unwrap();
        let archive = root.path().join("set.tar");
        let in_archive = [
            ilsvrc(),
            vec![("LOC_val_solution.csv".into(), list.to_vec())],
        ]
        .concat();
        write_tar(&archive, &in_archive);
        let model = ["n01440764 tench, Tinca tinca", "n01751748 sea snake"].map(str::to_owned);
        for path in [&path, &archive] {
            let set = Dataset::open(path, Split::Validation).unwrap();
            let set = set.with_classes(&model).unwrap();
            let labels: Vec<_> = (0..set.len())
                .map(|index| (set.read(index).unwrap(), set.sample(index).label))
                .collect();
            assert_eq!(labels, [(flat_png(9, 88), 0), (flat_png(9, 77), 1)]);
            assert!(
                set.location(0)
                    .ends_with("val/ILSVRC2012_val_00000002.JPEG")
                    || path == &archive
            );
            assert_eq!(Dataset::open(path, Split::Train).unwrap().len(), 3);
            assert_eq!(Dataset::open(path, Split::All).unwrap().len(), 5);
        }
        let list = &list[..list.len() - 46];
        std::fs::write(root.path().join("LOC_val_solution.csv"), list).unwrap();
        let error = Dataset::open(&path, Split::Validation)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("ILSVRC2012_val_00000002.JPEG has none"),
            "{error}"
        );
    }

    #[test]
    fn labels_follow_the_models_classes() {
        let root = tempfile::tempdir().unwrap();
        write_files(root.path(), &sample_set());
        let model = ["dog", "bird", "cat"].map(str::to_owned);
        let set = Dataset::open(root.path(), Split::Train).unwrap();
        assert_eq!(set.classes(), ["cat", "dog"]);
        let set = set.with_classes(&model).unwrap();
        assert_eq!(set.classes(), model);
        assert_eq!(set.class_counts(), [2, 0, 3]);
        for index in 0..set.len() {
            let sample = set.sample(index);
            let class = sample.name.split('/').nth(1).unwrap();
            assert_eq!(model[sample.label], class);
        }
        let error = set.with_classes(&model[..2]).unwrap_err();
        assert_eq!(error.kind(), DataErrorKind::UnknownClass);
    }

    #[test]
    fn a_broken_image_is_named_with_its_archive() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("set.tar");
        write_tar(&path, &[("a/broken.jpg".into(), b"no image".to_vec())]);
        let error = Dataset::open(&path, Split::All)
            .unwrap()
            .decode(0)
            .unwrap_err();
        assert_eq!(error.kind(), DataErrorKind::Decode);
        assert!(
            error
                .to_string()
                .contains("set.tar:a/broken.jpg: expected a JPEG"),
            "{error}"
        );
    }

    #[test]
    fn many_threads_read_one_archive() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("set.tar");
        let files = picture_set("", &[("a", 30), ("b", 30)]);
        write_tar(&path, &files);
        let set = Dataset::open(&path, Split::All).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for (index, (_, bytes)) in files.iter().enumerate() {
                        assert_eq!(set.read(index).unwrap(), *bytes);
                    }
                });
            }
        });
    }

    #[cfg(unix)]
    #[test]
    fn a_loop_of_links_is_refused() {
        let root = tempfile::tempdir().unwrap();
        write_files(root.path(), &picture_set("", &[("a", 1)]));
        std::os::unix::fs::symlink(root.path(), root.path().join("a/again")).unwrap();
        let error = Dataset::open(root.path(), Split::All).unwrap_err();
        assert!(error.to_string().contains("is a link a loop?"), "{error}");
    }
}

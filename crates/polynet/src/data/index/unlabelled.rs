//! Pictures that nobody has labelled: files, folders, archives and shards in a row.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    dataset::{Archive, Dataset},
    folder,
    layout::{IndexedImage, ListedImage, Place},
    shards, tarball,
};
use crate::data::error::{DataError, DataErrorKind};

impl Dataset {
    /// The pictures that paths mean, in the order of the paths: image files, folders with all that lies
    /// below them (sorted by path), `.tar` archives, and shards in a folder or as a range such as
    /// `photos-{000000..000099}.tar` (each in the archive's own order). Such a set has no class, and
    /// every label is 0.
    ///
    /// # Errors
    /// If a path can't be read, or means no picture.
    pub fn unlabelled(paths: &[PathBuf]) -> Result<Self, DataError> {
        let (mut archives, mut pictures) = (Vec::new(), Vec::new());
        for path in paths {
            let before = pictures.len();
            let place = || path.display().to_string();
            if let Some(shards) = shards::find(path)? {
                for shard in &shards {
                    add_archive(shard, &mut archives, &mut pictures)?;
                }
            } else if path.is_dir() {
                pictures.extend(folder::image_files(path)?.iter().map(|file| in_file(file)));
            } else if path
                .extension()
                .is_some_and(|extension| extension.eq_ignore_ascii_case("tar"))
            {
                add_archive(path, &mut archives, &mut pictures)?;
            } else {
                fs::metadata(path).map_err(|error| DataError::io(place(), &error))?;
                pictures.push(in_file(path));
            }
            if pictures.len() == before {
                let message = "expected a picture or some below it, found none";
                return Err(DataError::new(DataErrorKind::NoImages, message).at(place()));
            }
        }
        Ok(Self::of_pictures(archives, pictures))
    }
}

fn in_file(path: &Path) -> IndexedImage {
    IndexedImage {
        image: ListedImage {
            path: path.to_string_lossy().into(),
            place: Place::File,
        },
        label: 0,
    }
}

fn add_archive(
    path: &Path,
    archives: &mut Vec<Archive>,
    pictures: &mut Vec<IndexedImage>,
) -> Result<(), DataError> {
    let number = archives.len() as u32;
    let (file, listing) = tarball::list(path)?;
    for mut image in listing.into_images() {
        if let Place::Member { archive, .. } = &mut image.place {
            *archive = number;
        }
        pictures.push(IndexedImage { image, label: 0 });
    }
    archives.push(Archive {
        path: path.to_owned(),
        file,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::sample_images::{picture_set, write_files, write_tar};

    #[test]
    fn files_folders_archives_and_shards_are_pictures_in_a_row() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let files = picture_set("", &[("cat", 2), ("dog", 1)]);
        write_files(&at("folder"), &files);
        write_files(&at("empty"), &[("notes.txt".into(), b"x".to_vec())]);
        write_tar(&at("set.tar"), &files);
        write_files(&at("shards"), &[]);
        std::fs::create_dir_all(at("shards")).unwrap();
        for number in 0..2 {
            write_tar(&at(&format!("shards/train-00{number}.tar")), &files[..1]);
        }
        let one = at("folder/dog/000.png");
        let paths = [at("folder"), one.clone(), at("set.tar"), at("shards")];
        let pictures = Dataset::unlabelled(&paths).unwrap();
        assert_eq!(pictures.len(), 3 + 1 + 3 + 2);
        assert!(pictures.classes().is_empty());
        assert_eq!(pictures.location(3), one.display().to_string());
        assert!(pictures.location(5).ends_with("set.tar:cat/001.png"));
        assert!(pictures.location(8).ends_with("train-001.tar:cat/000.png"));
        for (picture, file) in [
            (0, 0),
            (1, 1),
            (2, 2),
            (3, 2),
            (4, 0),
            (6, 2),
            (7, 0),
            (8, 0),
        ] {
            assert_eq!(pictures.read(picture).unwrap(), files[file].1, "{picture}");
            pictures.decode(picture).unwrap();
        }
        for nothing in ["empty", "none.png"] {
            let error = Dataset::unlabelled(&[one.clone(), at(nothing)]).unwrap_err();
            assert!(error.to_string().contains(nothing), "{error}");
        }
    }
}

//! What a split was made of, in a form that a run can keep and compare with what is there later.
//!
//! ```no_run
//! use polynet::data::{Dataset, Split, SplitDigest};
//!
//! let digest = Dataset::open("photos", Split::Train)?.digest(0);
//! let kept = serde_json::to_string(&digest).unwrap();
//! // Later:
//! let kept: SplitDigest = serde_json::from_str(&kept).unwrap();
//! let now = Dataset::open("photos", Split::Train)?.digest(0);
//! assert_eq!(kept.difference(&now), None);
//! # Ok::<(), polynet::data::DataError>(())
//! ```

use std::{collections::BTreeSet, fs};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{dataset::Dataset, layout::Place, reading::listed};
use crate::bytes::hex;

/// What a split is made of: classes, names and sizes.
///
/// Written as JSON it has these keys, and the same ones for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitDigest {
    /// The classes that labels count, in their order.
    pub classes: Vec<String>,
    /// How many images there are.
    pub images: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// SHA-256 of every image's name, label and size in the order of the names, in hexadecimal.
    pub listing: String,
    /// What [`ContentDigest`] says of the files, once they were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<String>,
}

impl SplitDigest {
    /// What is different in `now`, in words; nothing if it is the same. Contents count where both
    /// know them.
    pub fn difference(&self, now: &Self) -> Option<String> {
        if self.classes != now.classes {
            let names = |of: &Self| of.classes.iter().cloned().collect::<BTreeSet<String>>();
            let (before, after) = (names(self), names(now));
            let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
                let names: Vec<&String> = a.difference(b).collect();
                if names.is_empty() {
                    "none".to_owned()
                } else {
                    listed(&names)
                }
            };
            return Some(match before == after {
                true => "the classes are in another order".to_owned(),
                false => format!(
                    "the classes are others: gone are {}, new are {}",
                    only(&before, &after),
                    only(&after, &before)
                ),
            });
        }
        if self.images != now.images {
            return Some(format!(
                "it had {} images and has {}",
                self.images, now.images
            ));
        }
        if self.bytes != now.bytes {
            return Some(format!(
                "its files had {} bytes and have {}",
                self.bytes, now.bytes
            ));
        }
        if self.listing != now.listing {
            return Some("names, labels or sizes of its images are others".to_owned());
        }
        match (&self.contents, &now.contents) {
            (Some(before), Some(after)) if before != after => {
                Some("what its files hold is something else".to_owned())
            }
            _ => None,
        }
    }
}

/// What files hold, whatever the order they are read in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContentDigest {
    /// Of SHA-256 of each image's number and bytes, in two numbers.
    sums: [u128; 2],
}

impl ContentDigest {
    /// Counts the bytes of image `index` of its data set in; each image once.
    pub fn add(&mut self, index: usize, bytes: &[u8]) {
        let hash = Sha256::new_with_prefix((index as u64).to_le_bytes()).chain_update(bytes);
        let hash: [u8; 32] = hash.finalize().into();
        for (sum, half) in self.sums.iter_mut().zip(hash.as_chunks::<16>().0) {
            *sum = sum.wrapping_add(u128::from_le_bytes(*half));
        }
    }

    /// Counts in what others have counted.
    pub fn merge(&mut self, other: &Self) {
        for (sum, other) in self.sums.iter_mut().zip(other.sums) {
            *sum = sum.wrapping_add(other);
        }
    }

    /// Its 64 hexadecimal digits.
    pub fn text(&self) -> String {
        self.sums.map(|sum| format!("{sum:032x}")).concat()
    }
}

impl Dataset {
    /// What the split is made of: of files of their own the sizes are asked for, and what they hold is
    /// read where all have at most `read_up_to` bytes together. A file that is gone has no bytes.
    pub fn digest(&self, read_up_to: u64) -> SplitDigest {
        let sizes: Vec<u64> = (0..self.len())
            .into_par_iter()
            .map(|index| self.size(index))
            .collect();
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|&index| self.sample(index).name);
        let mut hash = Sha256::new();
        for index in order {
            let sample = self.sample(index);
            hash.update((sample.name.len() as u64).to_le_bytes());
            hash.update(sample.name);
            hash.update((sample.label as u64).to_le_bytes());
            hash.update(sizes[index].to_le_bytes());
        }
        let listing = hash.finalize();
        let bytes = sizes.iter().sum();
        SplitDigest {
            classes: self.classes().to_vec(),
            images: self.len() as u64,
            bytes,
            listing: hex(&listing),
            contents: (bytes <= read_up_to).then(|| self.contents().text()),
        }
    }

    /// What all files hold; those that can't be read hold nothing.
    fn contents(&self) -> ContentDigest {
        (0..self.len())
            .into_par_iter()
            .fold(ContentDigest::default, |mut digest, index| {
                digest.add(index, &self.read(index).unwrap_or_default());
                digest
            })
            .reduce(ContentDigest::default, |mut one, other| {
                one.merge(&other);
                one
            })
    }

    fn size(&self, index: usize) -> u64 {
        let image = self.image(index);
        match image.place {
            Place::Member { size, .. } => size,
            _ => fs::metadata(self.path().join(&*image.real_path()))
                .map_or(0, |metadata| metadata.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{
        Split,
        sample_images::{flat_png, picture_set, write_files, write_tar},
    };

    #[test]
    fn a_digest_follows_names_labels_and_sizes() {
        let files = picture_set("", &[("cat", 3), ("dog", 2)]);
        let root = tempfile::tempdir().unwrap();
        let (folder, archive) = (root.path().join("set"), root.path().join("set.tar"));
        write_files(&folder, &files);
        write_tar(&archive, &files);
        let digest = |path| Dataset::open(path, Split::All).unwrap().digest(0);
        let kept = digest(&folder);
        assert_eq!(kept.difference(&digest(&archive)), None);
        assert_eq!((kept.images, kept.classes.len()), (5, 2));
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<SplitDigest>(&text).unwrap(), kept);

        std::fs::write(folder.join("cat/000.png"), flat_png(40, 9)).unwrap();
        let told = kept.difference(&digest(&folder)).unwrap();
        assert!(told.contains("bytes"), "{told}");
        write_files(&folder, &files);
        std::fs::rename(folder.join("cat/000.png"), folder.join("cat/x.png")).unwrap();
        let told = kept.difference(&digest(&folder)).unwrap();
        assert!(told.contains("names, labels or sizes"), "{told}");
        write_files(&folder, &files);
        let told = kept.difference(&digest(&folder)).unwrap();
        assert!(told.contains("5 images and has 6"), "{told}");
        std::fs::rename(folder.join("cat"), folder.join("zcat")).unwrap();
        let told = kept.difference(&digest(&folder)).unwrap();
        assert!(told.contains("gone are cat, new are zcat"), "{told}");
    }

    #[test]
    fn files_are_read_only_where_they_are_few_bytes() {
        let root = tempfile::tempdir().unwrap();
        let file = |seed: u8| vec![seed; 100];
        let write = |one, other| {
            let files = [("a/1.png".to_owned(), one), ("b/2.png".to_owned(), other)];
            write_files(root.path(), &files);
            Dataset::open(root.path(), Split::All).unwrap()
        };
        let before = write(file(1), file(2));
        let (kept, unread) = (before.digest(200), before.digest(199));
        assert_eq!(unread.contents, None);
        // Of the same names and sizes, and something else inside.
        let now = write(file(1), file(3));
        let told = kept.difference(&now.digest(200)).unwrap();
        assert!(told.contains("hold is something else"), "{told}");
        assert_eq!(unread.difference(&now.digest(200)), None);
        assert_eq!(kept.difference(&write(file(1), file(2)).digest(200)), None);
    }

    #[test]
    fn contents_are_the_same_in_any_order_and_for_any_division() {
        let files = [b"one".as_slice(), b"two", b"three"];
        let digest = |order: &[usize]| {
            let mut digest = ContentDigest::default();
            order
                .iter()
                .for_each(|&index| digest.add(index, files[index]));
            digest
        };
        let whole = digest(&[0, 1, 2]);
        assert_eq!(digest(&[2, 0, 1]).text(), whole.text());
        let mut merged = digest(&[1]);
        merged.merge(&digest(&[2, 0]));
        assert_eq!(merged, whole);
        let mut swapped = ContentDigest::default();
        [1, 0, 2]
            .iter()
            .zip(files)
            .for_each(|(&index, bytes)| swapped.add(index, bytes));
        assert_ne!(swapped, whole);
        assert_eq!(whole.text().len(), 64);
    }
}

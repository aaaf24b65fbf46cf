//! How a data set was understood: what its folders were taken for, and what is odd about it.
//!
//! ```text
//! folders train and val; 3 classes: cat, dog, horse
//! a folder for each class in cifar10, 10 % of each held out; 10 classes: airplane, automobile, …
//! ```

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
};

use serde::Serialize;

use super::{
    layout::{Listing, TRAIN_NAME, VALIDATION_NAMES, join},
    splitting::Splitting,
};
use crate::data::error::{DataError, DataErrorKind};

/// How many names are shown of a longer list.
const SHOWN: usize = 5;

/// Names by which a folder of training images is known elsewhere.
const TRAINING_NAMES: [&str; 4] = ["train", "training", "trainset", "train_set"];

/// How a data set was understood. Printed as one line, without the warnings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reading {
    /// What its folders were taken for.
    pub layout: Layout,
    /// The names of its classes, sorted.
    pub classes: Vec<String>,
    /// What is odd about it, a sentence each.
    pub warnings: Vec<String>,
}

/// What the folders of a data set were taken for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Layout {
    /// A folder for each split.
    Splits {
        /// The names of those that are read, training first.
        folders: Vec<String>,
    },
    /// A folder for each class, divided here.
    Classes {
        /// The folder that holds them; empty for the data set itself.
        inside: String,
        /// The share of each class that is held out.
        validation_fraction: f64,
    },
}

impl Reading {
    pub(super) fn new(layout: Layout, classes: &[String], mut warnings: Vec<String>) -> Self {
        if let [only] = classes {
            warnings.push(format!(
                "there is one class, {only}: nothing is learned where every answer is right"
            ));
        }
        let mut alike: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for class in classes {
            let words: Vec<&str> = class
                .split(['_', '-', ' '])
                .filter(|w| !w.is_empty())
                .collect();
            let known = words.join(" ").to_lowercase();
            alike.entry(known).or_default().push(class);
        }
        for names in alike.values().filter(|names| names.len() > 1) {
            let names: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
            warnings.push(format!(
                "the classes {} differ in case or spaces only; if they are one class, put their \
                 images into one folder",
                names.join(" and ")
            ));
        }
        Self {
            layout,
            classes: classes.to_vec(),
            warnings,
        }
    }
}

impl Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.layout {
            Layout::Splits { folders } => match folders.as_slice() {
                [only] => write!(f, "folder {only}")?,
                _ => write!(f, "folders {}", folders.join(" and "))?,
            },
            Layout::Classes {
                inside,
                validation_fraction,
            } => {
                let inside = match inside.as_str() {
                    "" => String::new(),
                    inside => format!(" in {inside}"),
                };
                let percent = 100.0 * validation_fraction;
                write!(
                    f,
                    "a folder for each class{inside}, {percent} % of each held out"
                )?;
            }
        }
        let count = self.classes.len();
        let noun = if count == 1 { "class" } else { "classes" };
        write!(f, "; {count} {noun}: {}", listed(&self.classes))
    }
}

/// The first names of a list, and how many more there are.
pub(super) fn listed<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<&str> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

impl Listing {
    /// What folders without known splits are taken for; refused where they look like splits.
    pub(super) fn divided(&self, root: &str, splitting: Splitting) -> Result<Layout, DataError> {
        let children = self.children(root);
        let is_training = |name: &&&str| {
            let known = |training: &&str| name.eq_ignore_ascii_case(training);
            TRAINING_NAMES.iter().any(known)
        };
        if let Some(training) = children.iter().find(is_training) {
            let inside = join(root, training);
            if children.len() == 1 && self.loose(&inside) > 0 {
                return Err(layout(format!(
                    "expected a folder for each class in {training}, found images lying directly \
                     in it"
                )));
            }
            let classes = self.children(&inside);
            let shares = |name: &&&str| {
                let below = self.children(&join(root, name));
                *name != training && below.iter().any(|class| classes.contains(class))
            };
            if children.iter().any(|name| shares(&name)) {
                return Err(layout(format!(
                    "expected the splits {TRAIN_NAME} and {}, found {}, which have the same \
                     classes; rename them",
                    VALIDATION_NAMES.join(" or "),
                    listed(&children)
                )));
            }
        }
        Ok(Layout::Classes {
            inside: root.to_owned(),
            validation_fraction: splitting.validation_fraction,
        })
    }

    /// What is odd about the folders that `layout` doesn't read.
    pub(super) fn oddities(&self, root: &str, layout: &Layout) -> Vec<String> {
        let mut warnings = Vec::new();
        let children = self.children(root);
        if let Layout::Splits { folders } = layout {
            let unread: Vec<&str> = children
                .into_iter()
                .filter(|name| !folders.iter().any(|folder| folder == name))
                .filter(|name| !VALIDATION_NAMES.contains(name))
                .filter(|name| !self.images_below(&join(root, name)).is_empty())
                .collect();
            if !unread.is_empty() {
                warnings.push(format!(
                    "beside the splits lie folders with images that are not read: {}",
                    listed(&unread)
                ));
            }
        } else if let [first, others @ ..] = children.as_slice()
            && !others.is_empty()
        {
            let inside = |name: &str| self.children(&join(root, name));
            let shared = |class: &&str| others.iter().all(|name| inside(name).contains(class));
            if inside(first).iter().any(shared) {
                warnings.push(format!(
                    "the folders {} have folders of the same names inside; if they are splits, \
                     call them {TRAIN_NAME} and {}",
                    listed(&children),
                    VALIDATION_NAMES[0]
                ));
            }
        }
        if !self.unreadable.is_empty() {
            warnings.push(format!(
                "left out {} files or folders whose names are not UTF-8; rename them: {}",
                self.unreadable.len(),
                listed(&self.unreadable)
            ));
        }
        warnings
    }
}

fn layout(message: String) -> DataError {
    DataError::new(DataErrorKind::Layout, message)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::data::{
        CheckReport, Dataset, Split, check,
        sample_images::{flat_png, picture_set, write_files, write_tar},
    };

    type Files = Vec<(String, Vec<u8>)>;

    fn files(parts: &[(&str, &[(&str, usize)])]) -> Files {
        let part = |&(prefix, classes): &(&str, &[(&str, usize)])| picture_set(prefix, classes);
        parts.iter().flat_map(part).collect()
    }

    fn set(files: &Files) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        write_files(root.path(), files);
        root
    }

    fn checked(root: &Path) -> Result<CheckReport, DataError> {
        check(root, None, |_, _| {})
    }

    #[test]
    fn how_a_folder_was_understood_is_told_with_its_classes() {
        let classes: &[(&str, usize)] = &[("cat", 2), ("dog", 2)];
        for (files, expected) in [
            (
                files(&[("train/", classes), ("val/", classes)]),
                "folders train and val; 2 classes: cat, dog",
            ),
            (
                files(&[("test/", classes)]),
                "folder test; 2 classes: cat, dog",
            ),
            (
                files(&[("photos/", classes)]),
                "a folder for each class in photos, 10 % of each held out; 2 classes: cat, dog",
            ),
        ] {
            let root = set(&files);
            let opened = Dataset::open(root.path(), Split::All).unwrap();
            assert_eq!(opened.reading().to_string(), expected);
        }
        let names: Vec<String> = (0..8).map(|n| format!("class-{n}")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let root = set(&files(&[("", &many)]));
        let told = Dataset::open(root.path(), Split::All)
            .unwrap()
            .reading()
            .to_string();
        assert!(
            told.ends_with("8 classes: class-0, class-1, class-2, class-3, class-4 and 3 more")
        );
    }

    #[test]
    fn splits_of_unknown_names_are_refused_by_all_who_read_them() {
        let classes: &[(&str, usize)] = &[("cat", 2), ("dog", 2)];
        for (training, held_out) in [("train/", "dev/"), ("Train/", "Val/"), ("training/", "x/")] {
            let root = set(&files(&[(training, classes), (held_out, classes)]));
            for split in [Split::Train, Split::Validation, Split::All] {
                let error = Dataset::open(root.path(), split).unwrap_err().to_string();
                assert!(
                    error.contains("expected the splits train and val"),
                    "{error}"
                );
                assert!(error.contains(held_out.trim_end_matches('/')), "{error}");
            }
            assert!(checked(root.path()).is_err());
        }
        let root = set(&files(&[("one/", classes), ("two/", classes)]));
        let opened = Dataset::open(root.path(), Split::All).unwrap();
        assert!(opened.reading().warnings[0].contains("if they are splits"));
    }

    #[test]
    fn images_directly_in_train_are_refused() {
        let root = set(&vec![("train/1.png".into(), flat_png(8, 1))]);
        let error = checked(root.path()).unwrap_err().to_string();
        assert!(error.contains("images lying directly in it"), "{error}");
    }

    #[test]
    fn a_check_fails_where_training_would() {
        let classes: &[(&str, usize)] = &[("n01440764", 2), ("n01443537", 2)];
        let mut flat = files(&[("train/", classes)]);
        flat.push(("val/ILSVRC2012_val_00000001.JPEG".into(), flat_png(8, 9)));
        for (files, expected) in [
            (files(&[("val/", classes)]), "expected a folder train"),
            (flat, "images lying directly in it"),
        ] {
            let root = set(&files);
            let report = checked(root.path()).unwrap();
            assert!(report.breaks_training());
            assert!(
                report.problems[0].contains(expected),
                "{:?}",
                report.problems
            );
        }
    }

    #[test]
    fn folders_that_are_not_read_are_told() {
        let classes: &[(&str, usize)] = &[("cat", 1), ("dog", 1)];
        let root = set(&files(&[
            ("train/", classes),
            ("val/", classes),
            ("extra/", classes),
        ]));
        let report = checked(root.path()).unwrap();
        let told = &report.reading.warnings[0];
        assert!(told.contains("not read: extra"), "{told}");
    }

    #[test]
    fn one_class_and_classes_that_look_alike_are_told() {
        let root = set(&files(&[("", &[("cat", 2)])]));
        let report = checked(root.path()).unwrap();
        assert!(report.reading.warnings[0].contains("there is one class, cat"));
        let alike: &[(&str, usize)] = &[
            ("cat", 2),
            ("Cat", 2),
            ("cat ", 2),
            ("sea_lion", 2),
            ("sea lion", 2),
        ];
        let root = set(&files(&[("", alike)]));
        let warnings = checked(root.path()).unwrap().reading.warnings;
        assert!(
            warnings[0].contains(r#""Cat" and "cat" and "cat ""#),
            "{warnings:?}"
        );
        assert!(
            warnings[1].contains(r#""sea lion" and "sea_lion""#),
            "{warnings:?}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_no_text_are_told_and_cost_nothing_else() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        let root = set(&files(&[("", &[("a", 2), ("b", 2)])]));
        let name = root
            .path()
            .join("a")
            .join(OsStr::from_bytes(b"latin1-\xE9.png"));
        std::fs::write(name, flat_png(8, 77)).unwrap();
        let opened = Dataset::open(root.path(), Split::All).unwrap();
        assert_eq!(opened.len(), 4);
        let told = &opened.reading().warnings[0];
        assert!(told.contains(r"a/latin1-\xe9.png"), "{told}");
        assert_eq!(crate::data::image_files(root.path()).unwrap().len(), 5);
    }

    #[test]
    fn members_whose_names_are_no_text_are_told_too() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("set.tar");
        write_tar(&path, &files(&[("", &[("a", 2), ("b?", 1)])]));
        let mut bytes = std::fs::read(&path).unwrap();
        let place = bytes.windows(2).position(|pair| pair == b"b?").unwrap();
        bytes[place + 1] = 0xE9;
        let sum: usize = (place..place + 512)
            .map(|i| {
                if (148..156).contains(&(i - place)) {
                    32
                } else {
                    usize::from(bytes[i])
                }
            })
            .sum();
        let sum = format!("{sum:06o}\0 ");
        bytes[place + 148..place + 156].copy_from_slice(sum.as_bytes());
        std::fs::write(&path, bytes).unwrap();
        let opened = Dataset::open(&path, Split::All).unwrap();
        assert_eq!(opened.classes(), ["a"]);
        let told = opened.reading().warnings.join(" ");
        assert!(told.contains(r"b\xe9/000.png"), "{told}");
    }
}

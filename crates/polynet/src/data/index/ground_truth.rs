//! Labels of ILSVRC's flat validation folder, from the files that are handed around with it.
//!
//! | file | a line |
//! |---|---|
//! | `LOC_val_solution.csv` (Kaggle) | `ILSVRC2012_val_00000001,n01751748 111 108 187 230` |
//! | `imagenet_2012_validation_synset_labels.txt` (TensorFlow) | `n01751748`, for image 1 |
//! | `ILSVRC2012_validation_ground_truth.txt` (devkit) | `490`, for image 1; numbers are `ILSVRC2012_ID`s |
//! | `ILSVRC2012_ids.txt`, beside the former | `490 n01751748`: number and synset |
//! | `meta.mat` (devkit), in place of that | the same in MATLAB's format |

use std::collections::HashMap;

use super::meta_mat;
use crate::data::error::{DataError, DataErrorKind};

const SOLUTION: &str = "LOC_val_solution.csv";
const SYNSETS: &str = "imagenet_2012_validation_synset_labels.txt";
const NUMBERS: &str = "ILSVRC2012_validation_ground_truth.txt";
const IDS: &str = "ILSVRC2012_ids.txt";

const META: &str = "meta.mat";

/// The names of files that say what validation images show.
pub(crate) const LABEL_FILES: [&str; 5] = [SOLUTION, SYNSETS, NUMBERS, IDS, META];

/// The class of each validation image, by its file's name without extension.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GroundTruth(HashMap<String, String>);

impl GroundTruth {
    /// From the contents of label files, by file name. Nothing if there are none.
    pub(crate) fn parse(files: &HashMap<&'static str, Vec<u8>>) -> Result<Option<Self>, DataError> {
        let text = |name: &'static str| {
            let text = files.get(name).map(|bytes| std::str::from_utf8(bytes));
            text.transpose()
                .map_err(|_| wrong(format!("{name}: expected text in UTF-8")))
        };
        if let Some(text) = text(SOLUTION)? {
            let rows = numbered(text).filter(|(_, line)| !line.starts_with("ImageId"));
            let entry = |(number, line): (usize, &str)| {
                let (image, boxes) = line.split_once(',').unwrap_or((line, ""));
                let synset = boxes.split_whitespace().next().unwrap_or("");
                let synset = checked(SOLUTION, number, synset)?;
                Ok((image.trim().to_owned(), synset))
            };
            return rows
                .map(entry)
                .collect::<Result<_, _>>()
                .map(|map| Some(Self(map)));
        }
        if let Some(text) = text(SYNSETS)? {
            let synsets = numbered(text).map(|(number, line)| checked(SYNSETS, number, line));
            return in_order(synsets).map(Some);
        }
        let Some(numbers) = text(NUMBERS)? else {
            return Ok(None);
        };
        let (ids, source) = match (text(IDS)?, files.get(META)) {
            (Some(ids), _) => (ids.to_owned(), IDS),
            (None, Some(meta)) => {
                let ids = meta_mat::classes(meta);
                let ids = ids.map_err(|error| wrong(format!("{META}: {error}")))?;
                (ids, META)
            }
            (None, None) => {
                return Err(wrong(format!(
                    "{NUMBERS}: expected the devkit's {META} beside it, or {IDS}, a line for each class \
                     with its number and synset (490 n01751748)"
                )));
            }
        };
        let synset_of = ids_of(&ids)?;
        in_order(numbered(numbers).map(|(number, line)| {
            synset_of.get(line).cloned().ok_or_else(|| {
                wrong(format!(
                    "{NUMBERS}:{number}: expected a number of {source}, got {line}"
                ))
            })
        }))
        .map(Some)
    }

    /// What an image shows; `name` may have an extension.
    pub(crate) fn class_of(&self, name: &str) -> Option<&str> {
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        self.0.get(stem).map(String::as_str)
    }
}

/// Lines that aren't empty, with their numbers from 1.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    // Spreadsheets write a byte-order mark.
    let text = text.trim_start_matches('\u{FEFF}');
    let lines = (1..).zip(text.lines().map(str::trim));
    lines.filter(|(_, line)| !line.is_empty())
}

/// Images 1, 2, … and their classes.
fn in_order(
    classes: impl Iterator<Item = Result<String, DataError>>,
) -> Result<GroundTruth, DataError> {
    (1..)
        .zip(classes)
        .map(|(image, class): (usize, _)| Ok((format!("ILSVRC2012_val_{image:08}"), class?)))
        .collect::<Result<_, _>>()
        .map(GroundTruth)
}

fn ids_of(text: &str) -> Result<HashMap<&str, String>, DataError> {
    numbered(text)
        .map(|(number, line)| {
            let (id, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let synset = rest.split_whitespace().next().unwrap_or("");
            Ok((id, checked(IDS, number, synset)?))
        })
        .collect()
}

fn checked(file: &str, line: usize, synset: &str) -> Result<String, DataError> {
    if crate::data::classes::is_synset(synset) {
        return Ok(synset.to_owned());
    }
    Err(wrong(format!(
        "{file}:{line}: expected a synset such as n01751748, got {synset:?}"
    )))
}

fn wrong(message: String) -> DataError {
    DataError::new(DataErrorKind::Layout, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(files: &[(&'static str, &str)]) -> Result<Option<GroundTruth>, DataError> {
        let files = files
            .iter()
            .map(|(name, text)| (*name, text.as_bytes().to_vec()));
        GroundTruth::parse(&files.collect())
    }

    #[test]
    fn all_kinds_of_label_files_say_the_same() {
        let solution = "ImageId,PredictionString\n\
            ILSVRC2012_val_00000002,n00000009 1 2 3 4 n00000009 5 6 7 8\n\
            ILSVRC2012_val_00000001,n01751748 111 108 187 230\n";
        let expected = parse(&[(SOLUTION, solution)]).unwrap().unwrap();
        assert_eq!(
            expected.class_of("ILSVRC2012_val_00000001.JPEG"),
            Some("n01751748")
        );
        assert_eq!(
            expected.class_of("ILSVRC2012_val_00000002"),
            Some("n00000009")
        );
        assert_eq!(expected.class_of("ILSVRC2012_val_00000003.JPEG"), None);
        let synsets = parse(&[(SYNSETS, "n01751748\nn00000009\n")]).unwrap();
        assert_eq!(synsets.as_ref(), Some(&expected));
        let marked = format!("\u{FEFF}{solution}");
        assert_eq!(
            parse(&[(SOLUTION, &marked)]).unwrap().as_ref(),
            Some(&expected)
        );
        let ids = "3 n00000009 thing, other thing\n490 n01751748 sea snake\n";
        let numbers = parse(&[(NUMBERS, "490\r\n3\r\n"), (IDS, ids)]).unwrap();
        assert_eq!(numbers.as_ref(), Some(&expected));
        assert_eq!(parse(&[]).unwrap(), None);
    }

    #[test]
    fn the_devkit_is_read_as_it_comes() {
        let meta = include_bytes!("../fixtures/meta_deflated.mat").to_vec();
        let mut files = HashMap::from([(NUMBERS, b"490\n1\n".to_vec()), (META, meta)]);
        let truth = GroundTruth::parse(&files).unwrap().unwrap();
        assert_eq!(
            truth.class_of("ILSVRC2012_val_00000001.JPEG"),
            Some("n01751748")
        );
        assert_eq!(
            truth.class_of("ILSVRC2012_val_00000002.JPEG"),
            Some("n02119789")
        );
        files.insert(NUMBERS, b"491\n".to_vec());
        let error = GroundTruth::parse(&files).unwrap_err().to_string();
        assert!(
            error.contains("expected a number of meta.mat, got 491"),
            "{error}"
        );
        files.insert(META, b"no such file".to_vec());
        let error = GroundTruth::parse(&files).unwrap_err().to_string();
        assert!(
            error.contains("meta.mat: expected a file of MATLAB's level 5"),
            "{error}"
        );
        files.insert(SYNSETS, b"n01751748\n\xff".to_vec());
        let error = GroundTruth::parse(&files).unwrap_err().to_string();
        assert!(
            error.contains("labels.txt: expected text in UTF-8"),
            "{error}"
        );
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let cases: [(&[(&'static str, &str)], &str); 4] = [
            (
                &[(SOLUTION, "ImageId,P\nimage\n")],
                "LOC_val_solution.csv:2: expected a synset",
            ),
            (
                &[(SYNSETS, "n01751748\ncat")],
                "labels.txt:2: expected a synset such as n01751748, got \"cat\"",
            ),
            (
                &[(NUMBERS, "490")],
                "expected the devkit's meta.mat beside it",
            ),
            (
                &[(NUMBERS, "7"), (IDS, "490 n01751748")],
                "ground_truth.txt:1: expected a number",
            ),
        ];
        for (files, expected) in cases {
            let error = parse(files).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

//! A data set looked through, file by file: what is there, what is odd, what would stop training.
//!
//! ```no_run
//! let report = polynet::data::check("photos".as_ref(), None, |done, of| {
//!     eprint!("\r{done}/{of}");
//! })?;
//! assert!(!report.breaks_training());
//! # Ok::<(), polynet::data::DataError>(())
//! ```

mod inspection;

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use rayon::prelude::*;
use serde::Serialize;

use crate::data::{
    classes::key,
    error::{DataError, DataErrorKind},
    index::{Dataset, Reading, Split},
};

use self::inspection::Inspection;
pub use self::inspection::{Finding, OVERSIZED_PIXELS};

/// What [`check`] found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// How the data set was understood.
    pub reading: Reading,
    /// Why a split can't be used, a sentence each.
    pub problems: Vec<String>,
    /// Train and validation, as far as they are there.
    pub splits: Vec<SplitReport>,
    /// Files passed over because of their names or places.
    pub ignored_files: usize,
    /// Classes that the model doesn't know, or that validation has and training hasn't.
    pub unknown_classes: Vec<String>,
    /// Classes of the model that have no images here.
    pub missing_classes: Vec<String>,
    /// How many files have each sort of finding, by [`Finding::title`].
    pub finding_counts: BTreeMap<&'static str, usize>,
    /// Every finding, in the order of the files.
    pub findings: Vec<FileFinding>,
}

/// What one split holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitReport {
    /// Which.
    pub split: Split,
    /// How many images.
    pub images: usize,
    /// Bytes of all files that decode.
    pub bytes: u64,
    /// Images of each class.
    pub classes: BTreeMap<String, usize>,
    /// Sizes of the images that decode; none if there are none.
    pub sizes: Option<Sizes>,
}

/// Upright sizes in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// The fewest pixels of an image, as width and height.
    pub smallest: (u32, u32),
    /// The image in the middle, by pixels.
    pub median: (u32, u32),
    /// The most pixels.
    pub largest: (u32, u32),
}

/// A finding and the file it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileFinding {
    /// The file, or `archive.tar:member`.
    pub path: String,
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding,
}

impl CheckReport {
    /// Whether training (with the model, if one was given) would stop with an error.
    pub fn breaks_training(&self) -> bool {
        !self.problems.is_empty()
            || !self.unknown_classes.is_empty()
            || self.splits.iter().any(|split| split.sizes.is_none())
            || self.findings.iter().any(|f| f.finding.breaks_training())
    }
}

/// Reads and decodes every image of a data set, on all threads of the pool it is called in.
/// `classes` are those of a model. `progress` is told how many files of how many are done.
///
/// # Errors
/// If the path can't be read as a data set at all. What is wrong with single files is in the
/// report.
pub fn check(
    path: &Path,
    classes: Option<&[String]>,
    progress: impl Fn(usize, usize) + Sync,
) -> Result<CheckReport, DataError> {
    let never = AtomicBool::new(false);
    let report = check_until(path, classes, progress, &never)?;
    Ok(report.expect("nothing stops it"))
}

/// As [`check`], or nothing once `stop` is set: files that are being decoded are finished, others left.
///
/// # Errors
/// As [`check`].
pub fn check_until(
    path: &Path,
    classes: Option<&[String]>,
    progress: impl Fn(usize, usize) + Sync,
    stop: &AtomicBool,
) -> Result<Option<CheckReport>, DataError> {
    let (sets, problems) = open_splits(path)?;
    let total = sets.iter().map(|(_, set)| set.len()).sum();
    let done = AtomicUsize::new(0);
    let mut splits = Vec::new();
    let mut findings = Vec::new();
    let mut seen = Seen::default();
    for (split, set) in &sets {
        let inspections: Option<Vec<Inspection>> = (0..set.len())
            .into_par_iter()
            .map(|index| {
                if stop.load(Ordering::Relaxed) {
                    return None;
                }
                let inspection = match set.read(index) {
                    Ok(bytes) => Inspection::of(set.sample(index).name, &bytes),
                    Err(error) => Inspection::broken(error.message()),
                };
                progress(1 + done.fetch_add(1, Ordering::Relaxed), total);
                Some(inspection)
            })
            .collect();
        let Some(inspections) = inspections else {
            return Ok(None);
        };
        splits.push(SplitReport::of(*split, set, &inspections));
        for (index, inspection) in inspections.into_iter().enumerate() {
            let path = set.location(index);
            let copy = inspection
                .content
                .and_then(|content| seen.copy(content, *split, set, index));
            let all = inspection.findings.into_iter().chain(copy);
            findings.extend(all.map(|finding| FileFinding {
                path: path.clone(),
                finding,
            }));
        }
    }
    let mut finding_counts = BTreeMap::new();
    for FileFinding { finding, .. } in &findings {
        *finding_counts.entry(finding.title()).or_default() += 1;
    }
    let (unknown_classes, missing_classes) = compare_classes(&sets, classes);
    let Some((_, first)) = sets.first() else {
        return Err(DataError::new(DataErrorKind::NoImages, problems.join("; ")));
    };
    Ok(Some(CheckReport {
        reading: first.reading().clone(),
        problems,
        splits,
        ignored_files: sets.iter().map(|(_, set)| set.ignored()).max().unwrap_or(0),
        unknown_classes,
        missing_classes,
        finding_counts,
        findings,
    }))
}

/// The splits that can be used.
type Opened = Vec<(Split, Dataset)>;

/// Both splits, or the one that is there and what is wrong with the other.
fn open_splits(path: &Path) -> Result<(Opened, Vec<String>), DataError> {
    let (mut sets, mut errors) = (Vec::new(), Vec::new());
    for split in [Split::Train, Split::Validation] {
        match Dataset::open(path, split) {
            Ok(set) => sets.push((split, set)),
            Err(error) => errors.push(error),
        }
    }
    let problems = errors.iter().map(DataError::to_string).collect();
    match errors.into_iter().next() {
        Some(error) if sets.is_empty() => Err(error),
        _ => Ok((sets, problems)),
    }
}

/// Names that the reference lacks, and names that only it has. The reference is the model's
/// classes, or else those of the training images.
fn compare_classes(
    sets: &[(Split, Dataset)],
    model: Option<&[String]>,
) -> (Vec<String>, Vec<String>) {
    let names = || sets.iter().flat_map(|(_, set)| set.classes());
    let reference = match (model, sets.first()) {
        (Some(classes), _) => classes,
        (None, Some((_, set))) => set.classes(),
        (None, None) => &[],
    };
    let mut unknown: Vec<String> = names()
        .filter(|name| !reference.iter().any(|known| key(known) == key(name)))
        .cloned()
        .collect();
    unknown.sort();
    unknown.dedup();
    let missing = model.unwrap_or_default().iter();
    let missing = missing.filter(|class| !names().any(|name| key(name) == key(class)));
    (unknown, missing.cloned().collect())
}

/// The first file of each content.
#[derive(Default)]
struct Seen(HashMap<u64, First>);

struct First {
    split: Split,
    class: String,
    location: String,
}

impl Seen {
    /// What it means that this content was there before, if it was.
    fn copy(&mut self, content: u64, split: Split, set: &Dataset, index: usize) -> Option<Finding> {
        let class = &set.classes()[set.sample(index).label];
        if let Some(first) = self.0.get(&content) {
            let of = first.location.clone();
            return Some(match (first.class == *class, first.split == split) {
                (false, _) => Finding::OtherClass { of },
                (true, false) => Finding::OtherSplit { of },
                (true, true) => Finding::Duplicate { of },
            });
        }
        let first = First {
            split,
            class: class.clone(),
            location: set.location(index),
        };
        self.0.insert(content, first);
        None
    }
}

impl SplitReport {
    fn of(split: Split, set: &Dataset, inspections: &[Inspection]) -> Self {
        let mut sizes: Vec<_> = inspections.iter().filter_map(|i| i.dimensions).collect();
        sizes.sort_by_key(|&(width, height)| (u64::from(width) * u64::from(height), width));
        let names = set.classes().iter().cloned();
        Self {
            split,
            images: set.len(),
            bytes: inspections.iter().map(|i| i.bytes).sum(),
            classes: names.zip(set.class_counts()).collect(),
            sizes: (!sizes.is_empty()).then(|| Sizes {
                smallest: sizes[0],
                median: sizes[sizes.len() / 2],
                largest: sizes[sizes.len() - 1],
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{
        picture::agreement::fixture,
        sample_images::{flat_png, write_files},
    };

    fn report(
        files: &[(&str, Vec<u8>)],
        classes: Option<&[String]>,
    ) -> (tempfile::TempDir, CheckReport) {
        let root = tempfile::tempdir().unwrap();
        let files: Vec<_> = files
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), bytes.clone()))
            .collect();
        write_files(root.path(), &files);
        let report = check(root.path(), classes, |_, _| {}).unwrap();
        (root, report)
    }

    fn titles(report: &CheckReport) -> Vec<(&str, &'static str)> {
        let name = |f: &FileFinding| f.path.rsplit_once("set/").map_or(0, |(a, _)| a.len() + 4);
        let each = report.findings.iter();
        each.map(|f| (&f.path[name(f)..], f.finding.title()))
            .collect()
    }

    #[test]
    fn a_sound_data_set_has_counts_and_sizes_and_no_findings() {
        let (_root, report) = report(
            &[
                ("set/train/a/1.png", flat_png(12, 1)),
                ("set/train/a/2.png", flat_png(20, 2)),
                ("set/train/b/1.png", flat_png(16, 3)),
                ("set/val/a/1.png", flat_png(8, 4)),
                ("set/notes.txt", b"notes".to_vec()),
            ],
            None,
        );
        assert!(!report.breaks_training() && report.findings.is_empty());
        let [train, validation] = &report.splits[..] else {
            panic!("two splits");
        };
        assert_eq!((train.images, validation.images), (3, 1));
        assert_eq!(
            train.classes,
            BTreeMap::from([("a".into(), 2), ("b".into(), 1)])
        );
        let sizes = train.sizes.unwrap();
        assert_eq!(
            (sizes.smallest, sizes.median, sizes.largest),
            ((12, 12), (16, 16), (20, 20))
        );
        assert_eq!(report.ignored_files, 1);
    }

    #[test]
    fn a_check_that_is_stopped_reports_nothing_and_reads_no_further() {
        let root = tempfile::tempdir().unwrap();
        let files: Vec<(String, Vec<u8>)> = (0..200)
            .map(|n| (format!("set/train/a/{n}.png"), flat_png(12, n as u8)))
            .collect();
        write_files(root.path(), &files);
        let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
        let stop_at_once = |_, _| {
            done.fetch_add(1, Ordering::Relaxed);
            stop.store(true, Ordering::Relaxed);
        };
        let report = check_until(&root.path().join("set"), None, stop_at_once, &stop);
        assert_eq!(report.unwrap(), None);
        // One file for each thread that had begun.
        assert!(done.load(Ordering::Relaxed) <= rayon::current_num_threads());
    }

    #[test]
    fn what_is_wrong_with_files_is_found() {
        let (_root, report) = report(
            &[
                ("set/train/a/1.png", flat_png(12, 1)),
                ("set/train/a/2.png", flat_png(12, 1)),
                ("set/train/b/1.png", flat_png(12, 1)),
                ("set/train/b/2.jpg", flat_png(12, 2)),
                ("set/train/b/3.jpg", vec![]),
                ("set/train/b/4.jpg", fixture("grey.jpg")[..300].to_vec()),
                ("set/train/b/5.jpg", fixture("cmyk.jpg")),
                ("set/val/a/1.png", flat_png(12, 1)),
            ],
            None,
        );
        let expected = [
            ("train/a/2.png", "duplicates"),
            ("train/b/1.png", "duplicates in another class"),
            ("train/b/2.jpg", "wrongly named"),
            ("train/b/3.jpg", "empty"),
            ("train/b/4.jpg", "broken"),
            ("train/b/5.jpg", "CMYK"),
            ("val/a/1.png", "duplicates in another split"),
        ];
        assert_eq!(titles(&report), expected);
        assert!(report.breaks_training());
        assert_eq!(report.finding_counts["broken"], 1);
    }

    #[test]
    fn classes_are_compared_with_a_models() {
        let files = [
            ("set/train/cat/1.png", flat_png(12, 1)),
            ("set/train/cow/1.png", flat_png(12, 2)),
            ("set/val/cat/1.png", flat_png(12, 3)),
        ];
        let classes = ["dog", "cat"].map(str::to_owned);
        let (_root, with_model) = report(&files, Some(&classes));
        assert_eq!(with_model.unknown_classes, ["cow"]);
        assert_eq!(with_model.missing_classes, ["dog"]);
        assert!(with_model.breaks_training());
        let (_root, alone) = report(&files, None);
        assert!(!alone.breaks_training());
    }
}

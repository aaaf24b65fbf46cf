//! A run whose disk refuses, fills up, or stops at any operation, and goes on: it comes to what an
//! undisturbed run leaves.

use crate::data::sample_images::{picture_set, write_files};
use crate::files::faults::{Fault, FaultyDisk, Kept, REFUSED, folder_in_memory, read_tree};
use crate::random::fnv1a;
use crate::report::{Record, RunFolder, RunFolderError, read_metrics};
use crate::train::progress::Silent;
use crate::train::{Outcome, Recipe, TrainError, Trainer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

/// A data set, and a folder for runs.
struct World {
    folder: TempDir,
    recipe: Recipe,
}

/// What of a run is the same however it was made.
#[derive(Debug, PartialEq)]
struct Left {
    /// A hash of each.
    files: BTreeMap<PathBuf, u64>,
    records: Vec<Record>,
}

impl World {
    fn new() -> Self {
        let folder = folder_in_memory();
        let data = folder.path().join("data");
        let classes = [("cat", 4), ("dog", 2)];
        for split in ["train/", "val/"] {
            write_files(&data, &picture_set(split, &classes));
        }
        let text = format!(
            "seed = 3\n\
             [model]\narchitecture = 'small-ir-1-2-1; width = 0.03; classes = 2; input = 16'\n\
             [data]\npath = '{}'\nthreads = 1\n[augmentation]\nkind = 'none'\n\
             [optimizer]\nkind = 'sgd'\n[schedule]\nkind = 'constant'\nlearning_rate = 0.01\n\
             [training]\nbatch_size = 2\nduration = '3 steps'\nvalidate_every = '2 steps'\n\
             checkpoint_every = '1 steps'\nlog_every = 1\n",
            data.display()
        );
        let recipe = Recipe::parse(&text, &[]).unwrap();
        Self { folder, recipe }
    }

    /// A new place for runs below which a disk can be put.
    fn place(&self, name: &str) -> PathBuf {
        let place = self.folder.path().join(name);
        std::fs::create_dir(&place).unwrap();
        place
    }

    /// Starts the run of a place, or goes on with it, to its end.
    fn run(&self, place: &Path) -> Result<(), TrainError> {
        let root = place.join("runs/one");
        let is_begun = !matches!(RunFolder::open(&root), Err(RunFolderError::NotARun { .. }));
        let mut trainer = match is_begun {
            true => Trainer::resume(&root, &[], &mut Silent)?,
            false => Trainer::start(self.recipe.clone(), &root, &[], &mut Silent)?,
        };
        let outcome = trainer.run(&mut Silent, &AtomicBool::new(false))?;
        assert!(matches!(outcome, Outcome::Finished(_)));
        Ok(())
    }

    /// Goes on with a run on a sound disk.
    fn left_in_the_end(&self, place: &Path) -> Left {
        self.run(place).unwrap();
        left(place)
    }
}

fn left(place: &Path) -> Left {
    let root = place.join("runs/one");
    let mut files = BTreeMap::new();
    read_tree(&root, &mut |path, bytes| {
        let name = path.strip_prefix(&root).unwrap().to_owned();
        files.extend(bytes.map(|bytes| (name, fnv1a(bytes))));
    });
    // An older checkpoint is there for a newer one that is damaged; a removal that was refused is not made up
    // for.
    let is_checkpoint = |path: &&PathBuf| path.starts_with("checkpoints");
    let newest = files.keys().rfind(is_checkpoint).cloned();
    files.retain(|path, _| !path.starts_with("checkpoints") || Some(path) == newest.as_ref());
    // Times and starts are a run's own.
    for name in ["metrics.jsonl", "metrics.csv", "curves.svg", "command.txt"] {
        assert!(files.remove(Path::new(name)).is_some(), "{name}");
    }
    let metrics = read_metrics(&root.join("metrics.jsonl")).unwrap();
    let records = metrics.records.iter().filter_map(Record::deterministic);
    Left {
        files,
        records: records.collect(),
    }
}

/// Runs on a disk with a fault, which it must tell.
fn struck(world: &World, place: &Path, fault: Fault) -> Option<FaultyDisk> {
    let disk = FaultyDisk::below(place, fault);
    let ended = world.run(place);
    if !disk.has_struck() {
        ended.unwrap();
        return None;
    }
    let message = ended.expect_err(&format!("{fault:?}")).to_string();
    let told = [REFUSED, "no storage space"];
    let names_it = message.contains(&place.display().to_string());
    assert!(
        names_it && told.iter().any(|told| message.contains(told)),
        "{fault:?}: {message}"
    );
    Some(disk)
}

#[test]
fn a_run_ends_and_goes_on_whatever_operation_the_disk_refuses() {
    let world = World::new();
    let expected = world.left_in_the_end(&world.place("undisturbed"));
    let mut number = 0;
    loop {
        let place = world.place(&number.to_string());
        let Some(disk) = struck(&world, &place, Fault::Refusal(number)) else {
            break;
        };
        drop(disk);
        assert_eq!(world.left_in_the_end(&place), expected, "{number}");
        number += 1;
    }
    assert!(number > 80, "{number}");
}

#[test]
fn a_run_ends_and_goes_on_wherever_the_machine_stops() {
    let world = World::new();
    let expected = world.left_in_the_end(&world.place("undisturbed"));
    let mut number = 0;
    loop {
        let place = world.place(&number.to_string());
        let Some(disk) = struck(&world, &place, Fault::Stop(number)) else {
            break;
        };
        let other = match number % 2 {
            0 => Kept::All,
            _ => Kept::Some(number as u64),
        };
        for kept in [Kept::Nothing, other] {
            disk.restart(kept);
            let left = world.left_in_the_end(&place);
            assert_eq!(left, expected, "{number}, {kept:?}");
        }
        number += 1;
    }
    assert!(number > 80, "{number}");
}

#[test]
fn a_run_ends_and_goes_on_wherever_the_disk_is_full() {
    let world = World::new();
    let place = world.place("undisturbed");
    let disk = FaultyDisk::below(&place, Fault::None);
    let expected = world.left_in_the_end(&place);
    let bytes = disk.bytes();
    drop(disk);
    let parts = 20;
    for part in 0..parts {
        let place = world.place(&part.to_string());
        let disk = struck(&world, &place, Fault::Full(bytes * part / parts));
        drop(disk.unwrap());
        assert_eq!(world.left_in_the_end(&place), expected, "{part}");
    }
}

#[test]
fn a_signal_in_a_write_is_no_error() {
    let world = World::new();
    let expected = world.left_in_the_end(&world.place("undisturbed"));
    let place = world.place("interrupted");
    let disk = FaultyDisk::below(&place, Fault::Interruptions);
    assert_eq!(world.left_in_the_end(&place), expected);
    assert!(disk.has_struck());
}

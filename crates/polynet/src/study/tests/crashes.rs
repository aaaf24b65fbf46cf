//! A study whose disk refuses an operation or stops at it, and that goes on: its ledger is an undisturbed
//! study's.

use super::super::*;
use crate::data::sample_images::{picture_set, write_files};
use crate::files::faults::{Fault, FaultyDisk, Kept, REFUSED, folder_in_memory, read_tree};
use crate::random::fnv1a;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

/// Two jobs, of which the second starts from the first one's model.
const TEXT: &str = "title = 'grown'\nsettings = 'width = 0.03; classes = 2; input = 16'\n\
    [recipe]\ndata.path = 'DATA'\ndata.threads = 1\ndata.hold_out = 4\naugmentation.kind = 'none'\n\
    training = { batch_size = 4, duration = '2 steps', checkpoint_every = '1 steps', validate_every = '0 steps' }\n\
    [[architectures]]\nname = 'small'\nnetwork = 'small-ir-1-2-1'\n\
    [[architectures]]\nname = 'large'\nnetwork = 'small-ir-1-2-1; B: 2-way x2'\n\
    [[variants]]\nname = 'random'\narchitectures = ['small']\n\
    [[variants]]\nname = 'grown'\narchitectures = ['large']\ngrow = { from = 'small' }\n";

struct Unwatched;

impl Watch for Unwatched {
    fn job(&self, _: &Job, _: Event<'_>) {}
}

struct World {
    folder: TempDir,
    study: Study,
}

/// What of a study is the same however it was made.
#[derive(Debug, PartialEq)]
struct Left {
    records: Vec<Entry>,
    /// A hash of each model's weights.
    models: BTreeMap<PathBuf, u64>,
}

impl World {
    fn new() -> Self {
        let folder = folder_in_memory();
        let data = folder.path().join("data");
        let set = picture_set("train/", &[("cat", 8), ("dog", 8)]);
        write_files(&data, &set);
        let text = TEXT.replace("DATA", &data.display().to_string());
        let study = Study::parse(&text, &[]).unwrap();
        Self { folder, study }
    }

    fn place(&self, name: &str) -> PathBuf {
        let place = self.folder.path().join(name);
        std::fs::create_dir(&place).unwrap();
        place
    }

    fn run(&self, place: &Path) -> Result<(), StudyError> {
        let options = RunOptions {
            threads: 1,
            ..RunOptions::default()
        };
        let folder = StudyFolder::new(place.join("study"));
        let end = (&Unwatched as &dyn Watch, &AtomicBool::new(false));
        let summary = run(&self.study, &folder, options, &[], end)?;
        assert_eq!(summary.finished, 2, "{:?}", folder.ledger().read());
        Ok(())
    }

    fn left_in_the_end(&self, place: &Path) -> Left {
        self.run(place).unwrap();
        let root = place.join("study");
        let mut models = BTreeMap::new();
        read_tree(&root, &mut |path, bytes| {
            let name = path.strip_prefix(&root).unwrap().to_owned();
            assert!(!name.ends_with("checkpoints") && !name.ends_with("start"));
            assert!(!crate::files::is_unfinished(path), "{name:?}");
            if name.ends_with("model/model.safetensors") {
                models.extend(bytes.map(|bytes| (name, fnv1a(bytes))));
            }
        });
        let records = StudyFolder::new(root).ledger().read().unwrap();
        let records = records.iter().map(Entry::deterministic).collect();
        Left { records, models }
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
    let names_it = message.contains(&place.display().to_string());
    assert!(
        names_it && message.contains(REFUSED),
        "{fault:?}: {message}"
    );
    Some(disk)
}

#[test]
fn a_study_ends_and_goes_on_wherever_its_disk_refuses_or_the_machine_stops() {
    let world = World::new();
    let expected = world.left_in_the_end(&world.place("undisturbed"));
    let kinds = [
        None,
        Some(Kept::Nothing),
        Some(Kept::All),
        None,
        Some(Kept::Nothing),
        Some(Kept::Some(7)),
    ];
    let mut number = 0;
    loop {
        let place = world.place(&number.to_string());
        let kept = kinds[number % kinds.len()];
        let fault = match kept {
            None => Fault::Refusal(number),
            Some(_) => Fault::Stop(number),
        };
        let Some(disk) = struck(&world, &place, fault) else {
            break;
        };
        match kept {
            None => drop(disk),
            Some(kept) => disk.restart(kept),
        }
        let left = world.left_in_the_end(&place);
        assert_eq!(left, expected, "{number}, {kept:?}");
        number += 1;
    }
    assert!(number > 150, "{number}");
}

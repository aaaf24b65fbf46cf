use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::data::{
    Augmentation, Preprocessing, Split,
    sample_images::{encode, gradient, picture_set, write_files},
};

fn pictures(count: usize) -> (TempDir, Arc<Dataset>) {
    let root = tempfile::tempdir().unwrap();
    let half = count / 2;
    write_files(
        root.path(),
        &picture_set("", &[("a", half), ("b", count - half)]),
    );
    let photo = encode(&gradient(31, 17).into(), image::ImageFormat::Jpeg);
    fs::write(root.path().join("a/000.png"), photo).unwrap();
    let dataset = Dataset::open(root.path(), Split::All).unwrap();
    (root, Arc::new(dataset))
}

fn training(batch_size: usize) -> LoaderConfig {
    let view = View::Train {
        augmentation: Augmentation::multi_area_crop(),
        preprocessing: Preprocessing::imagenet(8),
    };
    LoaderConfig::new(batch_size, view)
}

fn epoch(dataset: &Arc<Dataset>, config: LoaderConfig, epoch: u64, first: usize) -> Vec<Batch> {
    let loader = Loader::new(Arc::clone(dataset), config).unwrap();
    loader.epoch(epoch, first).map(Result::unwrap).collect()
}

#[test]
fn batches_are_the_same_for_any_number_of_threads() {
    let (_root, dataset) = pictures(23);
    let one = epoch(
        &dataset,
        LoaderConfig {
            threads: 1,
            ..training(4)
        },
        3,
        0,
    );
    for (threads, prefetch) in [(2, 1), (3, 5), (8, 2)] {
        let config = LoaderConfig {
            threads,
            prefetch,
            ..training(4)
        };
        assert_eq!(epoch(&dataset, config, 3, 0), one);
    }
}

#[test]
fn every_sample_comes_once_an_epoch_with_its_label() {
    let (_root, dataset) = pictures(23);
    let batches = epoch(&dataset, training(4), 0, 0);
    let mut seen: Vec<_> = batches
        .iter()
        .flat_map(|batch| batch.indices.clone())
        .collect();
    assert_ne!(seen, (0..23).collect::<Vec<_>>(), "shuffled");
    seen.sort_unstable();
    assert_eq!(seen, (0..23).collect::<Vec<_>>());
    for (number, batch) in batches.iter().enumerate() {
        let labels: Vec<_> = batch
            .indices
            .iter()
            .map(|i| dataset.sample(*i).label)
            .collect();
        assert_eq!(batch.labels, labels);
        assert_eq!(batch.number, number);
        assert_eq!(batch.shape(), [if number == 5 { 3 } else { 4 }, 3, 8, 8]);
        assert_eq!(batch.images.len(), batch.shape().iter().product::<usize>());
    }
}

#[test]
fn epochs_and_seeds_differ_and_repeat() {
    let (_root, dataset) = pictures(12);
    let first = epoch(&dataset, training(12), 0, 0);
    assert_eq!(epoch(&dataset, training(12), 0, 0), first);
    assert_ne!(epoch(&dataset, training(12), 1, 0), first);
    assert_ne!(
        epoch(
            &dataset,
            LoaderConfig {
                seed: 1,
                ..training(12)
            },
            0,
            0
        ),
        first
    );
}

#[test]
fn a_samples_augmentation_does_not_depend_on_its_batch() {
    let (_root, dataset) = pictures(10);
    let input_of = |batches: &[Batch], index: usize| {
        let length = 3 * 8 * 8;
        let found = batches.iter().find_map(|batch| {
            let position = batch.indices.iter().position(|i| *i == index)?;
            Some(batch.images[position * length..][..length].to_vec())
        });
        found.unwrap()
    };
    let shuffled = epoch(&dataset, training(3), 5, 0);
    let in_order = LoaderConfig {
        order: Order::InOrder,
        ..training(10)
    };
    let in_order = epoch(&dataset, in_order, 5, 0);
    for index in 0..10 {
        assert_eq!(input_of(&shuffled, index), input_of(&in_order, index));
    }
}

#[test]
fn evaluation_sees_what_prediction_sees() {
    let (_root, dataset) = pictures(5);
    let preprocessing = Preprocessing::imagenet(8);
    let view = View::Evaluate {
        preprocessing: preprocessing.clone(),
    };
    let config = LoaderConfig {
        order: Order::InOrder,
        ..LoaderConfig::new(5, view)
    };
    let batch = &epoch(&dataset, config, 0, 0)[0];
    assert_eq!(batch.indices, [0, 1, 2, 3, 4]);
    for (index, input) in batch
        .images
        .chunks_exact(preprocessing.input_len())
        .enumerate()
    {
        assert_eq!(input, preprocessing.apply(&dataset.decode(index).unwrap()));
    }
}

#[test]
fn a_last_batch_can_be_dropped() {
    let (_root, dataset) = pictures(10);
    let config = LoaderConfig {
        last: LastBatch::Drop,
        ..training(4)
    };
    let loader = Loader::new(Arc::clone(&dataset), config.clone()).unwrap();
    assert_eq!(loader.batches_per_epoch(), 2);
    assert!(loader.epoch(0, 0).all(|batch| batch.unwrap().len() == 4));
    let config = LoaderConfig {
        batch_size: 11,
        ..config
    };
    let error = Loader::new(dataset, config).unwrap_err();
    assert!(error.to_string().contains("the data set has 10"), "{error}");
}

/// Ten pictures, of which numbers 3 and 7 can't be decoded.
fn partly_broken() -> (TempDir, Arc<Dataset>) {
    let (root, dataset) = pictures(10);
    for index in [3, 7] {
        fs::write(root.path().join(dataset.sample(index).name), b"broken").unwrap();
    }
    (root, dataset)
}

#[test]
fn a_broken_file_ends_the_epoch_with_its_path() {
    let (_root, dataset) = partly_broken();
    let config = LoaderConfig {
        order: Order::InOrder,
        threads: 4,
        ..training(2)
    };
    let loader = Loader::new(dataset, config).unwrap();
    let mut batches = loader.epoch(0, 0);
    assert!(batches.next().unwrap().is_ok());
    let error = batches.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), DataErrorKind::Decode);
    assert!(
        error
            .to_string()
            .contains("a/003.png: expected a JPEG or PNG"),
        "{error}"
    );
    assert!(batches.next().is_none());
}

#[test]
fn a_broken_file_can_be_skipped_and_is_counted() {
    let (_root, dataset) = partly_broken();
    let config = LoaderConfig {
        order: Order::InOrder,
        ..training(4)
    };
    let config = LoaderConfig {
        on_error: OnError::Skip,
        ..config
    };
    let batches = epoch(&dataset, config.clone(), 0, 0);
    let indices: Vec<_> = batches
        .iter()
        .map(|batch| batch.indices.as_slice())
        .collect();
    assert_eq!(indices, [[0, 1, 2].as_slice(), &[4, 5, 6], &[8, 9]]);
    let skipped: Vec<_> = batches.iter().flat_map(|batch| &batch.skipped).collect();
    assert_eq!(skipped.len(), 2);
    assert!(skipped[0].path.ends_with("a/003.png") && skipped[1].path.ends_with("b/002.png"));
    assert!(
        skipped[0].reason.contains("expected a JPEG"),
        "{}",
        skipped[0].reason
    );
    // The images that remain are those of a data set that loads whole.
    let one_by_one = epoch(
        &dataset,
        LoaderConfig {
            batch_size: 1,
            ..config
        },
        0,
        0,
    );
    let joined = |batches: &[Batch]| -> Vec<f32> {
        batches
            .iter()
            .flat_map(|batch| batch.images.clone())
            .collect()
    };
    assert_eq!(joined(&batches), joined(&one_by_one));
    assert!(one_by_one[3].is_empty() && one_by_one[3].images.is_empty());
}

#[test]
fn a_crash_while_loading_is_an_error_of_its_image() {
    let mut images = vec![0.0; 12];
    let outcomes = fill(
        &mut images,
        &[5, 6, 7],
        &AtomicBool::new(false),
        |index, input| {
            assert_ne!(index, 6, "no sixes");
            input.fill(index as f32);
            Ok(())
        },
    );
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    let error = outcomes[1].as_ref().unwrap_err();
    assert_eq!(error.kind(), DataErrorKind::Worker);
    assert!(error.to_string().contains("no sixes"), "{error}");
    assert_eq!(images, [5., 5., 5., 5., 0., 0., 0., 0., 7., 7., 7., 7.]);
}

#[test]
fn dropping_an_epoch_ends_its_work() {
    let (_root, dataset) = pictures(40);
    let config = LoaderConfig {
        prefetch: 1,
        threads: 2,
        ..training(2)
    };
    let loader = Loader::new(Arc::clone(&dataset), config).unwrap();
    let mut batches = loader.epoch(0, 0);
    batches.next().unwrap().unwrap();
    drop(batches);
    drop(loader.epoch(1, 0));
    // The producer held a share of the work; nobody but the loader does now.
    assert_eq!(Arc::strong_count(&loader.work), 1);
    drop(loader);
    assert_eq!(Arc::strong_count(&dataset), 1);
}

#[test]
fn no_more_batches_are_made_ahead_than_prefetch() {
    let (root, dataset) = pictures(24);
    let prefetch = 2;
    let config = LoaderConfig {
        order: Order::InOrder,
        prefetch,
        ..training(1)
    };
    let loader = Loader::new(Arc::clone(&dataset), config.clone()).unwrap();
    let mut batches = loader.epoch(0, 0);
    batches.next().unwrap().unwrap();
    // Time enough for a loader that doesn't wait to read everything.
    epoch(&dataset, config, 1, 0);
    for index in 1 + prefetch..dataset.len() {
        fs::remove_file(root.path().join(dataset.sample(index).name)).unwrap();
    }
    for _ in 0..prefetch {
        batches.next().unwrap().unwrap();
    }
    let error = batches.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), DataErrorKind::Io, "{error}");
}

#[test]
fn nonsense_is_refused() {
    let (_root, dataset) = pictures(4);
    let bad_view = View::Train {
        augmentation: Augmentation::pad_crop(8),
        preprocessing: Preprocessing::small(8),
    };
    for (config, expected) in [
        (training(0), "batch size"),
        (
            LoaderConfig {
                prefetch: 0,
                ..training(1)
            },
            "prefetch",
        ),
        (LoaderConfig::new(1, bad_view), "padding"),
    ] {
        let error = Loader::new(Arc::clone(&dataset), config).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn an_epoch_begun_late_equals_the_tail_of_the_whole(
        batch_size in 1usize..9, first in 0usize..30, number in 0u64..4, threads in 1usize..4,
    ) {
        let (_root, dataset) = pictures(19);
        let config = LoaderConfig { threads, ..training(batch_size) };
        let whole = epoch(&dataset, config.clone(), number, 0);
        let tail = epoch(&dataset, config, number, first);
        prop_assert_eq!(&whole[first.min(whole.len())..], tail.as_slice());
    }
}

#[test]
fn an_epoch_without_a_single_usable_image_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let broken = |n: usize| (format!("a/{n}.png"), b"no image".to_vec());
    write_files(root.path(), &(0..5).map(broken).collect::<Vec<_>>());
    let dataset = Arc::new(Dataset::open(root.path(), Split::All).unwrap());
    let config = LoaderConfig {
        on_error: OnError::Skip,
        ..training(2)
    };
    let last = |share| {
        let config = LoaderConfig {
            share,
            ..config.clone()
        };
        let loader = Loader::new(Arc::clone(&dataset), config).unwrap();
        loader.epoch(0, 0).last().unwrap()
    };
    for share in [Share::Whole, Share::OfBatch(0..2), Share::OfEpoch(0..5)] {
        let error = last(share).unwrap_err();
        assert_eq!(error.kind(), DataErrorKind::NoImages);
        assert!(
            error.to_string().contains("none of the 5 images"),
            "{error}"
        );
    }
    // Another rank may have some.
    assert!(last(Share::OfEpoch(0..3)).is_ok());
}

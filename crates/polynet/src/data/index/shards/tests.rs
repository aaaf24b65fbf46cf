use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::data::{
    Dataset, Loader, LoaderConfig, Preprocessing, Split, View,
    sample_images::{flat_png, write_files, write_tar},
    sample_rng,
};

/// `train-000000.tar` … with `count` images each, and one shard of validation.
fn shards(folder: &Path, number: usize, count: usize) {
    let files = |shard: usize, count: usize| -> Vec<(String, Vec<u8>)> {
        (0..count)
            .flat_map(|n| {
                let value = ((shard * count + n) % 256) as u8;
                let class = if n % 2 == 0 { "0\n" } else { "1" };
                [
                    (format!("{n:05}.png"), flat_png(6, value)),
                    (format!("{n:05}.cls"), class.as_bytes().to_vec()),
                ]
            })
            .collect()
    };
    for shard in 0..number {
        write_tar(
            &folder.join(format!("train-{shard:06}.tar")),
            &files(shard, count),
        );
    }
    write_tar(&folder.join("val-000000.tar"), &files(number, 4));
}

#[test]
fn shards_are_one_data_set_with_splits_and_classes() {
    let root = tempfile::tempdir().unwrap();
    shards(root.path(), 3, 10);
    fs::write(root.path().join("classes.txt"), "cat\ndog\n").unwrap();
    let train = Dataset::open(root.path(), Split::Train).unwrap();
    assert_eq!(train.classes(), ["cat", "dog"]);
    assert_eq!(train.class_counts(), [15, 15]);
    assert_eq!(
        Dataset::open(root.path(), Split::Validation).unwrap().len(),
        4
    );
    for index in 0..train.len() {
        let sample = train.sample(index);
        let number: usize = sample.name[sample.name.len() - 9..][..5].parse().unwrap();
        let shard: usize = sample
            .name
            .split(['-', '/'])
            .nth(3)
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(sample.label, number % 2);
        assert_eq!(
            train.read(index).unwrap(),
            flat_png(6, (shard * 10 + number) as u8)
        );
        assert!(
            train
                .location(index)
                .contains(&format!("train-{shard:06}.tar:"))
        );
    }
    let range = root.path().join("train-{000001..000002}.tar");
    assert_eq!(Dataset::open(&range, Split::All).unwrap().len(), 20);
    let range = root.path().join("train-{000001..000009}.tar");
    let error = Dataset::open(&range, Split::Train).unwrap_err();
    assert!(error.to_string().contains("train-000003.tar: "), "{error}");
}

#[test]
fn classes_may_be_folders_inside_the_shards() {
    let root = tempfile::tempdir().unwrap();
    for shard in 0..2 {
        let files =
            ["cat", "dog"].map(|class| (format!("{class}/{shard}.png"), flat_png(6, shard)));
        write_tar(&root.path().join(format!("photos-{shard}.tar")), &files);
    }
    let set = Dataset::open(root.path(), Split::All).unwrap();
    assert_eq!(
        (set.classes(), set.class_counts()),
        (&["cat".into(), "dog".into()][..], vec![2, 2])
    );
    write_tar(
        &root.path().join("photos-2.tar"),
        &[("loose.png".into(), flat_png(6, 9))],
    );
    let error = Dataset::open(root.path(), Split::All)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("photos-2.tar:loose.png: expected a folder for its class"),
        "{error}"
    );
}

#[test]
fn a_folder_that_holds_other_archives_is_no_shards() {
    let root = tempfile::tempdir().unwrap();
    write_files(
        root.path(),
        &[("photos.tar".into(), vec![]), ("a/1.png".into(), vec![])],
    );
    assert!(find(root.path()).unwrap().is_none());
    for pattern in ["a-{5..1}.tar", "a-{0..999999999}.tar"] {
        assert_eq!(
            find(pattern.as_ref()).unwrap_err().kind(),
            DataErrorKind::Layout
        );
    }
}

#[test]
fn an_epoch_of_shards_goes_on_exactly_at_any_batch() {
    let root = tempfile::tempdir().unwrap();
    shards(root.path(), 3, 10);
    let set = Arc::new(Dataset::open(root.path(), Split::Train).unwrap());
    let view = View::Evaluate {
        preprocessing: Preprocessing::small(6),
    };
    let loader = |threads| {
        let config = LoaderConfig {
            threads,
            seed: 5,
            ..LoaderConfig::new(7, view.clone())
        };
        Loader::new(Arc::clone(&set), config).unwrap()
    };
    let batches = |threads, epoch, first| -> Vec<_> {
        let epoch = loader(threads).epoch(epoch, first);
        epoch.map(|batch| batch.unwrap()).collect()
    };
    let whole = batches(1, 2, 0);
    for first in 0..=whole.len() {
        assert_eq!(batches(2, 2, first), whole[first..]);
    }
    assert_ne!(batches(1, 3, 0)[0].indices, whole[0].indices);
    let mut seen: Vec<usize> = whole.iter().flat_map(|b| b.indices.clone()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..30).collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn an_order_has_every_sample_once_and_none_waits_before_its_shard(
        sizes in proptest::collection::vec(0usize..40, 1..8), buffer in 0usize..50, seed: u64,
    ) {
        let mut start = 0;
        let shards: Vec<Vec<usize>> = sizes
            .iter()
            .map(|size| {
                start += size;
                (start - size..start).collect()
            })
            .collect();
        let order = order(shards.clone(), buffer, &mut sample_rng(seed, 0, 0));
        let mut sorted = order.clone();
        sorted.sort_unstable();
        prop_assert_eq!(sorted, (0..start).collect::<Vec<_>>());
        // Read in some order of the shards, a sample leads by less than the buffer.
        let mut drawn = shards;
        drawn.shuffle(&mut sample_rng(seed, 0, 0));
        let streamed: Vec<usize> = drawn.into_iter().flatten().collect();
        for (position, sample) in order.iter().enumerate() {
            let from = streamed.iter().position(|s| s == sample).unwrap();
            prop_assert!(from < position + buffer.max(1));
        }
    }
}

#[test]
fn shards_with_a_gap_are_refused() {
    let root = tempfile::tempdir().unwrap();
    shards(root.path(), 4, 2);
    assert!(Dataset::open(root.path(), Split::Train).is_ok());
    fs::remove_file(root.path().join("train-000002.tar")).unwrap();
    let error = Dataset::open(root.path(), Split::Train)
        .unwrap_err()
        .to_string();
    assert!(error.contains("train-000002.tar is missing"), "{error}");
    fs::remove_file(root.path().join("train-000003.tar")).unwrap();
    assert!(Dataset::open(root.path(), Split::Train).is_ok());
}

#[test]
fn a_class_file_belongs_to_the_name_without_its_extension_or_to_the_key() {
    let root = tempfile::tempdir().unwrap();
    let files = [
        ("a.0.png", flat_png(6, 1)),
        ("a.0.cls", b"cat".to_vec()),
        ("b.front.png", flat_png(6, 2)),
        ("b.cls", b"dog".to_vec()),
    ];
    let files: Vec<_> = files.map(|(name, bytes)| (name.to_owned(), bytes)).into();
    write_tar(&root.path().join("train-000000.tar"), &files);
    let set = Dataset::open(root.path(), Split::All).unwrap();
    assert_eq!(set.classes(), ["cat", "dog"]);
    let lonely = [("c.9.png".to_owned(), flat_png(6, 3))];
    write_tar(&root.path().join("train-000000.tar"), &lonely);
    let error = Dataset::open(root.path(), Split::All)
        .unwrap_err()
        .to_string();
    assert!(error.contains("beside it a file c.cls"), "{error}");
}

use super::*;

fn listing(paths: &[&str]) -> Listing {
    let mut listing = Listing::default();
    for path in paths {
        match path.strip_suffix('/') {
            Some(folder) => listing.add_folder(folder),
            None => listing.add_file(path, Place::File),
        }
    }
    listing
}

fn index(paths: &[&str], split: Split) -> Result<Index, DataError> {
    listing(paths).index(split, Splitting::default())
}

fn paths(index: &Index) -> Vec<&str> {
    index
        .samples
        .iter()
        .map(|sample| &*sample.image.path)
        .collect()
}

#[test]
fn layouts_are_recognised() {
    use Split::{All, Train, Validation};
    // What is listed, which split, the classes expected and the samples expected.
    type Case<'a> = (&'a str, &'a [&'a str], Split, &'a [&'a str], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        (
            "train of train and val",
            &["train/cat/1.jpg", "train/dog/1.png", "val/cat/2.jpg"],
            Train,
            &["cat", "dog"],
            &["train/cat/1.jpg", "train/dog/1.png"],
        ),
        (
            "test held out, below one folder",
            &["c/train/cat/1.jpg", "c/test/cat/2.jpg"],
            Validation,
            &["cat"],
            &["c/test/cat/2.jpg"],
        ),
        (
            "val comes before test",
            &["train/a/1.jpg", "val/a/2.jpg", "test/a/3.jpg"],
            Validation,
            &["a"],
            &["val/a/2.jpg"],
        ),
        (
            "everything",
            &["train/b/1.jpg", "valid/a/2.jpg", "test/a/3.jpg"],
            All,
            &["a", "b"],
            &["valid/a/2.jpg", "test/a/3.jpg", "train/b/1.jpg"],
        ),
        (
            "only held out",
            &["val/a/1.jpg", "val/b/1.jpg"],
            Validation,
            &["a", "b"],
            &["val/a/1.jpg", "val/b/1.jpg"],
        ),
        (
            "a folder called train among classes",
            &["bus/1.jpg", "train/1.jpg", "car/1.jpg"],
            All,
            &["bus", "car", "train"],
            &["bus/1.jpg", "car/1.jpg", "train/1.jpg"],
        ),
        (
            "one class",
            &["set/cat/1.jpg", "set/cat/2.jpg"],
            All,
            &["cat"],
            &["set/cat/1.jpg", "set/cat/2.jpg"],
        ),
        (
            "images deeper in their class, names that sort around the slash",
            &["a/images/1.jpg", "a-b/1.jpg", "a.b/x/y/1.JPEG"],
            All,
            &["a", "a-b", "a.b"],
            &["a/images/1.jpg", "a-b/1.jpg", "a.b/x/y/1.JPEG"],
        ),
    ];
    for (name, listed, split, classes, expected) in cases {
        let index = index(listed, *split).unwrap();
        assert_eq!(index.classes, *classes, "{name}");
        assert_eq!(paths(&index), *expected, "{name}");
        for sample in &index.samples {
            let class = &index.classes[sample.label as usize];
            assert!(sample.image.path.contains(&format!("{class}/")), "{name}");
        }
    }
}

#[test]
fn other_files_are_ignored_but_counted() {
    let listed = [
        "train/a/1.jpg",
        "train/a/notes.txt",
        "val/a/2.jpg",
        "README",
        "train/a/.hidden.jpg",
        "train/._x/1.jpg",
        "train/loose.png",
    ];
    let index = index(&listed, Split::Train).unwrap();
    assert_eq!(paths(&index), ["train/a/1.jpg"]);
    assert_eq!(index.classes, ["a"]);
    assert_eq!(index.ignored, 5);
}

#[test]
fn what_is_no_data_set_is_refused_with_its_folder() {
    let cases: &[(&[&str], Split, &str)] = &[
        (&[], Split::All, "expected images"),
        (
            &["a/x.txt", "b/y.gif"],
            Split::All,
            "2 files have other names",
        ),
        (&["1.jpg", "2.jpg"], Split::All, "lying directly in it"),
        (&["set/1.jpg"], Split::Validation, "at least two images"),
        (
            &["train/1.jpg", "val/a/1.jpg"],
            Split::Train,
            "images lying directly in it",
        ),
        (
            &["train/a/1.jpg", "train/b/", "val/a/1.jpg"],
            Split::Train,
            "in train/b, found none",
        ),
        (
            &["train/a/1.jpg", "val/"],
            Split::Validation,
            "in val, found none",
        ),
        (
            &["val/a/1.jpg"],
            Split::Train,
            "expected a folder train, found only val",
        ),
        (&["a/1.jpg", "b/x.txt"], Split::All, "in b, found none"),
    ];
    for (listed, split, expected) in cases {
        let error = index(listed, *split).unwrap_err().to_string();
        assert!(error.contains(expected), "{listed:?}: {error}");
    }
}

#[test]
fn of_members_with_one_name_the_last_counts() {
    let mut listing = Listing::default();
    for offset in [512, 2048] {
        listing.add_file(
            "a/1.jpg",
            Place::Member {
                archive: 0,
                offset,
                size: 3,
            },
        );
    }
    let index = listing.index(Split::All, Splitting::default()).unwrap();
    assert_eq!(index.samples.len(), 1);
    let place = Place::Member {
        archive: 0,
        offset: 2048,
        size: 3,
    };
    assert_eq!(index.samples[0].image.place, place);
}

fn many(counts: &[(&str, usize)], top: &str) -> Vec<String> {
    let of_class = |(class, count): &(&str, usize)| {
        (0..*count)
            .map(|n| format!("{top}{class}/{n:04}.jpg"))
            .collect::<Vec<_>>()
    };
    counts.iter().flat_map(of_class).collect()
}

fn part(paths: &[String], split: Split, fraction: f64, seed: u64) -> Vec<String> {
    let splitting = Splitting {
        validation_fraction: fraction,
        seed,
    };
    let listed: Vec<_> = paths.iter().map(String::as_str).collect();
    let index = listing(&listed).index(split, splitting).unwrap();
    index
        .samples
        .into_iter()
        .map(|sample| sample.image.path.into())
        .collect()
}

#[test]
fn a_seeded_split_is_stratified_disjoint_and_complete() {
    let all = many(&[("a", 100), ("b", 40), ("c", 2), ("d", 1)], "");
    let train = part(&all, Split::Train, 0.2, 7);
    let held_out = part(&all, Split::Validation, 0.2, 7);
    let of = |class: &str| {
        held_out
            .iter()
            .filter(|path| path.starts_with(class))
            .count()
    };
    assert_eq!(["a", "b", "c", "d"].map(of), [20, 8, 1, 0]);
    let mut together = [train, held_out].concat();
    together.sort();
    assert_eq!(together, all);
}

#[test]
fn a_seeded_split_depends_on_the_seed_and_the_names_alone() {
    let all = many(&[("a", 200), ("b", 200)], "");
    let held_out = part(&all, Split::Validation, 0.5, 1);
    let mut reversed = all.clone();
    reversed.reverse();
    assert_eq!(part(&reversed, Split::Validation, 0.5, 1), held_out);
    assert_ne!(part(&all, Split::Validation, 0.5, 2), held_out);
    let below: Vec<_> = held_out
        .iter()
        .map(|path| format!("photos/{path}"))
        .collect();
    let nested = many(&[("a", 200), ("b", 200)], "photos/");
    assert_eq!(part(&nested, Split::Validation, 0.5, 1), below);
    // It follows no order of the names: about half of the first half is held out.
    let early = held_out
        .iter()
        .filter(|path| path.as_str() < "a/0100.jpg")
        .count();
    assert!((35..65).contains(&early), "{early}");
}

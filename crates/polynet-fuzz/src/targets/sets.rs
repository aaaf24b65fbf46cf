//! Data sets.

use super::{MIB, Target};
use crate::{Allowance, scratch};
use polynet::data::{Dataset, Split, check};
use std::path::Path;

/// What a file holds: a picture to its name alone, and a class's number.
const CONTENT: &[u8] = b"0";
/// The most pictures that are looked at.
const PICTURES: usize = 4;
const MEMORY: Allowance = Allowance {
    fixed: 8 * MIB,
    per_byte: 256,
};

const WORDS: &[&str] = &[
    "train/",
    "val/",
    "cat/",
    "dog/",
    ".jpg",
    ".cls",
    ".txt",
    "../",
    "/",
    "./",
    "ustar",
    "ustar  \0",
    "L",
    "x",
    "K",
    "g",
    "path=",
    "size=",
    "\0",
    "0000644",
    "n01440764",
    "n01443537",
    "ILSVRC2012_val_00000001",
    "\n",
    ",",
    " ",
    "1",
    "-1",
];

pub(super) const TAR: Target = Target {
    name: "tar",
    read: |input| {
        read(&scratch::file("set.tar", input));
        read(&scratch::file("set.tar", &with_sums(input)));
    },
    seeds: || {
        let long = format!("train/cat/{}.jpg", "long".repeat(30));
        vec![
            tar(&[
                "train/cat/0.jpg",
                "train/dog/1.jpg",
                "val/cat/2.jpg",
                "val/dog/3.jpg",
            ]),
            tar(&["cat/0.jpg", "dog/1.jpg"]),
            tar(&[&long, "val/cat/2.jpg"]),
        ]
    },
    words: WORDS,
    memory: MEMORY,
};

pub(super) const SHARDS: Target = Target {
    name: "shards",
    read: |input| {
        scratch::file("shards/train-000000.tar", &with_sums(input));
        scratch::file("shards/val-000000.tar", &tar(&["v.jpg", "v.cls"]));
        read(&scratch::folder().join("shards"));
    },
    seeds: || {
        vec![
            tar(&["a.jpg", "a.cls", "b.jpg", "b.cls"]),
            tar(&["0/a.jpg", "1/b.jpg"]),
        ]
    },
    words: WORDS,
    memory: MEMORY,
};

/// The lists of ILSVRC and of shards, which one by the first byte.
pub(super) const LABELS: Target = Target {
    name: "labels",
    read: labels,
    seeds: || {
        let texts = [
            "0ImageId,PredictionString\nILSVRC2012_val_00000001,n01440764 1 2 3 4\n",
            "1n01440764\n",
            "21\n",
            "31 n01440764\n2 n01443537\n",
            "4cat\ndog\n",
        ];
        texts.map(|text| text.as_bytes().to_vec()).to_vec()
    },
    words: WORDS,
    memory: MEMORY,
};

/// An archive.
fn tar(names: &[&str]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for name in names {
        let mut header = tar::Header::new_gnu();
        header.set_size(CONTENT.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, CONTENT)
            .expect("room in memory");
    }
    archive.into_inner().expect("room in memory")
}

/// An archive whose headers have their sums, so that it is looked at what they say.
fn with_sums(input: &[u8]) -> Vec<u8> {
    let mut archive = input.to_vec();
    for block in archive.as_chunks_mut::<512>().0 {
        if block[257..262] == *b"ustar" {
            let mut header = tar::Header::new_old();
            header.as_mut_bytes().copy_from_slice(block);
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
    }
    archive
}

/// Opens both splits and reads a few of their pictures.
fn read(path: &Path) {
    for split in [Split::Train, Split::Validation] {
        match Dataset::open(path, split) {
            Err(error) => drop(error.to_string()),
            Ok(set) => {
                for index in 0..set.len().min(PICTURES) {
                    let sample = set.sample(index);
                    assert!(sample.label < set.classes().len());
                    drop(set.decode(index).map_err(|error| error.to_string()));
                }
            }
        }
    }
    drop(check(path, None, |_, _| {}).map_err(|error| error.to_string()));
}

fn labels(input: &[u8]) {
    let Some((first, text)) = input.split_first() else {
        return;
    };
    let lists = [
        "LOC_val_solution.csv",
        "imagenet_2012_validation_synset_labels.txt",
        "ILSVRC2012_validation_ground_truth.txt",
        "ILSVRC2012_ids.txt",
        "classes.txt",
        "meta.mat",
    ];
    let list = first.wrapping_sub(b'0') as usize % lists.len();
    let set = format!("labels-{list}");
    let other = |name: &str, bytes: &[u8]| {
        if !scratch::folder().join(&set).join(name).exists() {
            scratch::file(&format!("{set}/{name}"), bytes);
        }
    };
    match lists[list] {
        "classes.txt" => {
            other("train-000000.tar", &tar(&["a.jpg", "a.cls"]));
            other("val-000000.tar", &tar(&["a.jpg", "a.cls"]));
        }
        name => {
            for picture in ["train/n01440764/a.jpg", "train/n01443537/b.jpg"] {
                other(picture, CONTENT);
            }
            other("val/ILSVRC2012_val_00000001.JPEG", CONTENT);
            if name == "ILSVRC2012_validation_ground_truth.txt" {
                other("ILSVRC2012_ids.txt", b"1 n01440764\n2 n01443537\n");
            } else if ["ILSVRC2012_ids.txt", "meta.mat"].contains(&name) {
                other("ILSVRC2012_validation_ground_truth.txt", b"1\n");
            }
        }
    }
    scratch::file(&format!("{set}/{}", lists[list]), text);
    for split in [Split::Train, Split::Validation] {
        drop(Dataset::open(scratch::folder().join(&set), split).map_err(|error| error.to_string()));
    }
}

//! `polynet data check`, as its users run it.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use image::{Rgb, RgbImage};

fn check(data: &Path, options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_polynet"))
        .args(["data", "check"])
        .arg(data)
        .args(options)
        .output()
        .unwrap()
}

/// Two classes of two images each, in both splits.
fn sound_set(folder: &Path) {
    for (number, place) in ["train/cat", "train/dog", "val/cat", "val/dog"]
        .iter()
        .enumerate()
    {
        fs::create_dir_all(folder.join(place)).unwrap();
        for n in 0..2 {
            let colour = Rgb([(20 * number + n) as u8, 90, 200]);
            let image = RgbImage::from_pixel(10, 8, colour);
            image
                .save(folder.join(place).join(format!("{n}.png")))
                .unwrap();
        }
    }
}

#[test]
fn a_sound_data_set_is_fit_for_training() {
    let folder = tempfile::tempdir().unwrap();
    sound_set(folder.path());
    let output = check(folder.path(), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("train: 4 images") && text.contains("fit for training"),
        "{text}"
    );
}

#[test]
fn a_broken_image_is_named_and_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    sound_set(folder.path());
    fs::write(folder.path().join("train/cat/bad.jpg"), "no image").unwrap();
    fs::write(folder.path().join("train/dog/none.jpg"), "").unwrap();
    let output = check(folder.path(), &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["breaks_training"], true);
    assert_eq!(report["finding_counts"]["broken"], 1);
    assert_eq!(report["finding_counts"]["empty"], 1);
    assert_eq!(report["splits"][0]["images"], 6);
    let path = report["findings"][0]["path"].as_str().unwrap();
    assert!(path.ends_with("train/cat/bad.jpg"), "{path}");
    assert_eq!(report["findings"][0]["kind"], "broken");
}

#[test]
fn what_is_no_data_set_is_an_error_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let output = check(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("expected images"), "{text}");
}

//! Several crops an image, as users ask for them.

#![allow(clippy::unwrap_used)] // a test may panic

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn polynet(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_polynet"))
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .output()
        .unwrap()
}

/// Standard output and standard error of a run that must succeed.
fn success(arguments: &[&str]) -> (String, String) {
    let output = polynet(arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {errors}");
    (String::from_utf8(output.stdout).unwrap(), errors)
}

#[test]
fn crops_are_evaluated_once_and_pooled_again_from_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let run = path("run");
    let architecture = "model.architecture=small-ir-1-2-1; width = 0.0625";
    let steps = ["training.batch_size=8", "training.duration=1 step"];
    let mut train = vec![
        "train",
        "recipes/first.toml",
        architecture,
        "schedule.warm_up=1 step",
    ];
    train.extend(steps);
    train.extend(["training.validate_every=0 steps", "--out", &run]);
    success(&train);
    let model = path("run/model");

    let photos = path("photos");
    for (class, shade) in [("cat", 40_u32), ("ship", 200)] {
        let place = Path::new(&photos).join("val").join(class);
        std::fs::create_dir_all(&place).unwrap();
        let colour = |x, y| image::Rgb([shade as u8, (x * 5) as u8, (y * 7) as u8]);
        image::RgbImage::from_fn(48, 36, colour)
            .save(place.join("1.png"))
            .unwrap();
    }
    let eval = ["eval", &model, "--data", &photos, "--crops", "12", "--json"];
    let (first, _) = success(&eval);
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(first["images"], 2);
    let (again, told) = success(&[&eval[..], &["--scores", "probabilities"]].concat());
    assert!(
        told.contains("2 of 2 images took no forward pass"),
        "{told}"
    );
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_ne!(again["loss"], first["loss"]);

    let photo = format!("{photos}/val/cat/1.png");
    let (predicted, _) = success(&["predict", &model, &photo, "--crops", "144", "--json"]);
    let predicted: Value = serde_json::from_str(&predicted).unwrap();
    assert_eq!(predicted[0]["classes"].as_array().unwrap().len(), 5);
    let sheet = path("crops.png");
    success(&[
        "eval",
        &model,
        "--crops",
        "288",
        "--preview",
        &sheet,
        &photo,
    ]);
    let size = image::image_dimensions(&sheet).unwrap();
    assert!(size.1 > size.0, "24 rows of 12 crops");

    let refused = polynet(&[&eval[..], &["--scales", "8"]].concat());
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("expected scales between"), "{told}");
}

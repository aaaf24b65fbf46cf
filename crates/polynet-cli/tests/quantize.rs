//! A model of 8 bits as users make and use it.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

use serde_json::Value;
use std::path::Path;
use std::process::Command;

const MODEL: &str = "crates/polynet/pretrained";
const DATA: &str = "assets/cifar10-small.tar";

/// Standard output where it succeeds, else the errors.
fn run(arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_polynet"));
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    let output = command.args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&run(arguments).unwrap()).unwrap()
}

#[test]
fn a_model_in_eight_bits_is_used_like_any_other() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("int8").display().to_string();
    let quantize = [
        "quantize", MODEL, &out, "--data", DATA, "--images", "32", "--json",
    ];
    let report = json(&quantize);
    let number = |value: &Value| value.as_f64().unwrap();
    let (before, after) = (
        number(&report["top1_before"]),
        number(&report["top1_after"]),
    );
    assert!(before > 0.8 && before - after <= 0.005, "{report}");
    assert!(number(&report["rounded"]) > 41.0, "{report}");

    let evaluated = json(&["eval", &out, "--data", DATA, "--json"]);
    assert_eq!(number(&evaluated["top1"]), after);
    let exact = json(&["eval", MODEL, "--data", DATA, "--json"]);
    assert_eq!(number(&exact["top1"]), before);
    let measured = json(&[
        "bench", "predict", "--model", &out, "--repeat", "1", "--json",
    ]);
    assert_eq!(measured["precision"], "int8");
    let photo = "crates/polynet/src/data/fixtures/images/photo.jpg";
    assert!(
        run(&["predict", &out, photo])
            .unwrap()
            .contains("photo.jpg")
    );

    let onnx = root.path().join("model.onnx").display().to_string();
    let refused = run(&["export", &out, "--onnx", &onnx]).unwrap_err();
    assert!(
        refused.contains("quantized model is for prediction alone"),
        "{refused}"
    );
    let refused = run(&["quantize", MODEL, &out, "--data", DATA]).unwrap_err();
    assert!(refused.contains("the folder is not empty"), "{refused}");
    let refused = run(&["quantize", MODEL, "x", "--data", DATA, "--max-drop=-1"]).unwrap_err();
    assert!(refused.contains("--max-drop"), "{refused}");
}

//! What is told of training runs.

use super::*;
use polynet::report::{Record, RunFolder, TrainRecord, ValidationRecord, curves};
use std::fs;

/// A folder with a run of this name, and options that show it.
pub(super) fn with_run(name: &str) -> (TempDir, Options) {
    let folder = tempfile::tempdir().unwrap();
    write_run(&folder.path().join(name), 32, &records(2));
    fs::write(folder.path().join(name).join("confusion.svg"), "<svg/>").unwrap();
    let options = Options {
        runs: Some(folder.path().to_owned()),
        ..Options::default()
    };
    (folder, options)
}

fn records(count: u64) -> Vec<Record> {
    let of_step = |step| {
        let (epoch, loss) = (step as f64 / 10.0, 2.0 / step as f64);
        let train = TrainRecord {
            step,
            epoch,
            images: 32 * step,
            loss,
            top1: 0.25,
            learning_rate: 0.1,
            images_per_s: 100.0,
        };
        let validation = ValidationRecord {
            step,
            epoch,
            loss,
            top1: 1.0 / (step + 1) as f64,
            top5: 1.0,
        };
        [Record::Train(train), Record::Validation(validation)]
    };
    (1..=count).flat_map(of_step).collect()
}

fn write_run(folder: &Path, batch_size: u64, records: &[Record]) {
    fs::create_dir_all(folder).unwrap();
    let recipe = format!(
        "name = 'x'\n[model]\narchitecture = 'small-polynet'\n[data]\npath = 'photos'\n\
         [training]\nbatch_size = {batch_size}\n"
    );
    fs::write(folder.join("recipe.toml"), recipe).unwrap();
    let line = |record| serde_json::to_string(record).unwrap() + "\n";
    let lines: String = records.iter().map(line).collect();
    fs::write(folder.join("metrics.jsonl"), lines).unwrap();
}

#[test]
fn runs_are_told_as_their_files_say_and_anew_at_each_question() {
    let (folder, options) = with_run("first");
    let server = Running::start(options);
    let list = || server.get("/runs.json").ok().json();
    let runs = list();
    let [run] = &runs.as_array().unwrap()[..] else {
        panic!("{runs}");
    };
    assert_eq!(
        (&run["name"], &run["is_finished"]),
        (&json!("first"), &json!(false))
    );
    assert_eq!(
        (&run["train"]["step"], &run["train"]["loss"]),
        (&json!(2), &json!(1.0))
    );
    assert_eq!(run["validation"]["top1"], 1.0 / 3.0);
    assert_eq!(
        (&run["best_top1"], &run["has_confusion"]),
        (&json!(0.5), &json!(true))
    );
    assert_eq!(run["recipe"]["training.batch_size"], "32");
    assert_eq!(run["recipe"]["optimizer.kind"], "rmsprop");
    assert_eq!(run["problem"], Value::Null);

    let drawing = server.get("/runs/first/curves").ok().text();
    assert_eq!(drawing, curves(&records(2), "first"));
    assert_eq!(server.get("/runs/first/confusion").ok().text(), "<svg/>");

    // What is no run is passed by, and what is written meanwhile is seen.
    fs::create_dir(folder.path().join("no-run")).unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    write_run(&folder.path().join("first"), 32, &records(3));
    write_run(&folder.path().join("second"), 64, &[]);
    fs::write(folder.path().join("second/metrics.jsonl"), "no record\n").unwrap();
    fs::write(
        RunFolder::open(&folder.path().join("first"))
            .unwrap()
            .report(),
        "{}",
    )
    .unwrap();
    let runs = list();
    let of = |name: &str| {
        let mut runs = runs.as_array().unwrap().iter();
        runs.find(|run| run["name"] == name).unwrap().clone()
    };
    assert_eq!(runs.as_array().unwrap().len(), 2);
    assert_eq!(
        (&of("first")["train"]["step"], &of("first")["is_finished"]),
        (&json!(3), &json!(true))
    );
    assert!(
        of("second")["problem"]
            .as_str()
            .unwrap()
            .contains("metrics.jsonl")
    );
    assert_eq!(of("second")["train"], Value::Null);
    server.get("/runs/second/curves").refusal(404, "not_found");
    let message = server
        .get("/runs/second/confusion")
        .refusal(404, "not_found");
    assert!(message.contains("at its end"), "{message}");
}

#[test]
fn the_run_that_was_written_last_comes_first() {
    let (folder, options) = with_run("a");
    write_run(&folder.path().join("b"), 32, &records(1));
    let server = Running::start(options);
    for [first, second] in [["a", "b"], ["b", "a"], ["a", "b"]] {
        for (name, seconds) in [(first, 2000), (second, 1000)] {
            let metrics = folder.path().join(name).join("metrics.jsonl");
            let metrics = fs::File::options().append(true).open(metrics).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            metrics.set_modified(time).unwrap();
        }
        let runs = server.get("/runs.json").ok().json();
        let told = |place: usize| (&runs[place]["name"], &runs[place]["updated"]);
        assert_eq!(told(0), (&json!(first), &json!(2000.0)));
        assert_eq!(told(1), (&json!(second), &json!(1000.0)));
    }
}

#[test]
fn no_address_leaves_the_folder_of_runs() {
    let (folder, mut options) = with_run("first");
    write_run(&folder.path().join("first/inner"), 32, &[]);
    options.runs = Some(folder.path().join("first"));
    let server = Running::start(options);
    server.get("/runs/inner/curves").ok();
    for name in [
        "..",
        ".",
        "..%2Ffirst",
        "inner%2F..",
        "%2Ftmp",
        "inner%2F",
        "lost",
    ] {
        let message = server
            .get(&format!("/runs/{name}/curves"))
            .refusal(404, "not_found");
        assert!(
            message.contains("/runs.json") || message.contains("/openapi.json"),
            "{message}"
        );
    }
    let server = Running::start(Options::default());
    let message = server.get("/runs.json").refusal(404, "not_found");
    assert!(message.contains("--runs"), "{message}");
}

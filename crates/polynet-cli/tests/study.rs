//! Studies as users run them: to the end, killed and continued, and by several processes at once.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

use polynet::study::{Entry, StudyFolder};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

/// Three jobs a seed, one of which starts from another's model.
const STUDY: &str = r#"
title = "tiny"
base = "recipes/first.toml"
settings = "width = 0.0625"
seeds = [1, 2]

[recipe]
data.hold_out = 60
training = { batch_size = 8, duration = "6 steps", validate_every = "3 steps", checkpoint_every = "2 steps", log_every = 1 }
schedule = { kind = "one-cycle", learning_rate = 0.004, warm_up = "1 step" }

[[architectures]]
name = "residual"
network = "small-ir-1-2-1"

[[architectures]]
name = "2-way"
network = "small-ir-1-2-1; B: 2-way x2"
recipe = { training.batch_size = 4 }

[[variants]]
name = "random"

[[variants]]
name = "grown"
architectures = ["2-way"]
grow = { from = "residual" }
"#;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn polynet(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_polynet"));
    command.args(arguments).current_dir(workspace());
    command
}

/// A place with the study file, and the folder that it is run in.
struct Place {
    root: PathBuf,
}

impl Place {
    /// A new place of that name; what an earlier test left there goes.
    fn new(name: &str, study: &str) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("study")
            .join(name);
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("study.toml"), study).unwrap();
        Self { root }
    }

    fn folder(&self) -> StudyFolder {
        StudyFolder::new(self.root.join("out"))
    }

    fn command(&self, more: &[&str]) -> Command {
        let study = self.root.join("study.toml");
        let mut command = polynet(&["study"]);
        command
            .arg(study)
            .args(more)
            .arg("--out")
            .arg(self.folder().root());
        command
    }

    fn run(&self, more: &[&str]) -> Output {
        self.command(more).output().unwrap()
    }

    fn to_the_end(&self) {
        let output = self.run(&["--threads", "1"]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
    }

    /// Begins the study and kills the process once it has told of so many validations, each job's two
    /// counted, if it does not end before.
    fn kill_after(&self, validations: usize) {
        let mut process = self.start();
        let told = BufReader::new(process.stderr.take().unwrap()).lines();
        let told = told.map_while(Result::ok);
        let validated = told.filter(|line| line.contains("validation: loss"));
        validated.take(validations).for_each(drop);
        // It may have ended.
        let _ = process.kill();
        process.wait().unwrap();
    }

    fn start(&self) -> Child {
        let mut command = self.command(&["--threads", "1"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// What every job gave, but for times.
    fn figures(&self) -> Vec<Entry> {
        let entries = self.folder().ledger().read().unwrap();
        let mut entries: Vec<Entry> = entries.iter().map(Entry::deterministic).collect();
        entries.sort_by(|one, other| one.job.cmp(&other.job));
        entries
    }

    fn model(&self, job: &str) -> Vec<u8> {
        fs::read(self.folder().model(job).join("model.safetensors")).unwrap()
    }
}

/// The study as it is when nothing disturbs it.
fn undisturbed() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let place = Place::new("undisturbed", STUDY);
        place.to_the_end();
        place
    })
}

fn jobs(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.job.as_str()).collect()
}

#[test]
fn a_study_that_is_killed_again_and_again_gives_the_figures_of_one_that_is_not() {
    let (whole, killed) = (undisturbed(), Place::new("killed", STUDY));
    let expected = whole.figures();
    assert_eq!(
        jobs(&expected),
        [
            "2-way/grown/1",
            "2-way/grown/2",
            "2-way/random/1",
            "2-way/random/2",
            "residual/random/1",
            "residual/random/2"
        ]
    );
    // Inside a job, at the end of one, and in one that goes on.
    for validations in [1, 2, 3, 1] {
        killed.kill_after(validations);
        // A record that a machine's end has cut.
        let ledger = killed.folder().ledger();
        let mut bytes = fs::read(ledger.path()).unwrap_or_default();
        bytes.extend(b"{\"job\":\"residual/ran");
        fs::write(ledger.path(), bytes).unwrap();
    }
    killed.to_the_end();
    assert_eq!(killed.figures(), expected);
    for job in jobs(&expected) {
        assert_eq!(killed.model(job), whole.model(job), "{job}");
    }
}

#[test]
fn two_processes_share_a_study_and_one_of_them_may_die() {
    let shared = Place::new("shared", STUDY);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| shared.to_the_end());
        shared.kill_after(2);
        other.join().unwrap();
    });
    assert_eq!(shared.figures(), undisturbed().figures());
    // No job was done twice: each has one record.
    let text = fs::read_to_string(shared.folder().ledger().path()).unwrap();
    assert_eq!(text.lines().count(), 6);
}

#[test]
fn a_finished_study_is_small_and_has_nothing_left_to_do() {
    let place = undisturbed();
    let job = place.folder().job("2-way/grown/1");
    assert!(
        place
            .folder()
            .model("2-way/grown/1")
            .join("config.json")
            .exists()
    );
    assert!(!job.join("run/checkpoints").exists() && !job.join("start").exists());
    let before = fs::read(place.folder().ledger().path()).unwrap();
    place.to_the_end();
    assert_eq!(fs::read(place.folder().ledger().path()).unwrap(), before);
    let grown = &place.figures()[0];
    let figures = grown.figures().unwrap();
    // 6 steps of 4 images after 6 of 8.
    assert_eq!((figures.images, figures.total_images), (24, 72));
    assert_eq!(figures.validations.len(), 2);
    let folder = place.folder().root().display().to_string();
    let csv = polynet(&["study", "csv", &folder]).output().unwrap();
    let csv = String::from_utf8(csv.stdout).unwrap();
    assert_eq!(csv.lines().count(), 7);
    let columns = csv.lines().next().unwrap().split(',').count();
    assert!(
        csv.lines()
            .skip(1)
            .all(|line| line.split(',').count() >= columns),
        "{csv}"
    );
}

#[test]
fn a_report_is_written_of_a_study_from_any_folder() {
    let place = undisturbed();
    let out = place.root.join("report");
    let mut command = Command::new(env!("CARGO_BIN_EXE_polynet"));
    let command = command.current_dir(&place.root).args(["study", "report"]);
    let output = command.arg("out").arg("--out").arg(&out).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("All 6 runs are done."), "{table}");
    assert!(table.contains("2-way/grown"), "{table}");
    let plot = fs::read_to_string(out.join("errors.svg")).unwrap();
    let page = fs::read_to_string(out.join("index.html")).unwrap();
    assert!(page.contains(&plot));
}

#[test]
fn a_job_that_fails_is_recorded_and_the_others_go_on() {
    let broken = STUDY.replace(
        r#"network = "small-ir-1-2-1""#,
        r#"network = "small-ir-1-2-1; classes = 9""#,
    );
    assert_ne!(broken, STUDY);
    let place = Place::new("broken", &broken);
    assert_eq!(place.run(&["--jobs", "2"]).status.code(), Some(1));
    let failed = |entries: &[Entry]| {
        let failed = entries.iter().filter(|entry| entry.figures().is_none());
        failed.map(|entry| entry.job.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        failed(&place.figures()),
        [
            "2-way/grown/1",
            "2-way/grown/2",
            "residual/random/1",
            "residual/random/2"
        ]
    );
    let ledger = fs::read_to_string(place.folder().ledger().path()).unwrap();
    assert!(
        ledger.contains("the architecture has 9 classes"),
        "{ledger}"
    );
    // Mended, they are done; what was finished stays.
    fs::write(place.root.join("study.toml"), STUDY).unwrap();
    place.to_the_end();
    assert_eq!(failed(&place.figures()), Vec::<String>::new());
    // What is finished may not become another experiment.
    let other = STUDY.replace("6 steps", "7 steps");
    fs::write(place.root.join("study.toml"), other).unwrap();
    let output = place.run(&[]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("was made by another recipe"), "{errors}");
}

#[test]
fn a_dry_run_prints_the_grid_and_leaves_nothing() {
    let place = Place::new("dry", STUDY);
    let output = place.run(&["--dry-run", "--json", "seed=0"]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    let grid: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = &grid[2];
    assert_eq!(
        (row["architecture"].as_str(), row["variant"].as_str()),
        (Some("2-way"), Some("grown"))
    );
    assert_eq!(
        (row["jobs"].as_u64(), row["steps"].as_u64()),
        (Some(2), Some(6))
    );
    assert!(row["ms_per_step"].as_f64().unwrap() > 0.0);
    assert!(!place.folder().root().exists());
}

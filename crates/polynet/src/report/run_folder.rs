//! The run folder: everything that a run leaves behind, and all that is needed to repeat it.
//!
//! ```text
//! recipe.toml     the resolved recipe: every default written out; a folder that has it is a run
//! data.json       the data that the run began with, as classes, counts and digests
//! command.txt     each start: command line, version, platform, threads, CPU features
//! metrics.jsonl   one record a line        (see `metrics`)
//! metrics.csv     the same as a table
//! checkpoints/    what a resumed run starts from
//! model/          the trained model
//! curves.svg      loss, accuracy and learning rate over the steps
//! confusion.svg   what the held-out images of each class were taken for
//! report.json     the last evaluation; a run that has it is finished
//! .lock           who writes here now; the system forgets it with the process
//! ```
//!
//! A file is written whole or not at all; records are added to the metrics line by line. A start writes the
//! recipe last: one that was cut off before leaves a folder that can be started in again.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use super::metrics::{MetricsError, read_metrics};
use super::{EvalReport, confusion_matrix, curves};
use crate::files::{
    FolderLock, LockError, WriteError, is_unfinished, make_folder, remove_unfinished, write_text,
};

/// The folder of one run, with all that is needed to repeat it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    root: PathBuf,
}

/// A run folder that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RunFolderError {
    /// A new run would mix its files with what is there.
    #[error(
        "{}: expected a new or an empty run folder, it holds {entry:?}: choose another folder with \
         --out, or continue this run with --resume", path.display()
    )]
    NotEmpty {
        /// The folder.
        path: PathBuf,
        /// One of the things in it.
        entry: String,
    },
    /// There is nothing to resume.
    #[error(
        "{}: expected a run folder with recipe.toml, came {came}: check the path, or start a run \
         with `polynet train RECIPE.toml --out {}`", path.display(), path.display()
    )]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// What was found instead.
        came: &'static str,
    },
    /// Another process writes there.
    #[error(
        "{}: another process works on this run ({owner}): wait for it, or stop it first",
        path.display()
    )]
    Owned {
        /// The folder.
        path: PathBuf,
        /// What that process says of itself.
        owner: String,
    },
    /// The file system refused.
    #[error("{}: can't make or read the run folder: {source}", path.display())]
    Folder {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the folder can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The metrics can't be read.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

impl RunFolder {
    /// Makes the folder of a new run, and takes it for this process.
    ///
    /// # Errors
    /// When it is there and holds more than a start that was cut off left behind, when another process has
    /// it, or it can't be made.
    pub fn create(root: &Path) -> Result<(Self, FolderLock), RunFolderError> {
        let folder = Self {
            root: root.to_owned(),
        };
        let made = |path: &Path| make_folder(path).map_err(|source| folder.fault(source));
        made(root)?;
        folder.expect_new()?;
        let owner = folder.own()?;
        // Another process may have begun and ended a run since.
        folder.expect_new()?;
        made(&folder.checkpoints())?;
        Ok((folder, owner))
    }

    /// Refuses a folder that holds more than a start leaves that was cut off.
    fn expect_new(&self) -> Result<(), RunFolderError> {
        let fail = |source| self.fault(source);
        let is_empty =
            |folder: &Path| fs::read_dir(folder).map(|mut entries| entries.next().is_none());
        let is_cut_off = is_empty(&self.checkpoints()).unwrap_or(false);
        let written = [
            self.data(),
            self.command(),
            self.metrics(),
            self.metrics_table(),
        ];
        for entry in fs::read_dir(&self.root).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let is_of_a_start = path == self.root.join(FolderLock::NAME)
                || is_cut_off && (path == self.checkpoints() || written.contains(&path))
                || is_unfinished(&path);
            if !is_of_a_start {
                let entry = path.file_name().unwrap_or_default().to_string_lossy();
                return Err(RunFolderError::NotEmpty {
                    path: self.root.clone(),
                    entry: entry.into_owned(),
                });
            }
        }
        Ok(())
    }

    fn fault(&self, source: io::Error) -> RunFolderError {
        RunFolderError::Folder {
            path: self.root.clone(),
            source,
        }
    }

    /// The folder of a run that another rank makes and writes.
    pub(crate) fn of_writer(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Opens the folder of a run that is to be continued.
    ///
    /// # Errors
    /// When it is not there or has no `recipe.toml`.
    pub fn open(root: &Path) -> Result<Self, RunFolderError> {
        let folder = Self {
            root: root.to_owned(),
        };
        let came = match (root.is_dir(), folder.recipe().is_file()) {
            (true, true) => return Ok(folder),
            (true, false) => "a folder without it",
            (false, _) if root.exists() => "a file",
            (false, _) => "nothing",
        };
        let path = root.to_owned();
        Err(RunFolderError::NotARun { path, came })
    }

    /// Takes the folder for this process, and removes what a killed one did not finish.
    ///
    /// # Errors
    /// When another process has it, or the file of the lock can't be made.
    pub fn own(&self) -> Result<FolderLock, RunFolderError> {
        let owner = FolderLock::take(&self.root).map_err(|error| match error {
            LockError::Taken(owner) => {
                let path = self.root.clone();
                RunFolderError::Owned { path, owner }
            }
            LockError::Io(source) => self.fault(source),
        })?;
        for folder in [self.root.clone(), self.checkpoints(), self.model()] {
            remove_unfinished(&folder).map_err(|source| self.fault(source))?;
        }
        Ok(owner)
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `recipe.toml`
    pub fn recipe(&self) -> PathBuf {
        self.root.join("recipe.toml")
    }

    /// `command.txt`
    pub fn command(&self) -> PathBuf {
        self.root.join("command.txt")
    }

    /// `data.json`
    pub fn data(&self) -> PathBuf {
        self.root.join("data.json")
    }

    /// `metrics.jsonl`
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// `metrics.csv`
    pub fn metrics_table(&self) -> PathBuf {
        self.root.join("metrics.csv")
    }

    /// `curves.svg`
    pub fn curves(&self) -> PathBuf {
        self.root.join("curves.svg")
    }

    /// `tensorboard/`
    pub fn tensorboard(&self) -> PathBuf {
        self.root.join("tensorboard")
    }

    /// `checkpoints/`
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// `model/`
    pub fn model(&self) -> PathBuf {
        self.root.join("model")
    }

    /// `confusion.svg`
    pub fn confusion(&self) -> PathBuf {
        self.root.join("confusion.svg")
    }

    /// `report.json`
    pub fn report(&self) -> PathBuf {
        self.root.join("report.json")
    }

    /// Writes the resolved recipe, given as TOML.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write_recipe(&self, toml: &str) -> Result<(), RunFolderError> {
        Ok(write_text(&self.recipe(), toml)?)
    }

    /// Draws the metrics so far as the curves of a run named `title`.
    ///
    /// # Errors
    /// When the metrics can't be read or the file can't be written.
    pub fn write_curves(&self, title: &str) -> Result<(), RunFolderError> {
        let metrics = read_metrics(&self.metrics())?;
        Ok(write_text(
            &self.curves(),
            &curves(&metrics.records, title),
        )?)
    }

    /// Writes the last evaluation as a confusion matrix and, when that is there, as JSON.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn write_report(&self, report: &EvalReport) -> Result<(), RunFolderError> {
        write_text(
            &self.confusion(),
            &confusion_matrix(report, "held-out images"),
        )?;
        Ok(write_text(&self.report(), &report.to_json())?)
    }

    /// Adds a start of the run, the first or a resumed one, to `command.txt`.
    ///
    /// # Errors
    /// When the file can't be read or written.
    pub fn add_command(&self, arguments: &[String]) -> Result<(), RunFolderError> {
        let path = self.command();
        let mut text = match fs::read_to_string(&path) {
            Ok(text) => text + "\n",
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(RunFolderError::Folder { path, source }),
        };
        text.push_str(&start_facts(arguments));
        Ok(write_text(&path, &text)?)
    }
}

/// The command line, as a shell would read it, and what it ran on.
fn start_facts(arguments: &[String]) -> String {
    let words: Vec<String> = arguments.iter().map(|word| shell_quoted(word)).collect();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "command:      {}\nversion:      polynet {}\nplatform:     {} {}\nthreads:      {threads}\n\
         cpu features: {}\n",
        words.join(" "),
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
        cpu_features().join(" "),
    );
    if let Ok(limit) = std::env::var("RAYON_NUM_THREADS") {
        let _ = writeln!(
            text,
            "environment:  RAYON_NUM_THREADS={}",
            shell_quoted(&limit)
        );
    }
    text
}

fn shell_quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+%@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The vector instructions that decide which kernels run, and so the last bits of the results.
#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<&'static str> {
    [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512dq", is_x86_feature_detected!("avx512dq")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ]
    .iter()
    .filter(|(_, detected)| *detected)
    .map(|(name, _)| *name)
    .collect()
}

/// The vector instructions that the program was built for.
#[cfg(not(target_arch = "x86_64"))]
fn cpu_features() -> Vec<&'static str> {
    if cfg!(target_feature = "neon") {
        vec!["neon"]
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_run_wants_a_new_or_an_empty_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert!(RunFolder::create(folder.path()).is_ok());
        let deep = folder.path().join("a/b");
        let (run, owner) = RunFolder::create(&deep).unwrap();
        drop(owner);
        // A start that was cut off is no run.
        run.add_command(&[]).unwrap();
        fs::write(run.checkpoints().join("x"), "").unwrap();
        assert!(RunFolder::create(&deep).is_err());
        fs::remove_file(run.checkpoints().join("x")).unwrap();
        fs::write(deep.join(".unfinished-1-1"), "").unwrap();
        assert!(RunFolder::create(&deep).is_ok());
        assert!(!deep.join(".unfinished-1-1").exists());
        run.write_recipe("").unwrap();
        let error = RunFolder::create(&deep).unwrap_err().to_string();
        assert!(error.contains("it holds \"recipe.toml\""), "{error}");
        assert!(
            error.contains("--out") && error.contains("--resume"),
            "{error}"
        );
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(
            RunFolder::create(&file),
            Err(RunFolderError::Folder { .. })
        ));
    }

    #[test]
    fn a_folder_has_one_owner_at_a_time() {
        let temporary = tempfile::tempdir().unwrap();
        let (folder, owner) = RunFolder::create(&temporary.path().join("run")).unwrap();
        let error = folder.own().unwrap_err().to_string();
        let process = format!("process {}", std::process::id());
        assert!(
            error.contains(&process) && error.contains("wait for it"),
            "{error}"
        );
        drop(owner);
        assert!(folder.own().is_ok());
    }

    #[test]
    fn only_a_folder_with_a_recipe_is_resumed() {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().join("run");
        let came = |root: &Path| match RunFolder::open(root) {
            Err(RunFolderError::NotARun { came, .. }) => came,
            other => panic!("{other:?}"),
        };
        assert_eq!(came(&root), "nothing");
        let (folder, _owner) = RunFolder::create(&root).unwrap();
        assert_eq!(came(&root), "a folder without it");
        let recipe = "[model]\narchitecture = 'ir-3-6-3'\n";
        folder.write_recipe(recipe).unwrap();
        let opened = RunFolder::open(&root).unwrap();
        assert_eq!(opened, folder);
        assert_eq!(fs::read_to_string(opened.recipe()).unwrap(), recipe);
        assert_eq!(came(&opened.recipe()), "a file");
    }

    #[test]
    fn every_start_adds_its_command_and_its_machine() {
        let temporary = tempfile::tempdir().unwrap();
        let (folder, _owner) = RunFolder::create(temporary.path()).unwrap();
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        let first = words(&["polynet", "train", "a b.toml", "x='1'", ""]);
        folder.add_command(&first).unwrap();
        folder
            .add_command(&words(&["polynet", "train", "--resume"]))
            .unwrap();
        let text = fs::read_to_string(folder.command()).unwrap();
        assert!(
            text.contains(r"polynet train 'a b.toml' 'x='\''1'\''' ''"),
            "{text}"
        );
        assert!(
            text.contains("command:      polynet train --resume\n"),
            "{text}"
        );
        assert_eq!(text.matches(env!("CARGO_PKG_VERSION")).count(), 2);
        assert_eq!(text.matches("threads:").count(), 2);
    }
}

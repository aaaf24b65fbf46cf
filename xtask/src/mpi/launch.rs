//! Training runs under mpirun.

use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A run that takes longer than this hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// A training run to be started.
pub(super) struct Run {
    command: Command,
    log: PathBuf,
}

/// A run under way.
pub(super) struct Running {
    mpirun: Child,
    log: PathBuf,
}

/// How a run has ended.
pub(super) struct Ended {
    pub(super) is_success: bool,
    pub(super) output: String,
    pub(super) errors: String,
}

impl Run {
    /// A tiny network for 40 steps on the shipped photographs, with all that has state.
    pub(super) fn start(program: &Path, ranks: usize, out: &Path) -> Self {
        Self::new(program, ranks, out)
            .with("recipes/first.toml")
            .with(
                "model.architecture=family = small; width = 0.0625; A: 2-way; B: poly-2; C: 2-way",
            )
            .with("stochastic_paths={when=\"from 5 steps\", max_drop=0.5}")
            .with("schedule={kind=\"constant\", learning_rate=0.004}")
            .with("training.batch_size=16")
            .with("training.accumulate=4")
            .with("training.ema=0.9")
            .with("training.duration=40 steps")
            .with("training.validate_every=25 steps")
            .with("training.checkpoint_every=3 steps")
            .with("training.log_every=5")
            .with("--out")
            .with(&out.display().to_string())
    }

    /// Goes on with a run.
    pub(super) fn resume(program: &Path, ranks: usize, out: &Path) -> Self {
        Self::new(program, ranks, out)
            .with("--resume")
            .with(&out.display().to_string())
    }

    /// `polynet train` on so many ranks, each with one thread.
    pub(super) fn new(program: &Path, ranks: usize, out: &Path) -> Self {
        let mut command = mpirun(ranks);
        command.arg(program).arg("train");
        let log = out.with_extension("log");
        Self { command, log }
    }

    pub(super) fn with(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }

    pub(super) fn spawn(mut self) -> Result<Running> {
        let open = |path: &Path| {
            File::create(path).with_context(|| format!("cannot write {}", path.display()))
        };
        let mpirun = self
            .command
            .stdin(Stdio::null())
            .stdout(open(&self.log.with_extension("out"))?)
            .stderr(open(&self.log)?)
            .spawn()
            .context("cannot start mpirun")?;
        Ok(Running {
            mpirun,
            log: self.log,
        })
    }

    pub(super) fn wait(self) -> Result<Ended> {
        self.spawn()?.wait()
    }
}

/// mpirun as it works for root, on a machine with fewer cores than ranks, and with one thread a rank.
pub(super) fn mpirun(ranks: usize) -> Command {
    let mut command = Command::new("mpirun");
    command
        .args([
            "-n",
            &ranks.to_string(),
            "--oversubscribe",
            "--bind-to",
            "none",
        ])
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("RAYON_NUM_THREADS", "1");
    command
}

impl Running {
    /// The processes that mpirun has started, in the order of their start.
    pub(super) fn ranks(&self) -> Vec<u32> {
        children(self.mpirun.id())
    }

    /// mpirun itself.
    pub(super) fn id(&self) -> u32 {
        self.mpirun.id()
    }

    pub(super) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.mpirun.try_wait()?.is_some())
    }

    /// Waits until the run has saved something.
    pub(super) fn wait_for_checkpoint(&self, out: &Path) -> Result<()> {
        let started = Instant::now();
        let is_saved = || {
            let entries = std::fs::read_dir(out.join("checkpoints"));
            entries.is_ok_and(|mut entries| entries.next().is_some())
        };
        while !is_saved() {
            ensure!(started.elapsed() < LIMIT, "the run saves no checkpoint");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub(super) fn wait(mut self) -> Result<Ended> {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.mpirun.try_wait()? {
                break status;
            }
            if started.elapsed() > LIMIT {
                for process in self.ranks().into_iter().chain([self.id()]) {
                    signal("-KILL", process)?;
                }
                bail!("a run hangs; what it said is in {}", self.log.display());
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let read = |path: &Path| {
            let mut bytes = Vec::new();
            File::open(path)?.read_to_end(&mut bytes)?;
            anyhow::Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(Ended {
            is_success: status.success(),
            output: read(&self.log.with_extension("out"))?,
            errors: read(&self.log)?,
        })
    }
}

/// Sends a signal to a process, which may have ended.
pub(super) fn signal(name: &str, process: u32) -> Result<()> {
    let mut kill = Command::new("kill");
    kill.args([name, &process.to_string()])
        .stderr(Stdio::null());
    kill.status().context("cannot start kill")?;
    Ok(())
}

/// Whether a process is there and has not ended.
pub(super) fn is_running(process: u32) -> bool {
    stat(process).is_some_and(|(state, _)| state != "Z")
}

fn children(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut children: Vec<u32> = processes
        .filter(|&process| stat(process).is_some_and(|(_, of)| of == parent))
        .collect();
    children.sort_unstable();
    children
}

/// State and parent of a process.
fn stat(process: u32) -> Option<(String, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before it, in parentheses, may hold anything.
    let mut words = text.rsplit_once(')')?.1.split_whitespace();
    let state = words.next()?.to_owned();
    Some((state, words.next()?.parse().ok()?))
}

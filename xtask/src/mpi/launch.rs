//! Commands under mpirun.

use anyhow::{Context, Result};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::yield_now;

/// A command to be started.
pub(super) struct Run {
    command: Command,
    log: PathBuf,
}

/// A command under way.
pub(super) struct Running {
    mpirun: Child,
    log: PathBuf,
}

/// How a command has ended.
pub(super) struct Ended {
    pub(super) is_success: bool,
    pub(super) output: String,
    pub(super) errors: String,
}

impl Run {
    /// A tiny network for 40 steps on the shipped photographs, with all that has state.
    pub(super) fn start(program: &Path, ranks: usize, out: &Path) -> Self {
        Self::start_by(mpirun(ranks), program, out)
    }

    /// As [`Run::start`], by a launcher with all its arguments.
    pub(super) fn start_by(launcher: Command, program: &Path, out: &Path) -> Self {
        Self::by(launcher, program, "train", out)
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
            .with("training.log_every=1")
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
        Self::of(program, "train", ranks, out)
    }

    /// A command on so many ranks, each with one thread; `out` is what it writes.
    pub(super) fn of(program: &Path, name: &str, ranks: usize, out: &Path) -> Self {
        Self::by(mpirun(ranks), program, name, out)
    }

    fn by(mut command: Command, program: &Path, name: &str, out: &Path) -> Self {
        command.arg(program).arg(name);
        let log = out.with_extension("log");
        Self { command, log }
    }

    pub(super) fn with(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }

    pub(super) fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
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

    /// Waits until something holds; whether it does before the run has ended.
    pub(super) fn wait_until(&mut self, holds: impl Fn(&Self) -> bool) -> Result<bool> {
        while !holds(self) {
            if self.mpirun.try_wait()?.is_some() {
                return Ok(false);
            }
            yield_now();
        }
        Ok(true)
    }

    /// Waits until the run has saved something; whether it does before it has ended.
    pub(super) fn wait_for_checkpoint(&mut self, out: &Path) -> Result<bool> {
        let folder = out.join("checkpoints");
        self.wait_until(|_| {
            let entries = std::fs::read_dir(&folder);
            entries.is_ok_and(|mut entries| entries.next().is_some())
        })
    }

    /// Waits for the run's end, however long that takes.
    pub(super) fn wait(mut self) -> Result<Ended> {
        let status = self.mpirun.wait()?;
        let read = |path: &Path| {
            let bytes = std::fs::read(path)?;
            anyhow::Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(Ended {
            is_success: status.success(),
            output: read(&self.log.with_extension("out"))?,
            errors: read(&self.log)?,
        })
    }
}

/// The last step in a run's metrics; 0 before the first.
pub(super) fn recorded_step(out: &Path) -> u64 {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap_or_default();
    let records = text.lines().rev();
    // The last line may be torn.
    let steps =
        records.filter_map(|line| serde_json::from_str::<Value>(line).ok()?["step"].as_u64());
    steps.max().unwrap_or_default()
}

/// Waits until killed processes are gone.
pub(super) fn wait_for_end(processes: &[u32]) {
    while processes.iter().any(|&process| is_running(process)) {
        yield_now();
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
fn is_running(process: u32) -> bool {
    stat(process).is_some_and(|(state, _)| state != "Z")
}

fn children(parent: u32) -> Vec<u32> {
    processes(|process| stat(process).is_some_and(|(_, of)| of == parent))
}

/// The processes of a program, whoever has started them.
pub(super) fn processes_of(program: &Path) -> Vec<u32> {
    let program = program.as_os_str().as_encoded_bytes();
    processes(|process| {
        let command = std::fs::read(format!("/proc/{process}/cmdline"));
        command.is_ok_and(|command| command.split(|&byte| byte == 0).next() == Some(program))
    })
}

/// The processes for which something holds, in the order of their numbers.
fn processes(holds: impl Fn(u32) -> bool) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found: Vec<u32> = processes.filter(|&process| holds(process)).collect();
    found.sort_unstable();
    found
}

/// State and parent of a process.
fn stat(process: u32) -> Option<(String, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before it, in parentheses, may hold anything.
    let mut words = text.rsplit_once(')')?.1.split_whitespace();
    let state = words.next()?.to_owned();
    Some((state, words.next()?.parse().ok()?))
}

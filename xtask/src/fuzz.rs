//! `cargo xtask fuzz`: everything that is read, given what nobody meant it to read.
//!
//! Each target has a process of its own. If one ends early, or says nothing for a time, the inputs that it
//! had since it last spoke are given one by one to a process that keeps each while it is tried; the last
//! one that was kept did it.

use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// A process that says nothing for so long has hung.
const SILENCE: Duration = Duration::from_secs(60);
/// What a picture may take where a target leaves that to the process.
const MEMORY: (&str, &str) = ("POLYNET_IMAGE_MEMORY", "32MiB");
/// Where findings of all targets are kept, by target.
const CORPUS: &str = "crates/polynet-fuzz/corpus";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Time for all targets together
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Only these targets
    #[arg(long)]
    target: Vec<String>,
    /// The number of the first input: another one tries others
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// With checks of overflow and debug assertions and without optimization of our code: slower, stricter
    #[arg(long)]
    debug: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (profile, folder) = match arguments.debug {
        true => ("dev", "debug"),
        false => ("fuzzing", "fuzzing"),
    };
    crate::run(&mut crate::cargo(&[
        "build",
        "--package=polynet-fuzz",
        "--profile",
        profile,
    ]))?;
    let program = Path::new("target").join(folder).join("polynet-fuzz");
    let targets = match arguments.target.is_empty() {
        true => all_targets(&program)?,
        false => arguments.target.clone(),
    };
    let seconds = (arguments.minutes * 60.0 / targets.len() as f64).ceil() as u64;
    let (mut total, mut findings) = (0, Vec::new());
    for name in &targets {
        let target = Target {
            program: &program,
            name,
        };
        let (count, found) = target.run(arguments.first, seconds)?;
        println!("{name:>14} {count:>12} inputs, {} findings", found.len());
        total += count;
        findings.extend(found);
    }
    println!("{:>14} {total:>12} inputs", "all");
    ensure!(
        findings.is_empty(),
        "{} findings, which are kept:\n  {}",
        findings.len(),
        findings.join("\n  ")
    );
    Ok(())
}

fn all_targets(program: &Path) -> Result<Vec<String>> {
    let output = Command::new(program).output()?;
    ensure!(output.status.success(), "`{}` failed", program.display());
    Ok(String::from_utf8(output.stdout)?
        .lines()
        .map(str::to_owned)
        .collect())
}

struct Target<'t> {
    program: &'t Path,
    name: &'t str,
}

/// How a process ended, and what it said before.
struct Ended {
    /// None if it hung.
    status: Option<ExitStatus>,
    /// The number that it was at when it last spoke.
    at: u64,
    count: Option<u64>,
    found: Vec<String>,
}

impl Target<'_> {
    /// Gives the target inputs for a time; their count, and what was found.
    fn run(&self, first: u64, seconds: u64) -> Result<(u64, Vec<String>)> {
        let seconds = seconds.to_string();
        let ended = self.process(first, &["--seconds", &seconds])?;
        let mut found = ended.found;
        if let Some(count) = ended.count {
            return Ok((count, found));
        }
        let folder = self.corpus();
        std::fs::create_dir_all(&folder)?;
        let current = folder.join(format!("{}-ended-{}", self.name, ended.at));
        let place = current.display().to_string();
        // It speaks again within this time.
        let again = self.process(ended.at, &["--seconds", &seconds, "--current", &place])?;
        if again.count.is_some() {
            bail!(
                "{}: the process ended near input {}, but not again",
                self.name,
                ended.at
            );
        }
        found.push(match again.status {
            Some(status) => format!("{place}: {status}"),
            None => format!("{place}: nothing in {} s", SILENCE.as_secs()),
        });
        Ok((ended.at - first, found))
    }

    fn corpus(&self) -> PathBuf {
        Path::new(CORPUS).join(self.name)
    }

    fn process(&self, first: u64, more: &[&str]) -> Result<Ended> {
        let mut command = Command::new(self.program);
        command.arg(self.name).args(["--first", &first.to_string()]);
        command.arg("--found").arg(self.corpus()).args(more);
        command.env(MEMORY.0, MEMORY.1).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let said = child.stdout.take().context("the process has no output")?;
        let mut ended = Ended {
            status: None,
            at: first,
            count: None,
            found: Vec::new(),
        };
        if ended.listen(&lines(said)) {
            ended.status = Some(child.wait()?);
        } else {
            stop(&mut child)?;
        }
        Ok(ended)
    }
}

impl Ended {
    /// Takes what is said until the process ends; false if it falls silent.
    fn listen(&mut self, lines: &Receiver<String>) -> bool {
        loop {
            let line = match lines.recv_timeout(SILENCE) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            };
            match line.split_once(' ') {
                Some(("at", number)) => self.at = number.parse().unwrap_or(self.at),
                Some(("done", count)) => self.count = count.parse().ok(),
                Some(("found", finding)) => {
                    eprintln!("{finding}");
                    self.found.push(finding.to_owned());
                }
                _ => {}
            }
        }
    }
}

fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.map(|line| sender.send(line)).find(Result::is_err)
    });
    receiver
}

fn stop(child: &mut Child) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

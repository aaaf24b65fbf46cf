//! The developers' one door: `cargo xtask check`, `cargo xtask fixtures`, and so on.

mod bench;
mod check;
mod debian;
mod deny;
mod experiment;
mod fixtures;
mod fuzz;
mod gpu;
mod image;
mod licenses;
mod mpi;
mod peers_check;
mod processors;
mod python;
mod rooms;
mod sanitize;
mod vulkan;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The developers' commands of polynet
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measure our speed beside others'
    Bench(bench::Arguments),
    /// Run every check: format, lints, licences, tests, docs
    Check,
    /// Run an experiment for several seeds
    Experiment(experiment::Arguments),
    /// Make the parity fixtures anew with public implementations in PyTorch
    Fixtures(fixtures::Arguments),
    /// Give everything that is read what nobody meant it to read
    Fuzz(fuzz::Arguments),
    /// Build for a GPU, check it against the processor and measure it beside PyTorch
    Gpu(gpu::Arguments),
    /// Take the steps of the Dockerfile without Docker
    Image,
    /// Build with MPI and train on several ranks, killing runs; or measure how ranks scale
    Mpi(mpi::Arguments),
    /// Compare what we write for programs of others with what they make of it
    PeersCheck(peers_check::Arguments),
    /// Test for aarch64 under an emulator, and type-check for macOS and Windows
    Processors,
    /// Build the Python package, install it and test it
    Python(python::Arguments),
    /// Check imports by the table of rooms in ARCHITECTURE.md
    Rooms,
    /// Test the kernels under AddressSanitizer
    Sanitize,
    /// Build for Vulkan and judge networks by the plain interpreter in f64
    Vulkan(vulkan::Arguments),
}

fn main() -> Result<()> {
    std::env::set_current_dir(root())?;
    match Arguments::parse().task {
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Check => check::run(),
        Task::Experiment(arguments) => experiment::run(&arguments),
        Task::Fixtures(arguments) => fixtures::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Gpu(arguments) => gpu::run(&arguments),
        Task::Image => image::run(),
        Task::Mpi(arguments) => mpi::run(&arguments),
        Task::PeersCheck(arguments) => peers_check::run(&arguments),
        Task::Processors => processors::run(),
        Task::Python(arguments) => python::run(&arguments),
        Task::Rooms => rooms::check(),
        Task::Sanitize => sanitize::run(),
        Task::Vulkan(arguments) => vulkan::run(&arguments),
    }
}

/// The workspace's folder.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Cargo, as it was called.
fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.args(arguments);
    command
}

/// Runs a command with its output shown.
fn run(command: &mut Command) -> Result<()> {
    let text = format!("{command:?}").replace('"', "");
    eprintln!("$ {text}");
    let status = command
        .status()
        .with_context(|| format!("cannot start `{text}`"))?;
    ensure!(status.success(), "`{text}` failed: {status}");
    Ok(())
}

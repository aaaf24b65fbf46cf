//! `cargo xtask mpi`: several processes that train, evaluate and predict together, over MPI.
//!
//! Installs Open MPI and libclang by apt-get where they are missing, builds the command with the
//! feature `mpi` beside the default build, and runs it under mpirun:
//! ranks give the weights of one process, with local and with synchronised batch norm, errors, full disks
//! and lost networks end all ranks, and runs that are killed at random steps go on to the same weights.
//! Nothing here has a limit in seconds but the patience with a rank that hangs: a run is watched by the steps
//! that it records, and by its end.

mod kills;
mod launch;
mod prediction;
mod scaling;
mod trouble;

use crate::debian;
use anyhow::{Context, Result, ensure};
use launch::{Run, Running};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// What Debian calls the needed packages.
const PACKAGES: [&str; 4] = ["openmpi-bin", "libopenmpi-dev", "libclang-dev", "iproute2"];

/// Build with MPI and train on several ranks
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Measure one, two and four ranks instead, and compare with the cost model
    #[arg(long)]
    scaling: bool,
    /// How many times a run is killed
    #[arg(long, default_value_t = 20)]
    kills: u32,
    /// Seed of the steps at which runs are killed; by default a new one
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    install()?;
    let mut build = crate::cargo(&["build", "--workspace", "--features", "polynet-cli/mpi"]);
    let built = match arguments.scaling {
        true => {
            build.arg("--release");
            "target/release/polynet"
        }
        false => "target/debug/polynet",
    };
    crate::run(&mut build)?;
    // A build without the feature, which the next check makes, would take its place.
    let folder = std::env::temp_dir().join(format!("polynet-mpi-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let program = folder.join("polynet");
    std::fs::copy(built, &program).context("cannot copy the command")?;
    let result = if arguments.scaling {
        scaling::run(&program)
    } else {
        check(&program, &folder, arguments)
    };
    if result.is_ok() {
        std::fs::remove_dir_all(&folder)?;
    }
    result.with_context(|| format!("what the runs left is in {}", folder.display()))
}

/// Installs what is missing.
fn install() -> Result<()> {
    let has_clang = ["/usr/lib", "/usr/lib64", "/usr/local/lib"]
        .iter()
        .any(|&folder| {
            let found = Command::new("find")
                .args([folder, "-name", "libclang*.so*"])
                .output();
            found.is_ok_and(|output| !output.stdout.is_empty())
        });
    if ["mpirun", "mpicc", "ip"].into_iter().all(debian::has) && has_clang {
        return Ok(());
    }
    debian::install(&PACKAGES)
}

fn check(program: &Path, folder: &Path, arguments: &Arguments) -> Result<()> {
    let started = Instant::now();
    ranks_give_the_weights_of_one_process(program, folder)?;
    a_killed_rank_ends_synchronised_ranks(program, folder)?;
    ranks_share_an_evaluation(program, folder)?;
    prediction::run(program, folder)?;
    an_error_ends_all_ranks(program, folder)?;
    a_signal_stops_all_ranks_at_one_step(program, folder)?;
    trouble::run(program, folder)?;
    kills::run(program, folder, arguments.kills, arguments.seed)?;
    println!(
        "MPI: all tests passed in {:.0} s",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

fn ranks_give_the_weights_of_one_process(program: &Path, folder: &Path) -> Result<()> {
    for (name, norm) in [("equal", "local"), ("synchronised", "synchronised")] {
        let numbers = [1, 2, 4];
        let mut models = Vec::new();
        for ranks in numbers {
            let out = folder.join(format!("{name}-{ranks}"));
            let run = Run::start(program, ranks, &out);
            let ended = run.with(&format!("training.batch_norm={norm}")).wait()?;
            ensure!(
                ended.is_success,
                "{ranks} ranks failed, batch norm {norm}:\n{}",
                ended.errors
            );
            models.push(model(&out)?);
        }
        for (found, ranks) in models.iter().zip(numbers) {
            ensure!(
                *found == models[0],
                "{ranks} ranks give other weights than one, batch norm {norm}"
            );
        }
        println!("ok: 1, 2 and 4 ranks give the same weights to the bit, batch norm {norm}");
    }
    let [local, synchronised] = ["equal-1", "synchronised-1"].map(|name| folder.join(name));
    let same = model(&local)? == model(&synchronised)?;
    ensure!(!same, "synchronised batch norm changes nothing");
    Ok(())
}

/// A rank that is killed while others wait for its statistics.
fn a_killed_rank_ends_synchronised_ranks(program: &Path, folder: &Path) -> Result<()> {
    let out = folder.join("synchronised-killed");
    let run = Run::start(program, 4, &out).with("training.batch_norm=synchronised");
    let mut running = run.spawn()?;
    let last = last_rank_at_work(&mut running, &out)?;
    kills::kill_one(running, &out, last)?;
    let ended = Run::resume(program, 2, &out).wait()?;
    ensure!(
        ended.is_success,
        "the killed run did not go on:\n{}",
        ended.errors
    );
    let same = model(&out)? == model(&folder.join("synchronised-1"))?;
    ensure!(same, "the killed run has come to other weights");
    println!("ok: a killed rank ended synchronised ranks; 2 ranks came to the same weights");
    Ok(())
}

/// The rank that was started last, once the run has saved something.
fn last_rank_at_work(running: &mut Running, out: &Path) -> Result<u32> {
    let has_saved = running.wait_for_checkpoint(out)?;
    let ranks = running.ranks();
    let last = ranks.last().filter(|_| has_saved);
    last.copied()
        .context("the run has ended too early to be disturbed")
}

/// One crop an image and twelve: what 1, 2 and 4 ranks print.
fn ranks_share_an_evaluation(program: &Path, folder: &Path) -> Result<()> {
    for crops in ["single", "12"] {
        let mut reports = Vec::new();
        for ranks in [1, 2, 4] {
            let mut command = launch::mpirun(ranks);
            command.arg(program).arg("eval");
            command.arg(folder.join("equal-1/model"));
            command.args(["--data", "assets/cifar10-small.tar", "--json"]);
            command.args(["--crops", crops, "--scores-cache"]);
            command.arg(folder.join(format!("scores-{ranks}")));
            let output = command.output().context("cannot start mpirun")?;
            let errors = String::from_utf8_lossy(&output.stderr);
            ensure!(
                output.status.success(),
                "{ranks} ranks failed to evaluate:\n{errors}"
            );
            reports.push(output.stdout);
        }
        let same = reports.iter().all(|report| *report == reports[0]);
        ensure!(same, "ranks report other figures than one, crops {crops}");
        let report: serde_json::Value = serde_json::from_slice(&reports[0])?;
        ensure!(report["images"] == 800, "not 800 images: {report}");
    }
    println!("ok: 1, 2 and 4 ranks print the same evaluation, once");
    Ok(())
}

/// A folder of images of which one is broken.
fn an_error_ends_all_ranks(program: &Path, folder: &Path) -> Result<()> {
    let data = folder.join("data");
    for split in ["train", "val"] {
        for class in ["a", "b"] {
            let folder = data.join(split).join(class);
            std::fs::create_dir_all(&folder)?;
            for number in 0..40 {
                std::fs::write(folder.join(format!("{number:02}.png")), PIXEL)?;
            }
        }
    }
    std::fs::write(data.join("train/b/17.png"), "not an image")?;
    let out = folder.join("broken");
    let path = format!("data.path={}", data.display());
    let ended = Run::start(program, 2, &out)
        .with(&path)
        .with("model.architecture=small-ir-1-2-1; width = 0.0625; classes = 2")
        .wait()?;
    ensure!(!ended.is_success, "a broken image did not end the run");
    let says = ended.errors.contains("17.png") && ended.errors.contains("error: rank ");
    ensure!(
        says,
        "the run did not name the broken image:\n{}",
        ended.errors
    );
    println!("ok: a broken image on one rank ended all and was named");
    Ok(())
}

/// One white pixel as a PNG.
const PIXEL: &[u8] = &[
    137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82, 0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0,
    0, 0, 58, 126, 155, 85, 0, 0, 0, 10, 73, 68, 65, 84, 120, 218, 99, 248, 15, 0, 1, 1, 1, 0, 28,
    176, 140, 153, 0, 0, 0, 0, 73, 69, 78, 68, 174, 66, 96, 130,
];

fn a_signal_stops_all_ranks_at_one_step(program: &Path, folder: &Path) -> Result<()> {
    let out = folder.join("stopped");
    let mut running = Run::start(program, 2, &out).spawn()?;
    let last = last_rank_at_work(&mut running, &out)?;
    launch::signal("-TERM", last)?;
    let ended = running.wait()?;
    ensure!(!ended.is_success, "a stopped run says that it has finished");
    let says = ended.output.contains("stopped after step");
    ensure!(
        says,
        "the run did not stop in order:\n{}\n{}",
        ended.output,
        ended.errors
    );
    let ended = Run::resume(program, 4, &out).wait()?;
    ensure!(
        ended.is_success,
        "the stopped run did not go on:\n{}",
        ended.errors
    );
    let same = model(&out)? == model(&folder.join("equal-1"))?;
    ensure!(same, "the stopped run has come to other weights");
    println!("ok: SIGTERM to one of 2 ranks stopped both; 4 ranks came to the same weights");
    Ok(())
}

fn model(out: &Path) -> Result<Vec<u8>> {
    let path: PathBuf = out.join("model/model.safetensors");
    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

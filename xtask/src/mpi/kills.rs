//! Runs that are killed at a random step, and go on.

use super::launch::{self, Run, Running, recorded_step};
use super::model;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// A run is killed at most so many steps after those that an earlier one has recorded.
const STEPS_UNTIL_KILLED: u64 = 20;
/// Steps that may be recorded after one rank was killed: what it has sent may end the step under way.
const STEPS_UNDER_WAY: u64 = 2;

/// Kills runs `kills` times, one rank or all processes at once, and resumes each with 1, 2 or 4 ranks:
/// all must come to the weights of the run in `equal-1`, which nobody disturbed.
pub(super) fn run(program: &Path, folder: &Path, kills: u32, seed: Option<u64>) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    let mut random = Random(seed.unwrap_or(now % 1_000_000));
    println!(
        "killing runs {kills} times; again with: cargo xtask mpi --seed {}",
        random.0
    );
    let expected = model(&folder.join("equal-1"))?;
    let (mut killed, mut of_one_rank, mut finished) = (0, 0, 0);
    while killed < kills {
        let out = folder.join(format!("killed-{finished}"));
        loop {
            let ranks = [1, 2, 2, 4][random.below(4) as usize];
            let step = match random.below(STEPS_UNTIL_KILLED) {
                0 => None,
                more => Some(recorded_step(&out) + more),
            };
            let mut running = go_on(program, ranks, &out)?.spawn()?;
            if killed == kills || !wait_for(&mut running, &out, step)? {
                let ended = running.wait()?;
                let errors = ended.errors;
                ensure!(ended.is_success, "an undisturbed run failed:\n{errors}");
                break;
            }
            killed += 1;
            let targets = running.ranks();
            if random.below(2) == 0 && !targets.is_empty() {
                of_one_rank += 1;
                let target = targets[random.below(targets.len() as u64) as usize];
                kill_one(running, &out, target)?;
            } else {
                kill_all(running, &targets)?;
            }
            launch::wait_for_end(&targets);
        }
        let same = model(&out)? == expected;
        ensure!(
            same,
            "a killed run has come to other weights: {}",
            out.display()
        );
        finished += 1;
    }
    println!(
        "ok: {killed} kills ({of_one_rank} of one rank, whose run then ended, the others of all \
         processes) in {finished} runs, each of which came to the undisturbed run's weights"
    );
    Ok(())
}

/// Waits until the run has recorded the step, or, with none, until its ranks are there; whether it has
/// before it ended.
fn wait_for(running: &mut Running, out: &Path, step: Option<u64>) -> Result<bool> {
    running.wait_until(|running| match step {
        Some(step) => recorded_step(out) >= step,
        None => !running.ranks().is_empty(),
    })
}

/// The run in `out`, from where it stands.
fn go_on(program: &Path, ranks: usize, out: &Path) -> Result<Run> {
    if out.join("recipe.toml").exists() {
        return Ok(Run::resume(program, ranks, out));
    }
    // Killed before it had begun.
    if out.exists() {
        std::fs::remove_dir_all(out).context("cannot remove an empty run")?;
    }
    Ok(Run::start(program, ranks, out))
}

/// Kills one rank: the others must end, and not go on without it.
pub(super) fn kill_one(running: Running, out: &Path, target: u32) -> Result<()> {
    launch::signal("-KILL", target)?;
    let step = recorded_step(out);
    let ended = running.wait()?;
    // A rank that MPI has not taken in yet counts as one that ended with an error.
    let told = ["exited on signal 9", "returned\na non-zero exit code"];
    let told = told.iter().any(|words| ended.errors.contains(words));
    // The rank may have been past its end.
    let says = ended.is_success || told;
    let errors = ended.errors;
    ensure!(says, "nothing was said of the killed rank:\n{errors}");
    let went_on = recorded_step(out).saturating_sub(step);
    ensure!(
        ended.is_success || went_on <= STEPS_UNDER_WAY,
        "a run without one of its ranks went on for {went_on} steps after step {step}"
    );
    Ok(())
}

fn kill_all(running: Running, targets: &[u32]) -> Result<()> {
    for &process in targets.iter().chain([&running.id()]) {
        launch::signal("-KILL", process)?;
    }
    running.wait()?;
    Ok(())
}

/// Random numbers from a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ bits >> 31) % limit
    }
}

//! Runs that are killed at random moments, and go on.

use super::launch::{self, Run, Running};
use super::model;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// After this long without one of its ranks, a run must have ended.
const SOON: Duration = Duration::from_secs(10);

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
    let whole = {
        let started = Instant::now();
        Run::start(program, 2, &folder.join("timed")).wait()?;
        started.elapsed()
    };
    let (mut killed, mut of_one_rank, mut slowest) = (0, 0, Duration::ZERO);
    let mut finished = 0;
    while killed < kills {
        let out = folder.join(format!("killed-{finished}"));
        loop {
            let ranks = [1, 2, 2, 4][random.below(4) as usize];
            let mut running = go_on(program, ranks, &out)?.spawn()?;
            if killed == kills {
                let ended = running.wait()?;
                ensure!(ended.is_success, "the last run failed:\n{}", ended.errors);
                break;
            }
            let moment = whole.mul_f64(random.below(700) as f64 / 1000.0);
            std::thread::sleep(moment);
            let targets = running.ranks();
            if running.has_ended()? || targets.is_empty() {
                let ended = running.wait()?;
                ensure!(
                    ended.is_success,
                    "an undisturbed run failed:\n{}",
                    ended.errors
                );
                break;
            }
            killed += 1;
            if random.below(2) == 0 {
                of_one_rank += 1;
                let target = targets[random.below(targets.len() as u64) as usize];
                slowest = slowest.max(kill_one(running, target)?);
            } else {
                kill_all(running, &targets)?;
            }
            wait_for_end(&targets)?;
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
        "ok: {killed} kills ({of_one_rank} of one rank, whose run then ended within {:.1} s, the others \
         of all processes) in {finished} runs, each of which came to the undisturbed run's weights",
        slowest.as_secs_f64()
    );
    Ok(())
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

/// Kills one rank; how long the others took to end.
pub(super) fn kill_one(running: Running, target: u32) -> Result<Duration> {
    launch::signal("-KILL", target)?;
    let started = Instant::now();
    let ended = running.wait()?;
    let took = started.elapsed();
    ensure!(
        took < SOON,
        "a run without one of its ranks ended only after {took:?}"
    );
    // The rank may have been past its end.
    let says = ended.is_success || ended.errors.contains("exited on signal 9");
    ensure!(
        says,
        "nothing was said of the killed rank:\n{}",
        ended.errors
    );
    Ok(took)
}

fn kill_all(running: Running, targets: &[u32]) -> Result<()> {
    for &process in targets.iter().chain([&running.id()]) {
        launch::signal("-KILL", process)?;
    }
    running.wait()?;
    Ok(())
}

fn wait_for_end(processes: &[u32]) -> Result<()> {
    let started = Instant::now();
    while processes.iter().any(|&process| launch::is_running(process)) {
        ensure!(
            started.elapsed() < SOON,
            "a rank lives on after its run was killed"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
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

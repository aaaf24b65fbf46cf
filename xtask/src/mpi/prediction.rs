//! Pictures that ranks classify together.

use super::launch::{Run, signal, wait_for_end};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

const PICTURES: &str = "assets/cifar10-small.tar";

/// `polynet predict` by the model in `equal-1`, into files of a name.
fn predict(program: &Path, folder: &Path, ranks: usize, name: &str) -> Run {
    let [table, embeddings] = files(folder, name);
    let text = |path: &Path| path.display().to_string();
    Run::of(program, "predict", ranks, &table)
        .with(&text(&folder.join("equal-1/model")))
        .with(PICTURES)
        .with("--batch=1")
        .with("--out")
        .with(&text(&table))
        .with("--embeddings")
        .with(&text(&embeddings))
}

fn files(folder: &Path, name: &str) -> [PathBuf; 2] {
    ["csv", "npy"].map(|ending| folder.join(format!("{name}.{ending}")))
}

fn read(folder: &Path, name: &str) -> Result<[Vec<u8>; 2]> {
    let [table, embeddings] = files(folder, name).map(std::fs::read);
    Ok([table?, embeddings?])
}

pub(super) fn run(program: &Path, folder: &Path) -> Result<()> {
    for ranks in [1, 2, 4] {
        let name = format!("predicted-{ranks}");
        let ended = predict(program, folder, ranks, &name).wait()?;
        ensure!(
            ended.is_success,
            "{ranks} ranks failed to predict:\n{}",
            ended.errors
        );
        ensure!(
            read(folder, &name)? == read(folder, "predicted-1")?,
            "{ranks} ranks write other predictions than one"
        );
    }
    let [table, _] = read(folder, "predicted-1")?;
    let lines = table.split(|byte| *byte == b'\n').count();
    ensure!(
        lines == 4802,
        "a header and 4,800 rows, found {lines} lines"
    );
    println!("ok: 1, 2 and 4 ranks write the same predictions");
    a_killed_prediction_goes_on(program, folder)
}

/// Kills one rank of four in the middle. So many go on that their batches do not begin where the others ended.
fn a_killed_prediction_goes_on(program: &Path, folder: &Path) -> Result<()> {
    let mut running = predict(program, folder, 4, "predicted-killed").spawn()?;
    let [table, _] = files(folder, "predicted-killed");
    let part = table.with_extension("csv.part");
    let half = read(folder, "predicted-1")?[0].len() as u64 / 2;
    let is_half = || std::fs::metadata(&part).is_ok_and(|part| part.len() > half);
    let is_killed = running.wait_until(|_| is_half())?;
    ensure!(is_killed, "the prediction ended before it could be killed");
    let ranks = running.ranks();
    let last = *ranks.last().context("mpirun has no ranks")?;
    signal("-KILL", last)?;
    let ended = running.wait()?;
    wait_for_end(&ranks);
    ensure!(!ended.is_success && !table.exists(), "the others went on");
    let lines = std::fs::read(&part)?;
    let done = lines.split(|byte| *byte == b'\n').count() - 2;
    let others = (2..)
        .find(|others| done % others != 0)
        .context("a number of ranks")?;
    let ended = predict(program, folder, others, "predicted-killed").wait()?;
    ensure!(
        ended.is_success,
        "the killed prediction did not go on:\n{}",
        ended.errors
    );
    let same = read(folder, "predicted-killed")? == read(folder, "predicted-1")?;
    ensure!(same, "the killed prediction has come to other files");
    println!("ok: a killed prediction of 4 ranks went on with {others} to the same files");
    Ok(())
}

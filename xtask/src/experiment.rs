//! `cargo xtask experiment NAME`: runs an experiment for several seeds and prints its table.
//!
//! An experiment is a list of arms, each a training run for a seed. Every run has a folder of its own;
//! one that is finished is not repeated, one that was cut off goes on. What is known so far is
//! printed and saved in `results.json` after every run.

use crate::cargo;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Run an experiment for several seeds and print its table; finished runs are not repeated
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which
    name: Experiment,
    /// Keys of every recipe with other values, such as data.path=DIR
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Seeds: 0, 1, …
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Where the runs go; runs/NAME by default
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Experiment {
    /// A PolyNet grown from a trained Inception-ResNet against one from random weights
    GrownStart,
}

/// The program that runs everything.
const POLYNET: &str = "target/release/polynet";
/// The recipes of `grown-start`.
const BASE: &str = "recipes/grown-start/base.toml";
const START: &str = "recipes/grown-start/start.toml";
/// What `START` trains.
const GROWN: &str = "small-polynet; width = 0.125";

/// What the runs of a folder were made with.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Settings {
    overrides: Vec<String>,
    recipes: Vec<String>,
}

/// A finished run.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Finished {
    arm: &'static str,
    seed: u64,
    /// Share of right answers at each validation, by step.
    top1: Vec<(u64, f64)>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Experiment::GrownStart = arguments.name;
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => PathBuf::from("runs/grown-start"),
    };
    crate::run(&mut cargo(&[
        "build",
        "--release",
        "--package",
        "polynet-cli",
    ]))?;
    check_settings(&out, &arguments.overrides)?;
    let mut finished = Vec::new();
    for seed in 0..arguments.seeds {
        let folder = |name: &str| out.join(format!("seed-{seed}")).join(name);
        let train = |recipe: &str, arm: &'static str, more: &[String]| {
            train(recipe, &folder(arm), seed, [&arguments.overrides, more])?;
            read(&folder(arm), arm, seed)
        };
        finished.push(train(BASE, "base", &[])?);
        report(&out, &finished)?;
        let grown = folder("grown-model");
        grow(&folder("base").join("model"), &grown, seed)?;
        let init = format!("model.init={}", grown.display());
        finished.push(train(START, "grown", &[init])?);
        report(&out, &finished)?;
        finished.push(train(START, "random", &[])?);
        report(&out, &finished)?;
    }
    Ok(())
}

/// Makes sure that all runs of a folder are made with the same recipes and overrides.
fn check_settings(out: &Path, overrides: &[String]) -> Result<()> {
    let recipes = [BASE, START].iter().map(std::fs::read_to_string);
    let settings = Settings {
        overrides: overrides.to_vec(),
        recipes: recipes.collect::<std::io::Result<_>>()?,
    };
    let path = out.join("settings.json");
    if !path.exists() {
        std::fs::create_dir_all(out)?;
        return write(&path, &serde_json::to_string_pretty(&settings)?);
    }
    let text = std::fs::read_to_string(&path)?;
    let known: Settings = serde_json::from_str(&text)
        .with_context(|| format!("{}: expected the settings of an experiment", path.display()))?;
    ensure!(
        known == settings,
        "{}: the runs there have other recipes or overrides; choose another folder with --out, or \
         remove that one",
        out.display()
    );
    Ok(())
}

/// Trains into `folder`, from where an earlier call was cut off.
fn train(recipe: &str, folder: &Path, seed: u64, overrides: [&[String]; 2]) -> Result<()> {
    if folder.join("report.json").exists() {
        return Ok(());
    }
    let mut command = quiet(Command::new(POLYNET));
    command.arg("train");
    if folder.join("recipe.toml").exists() {
        return crate::run(command.arg("--resume").arg(folder));
    }
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    command.arg(recipe).arg(format!("seed={seed}"));
    command.args(overrides.concat());
    crate::run(command.arg("--out").arg(folder))
}

/// Grows the base into `folder`, unless that was done.
fn grow(base: &Path, folder: &Path, seed: u64) -> Result<()> {
    // A model's weights are written last.
    if folder.join("model.safetensors").exists() {
        return Ok(());
    }
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    let mut command = quiet(Command::new(POLYNET));
    command.arg("grow").arg(base).args(["--to", GROWN]);
    command
        .args(["--seed", &seed.to_string(), "--out"])
        .arg(folder);
    crate::run(&mut command)
}

/// A command whose results stay out of this one's.
fn quiet(mut command: Command) -> Command {
    command.stdout(std::process::Stdio::null());
    command
}

/// The validations of a finished run.
fn read(folder: &Path, arm: &'static str, seed: u64) -> Result<Finished> {
    let path = folder.join("metrics.jsonl");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let mut top1 = Vec::new();
    for line in text.lines() {
        let record: serde_json::Value = serde_json::from_str(line)
            .with_context(|| format!("{}: expected one record a line", path.display()))?;
        if record["kind"] == "validation"
            && let (Some(step), Some(share)) = (record["step"].as_u64(), record["top1"].as_f64())
        {
            top1.push((step, share));
        }
    }
    ensure!(
        !top1.is_empty(),
        "{}: the run was never validated",
        path.display()
    );
    Ok(Finished { arm, seed, top1 })
}

/// Saves and prints what is known so far.
fn report(out: &Path, finished: &[Finished]) -> Result<()> {
    write(
        &out.join("results.json"),
        &serde_json::to_string_pretty(finished)?,
    )?;
    println!("\n{}", table(finished));
    Ok(())
}

/// Writes a file whole or not at all.
fn write(path: &Path, text: &str) -> Result<()> {
    let unfinished = path.with_extension("unfinished");
    std::fs::write(&unfinished, text)?;
    std::fs::rename(&unfinished, path).with_context(|| format!("cannot write {}", path.display()))
}

/// Held-out top-1 in percent by arm and step: mean ± standard deviation over the seeds.
fn table(finished: &[Finished]) -> String {
    let mut lines = vec![format!(
        "{:<16} {:>8} {:>6}  top-1 %",
        "start", "step", "seeds"
    )];
    let shares = |arm: &str, step: u64| -> Vec<(u64, f64)> {
        let runs = finished.iter().filter(|run| run.arm == arm);
        let at_step = runs.filter_map(|run| {
            let mut top1 = run.top1.iter();
            let (_, share) = top1.find(|(at, _)| *at == step)?;
            Some((run.seed, 100.0 * share))
        });
        at_step.collect()
    };
    let steps = |arm: &str| -> Vec<u64> {
        let first = finished.iter().find(|run| run.arm == arm);
        first.map_or(Vec::new(), |run| {
            run.top1.iter().map(|(step, _)| *step).collect()
        })
    };
    for arm in ["base", "grown", "random"] {
        for step in steps(arm) {
            let found: Vec<f64> = shares(arm, step).iter().map(|(_, share)| *share).collect();
            lines.push(format!("{arm:<16} {step:>8} {}", spread(&found)));
        }
    }
    for step in steps("grown") {
        let (grown, random) = (shares("grown", step), shares("random", step));
        let differences = grown.iter().filter_map(|(seed, share)| {
            let other = random.iter().find(|(other, _)| other == seed)?;
            Some(share - other.1)
        });
        let differences: Vec<f64> = differences.collect();
        if !differences.is_empty() {
            let name = "grown - random";
            lines.push(format!("{name:<16} {step:>8} {}", spread(&differences)));
        }
    }
    lines.join("\n")
}

/// Number, mean ± standard deviation (over n − 1) and the values themselves.
fn spread(values: &[f64]) -> String {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let each: Vec<String> = values.iter().map(|value| format!("{value:.2}")).collect();
    let each = each.join(" ");
    match values.len() {
        1 => format!("{:>6}  {mean:.2}", 1),
        n => {
            let deviation = (squares / (count - 1.0)).sqrt();
            format!("{n:>6}  {mean:.2} ± {deviation:.2}  ({each})")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_pairs_runs_by_seed() {
        let run = |arm, seed, top1| Finished {
            arm,
            seed,
            top1: vec![(10, top1)],
        };
        let finished = [
            run("grown", 0, 0.5),
            run("random", 0, 0.4),
            run("grown", 1, 0.7),
            run("random", 1, 0.65),
            run("grown", 2, 0.9),
        ];
        // Differences 10 and 5: mean 7.5, deviation 5/√2.
        let text = table(&finished);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].ends_with("3  70.00 ± 20.00  (50.00 70.00 90.00)"),
            "{text}"
        );
        assert!(
            lines[2].ends_with("2  52.50 ± 17.68  (40.00 65.00)"),
            "{text}"
        );
        assert!(lines[3].ends_with("2  7.50 ± 3.54  (10.00 5.00)"), "{text}");
    }
}

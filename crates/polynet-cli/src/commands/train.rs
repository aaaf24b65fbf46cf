//! `polynet train RECIPE.toml`

mod keys;

use super::ranks;
use crate::output;
use crate::progress;
use anyhow::{Context, Result, bail};
use clap::error::ErrorKind;
use polynet::data::printable;
use polynet::distributed::Communicator;
use polynet::train::progress::Silent;
use polynet::train::{ChangedData, Progress};
use polynet::{Outcome, Recipe, Trainer, ranked};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const USAGE: &str = "polynet train [OPTIONS] RECIPE [KEY=VALUE]...
       polynet train [--accept-changed-data] --resume DIR";

/// Train a network by a recipe
///
/// Every key of the recipe can be given on the command line as well:
/// `polynet train recipes/first.toml training.duration="20 epochs" seed=1`.
/// Ctrl-C saves a checkpoint first; a second one stops at once.
///
/// `polynet train --keys` lists the keys.
///
/// In a build with MPI, `mpirun -n 4 polynet train …` trains on four ranks, one for each device.
#[derive(clap::Args)]
#[command(override_usage = USAGE)]
pub(crate) struct Arguments {
    /// The recipe
    #[arg(required_unless_present_any = ["resume", "keys"])]
    recipe: Option<PathBuf>,
    /// Keys of the recipe with other values
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// The run folder; by default the recipe's, or runs/NAME
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Go on with the run in this folder
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// Go on although the data is not what the run began with; the run remembers what has changed
    #[arg(long, requires = "resume")]
    accept_changed_data: bool,
    /// List the keys of a recipe instead: name, default, range, what it is
    #[arg(long, conflicts_with_all = ["recipe", "resume", "out"])]
    keys: bool,
    /// Print the keys as JSON
    #[arg(long, requires = "keys")]
    json: bool,
    /// Print the keys as a Markdown document, docs/recipe.md
    #[arg(long, requires = "keys", conflicts_with = "json")]
    markdown: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.keys {
        return keys::list(arguments.json, arguments.markdown);
    }
    if let (Some(folder), Some(_)) = (&arguments.resume, &arguments.recipe) {
        let message = format!(
            "--resume takes no recipe and no KEY=VALUE: a run goes on by the recipe that it began with. \
             To change a key, change it in {}\n\nUsage: {USAGE}\n",
            folder.join("recipe.toml").display()
        );
        clap::Error::raw(ErrorKind::ArgumentConflict, message).exit();
    }
    ranks::run(|ranks| train(arguments, ranks))
}

fn train(arguments: &Arguments, ranks: &Arc<Communicator>) -> Result<ExitCode> {
    let stop = stop_on_signals(ranks.is_writer())?;
    let mut progress: Box<dyn Progress> = match ranks.is_writer() {
        true => progress::on_stderr(),
        false => Box::new(Silent),
    };
    let command: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let mut trainer = match (&arguments.resume, &arguments.recipe) {
        (Some(folder), _) => {
            let changed = match arguments.accept_changed_data {
                true => ChangedData::Accept,
                false => ChangedData::Refuse,
            };
            Trainer::resume_with(ranks, folder, changed, &command, progress.as_mut())?
        }
        (None, Some(path)) => {
            let recipe = Recipe::load(path, &arguments.overrides)?;
            let folder = run_folder(arguments, &recipe);
            Trainer::start_on(ranks, recipe, &folder, &command, progress.as_mut())?
        }
        (None, None) => bail!("expected a recipe, or --resume with a run folder"),
    };
    if ranks.is_writer() {
        output::say_reading(trainer.dataset().reading());
    }
    let outcome = trainer.run(progress.as_mut(), &stop)?;
    if !ranks.is_writer() {
        return Ok(match outcome {
            Outcome::Finished(_) => ExitCode::SUCCESS,
            Outcome::Interrupted { .. } => ExitCode::FAILURE,
        });
    }
    let folder = trainer.folder();
    match outcome {
        Outcome::Finished(report) => {
            output::line(report)?;
            show_predictions(&trainer)?;
            output::line(format_args!("run folder  {}", folder.root().display()))?;
            output::line(format_args!("curves      {}", folder.curves().display()))?;
            output::line(format_args!("model       {}", folder.model().display()))?;
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Interrupted { step } => {
            let root = folder.root().display();
            output::line(format_args!(
                "stopped after step {step}; go on with: polynet train --resume {root}"
            ))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Names what is in the first held-out picture of each class, for up to ten classes.
fn show_predictions(trainer: &Trainer) -> Result<()> {
    let dataset = trainer.validation();
    let config = trainer.config();
    let mut predictor = trainer.predictor();
    let first_of = |label| {
        let mut of_class = (0..dataset.len()).filter(|&index| dataset.sample(index).label == label);
        // Broken ones were told in validation.
        of_class.find_map(|index| Some((index, dataset.decode(index).ok()?)))
    };
    output::line("held-out pictures:")?;
    for (index, picture) in (0..config.classes.len()).filter_map(first_of).take(10) {
        let pixels = config.preprocessing.apply(&picture);
        let logits = predictor.logits(&pixels);
        let best: Vec<String> = ranked(&logits, &config.classes, 2)
            .iter()
            .map(|class| format!("{} {:.0} %", class.class, 100.0 * class.probability))
            .collect();
        let name = printable(dataset.sample(index).name);
        output::line(format_args!("  {name:<32} {}", best.join(", ")))?;
    }
    Ok(())
}

fn run_folder(arguments: &Arguments, recipe: &Recipe) -> PathBuf {
    let own = arguments.out.as_ref().or(recipe.out.as_ref());
    own.cloned()
        .unwrap_or_else(|| PathBuf::from("runs").join(&recipe.name))
}

/// A flag that the first Ctrl-C or SIGTERM sets; the second ends the process.
pub(super) fn stop_on_signals(is_writer: bool) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        if is_writer {
            eprintln!("stopping after this step; once more to stop at once");
        }
    })
    .context("cannot watch for Ctrl-C")?;
    Ok(stop)
}

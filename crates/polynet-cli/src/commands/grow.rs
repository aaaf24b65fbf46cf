//! `polynet grow FROM --to SPEC --out DIR`

use crate::output;
use anyhow::Result;
use polynet::ModelFolder;
use polynet::grow::{GrowOptions, Placement, Start, grow};
use std::path::PathBuf;
use std::process::ExitCode;

/// Make the start of a larger network from a trained model
///
/// The modules of the model keep their weights, what is inserted is new: blocks in a module
/// (`I + F` to `2-way`), modules in a stage (between the old ones), classes. Prints where every
/// tensor comes from and compares the logits before and after.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The folder of the trained model
    from: PathBuf,
    /// The larger network: a preset or a specification of the same family and width
    #[arg(long, value_name = "SPEC-OR-PRESET")]
    to: String,
    /// The model folder to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Where new modules stand in a stage: interleaved (between the old ones) or append
    #[arg(long, default_value_t)]
    placement: Placement,
    /// What inserted blocks give at first: random, or same-function (zero, so that the network
    /// computes what the model computes)
    #[arg(long, default_value_t)]
    start: Start,
    /// Names of the larger network's classes, one a line; rows of the model's classes are kept
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// Seed of what is drawn
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let to = super::architecture(&arguments.to, None)?;
    let classes = match &arguments.classes {
        Some(path) => Some(super::class_names(path, to.num_classes)?),
        None => None,
    };
    super::ensure_new(&arguments.out)?;
    let model = ModelFolder::open(&arguments.from)?;
    let options = GrowOptions {
        placement: arguments.placement,
        start: arguments.start,
        seed: arguments.seed,
    };
    let name = arguments.from.display().to_string();
    let grown = grow(&model, &name, &to, classes, options)?;
    grown.save(&arguments.out)?;
    if arguments.json {
        output::json(&grown.report)?;
    } else {
        output::line(&grown.report)?;
        output::line(format_args!("model  {}", arguments.out.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

//! `polynet eval DIR --data PATH`

use super::compute::Compute;
use crate::output;
use anyhow::{Context, Result};
use polynet::data::{Dataset, Loader, LoaderConfig, OnError, Order, Split, View};
use polynet::eval::{self, EvalReport};
use polynet::plot;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Measure a model's accuracy on labelled images
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The model folder
    model: PathBuf,
    /// A folder or .tar of images by class
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Which part of the data: validation (val, valid, validation or test), train, or all
    #[arg(long, default_value = "validation")]
    split: SplitName,
    /// Images at once
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Skip and count images that can't be decoded, instead of stopping at the first
    #[arg(long)]
    skip_broken: bool,
    #[command(flatten)]
    compute: Compute,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Draw the confusion matrix
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum SplitName {
    Train,
    Validation,
    All,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let split = match arguments.split {
        SplitName::Train => Split::Train,
        SplitName::Validation => Split::Validation,
        SplitName::All => Split::All,
    };
    let dataset = Dataset::open(&arguments.data, split)?;
    let mut model = arguments.compute.open(&arguments.model)?;
    let dataset = Arc::new(dataset.with_classes(&model.config.classes)?);
    let view = View::Evaluate {
        preprocessing: model.config.preprocessing.clone(),
    };
    let config = LoaderConfig {
        order: Order::InOrder,
        on_error: if arguments.skip_broken {
            OnError::Skip
        } else {
            OnError::Fail
        },
        ..LoaderConfig::new(usize::from(arguments.batch), view)
    };
    let loader = Loader::new(dataset, config)?;
    let report = eval::evaluate(
        &mut model.predictor,
        &model.config.classes,
        &loader,
        |batch| {
            for skipped in &batch.skipped {
                eprintln!("warning: skipped {}: {}", skipped.path, skipped.reason);
            }
        },
    )?;
    if let Some(path) = &arguments.svg {
        write_confusion(&report, &arguments.model, path)?;
    }
    if arguments.json {
        output::json(&report)?;
    } else {
        output::line(report)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_confusion(report: &EvalReport, model: &Path, path: &Path) -> Result<()> {
    let names: Vec<String> = report.classes.iter().map(|c| c.name.clone()).collect();
    let title = &model.display().to_string();
    let drawing = plot::confusion_matrix(&report.confusion, &names, title)?;
    std::fs::write(path, drawing)
        .with_context(|| format!("cannot write the confusion matrix to {}", path.display()))
}

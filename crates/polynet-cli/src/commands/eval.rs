//! `polynet eval DIR --data PATH`

use super::compute::Compute;
use super::crops::CropArguments;
use crate::output;
use anyhow::{Context, Result};
use polynet::classify::ModelPredictor;
use polynet::data::{
    Dataset, Loader, LoaderConfig, OnError, Order, Skipped, Split, View, read_image,
};
use polynet::eval::pooling::PoolingRule;
use polynet::eval::{self, CropView, EvalReport, MultiCrop, MultiCropProgress, ScoreCache};
use polynet::plot;
use polynet::weights::ModelConfig;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Measure a model's accuracy on labelled images
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The model folder
    model: PathBuf,
    /// A folder or .tar of images by class
    #[arg(long, value_name = "PATH", required_unless_present = "preview")]
    data: Option<PathBuf>,
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
    #[command(flatten)]
    crops: CropArguments,
    /// Where the scores of several crops are kept, so that pooling them otherwise takes no forward
    /// pass [default: the folder crop-scores in the model folder]
    #[arg(long, value_name = "FOLDER")]
    scores_cache: Option<PathBuf>,
    /// Instead of evaluating, draw all crops of an image: a row for each square of each scale, a
    /// column for each part of it (corners, centre, whole), upright and mirrored
    #[arg(long, num_args = 2, value_names = ["FILE.png", "IMAGE"], conflicts_with = "data")]
    preview: Option<Vec<PathBuf>>,
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
    if let Some([file, image]) = arguments.preview.as_deref() {
        preview(arguments, file, image)?;
        return Ok(ExitCode::SUCCESS);
    }
    let data = arguments.data.as_deref();
    let data = data.context("give the images to evaluate on by --data PATH")?;
    let split = match arguments.split {
        SplitName::Train => Split::Train,
        SplitName::Validation => Split::Validation,
        SplitName::All => Split::All,
    };
    let dataset = Dataset::open(data, split)?;
    let mut model = arguments.compute.open(&arguments.model)?;
    let dataset = Arc::new(dataset.with_classes(&model.config.classes)?);
    let crops = arguments
        .crops
        .read(&model.config.preprocessing, arguments.batch)?;
    let report = match crops {
        None => single_crop(arguments, &mut model, dataset)?,
        Some((view, rule)) => several_crops(arguments, &mut model, &dataset, view, rule)?,
    };
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

fn preview(arguments: &Arguments, file: &Path, image: &Path) -> Result<()> {
    let preprocessing = ModelConfig::read(&arguments.model)?.preprocessing;
    let crops = arguments.crops.read(&preprocessing, arguments.batch)?;
    let (view, _) =
        crops.context("--preview shows several crops: add --crops 10, 12, 144 or 288")?;
    let image = read_image(image)?;
    let sheet = view.contact_sheet(&image);
    sheet.save(file).with_context(|| {
        format!(
            "cannot write the picture of the crops to {}",
            file.display()
        )
    })?;
    let (count, scales) = (view.plan.crops_per_image(), view.plan.scales());
    output::line(format_args!(
        "{}: {count} crops; rows: scales {scales:?}, {:?} of each; columns: {:?}, each upright and \
         mirrored",
        file.display(),
        view.plan.protocol().squares(),
        view.plan.protocol().parts(),
    ))
}

fn on_error(arguments: &Arguments) -> OnError {
    if arguments.skip_broken {
        OnError::Skip
    } else {
        OnError::Fail
    }
}

fn warn_of(skipped: &[Skipped]) {
    for skipped in skipped {
        eprintln!("warning: skipped {}: {}", skipped.path, skipped.reason);
    }
}

fn single_crop(
    arguments: &Arguments,
    model: &mut ModelPredictor,
    dataset: Arc<Dataset>,
) -> Result<EvalReport> {
    let view = View::Evaluate {
        preprocessing: model.config.preprocessing.clone(),
    };
    let config = LoaderConfig {
        order: Order::InOrder,
        on_error: on_error(arguments),
        ..LoaderConfig::new(usize::from(arguments.batch), view)
    };
    let loader = Loader::new(dataset, config)?;
    let classes = &model.config.classes;
    Ok(eval::evaluate(
        &mut model.predictor,
        classes,
        &loader,
        |batch| {
            warn_of(&batch.skipped);
        },
    )?)
}

fn several_crops(
    arguments: &Arguments,
    model: &mut ModelPredictor,
    dataset: &Dataset,
    view: CropView,
    rule: PoolingRule,
) -> Result<EvalReport> {
    let by_default = arguments.model.join("crop-scores");
    let folder = arguments.scores_cache.as_ref().unwrap_or(&by_default);
    let device = arguments.compute.to_string();
    let cache = ScoreCache::open(folder, &arguments.model, &device, &view.plan)?;
    let evaluation = MultiCrop {
        view,
        rule,
        cache: Some(&cache),
        on_error: on_error(arguments),
    };
    let forward = |images, shape| model.predictor.logits(images, shape);
    let mut last = MultiCropProgress::default();
    let report = evaluation.evaluate(dataset, forward, |progress| {
        warn_of(&progress.skipped);
        if progress.cached < progress.images {
            eprintln!("{}/{} images", progress.images, progress.of);
        }
        last = progress.clone();
    })?;
    if last.cached > 0 {
        let (cached, of, folder) = (last.cached, last.of, folder.display());
        eprintln!("{cached} of {of} images took no forward pass: their scores are in {folder}");
    }
    Ok(report)
}

fn write_confusion(report: &EvalReport, model: &Path, path: &Path) -> Result<()> {
    let names: Vec<String> = report.classes.iter().map(|c| c.name.clone()).collect();
    let title = &model.display().to_string();
    let drawing = plot::confusion_matrix(&report.confusion, &names, title)?;
    std::fs::write(path, drawing)
        .with_context(|| format!("cannot write the confusion matrix to {}", path.display()))
}

//! `polynet eval DIR --data PATH`

use super::compute::Compute;
use super::crops::CropArguments;
use super::ranks;
use crate::output;
use anyhow::{Context, Result, bail};
use polynet::data::{
    Dataset, Loader, LoaderConfig, OnError, Order, Share, Skipped, Split, View, encode_png,
    printable, read_image,
};
use polynet::distributed::Communicator;
use polynet::eval::pooling::PoolingRule;
use polynet::eval::{self, CropView, MultiCrop, MultiCropProgress, ScoreCache, Scores};
use polynet::report::confusion_matrix;
use polynet::{FolderLock, Model, ModelConfig, try_target, write_atomically, write_text};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Measure a model's accuracy on labelled images
///
/// In a build with MPI, `mpirun -n 4 polynet eval …` shares the images among four ranks.
#[derive(clap::Args)]
#[command(mut_arg("precision", |precision| precision.default_value("own")))]
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
pub(crate) enum SplitName {
    Train,
    Validation,
    All,
}

impl From<SplitName> for Split {
    fn from(name: SplitName) -> Self {
        match name {
            SplitName::Train => Self::Train,
            SplitName::Validation => Self::Validation,
            SplitName::All => Self::All,
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    ranks::run(|ranks| {
        match arguments.preview.as_deref() {
            Some([file, image]) if ranks.is_writer() => preview(arguments, file, image)?,
            Some(_) => {}
            None => evaluate(arguments, ranks)?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// What is evaluated on what.
struct Evaluation<'a> {
    arguments: &'a Arguments,
    ranks: &'a Communicator,
    model: Model,
    dataset: Arc<Dataset>,
    crops: Option<(CropView, PoolingRule)>,
    /// Where their scores are kept.
    cache: Option<ScoreCache>,
    /// The first rank's.
    _lock: Option<FolderLock>,
    /// What other ranks than the first have left out.
    skipped: Vec<Skipped>,
}

/// Every rank scores its share of the images; the first one prints and draws.
fn evaluate(arguments: &Arguments, ranks: &Communicator) -> Result<()> {
    let mut evaluation = ranks::agree(ranks, Evaluation::open(arguments, ranks))?;
    let scores = evaluation.score()?;
    let report = eval::merged(ranks, scores)?.report();
    let skipped = eval::all_skipped(ranks, evaluation.skipped)?;
    if !ranks.is_writer() {
        return Ok(());
    }
    skipped.iter().for_each(warn_of);
    if report.images == 0 {
        bail!("none of the images can be used; see the warnings");
    }
    // The report first: whatever fails after it, an evaluation of hours is not lost.
    if arguments.json {
        output::json(&report)?;
    } else {
        output::line(&report)?;
    }
    if let Some(path) = &arguments.svg {
        let title = arguments.model.display().to_string();
        write_text(path, &confusion_matrix(&report, &title))?;
    }
    Ok(())
}

fn preview(arguments: &Arguments, file: &Path, image: &Path) -> Result<()> {
    let preprocessing = ModelConfig::read(&arguments.model)?.preprocessing;
    let crops = arguments.crops.read(&preprocessing, arguments.batch)?;
    let (view, _) =
        crops.context("--preview shows several crops: add --crops 10, 12, 144 or 288")?;
    let image = read_image(image)?;
    let sheet = view.contact_sheet(&image);
    let png = encode_png(&sheet);
    write_atomically(file, |file| file.write_all(&png))?;
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

fn warn_of(skipped: &Skipped) {
    let reason = printable(&skipped.reason);
    eprintln!("warning: skipped {}: {reason}", skipped.path);
}

impl<'a> Evaluation<'a> {
    fn open(arguments: &'a Arguments, ranks: &'a Communicator) -> Result<Self> {
        let data = arguments.data.as_deref();
        let data = data.context("give the images to evaluate on by --data PATH")?;
        let dataset = Dataset::open(data, arguments.split.into())?;
        if ranks.is_writer() {
            output::say_reading(dataset.reading());
        }
        let model = arguments.compute.open(&arguments.model)?;
        let dataset = Arc::new(dataset.with_classes(&model.config().classes)?);
        let preprocessing = &model.config().preprocessing;
        let crops = arguments.crops.read(preprocessing, arguments.batch)?;
        let cache = match &crops {
            Some((view, _)) => Some(score_cache(arguments, view)?),
            None => None,
        };
        let lock = match &cache {
            Some(cache) if ranks.is_writer() => Some(cache.lock()?),
            _ => None,
        };
        if let Some(svg) = &arguments.svg {
            try_target(svg)?;
        }
        Ok(Self {
            arguments,
            ranks,
            model,
            dataset,
            crops,
            cache,
            _lock: lock,
            skipped: Vec::new(),
        })
    }

    /// The scores of this rank's share.
    fn score(&mut self) -> Result<Scores> {
        match self.crops.take() {
            None => self.single_crop(),
            Some((view, rule)) => self.several_crops(view, rule),
        }
    }

    fn single_crop(&mut self) -> Result<Scores> {
        let batch_size = usize::from(self.arguments.batch);
        let view = View::Evaluate {
            preprocessing: self.model.config().preprocessing.clone(),
        };
        let share = eval::share_of(self.ranks, self.dataset.len(), batch_size);
        let config = LoaderConfig {
            order: Order::InOrder,
            on_error: on_error(self.arguments),
            share: Share::OfEpoch(share),
            ..LoaderConfig::new(batch_size, view)
        };
        let loader = Loader::new(Arc::clone(&self.dataset), config)?;
        let classes = self.model.classes().to_vec();
        let predictor = self.model.predictor();
        let (ranks, kept) = (self.ranks, &mut self.skipped);
        let scores = eval::score(predictor, &classes, &loader, |batch| {
            note_skipped(ranks, &batch.skipped, kept);
        });
        Ok(scores?)
    }

    fn several_crops(&mut self, view: CropView, rule: PoolingRule) -> Result<Scores> {
        let evaluation = MultiCrop {
            view,
            rule,
            cache: self.cache.as_ref(),
            on_error: on_error(self.arguments),
        };
        let share = eval::share_of(self.ranks, self.dataset.len(), evaluation.together());
        let (ranks, kept) = (self.ranks, &mut self.skipped);
        let predictor = self.model.predictor();
        let forward = |images: Vec<f32>, _| predictor.logits(&images);
        let mut last = MultiCropProgress::default();
        let scores = evaluation.score(&self.dataset, share, forward, |progress| {
            note_skipped(ranks, &progress.skipped, kept);
            if progress.cached < progress.images && ranks.is_writer() {
                eprintln!(
                    "{}/{} images{}",
                    progress.images,
                    progress.of,
                    of_ranks(ranks)
                );
            }
            last = progress.clone();
        })?;
        if last.cached > 0 && ranks.is_writer() {
            let (cached, of, folder) = (last.cached, last.of, cache_folder(self.arguments));
            let folder = folder.display();
            let of_ranks = of_ranks(ranks);
            eprintln!(
                "{cached} of {of} images{of_ranks} took no forward pass: their scores are in {folder}"
            );
        }
        Ok(scores)
    }
}

fn cache_folder(arguments: &Arguments) -> PathBuf {
    let own = arguments.scores_cache.clone();
    own.unwrap_or_else(|| arguments.model.join("crop-scores"))
}

fn score_cache(arguments: &Arguments, view: &CropView) -> Result<ScoreCache> {
    let (folder, device) = (cache_folder(arguments), arguments.compute.to_string());
    let cache = ScoreCache::open(&folder, &arguments.model, &device, &view.plan)?;
    Ok(cache)
}

/// Warns of what was left out, or keeps it for the first rank to warn of.
fn note_skipped(ranks: &Communicator, skipped: &[Skipped], kept: &mut Vec<Skipped>) {
    if ranks.is_writer() {
        skipped.iter().for_each(warn_of);
    } else {
        kept.extend_from_slice(skipped);
    }
}

/// Whose images rank 0 speaks of.
fn of_ranks(ranks: &Communicator) -> &'static str {
    match ranks.ranks() {
        1 => "",
        _ => " of rank 0",
    }
}

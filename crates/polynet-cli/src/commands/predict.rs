//! `polynet predict [DIR] IMAGE…`

mod file;

use super::compute::Compute;
use super::crops::CropArguments;
use super::ranks;
use crate::output;
use anyhow::{Context, Result, bail, ensure};
use image::RgbImage;
use polynet::distributed::Communicator;
use polynet::eval::CropView;
use polynet::eval::pooling::PoolingRule;
use polynet::report::explanation;
use polynet::{
    HostTensor, Model, Ranked, TensorRef, data, ranked, read_safetensors, write_safetensors,
    write_text,
};
use serde::Serialize;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Classify images
///
/// In a build with MPI, `mpirun -n 4 polynet predict … --out FILE` shares the images among four ranks.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The model folder, then images, folders of images, or `-` for one image on standard input; with --out
    /// also `.tar` archives and shards. Without a model folder the model that comes with the program
    /// classifies them, which knows the ten classes of CIFAR-10
    #[arg(required = true, value_names = ["[MODEL] IMAGE"])]
    paths: Vec<PathBuf>,
    /// How many classes to show for each image
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// Images at once; 8 by default, 32 with --out
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    batch: Option<u16>,
    #[command(flatten)]
    crops: CropArguments,
    /// Preprocessed input `x` [n, 3, height, width] in a safetensors file, instead of images
    #[arg(long, value_name = "FILE", requires = "out")]
    raw: Option<PathBuf>,
    /// Write to a file instead, a row a picture: `.csv`, `.jsonl`, or `.parquet` in a build with
    /// `--features parquet`; of --raw the `logits` [n, classes], as
    /// safetensors. A killed command goes on where it was
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    out: Option<PathBuf>,
    /// Write the embeddings of --out's pictures, too: a `.npy` of [pictures, features]
    #[arg(long, value_name = "FILE", requires = "out", conflicts_with = "raw")]
    embeddings: Option<PathBuf>,
    /// Draw what the network sees of the image, and what of it speaks for its classes, into an SVG
    #[arg(long, value_name = "FILE", conflicts_with_all = ["out", "raw"])]
    explain: Option<PathBuf>,
    #[command(flatten)]
    compute: Compute,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How many classes are explained.
const EXPLAINED: usize = 3;

#[derive(Serialize)]
struct Prediction {
    image: String,
    classes: Vec<Ranked>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    ranks::run(|ranks| match (&arguments.raw, &arguments.out) {
        (None, Some(out)) => file::run(arguments, out, ranks),
        // Everything else the first rank does alone.
        _ if !ranks.is_writer() => Ok(ExitCode::SUCCESS),
        (Some(raw), Some(out)) => {
            predict_raw(arguments, ranks, raw, out)?;
            Ok(ExitCode::SUCCESS)
        }
        _ => print_all(arguments, ranks),
    })
}

/// Prints the classes of each image.
fn print_all(arguments: &Arguments, ranks: &Communicator) -> Result<ExitCode> {
    let (mut model, images) = arguments.open(ranks)?;
    let sources = sources(images)?;
    ensure!(
        arguments.explain.is_none() || sources.len() == 1,
        "--explain is of one image, {} came",
        sources.len()
    );
    let crops = arguments
        .crops
        .read(&model.config().preprocessing, arguments.batch())?;
    let mut failed = 0;
    let mut all = Vec::new();
    for batch in sources.chunks(usize::from(arguments.batch())) {
        let mut names = Vec::new();
        let mut images = Vec::new();
        for source in batch {
            match source.read() {
                Ok(image) => {
                    names.push(source.name());
                    images.push(image);
                }
                Err(error) => {
                    failed += 1;
                    eprintln!("error: {error:#}");
                }
            }
        }
        if names.is_empty() {
            continue;
        }
        if let (Some(path), [image]) = (&arguments.explain, images.as_slice()) {
            let found = model.explain(image, EXPLAINED)?;
            write_text(path, &explanation(&found, &names[0]))?;
        }
        let logits = match &crops {
            None => single_crop(&mut model, &images),
            Some((view, rule)) => several_crops(&mut model, &images, view, *rule)?,
        };
        let rows = logits.chunks_exact(model.config().classes.len());
        for (image, row) in names.into_iter().zip(rows) {
            let classes = ranked(row, &model.config().classes, usize::from(arguments.top));
            let prediction = Prediction { image, classes };
            if arguments.json {
                all.push(prediction);
            } else {
                print_prediction(&prediction)?;
            }
        }
    }
    if arguments.json {
        output::json(&all)?;
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Arguments {
    /// Images at once. Of many pictures more are taken, since the threads that decode disturb those that
    /// compute once a batch.
    fn batch(&self) -> u16 {
        let many = self.out.is_some() && self.raw.is_none();
        self.batch.unwrap_or(if many { 32 } else { 8 })
    }

    /// The model, and the paths of the images. The first rank says if it is the one of the program.
    fn open(&self, ranks: &Communicator) -> Result<(Model, &[PathBuf])> {
        let (first, rest) = self.paths.split_first().context("no image")?;
        if is_image(first) {
            if ranks.is_writer() {
                eprintln!("no model folder: the model that comes with the program classifies");
            }
            return Ok((self.compute.open_pretrained()?, &self.paths));
        }
        ensure!(
            first.exists(),
            "{}: no such file or folder; expected a model folder, or images",
            first.display()
        );
        let model = self.compute.open(first)?;
        ensure!(
            self.raw.is_some() || !rest.is_empty(),
            "no image to classify by the model in {}",
            first.display()
        );
        Ok((model, rest))
    }
}

/// Whether a path is of images and not of a model; shards may be named by a pattern.
fn is_image(path: &Path) -> bool {
    let is_archive = |path: &Path| path.extension().is_some_and(|ending| ending == "tar");
    if path.is_dir() {
        let is_model = path.join("config.json").exists();
        let holds_images = || data::image_files(path).is_ok_and(|files| !files.is_empty());
        let holds_archives = || {
            let entries = path.read_dir().into_iter().flatten().flatten();
            entries
                .map(|entry| entry.path())
                .any(|path| is_archive(&path))
        };
        return !is_model && (holds_images() || holds_archives());
    }
    path == Path::new("-") || path.is_file() || is_archive(path)
}

/// The logits `[images, classes]` by the model's own preprocessing.
fn single_crop(model: &mut Model, images: &[RgbImage]) -> Vec<f32> {
    let inputs = model.prepare(images);
    model.predictor().logits(&inputs)
}

/// The pooled logits `[images, classes]` of several crops of each image.
fn several_crops(
    model: &mut Model,
    images: &[RgbImage],
    view: &CropView,
    rule: PoolingRule,
) -> Result<Vec<f32>> {
    let classes = model.config().classes.len();
    let image = |number: usize| Ok(images[number].clone());
    let forward = |inputs: Vec<f32>, _| model.predictor().logits(&inputs);
    let mut pooled = Vec::new();
    for logits in view.logits(images.len(), image, forward) {
        pooled.extend(rule.pool(&logits?, view.plan.crops_per_scale(), classes));
    }
    Ok(pooled)
}

fn print_prediction(prediction: &Prediction) -> Result<()> {
    output::line(data::printable(&prediction.image))?;
    prediction.classes.iter().try_for_each(|class| {
        output::line(format_args!(
            "  {:6.2} %  {}",
            100.0 * class.probability,
            class.class
        ))
    })
}

/// Where an image comes from.
enum Source {
    File(PathBuf),
    StandardInput,
}

impl Source {
    fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::StandardInput => "standard input".to_owned(),
        }
    }

    fn read(&self) -> Result<RgbImage> {
        match self {
            Self::File(path) => Ok(data::read_image(path)?),
            Self::StandardInput => {
                let mut bytes = Vec::new();
                let limit = data::MAX_FILE_BYTES;
                std::io::stdin()
                    .lock()
                    .take(limit)
                    .read_to_end(&mut bytes)?;
                data::decode(&bytes).context("standard input")
            }
        }
    }
}

/// The images that the arguments name; folders give their image files, sorted.
fn sources(arguments: &[PathBuf]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for argument in arguments {
        if argument == Path::new("-") {
            sources.push(Source::StandardInput);
        } else if argument.is_dir() {
            let files = data::image_files(argument)?;
            ensure!(
                !files.is_empty(),
                "{}: no images in the folder",
                argument.display()
            );
            sources.extend(files.into_iter().map(Source::File));
        } else {
            sources.push(Source::File(argument.clone()));
        }
    }
    Ok(sources)
}

fn predict_raw(arguments: &Arguments, ranks: &Communicator, raw: &Path, out: &Path) -> Result<()> {
    let mut tensors = read_safetensors(raw)?;
    let Some(HostTensor { shape, values }) = tensors.remove("x") else {
        bail!(
            "{}: expected a tensor `x` of floating-point numbers",
            raw.display()
        );
    };
    let &[count, 3, height, width] = shape.as_slice() else {
        bail!(
            "{}: expected `x` of shape [n, 3, height, width], found {shape:?}",
            raw.display()
        );
    };
    let (mut model, images) = arguments.open(ranks)?;
    ensure!(images.is_empty(), "either images or --raw, not both");
    let size = model.config().preprocessing.input_size;
    ensure!(
        [height, width] == [size, size],
        "{}: the model takes {size}×{size} pixels, `x` has {height}×{width}",
        raw.display()
    );
    let mut logits = Vec::new();
    for chunk in values.chunks(usize::from(arguments.batch()) * 3 * height * width) {
        logits.extend(model.predictor().logits(chunk));
    }
    let shape = [count, model.classes().len()];
    write_safetensors(out, &[TensorRef::new("logits", &shape, &logits)], None)?;
    Ok(())
}

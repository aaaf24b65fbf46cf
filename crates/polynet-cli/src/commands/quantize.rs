//! `polynet quantize DIR OUT --data PATH`

use super::eval::SplitName;
use crate::output;
use anyhow::{Result, ensure};
use polynet::ModelFolder;
use polynet::data::Dataset;
use polynet::quantize::{QuantizeOptions, QuantizeProgress, quantize};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Make a model of 8 bits from a trained one, for prediction: a quarter as large, and faster
///
/// Watches the model's maps on images of the data set, rounds maps and weights of its convolutions, and
/// counts correct answers before and after. Where rounding costs more of them than allowed, the
/// convolutions whose rounding alone costs most are left in f32.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The folder of the trained model
    model: PathBuf,
    /// The model folder to make
    out: PathBuf,
    /// A folder or .tar of images by class
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Which part of the data the maps are watched on
    #[arg(long, default_value = "train")]
    split: SplitName,
    /// Images that the maps are watched on
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    images: u32,
    /// Which part of the data correct answers are counted on
    #[arg(long, default_value = "validation")]
    judge_split: SplitName,
    /// The most images that correct answers are counted on [default: all]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    judge_images: Option<u32>,
    /// Correct answers that rounding may cost, in percent of the images
    #[arg(long, value_name = "POINTS", default_value_t = 0.5)]
    max_drop: f64,
    /// Images at once
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    ensure!(
        arguments.max_drop >= 0.0,
        "--max-drop: expected percent of the images, 0 or more, found {}",
        arguments.max_drop
    );
    super::ensure_new(&arguments.out)?;
    let model = ModelFolder::open(&arguments.model)?;
    let open = |split: SplitName| -> Result<Arc<Dataset>> {
        let dataset = Dataset::open(&arguments.data, split.into())?;
        output::say_reading(dataset.reading());
        Ok(Arc::new(dataset.with_classes(&model.config.classes)?))
    };
    let (seen, judged) = (open(arguments.split)?, open(arguments.judge_split)?);
    let options = QuantizeOptions {
        images: arguments.images as usize,
        judged: arguments.judge_images.map(|images| images as usize),
        batch: usize::from(arguments.batch),
        max_drop: arguments.max_drop / 100.0,
    };
    let quantized = quantize(&model, [&seen, &judged], &options, &mut say)?;
    model.save_quantized(&arguments.out, &quantized.quantization)?;
    if arguments.json {
        output::json(&quantized.report)?;
    } else {
        output::line(&quantized.report)?;
        output::line(format_args!("model  {}", arguments.out.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn say(progress: QuantizeProgress) {
    match progress {
        QuantizeProgress::Watched(images, of) => {
            if images == of || images % 128 == 0 {
                eprintln!("maps watched on {images} of {of} images");
            }
        }
        QuantizeProgress::Before(top1) => eprintln!("top-1 {:.2} % in f32", 100.0 * top1),
        QuantizeProgress::After(top1, kept) => {
            let top1 = 100.0 * top1;
            eprintln!("top-1 {top1:.2} % in 8 bits, {kept} of the costliest steps left in f32");
        }
    }
}

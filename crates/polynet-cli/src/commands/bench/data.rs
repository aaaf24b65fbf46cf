//! `polynet bench data`: how fast photographs become training inputs here.

use crate::output;
use anyhow::{Context, Result, ensure};
use polynet::data::{self, Augmentation, Preprocessing};
use serde::Serialize;
use std::{fs, path::PathBuf, process::ExitCode, time::Instant};

/// Measure how fast photographs become inputs of the paper's augmentation, on one thread
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A folder of photographs; they are read into memory first
    folder: PathBuf,
    /// Pixels of the square input
    #[arg(long, default_value_t = 331, value_parser = clap::value_parser!(u16).range(1..=4096))]
    size: u16,
    /// Measured passes over the photographs, after one that isn't
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    repeat: u16,
    /// What crops are drawn from
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Serialize)]
struct Measurement {
    work: &'static str,
    images: usize,
    bytes: usize,
    input_size: usize,
    repeat: usize,
    median_ms_per_image: f64,
    min_ms_per_image: f64,
    max_ms_per_image: f64,
    images_per_s: f64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let measurement = measure(arguments)?;
    if arguments.json {
        output::json(&measurement)?;
    } else {
        let Measurement {
            images,
            median_ms_per_image,
            images_per_s,
            ..
        } = measurement;
        output::line(format_args!(
            "{median_ms_per_image:.3} ms an image, {images_per_s:.0} images/s on one thread ({images} photographs)"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(arguments: &Arguments) -> Result<Measurement> {
    let files = data::image_files(&arguments.folder)?
        .into_iter()
        .map(|path| fs::read(&path).with_context(|| path.display().to_string()))
        .collect::<Result<Vec<_>>>()?;
    let folder = arguments.folder.display();
    ensure!(!files.is_empty(), "{folder}: expected images, found none");
    let preprocessing = Preprocessing::imagenet(usize::from(arguments.size));
    let augmentation = Augmentation::multi_area_crop();
    let mut input = vec![0.0; preprocessing.input_len()];
    let mut pass = |epoch: u64| -> Result<f64> {
        let start = Instant::now();
        for (index, bytes) in files.iter().enumerate() {
            let mut rng = data::sample_rng(arguments.seed, epoch, index);
            augmentation.decode_into(bytes, &preprocessing, &mut rng, &mut input)?;
            std::hint::black_box(&input);
        }
        Ok(1e3 * start.elapsed().as_secs_f64() / files.len() as f64)
    };
    pass(0)?;
    let mut passes = (1..=u64::from(arguments.repeat))
        .map(&mut pass)
        .collect::<Result<Vec<_>>>()?;
    passes.sort_by(f64::total_cmp);
    let median = passes[passes.len() / 2];
    Ok(Measurement {
        work: "data",
        images: files.len(),
        bytes: files.iter().map(Vec::len).sum(),
        input_size: preprocessing.input_size,
        repeat: passes.len(),
        median_ms_per_image: median,
        min_ms_per_image: passes[0],
        max_ms_per_image: passes[passes.len() - 1],
        images_per_s: 1e3 / median,
    })
}

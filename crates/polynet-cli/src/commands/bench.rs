//! `polynet bench predict|train`: how fast a network runs here.

use crate::output;
use anyhow::Result;
use polynet::arch::{Architecture, Report};
use polynet::classify::{Classifier, Isa};
use polynet::nn::{DeviceName, Network};
use serde::Serialize;
use std::process::ExitCode;
use std::time::Instant;

/// Measure the speed of a network with random weights
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    work: Work,
}

#[derive(clap::Subcommand)]
enum Work {
    /// Prediction on the processor
    Predict(Predict),
}

#[derive(clap::Args)]
struct Predict {
    #[command(flatten)]
    network: NetworkArguments,
    /// Instruction set of the kernels; the best of this processor by default
    #[arg(long)]
    isa: Option<Isa>,
}

#[derive(clap::Args)]
struct NetworkArguments {
    /// The network: a preset or a specification
    #[arg(long, value_name = "SPEC-OR-PRESET")]
    preset: String,
    /// Pixels of the square input; the network's own by default
    #[arg(long)]
    size: Option<usize>,
    /// Images at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Threads; all cores by default
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Measured repetitions
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    repeat: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl NetworkArguments {
    fn architecture(&self) -> Result<Architecture> {
        super::architecture(&self.preset, self.size)
    }
}

/// What was measured.
#[derive(Serialize)]
struct Measurement {
    work: &'static str,
    network: String,
    input_size: usize,
    batch: usize,
    threads: usize,
    isa: String,
    repeat: usize,
    median_s: f64,
    min_s: f64,
    max_s: f64,
    images_per_s: f64,
    /// Of the multiplications and additions that the structure asks for.
    gflops: f64,
    peak_rss_bytes: Option<u64>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Work::Predict(predict) = &arguments.work;
    let network = &predict.network;
    let mut pool = rayon::ThreadPoolBuilder::new();
    if let Some(threads) = network.threads {
        pool = pool.num_threads(usize::from(threads));
    }
    let measurement = pool.build()?.install(|| measure(predict))?;
    if network.json {
        output::json(&measurement)?;
    } else {
        let Measurement {
            median_s,
            images_per_s,
            gflops,
            ..
        } = measurement;
        output::line(format_args!(
            "{:.2} ms a batch, {images_per_s:.1} images/s, {gflops:.1} GFLOP/s",
            1e3 * median_s
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(predict: &Predict) -> Result<Measurement> {
    let arguments = &predict.network;
    let architecture = arguments.architecture()?;
    let report = Report::new(&arguments.preset, &architecture, 1)?;
    let network = Network::init(architecture.graph()?, 0, &DeviceName::Cpu.open());
    let isa = predict.isa.unwrap_or_else(Isa::best);
    let mut classifier = Classifier::new(&network, isa);
    drop(network);
    let (batch, size) = (usize::from(arguments.batch), architecture.input_size);
    let images: Vec<f32> = (0..batch * 3 * size * size)
        .map(|index| ((index * 7919) % 1013) as f32 / 506.0 - 1.0)
        .collect();
    let mut seconds = Vec::new();
    // The first two fill caches and the arena.
    for repetition in 0..usize::from(arguments.repeat) + 2 {
        let start = Instant::now();
        std::hint::black_box(classifier.logits(&images));
        if repetition >= 2 {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    let median_s = seconds[seconds.len() / 2];
    Ok(Measurement {
        work: "predict",
        network: architecture.to_string(),
        input_size: size,
        batch,
        threads: rayon::current_num_threads(),
        isa: isa.to_string(),
        repeat: seconds.len(),
        median_s,
        min_s: seconds[0],
        max_s: seconds[seconds.len() - 1],
        images_per_s: batch as f64 / median_s,
        gflops: 2e-9 * report.macs as f64 * batch as f64 / median_s,
        peak_rss_bytes: peak_rss_bytes(),
    })
}

/// The largest resident memory of this process so far, where the system tells.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(1024 * kibibytes)
}

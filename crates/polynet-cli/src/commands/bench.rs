//! `polynet bench predict|train|data|ranks`: how fast things run here.

mod data;
mod ranks;

use super::compute::Compute;
use crate::output;
use anyhow::{Result, ensure};
use polynet::train::Optimizer;
use polynet::train::recipe::OptimizerSection;
use polynet::{
    Activations, Architecture, BatchPart, Device, Isa, LossOptions, ModelConfig, ModelOptions,
    Params, Paths, Precision, Predictor, Recipe, StepOptions, TensorSource, TrainingEngine,
    WeightFile,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// Measure the speed of a network with random weights, or of loading photographs
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    work: Work,
}

#[derive(clap::Subcommand)]
enum Work {
    /// Prediction
    Predict(Predict),
    /// Training steps: gradients, running statistics and the optimizer's update
    Train(Train),
    /// Photographs to training inputs
    Data(data::Arguments),
    /// Training steps on several ranks, on the processor: `mpirun -n 2 polynet bench ranks …`
    Ranks(ranks::Arguments),
}

#[derive(clap::Args)]
struct Predict {
    #[command(flatten)]
    network: NetworkArguments,
    /// A model folder, instead of --preset with random weights
    #[arg(long, value_name = "DIR", group = NETWORK, conflicts_with_all = ["preset", "size"])]
    model: Option<PathBuf>,
    #[command(flatten)]
    compute: Compute,
}

#[derive(clap::Args)]
struct Train {
    #[command(flatten)]
    network: NetworkArguments,
    /// Where to compute
    #[arg(long, default_value_t)]
    device: Device,
    /// Numbers of the feature maps: f32 or bf16
    #[arg(long, default_value_t)]
    precision: Precision,
    /// The chance that a path of the last module is dropped
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    max_drop: f64,
    /// Compute feature maps again in the backward pass, to hold fewer of them
    #[arg(long)]
    recompute: bool,
}

/// The arguments of which one must name a network.
const NETWORK: &str = "network";

#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new(NETWORK).required(true)))]
struct NetworkArguments {
    /// The network: a preset or a specification
    #[arg(long, value_name = "SPEC-OR-PRESET", group = NETWORK)]
    preset: Option<String>,
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
        super::architecture(self.preset.as_deref().unwrap_or_default(), self.size)
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
    precision: String,
    /// Why it is that, where several can be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    precision_reason: Option<&'static str>,
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
    let network = match &arguments.work {
        Work::Predict(predict) => &predict.network,
        Work::Train(train) => &train.network,
        Work::Data(data) => return data::run(data),
        Work::Ranks(ranks) => &ranks.network,
    };
    let mut pool = rayon::ThreadPoolBuilder::new();
    if let Some(threads) = network.threads {
        pool = pool.num_threads(usize::from(threads));
    }
    // The global pool, so that everything that a step runs has as many threads.
    pool.build_global()?;
    let measurement = match &arguments.work {
        Work::Predict(predict) => measure_prediction(predict)?,
        Work::Train(train) => measure_training(train)?,
        Work::Data(data) => return data::run(data),
        Work::Ranks(arguments) => return ranks::run(arguments),
    };
    if network.json {
        output::json(&measurement)?;
    } else {
        let Measurement {
            median_s,
            images_per_s,
            gflops,
            precision,
            precision_reason,
            ..
        } = measurement;
        if let Some(reason) = precision_reason {
            output::line(format_args!("{precision}: {reason}"))?;
        }
        output::line(format_args!(
            "{:.2} ms a batch, {images_per_s:.1} images/s, {gflops:.1} GFLOP/s",
            1e3 * median_s
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure_prediction(predict: &Predict) -> Result<Measurement> {
    let arguments = &predict.network;
    let ModelOptions {
        device, compile, ..
    } = predict.compute.options()?;
    let device = device.found()?;
    let mut is_quantized = false;
    let (architecture, mut predictor) = match &predict.model {
        Some(model) => {
            let architecture: Architecture = ModelConfig::read(model)?.architecture.parse()?;
            let file = WeightFile::open(&model.join("model.safetensors"))?;
            is_quantized = file.quantization().is_some();
            let predictor = Predictor::new(&architecture.graph()?, &file, device, compile)?;
            (architecture, predictor)
        }
        None => {
            let architecture = arguments.architecture()?;
            let graph = architecture.graph()?;
            let params = Params::init(&graph, 0);
            (
                architecture,
                Predictor::new(&graph, &params, device, compile)?,
            )
        }
    };
    let (batch, size) = (usize::from(arguments.batch), architecture.input_size);
    let images = images(batch, size);
    let seconds = arguments.time(|_| {
        std::hint::black_box(predictor.logits(&images));
    });
    let numbers = predictor.numbers();
    let ran = (compile.isa, numbers.to_string());
    let mut measurement = arguments.measurement("predict", &architecture, ran, &seconds)?;
    measurement.precision_reason = predict.compute.reason(is_quantized);
    Ok(measurement)
}

fn measure_training(train: &Train) -> Result<Measurement> {
    let arguments = &train.network;
    ensure!(
        (0.0..=1.0).contains(&train.max_drop),
        "--max-drop: expected a share from 0 to 1, found {}",
        train.max_drop
    );
    let device = train.device.found()?;
    ensure!(
        train.precision == Precision::F32 || device.trains_in_bf16(),
        "--precision bf16: {device} does not train in bf16; leave it out, or name another --device"
    );
    let architecture = arguments.architecture()?;
    let graph = Arc::new(architecture.graph()?);
    let mut params = Params::init(&graph, 0);
    let mut engine = TrainingEngine::new(Arc::clone(&graph), device);
    let mut optimizer = Optimizer::new(paper_optimizer()?, &params);
    let (batch, size) = (usize::from(arguments.batch), architecture.input_size);
    let images = images(batch, size);
    let classes = architecture.num_classes;
    let labels: Vec<usize> = (0..batch).map(|image| image % classes).collect();
    let seconds = arguments.time(|repetition| {
        let mut rng = ChaCha8Rng::seed_from_u64(repetition);
        let paths = Paths::draw(&graph, train.max_drop, &mut rng);
        let mut options = StepOptions::new(LossOptions::default(), &paths);
        options.precision = train.precision;
        if train.recompute {
            options.activations = Activations::Recomputed;
        }
        let part = BatchPart {
            images: &images,
            labels: &labels,
            rng,
        };
        let gradients = engine.gradients(&params, part, &options, &mut |_, _| {});
        params.update_statistics(&graph, &gradients.statistics);
        optimizer.update(&mut params, &gradients.tensors, 1e-4);
    });
    let ran = (Isa::best(), train.precision.to_string());
    // Backward costs two forward passes: to the input and to the weights.
    let mut measurement = arguments.measurement("train", &architecture, ran, &seconds)?;
    measurement.gflops *= 3.0;
    Ok(measurement)
}

/// The optimizer of the paper's training.
fn paper_optimizer() -> Result<OptimizerSection> {
    let text = "[model]\narchitecture = \"small-polynet\"\n[data]\npath = \".\"\n";
    Ok(Recipe::parse(text, &[])?.optimizer)
}

/// Images of a fixed pattern, `[count, 3, size, size]`.
fn images(count: usize, size: usize) -> Vec<f32> {
    (0..count * 3 * size * size)
        .map(|index| ((index * 7919) % 1013) as f32 / 506.0 - 1.0)
        .collect()
}

impl NetworkArguments {
    /// Seconds of each repetition, in order of size. The first two, which fill caches and memory, are
    /// not among them.
    fn time(&self, mut work: impl FnMut(u64)) -> Vec<f64> {
        let mut seconds: Vec<f64> = (0..u64::from(self.repeat) + 2)
            .map(|repetition| {
                let start = Instant::now();
                work(repetition);
                start.elapsed().as_secs_f64()
            })
            .skip(2)
            .collect();
        seconds.sort_by(f64::total_cmp);
        seconds
    }

    fn measurement(
        &self,
        work: &'static str,
        architecture: &Architecture,
        (isa, precision): (Isa, String),
        seconds: &[f64],
    ) -> Result<Measurement> {
        let cost = architecture.cost()?;
        let batch = usize::from(self.batch);
        let median_s = seconds[seconds.len() / 2];
        Ok(Measurement {
            work,
            network: architecture.to_string(),
            input_size: architecture.input_size,
            batch,
            threads: rayon::current_num_threads(),
            isa: isa.to_string(),
            precision,
            precision_reason: None,
            repeat: seconds.len(),
            median_s,
            min_s: seconds[0],
            max_s: seconds[seconds.len() - 1],
            images_per_s: batch as f64 / median_s,
            gflops: 2e-9 * cost.macs as f64 * batch as f64 / median_s,
            peak_rss_bytes: polynet::report::peak_memory(),
        })
    }
}

//! Models in 8 bits: what rounds a trained model's convolutions, and which of them stay as they are.
//!
//! Maps are watched on some images, and each gets the step that makes the least error in what was seen;
//! weights get a scale for each output channel. If that costs more correct answers than allowed, the
//! convolutions whose rounding alone costs most are left in `f32`, twice as many each time.
//!
//! ```no_run
//! use polynet::data::{Dataset, Split};
//! use polynet::ModelFolder;
//! use polynet::quantize::{QuantizeOptions, quantize};
//! use std::sync::Arc;
//!
//! let model = ModelFolder::open("runs/first/model".as_ref())?;
//! let open = |split| Dataset::open("data/cifar10", split)?.with_classes(&model.config.classes);
//! let (seen, judged) = (Arc::new(open(Split::Train)?), Arc::new(open(Split::Validation)?));
//! let quantized = quantize(&model, [&seen, &judged], &QuantizeOptions::default(), &mut |_| {})?;
//! println!("{}", quantized.report);
//! model.save_quantized("runs/first/int8".as_ref(), &quantized.quantization)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::cpu::{Calibrator, CompileOptions};
use crate::data::{DataError, Dataset, Loader, LoaderConfig, Share, View};
use crate::engine::{Device, Predictor};
use crate::eval::{self, EvalError};
use crate::params::{ModelFolder, Params, Quantization, TensorMismatch, TensorSource};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// Images on which the cost of rounding each convolution alone is measured.
const NOISE_IMAGES: usize = 8;
/// Convolutions that a printed report names.
const SHOWN: usize = 10;

/// How a model is quantized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantizeOptions {
    /// Images whose maps are watched.
    pub images: usize,
    /// The most images that correct answers are counted on; all by default.
    pub judged: Option<usize>,
    /// Images at once.
    pub batch: usize,
    /// The share of correct answers, of all images, that rounding may cost: 0.005 is half a point.
    pub max_drop: f64,
}

impl Default for QuantizeOptions {
    fn default() -> Self {
        Self {
            images: 512,
            judged: None,
            batch: 32,
            max_drop: 0.005,
        }
    }
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum QuantizeProgress {
    /// So many of so many images have been watched.
    Watched(usize, usize),
    /// The share of correct answers in `f32`.
    Before(f64),
    /// The share of correct answers with so many of the costliest steps left in `f32`.
    After(f64, usize),
}

/// How a model is rounded, and what that costs.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// For [`ModelFolder::save_quantized`].
    pub quantization: Quantization,
    /// What was found.
    pub report: QuantizeReport,
}

/// What rounding a model costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuantizeReport {
    /// Images whose maps were watched.
    pub watched: usize,
    /// Images that correct answers were counted on.
    pub judged: u64,
    /// The share of correct answers in `f32`.
    pub top1_before: f64,
    /// The share of correct answers when rounded.
    pub top1_after: f64,
    /// Convolutions that are rounded.
    pub rounded: usize,
    /// Convolutions that could be, and are left in `f32`.
    pub kept: usize,
    /// Every step of a prediction that can be rounded, those that cost most first.
    pub steps: Vec<StepReport>,
}

/// Convolutions that are one step of a prediction.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// Their names.
    pub layers: Vec<String>,
    /// The mean square of the error that rounding this step alone makes in its result, over that of the
    /// result.
    pub noise: f64,
    /// Whether they are left in `f32`.
    pub kept: bool,
}

impl fmt::Display for QuantizeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} convolutions in 8 bits, {} left in f32; maps watched on {} images",
            self.rounded, self.kept, self.watched
        )?;
        writeln!(
            f,
            "top-1 on {} images: {:.2} % before, {:.2} % after",
            self.judged,
            100.0 * self.top1_before,
            100.0 * self.top1_after
        )?;
        write!(f, "costliest steps, by the error of rounding each alone:")?;
        for StepReport {
            layers,
            noise,
            kept,
        } in self.steps.iter().take(SHOWN)
        {
            let kept = if *kept { ", left in f32" } else { "" };
            let decibels = 10.0 * noise.max(f64::MIN_POSITIVE).log10();
            write!(f, "\n  {decibels:6.1} dB  {}{kept}", layers.join(" + "))?;
        }
        Ok(())
    }
}

/// Why a model could not be quantized.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// An image could not be had.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model could not be evaluated.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// The parameters are not the network's.
    #[error(transparent)]
    Params(#[from] TensorMismatch),
    /// The options allow nothing.
    #[error("{0}")]
    Options(String),
}

/// Parameters and how they are rounded.
struct Rounded<'a> {
    params: &'a Params,
    quantization: &'a Quantization,
}

impl TensorSource for Rounded<'_> {
    fn shapes(&self) -> Box<dyn Iterator<Item = (&str, &[usize])> + '_> {
        self.params.shapes()
    }

    fn quantization(&self) -> Option<&Quantization> {
        Some(self.quantization)
    }

    /// As they will be read from the file.
    fn values(&self, name: &str) -> Result<Cow<'_, [f32]>, TensorMismatch> {
        let values = self.params.values(name)?;
        Ok(match self.quantization.layer_of(name) {
            Some(layer) => layer.read_back(&values).into(),
            None => values,
        })
    }
}

/// Quantizes a model: watches its maps on images of the first data set and counts correct answers on those
/// of the second. Both have the model's classes.
///
/// # Errors
/// If an image cannot be loaded, there is none, or a logit is not finite.
pub fn quantize(
    model: &ModelFolder,
    [seen, judged]: [&Arc<Dataset>; 2],
    options: &QuantizeOptions,
    progress: &mut dyn FnMut(QuantizeProgress),
) -> Result<Quantized, QuantizeError> {
    if options.images == 0 || options.batch == 0 || options.judged == Some(0) {
        let message = "expected at least 1 image to watch, to judge by, and in a batch";
        return Err(QuantizeError::Options(message.to_owned()));
    }
    let mut calibrator = Calibrator::new(&model.graph, &model.params)?;
    let mut first_images = Vec::new();
    let mut watched = 0;
    let watching = loader(model, seen, Some(options.images), options.batch)?;
    for batch in watching.epoch(0, 0) {
        let batch = batch?;
        calibrator.observe(&batch.images);
        let image = batch.images.len() / batch.len().max(1);
        let wanted = NOISE_IMAGES.saturating_sub(watched) * image;
        first_images.extend_from_slice(&batch.images[..wanted.min(batch.images.len())]);
        watched += batch.len();
        progress(QuantizeProgress::Watched(
            watched,
            options.images.min(seen.len()),
        ));
    }
    let noise = calibrator.noise(&first_images);
    let judging = loader(model, judged, options.judged, options.batch)?;
    let classes = &model.config.classes;
    let top1 = |source: &dyn TensorSource| -> Result<(f64, u64), QuantizeError> {
        let compile = CompileOptions::own();
        let mut predictor = Predictor::new(&model.graph, source, Device::Cpu, compile)?;
        let report = eval::evaluate(&mut predictor, classes, &judging, |_| {})?;
        Ok((report.top1.unwrap_or_default(), report.images))
    };
    let (before, images) = top1(&model.params)?;
    progress(QuantizeProgress::Before(before));
    let mut count = 0;
    loop {
        let kept = &noise[..count];
        let kept: HashSet<String> = kept.iter().flat_map(|step| step.layers.clone()).collect();
        let quantization = calibrator.quantization(&kept);
        let rounded = Rounded {
            params: &model.params,
            quantization: &quantization,
        };
        let (after, _) = match quantization.is_empty() {
            true => (before, images),
            false => top1(&rounded)?,
        };
        progress(QuantizeProgress::After(after, count));
        if before - after <= options.max_drop || quantization.is_empty() {
            let is_kept = |layer: &String| kept.contains(layer);
            let steps = noise.into_iter().map(|step| StepReport {
                kept: step.layers.iter().any(is_kept),
                layers: step.layers,
                noise: step.noise,
            });
            let report = QuantizeReport {
                watched,
                judged: images,
                top1_before: before,
                top1_after: after,
                rounded: quantization.layers().count(),
                kept: kept.len(),
                steps: steps.collect(),
            };
            return Ok(Quantized {
                quantization,
                report,
            });
        }
        count = (2 * count).clamp(1, noise.len());
    }
}

/// Loads at most so many images, drawn from the set by a fixed seed, as the model wants them.
fn loader(
    model: &ModelFolder,
    dataset: &Arc<Dataset>,
    images: Option<usize>,
    batch: usize,
) -> Result<Loader, DataError> {
    let view = View::Evaluate {
        preprocessing: model.config.preprocessing.clone(),
    };
    let images = images.unwrap_or(usize::MAX).min(dataset.len());
    let config = LoaderConfig {
        share: Share::OfEpoch(0..images),
        ..LoaderConfig::new(batch, view)
    };
    Loader::new(Arc::clone(dataset), config)
}

#[cfg(test)]
mod tests;

//! The gradients of one step: its batch in parts, limited.

use super::clipping::Clipping;
use super::error::TrainError;
use super::ranks::{PartRecord, Ranks, StepStart};
use super::recipe::{NormGroup, Recipe};
use crate::arch::Graph;
use crate::data::Batch;
use crate::distributed::{Buckets, Exchange};
use crate::engine::TrainingEngine;
use crate::eval::count_correct;
use crate::params::Params;
use crate::random::dropout_rng;
use crate::step::{
    Activations, BatchPart, Frozen, GradientObserver, Gradients, LossOptions, NormStatistics,
    Paths, Precision, StepOptions,
};
use rand_chacha::ChaCha8Rng;

mod synchronised;

pub use synchronised::StepOfRanks;

/// How a run computes the gradients of a step.
#[derive(Clone, Debug)]
pub(super) struct GradientRule {
    seed: u64,
    loss: LossOptions,
    activations: Activations,
    precision: Precision,
    clipping: Clipping,
    frozen: Frozen,
}

/// What a step has computed.
pub(super) struct StepGradients {
    /// Mean loss of the batch.
    pub(super) loss: f64,
    /// Images whose highest logit is their label's.
    pub(super) correct: u64,
    /// Gradients of the loss by tensor index, limited; `None` where there is none.
    pub(super) tensors: Vec<Option<Vec<f32>>>,
    /// Time that the ranks' exchange of gradients took, and for how much of it the step waited.
    pub(super) exchange: Exchange,
}

/// A part of a batch, ready to be computed.
struct Part<'a> {
    /// Its number in the whole batch.
    number: usize,
    images: &'a [f32],
    labels: &'a [usize],
}

/// What is trained, and what computes its gradients.
pub(super) struct Trainee<'a> {
    pub(super) graph: &'a Graph,
    pub(super) params: &'a mut Params,
    pub(super) engine: &'a mut TrainingEngine,
}

impl GradientRule {
    pub(super) fn new(recipe: &Recipe, frozen: Frozen) -> Self {
        let training = &recipe.training;
        Self {
            seed: recipe.seed,
            loss: LossOptions {
                label_smoothing: training.label_smoothing,
            },
            activations: training.activations,
            precision: training.precision,
            clipping: Clipping::new(training),
            frozen,
        }
    }

    /// The gradients of a batch that is not empty on every rank, at `step` (from 0). The network's
    /// running statistics move with each part in turn, or once where all parts share their statistics.
    ///
    /// The gradient is the mean over the batch's images: parts count by their images, and a part
    /// in which a parameter has no gradient counts as a gradient of zero.
    ///
    /// # Errors
    /// If a rank is gone.
    pub(super) fn gradients(
        &self,
        mut trainee: Trainee<'_>,
        (batch, start): (&Batch, &StepStart),
        paths: &Paths,
        step: u64,
        ranks: &Ranks,
    ) -> Result<StepGradients, TrainError> {
        let options = StepOptions {
            loss: self.loss,
            paths,
            frozen: &self.frozen,
            activations: self.activations,
            precision: self.precision,
        };
        let rng = |part: &Part<'_>| dropout_rng(self.seed, step, part.number as u64);
        let parts = parts(batch, ranks);
        let trainee = &mut trainee;
        let mut sum = if ranks.norm_group() == NormGroup::Synchronised {
            synchronised::gradients(trainee, &parts, &options, rng, ranks, start)?
        } else if ranks.is_alone() {
            let mut sum = StepGradients::none(trainee.params);
            for part in parts {
                let rng = rng(&part);
                let gradients = trainee.gradients(&part, &options, rng, &mut |_, _| {});
                trainee.update_statistics(&gradients.statistics);
                sum.add(gradients, part.labels, start.total());
            }
            sum
        } else {
            shared(trainee, parts, &options, rng, ranks, start)?
        };
        self.clipping.apply(&mut sum.tensors);
        Ok(sum)
    }
}

/// The parts of a batch that this rank computes and that have images.
fn parts<'a>(batch: &'a Batch, ranks: &Ranks) -> Vec<Part<'a>> {
    let [_, channels, height, width] = batch.shape();
    let image = channels * height * width;
    let mut parts = Vec::new();
    for number in ranks.own_parts() {
        let positions = ranks.positions(number);
        // Positions ascend.
        let first = batch.positions.partition_point(|&p| p < positions.start);
        let end = batch.positions.partition_point(|&p| p < positions.end);
        let labels = &batch.labels[first..end];
        if labels.is_empty() {
            continue;
        }
        parts.push(Part {
            number,
            images: &batch.images[first * image..end * image],
            labels,
        });
    }
    parts
}

impl Trainee<'_> {
    fn gradients(
        &mut self,
        part: &Part<'_>,
        options: &StepOptions<'_>,
        rng: ChaCha8Rng,
        observe: &mut GradientObserver<'_>,
    ) -> Gradients {
        let part = part.with(rng);
        self.engine.gradients(self.params, part, options, observe)
    }

    fn update_statistics(&mut self, statistics: &[NormStatistics]) {
        self.params.update_statistics(self.graph, statistics);
    }
}

impl<'a> Part<'a> {
    fn with(&self, rng: ChaCha8Rng) -> BatchPart<'a> {
        BatchPart {
            images: self.images,
            labels: self.labels,
            rng,
        }
    }
}

/// The gradients of the parts of all ranks. The last part's are sent while its backward pass goes on.
fn shared(
    trainee: &mut Trainee<'_>,
    parts: Vec<Part<'_>>,
    options: &StepOptions<'_>,
    rng: impl Fn(&Part<'_>) -> ChaCha8Rng,
    ranks: &Ranks,
    start: &StepStart,
) -> Result<StepGradients, TrainError> {
    let (rows, tensors) = (ranks.rows(start), trainee.params.len());
    let factor = |part: &Part<'_>| share(part.labels.len(), start.total());
    let (mut earlier, mut records) = (Vec::new(), Vec::new());
    let mut compute =
        |trainee: &mut Trainee<'_>, part: &Part<'_>, observe: &mut GradientObserver<'_>| {
            let gradients = trainee.gradients(part, options, rng(part), observe);
            records.push(PartRecord {
                loss: gradients.loss,
                correct: count_correct(&gradients.logits, part.labels),
                images: part.labels.len(),
                statistics: gradients.statistics,
            });
            gradients.tensors
        };
    let mut parts = parts;
    let last = parts.pop();
    for part in &parts {
        let factor = factor(part);
        let mut gradients = compute(trainee, part, &mut |_, _| {});
        gradients
            .iter_mut()
            .flatten()
            .flatten()
            .for_each(|g| *g *= factor);
        earlier.push(gradients);
    }
    let mut buckets = Buckets::new(ranks.communicator(), rows, earlier, tensors);
    if let Some(part) = last {
        let factor = factor(&part);
        let gradients = compute(trainee, &part, &mut |index, gradient| {
            buckets.add(index, gradient.iter().map(|g| g * factor));
        });
        for (index, gradient) in gradients.into_iter().enumerate() {
            if let Some(gradient) = gradient.filter(|_| !buckets.has(index)) {
                buckets.add(index, gradient.into_iter().map(|g| g * factor));
            }
        }
    }
    let summed = buckets.finish()?;
    let mut step = StepGradients::none(trainee.params);
    for record in ranks.gather_parts(&records)? {
        trainee.update_statistics(&record.statistics);
        step.loss += record.loss * (record.images as f64 / start.total() as f64);
        step.correct += record.correct;
    }
    step.tensors = summed.tensors;
    step.exchange = summed.exchange;
    Ok(step)
}

/// What a part's gradient is multiplied by.
fn share(images: usize, total: usize) -> f32 {
    (images as f64 / total as f64) as f32
}

impl StepGradients {
    fn none(params: &Params) -> Self {
        Self {
            loss: 0.0,
            correct: 0,
            tensors: vec![None; params.len()],
            exchange: Exchange::default(),
        }
    }

    /// Adds a part of a batch of `count` images, by its labels.
    fn add(&mut self, part: Gradients, labels: &[usize], count: usize) {
        let images = labels.len();
        self.loss += part.loss * (images as f64 / count as f64);
        self.correct += count_correct(&part.logits, labels);
        let share = share(images, count);
        for (sum, gradient) in self.tensors.iter_mut().zip(part.tensors) {
            let Some(mut gradient) = gradient else {
                continue;
            };
            if images != count {
                gradient.iter_mut().for_each(|g| *g *= share);
            }
            match sum {
                Some(sum) => sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g),
                None => *sum = Some(gradient),
            }
        }
    }
}

//! The gradients of one step: its batch in parts, limited.

use super::clipping::Clipping;
use super::error::TrainError;
use super::ranks::{PartRecord, Ranks, StepStart};
use super::recipe::{NormGroup, Recipe};
use crate::data::Batch;
use crate::distributed::{Buckets, Exchange};
use crate::eval::count_correct;
use crate::nn::{
    Activations, Frozen, GradientObserver, Gradients, LossOptions, Network, Paths, Precision,
    StepOptions, host_values, on_device,
};
use crate::random::dropout_rng;
use burn::tensor::{Tensor, TensorData};
use rand_chacha::ChaCha8Rng;

mod synchronised;

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
    pub(super) tensors: Vec<Option<Tensor<1>>>,
    /// Time that the ranks' exchange of gradients took, and for how much of it the step waited.
    pub(super) exchange: Exchange,
}

/// A part of a batch, ready to be computed.
struct Part<'a> {
    /// Its number in the whole batch.
    number: usize,
    images: Tensor<4>,
    labels: &'a [usize],
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
        network: &mut Network,
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
        let parts = parts(network, batch, ranks);
        let mut sum = if ranks.norm_group() == NormGroup::Synchronised {
            synchronised::gradients(network, parts, &options, rng, ranks, start)?
        } else if ranks.is_alone() {
            let mut sum = StepGradients::none(network);
            for part in parts {
                let (images, labels) = (part.images.clone(), part.labels);
                let gradients = network.gradients(images, labels, &options, &mut rng(&part));
                network.update_statistics(&gradients);
                sum.add(gradients, labels, start.total());
            }
            sum
        } else {
            shared(network, parts, &options, rng, ranks, start)?
        };
        self.clipping.apply(&mut sum.tensors);
        Ok(sum)
    }
}

/// The parts of a batch that this rank computes and that have images.
fn parts<'a>(network: &Network, batch: &'a Batch, ranks: &Ranks) -> Vec<Part<'a>> {
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
        let shape = [labels.len(), channels, height, width];
        let data = TensorData::new(batch.images[first * image..end * image].to_vec(), shape);
        parts.push(Part {
            number,
            images: Tensor::from_data(data, network.device()),
            labels,
        });
    }
    parts
}

/// The gradients of the parts of all ranks. The last part's are sent while its backward pass goes on.
fn shared(
    network: &mut Network,
    parts: Vec<Part<'_>>,
    options: &StepOptions<'_>,
    rng: impl Fn(&Part<'_>) -> ChaCha8Rng,
    ranks: &Ranks,
    start: &StepStart,
) -> Result<StepGradients, TrainError> {
    let (rows, tensors) = (ranks.rows(start), network.specs().len());
    let factor = |part: &Part<'_>| share(part.labels.len(), start.total());
    let (mut earlier, mut records) = (Vec::new(), Vec::new());
    let mut compute =
        |network: &mut Network, part: &Part<'_>, observe: &mut GradientObserver<'_>| {
            let images = part.images.clone();
            let gradients =
                network.gradients_observed(images, part.labels, options, &mut rng(part), observe);
            records.push(PartRecord {
                loss: gradients.loss,
                correct: count_correct(&gradients.logits, part.labels),
                images: part.labels.len(),
                statistics: gradients.host_statistics(),
            });
            gradients.tensors
        };
    let mut parts = parts;
    let last = parts.pop();
    for part in &parts {
        let factor = factor(part);
        let gradients = compute(network, part, &mut |_, _| {});
        let weighted = |gradient: Tensor<1>| -> Vec<f32> {
            host_values(gradient)
                .into_iter()
                .map(|g| g * factor)
                .collect()
        };
        let gradients = gradients.into_iter().map(|gradient| gradient.map(weighted));
        earlier.push(gradients.collect::<Vec<_>>());
    }
    let mut buckets = Buckets::new(ranks.communicator(), rows, earlier, tensors);
    if let Some(part) = last {
        let factor = factor(&part);
        let gradients = compute(network, &part, &mut |index, gradient| {
            buckets.add(index, gradient.iter().map(|g| g * factor));
        });
        for (index, gradient) in gradients.into_iter().enumerate() {
            if let Some(gradient) = gradient.filter(|_| !buckets.has(index)) {
                buckets.add(index, host_values(gradient).into_iter().map(|g| g * factor));
            }
        }
    }
    let summed = buckets.finish()?;
    let mut step = StepGradients::none(network);
    for record in ranks.gather_parts(&records)? {
        record.update_statistics(network);
        step.loss += record.loss * (record.images as f64 / start.total() as f64);
        step.correct += record.correct;
    }
    step.tensors = (summed.tensors.into_iter())
        .map(|gradient| gradient.map(|values| on_device(values, network.device())))
        .collect();
    step.exchange = summed.exchange;
    Ok(step)
}

/// What a part's gradient is multiplied by.
fn share(images: usize, total: usize) -> f32 {
    (images as f64 / total as f64) as f32
}

impl StepGradients {
    fn none(network: &Network) -> Self {
        Self {
            loss: 0.0,
            correct: 0,
            tensors: vec![None; network.specs().len()],
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
            let gradient = gradient.map(|g| if images == count { g } else { g * share });
            *sum = match (sum.take(), gradient) {
                (Some(sum), Some(gradient)) => Some(sum + gradient),
                (sum, gradient) => sum.or(gradient),
            };
        }
    }
}

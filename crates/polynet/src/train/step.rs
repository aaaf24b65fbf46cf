//! The gradients of one step: its batch in parts, limited.

use super::clipping::Clipping;
use super::recipe::Recipe;
use crate::data::Batch;
use crate::nn::{
    Activations, Frozen, Gradients, LossOptions, Network, Paths, Precision, StepOptions,
};
use burn::tensor::{Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// How a run computes the gradients of a step.
#[derive(Clone, Debug)]
pub(super) struct GradientRule {
    seed: u64,
    loss: LossOptions,
    /// Images of a part of the batch.
    part_size: usize,
    activations: Activations,
    precision: Precision,
    clipping: Clipping,
    frozen: Frozen,
}

/// What a step has computed.
pub(super) struct StepGradients {
    /// Mean loss of the batch.
    pub(super) loss: f64,
    /// Logits of the batch, `[batch × classes]` in row-major order.
    pub(super) logits: Vec<f32>,
    /// Gradients of the loss by tensor index, limited; `None` where there is none.
    pub(super) tensors: Vec<Option<Tensor<1>>>,
}

impl GradientRule {
    pub(super) fn new(recipe: &Recipe, frozen: Frozen) -> Self {
        let training = &recipe.training;
        Self {
            seed: recipe.seed,
            loss: LossOptions {
                label_smoothing: training.label_smoothing,
            },
            part_size: (training.batch_size / training.accumulate.max(1)) as usize,
            activations: training.activations,
            precision: training.precision,
            clipping: Clipping::new(training),
            frozen,
        }
    }

    /// The gradients of a batch that is not empty, at `step` (from 0). The network's running
    /// statistics move with each part.
    ///
    /// The gradient is the mean over the batch's images: parts count by their images, and a part
    /// in which a parameter has no gradient counts as a gradient of zero.
    pub(super) fn gradients(
        &self,
        network: &mut Network,
        batch: &Batch,
        paths: &Paths,
        step: u64,
    ) -> StepGradients {
        let [count, channels, height, width] = batch.shape();
        let image = channels * height * width;
        let mut sum = StepGradients {
            loss: 0.0,
            logits: Vec::new(),
            tensors: vec![None; network.specs().len()],
        };
        let options = StepOptions {
            loss: self.loss,
            paths,
            frozen: &self.frozen,
            activations: self.activations,
            precision: self.precision,
        };
        let images = batch.images.chunks(self.part_size * image);
        let parts = images.zip(batch.labels.chunks(self.part_size));
        for (index, (images, labels)) in parts.enumerate() {
            let shape = [labels.len(), channels, height, width];
            let data = TensorData::new(images.to_vec(), shape);
            let images = Tensor::from_data(data, network.device());
            let mut rng = part_rng(self.seed, step, index as u64);
            let gradients = network.gradients(images, labels, &options, &mut rng);
            network.update_statistics(&gradients);
            sum.add(gradients, labels.len(), count);
        }
        self.clipping.apply(&mut sum.tensors);
        sum
    }
}

impl StepGradients {
    /// Adds a part of `images` images of a batch of `count`.
    fn add(&mut self, part: Gradients, images: usize, count: usize) {
        let share = images as f64 / count as f64;
        self.loss += part.loss * share;
        self.logits.extend(part.logits);
        for (sum, gradient) in self.tensors.iter_mut().zip(part.tensors) {
            let gradient = gradient.map(|g| if images == count { g } else { g * share });
            *sum = match (sum.take(), gradient) {
                (Some(sum), Some(gradient)) => Some(sum + gradient),
                (sum, gradient) => sum.or(gradient),
            };
        }
    }
}

/// The random numbers of one part of one step.
fn part_rng(seed: u64, step: u64, part: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&step.to_le_bytes());
    key[16..24].copy_from_slice(b"dropout\0");
    key[24..].copy_from_slice(&part.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

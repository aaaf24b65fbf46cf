//! The rules: one pass over memory for all tensors of an update.

use super::super::recipe::{EpsilonPosition, MomentumForm, OptimizerAlgorithm};
use super::SLOTS;
use super::muon::Muon;
use rayon::prelude::*;

/// Elements of a task.
const PIECE: usize = 1 << 14;

/// A tensor on its way through an update.
pub(super) struct Parameter<'a> {
    pub(super) weight: &'a mut [f32],
    pub(super) gradient: &'a [f32],
    /// What the rule keeps; empty where it keeps nothing.
    pub(super) slots: &'a mut [Vec<f32>; SLOTS],
    pub(super) rule: Rule,
}

/// How one tensor moves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) algorithm: OptimizerAlgorithm,
    pub(super) learning_rate: f64,
    /// Weight decay λ.
    pub(super) decay: f64,
    /// Updates of the tensor, this one among them.
    pub(super) updates: u64,
    /// Rows and columns of a hidden layer's weights; `None` for all other tensors.
    pub(super) matrix: Option<[usize; 2]>,
}

impl Rule {
    /// What a slot holds before the first update; `None` if the rule keeps nothing there.
    pub(super) fn initial(&self, slot: usize) -> Option<f32> {
        let (keeps, value) = match (self.algorithm, slot) {
            (OptimizerAlgorithm::RmsProp { initial_square, .. }, 0) => (true, initial_square),
            (OptimizerAlgorithm::RmsProp { momentum, .. }, _) => (momentum != 0.0, 0.0),
            (OptimizerAlgorithm::Sgd { momentum, .. }, 0) => (momentum != 0.0, 0.0),
            (OptimizerAlgorithm::Sgd { .. }, _) => (false, 0.0),
            (OptimizerAlgorithm::AdamW { .. }, _) => (true, 0.0),
            (OptimizerAlgorithm::Muon { momentum, .. }, 0) if self.matrix.is_some() => {
                (momentum != 0.0, 0.0)
            }
            (OptimizerAlgorithm::Muon { .. }, _) => (self.matrix.is_none(), 0.0),
        };
        keeps.then_some(value as f32)
    }
}

/// Elements of a tensor.
struct Piece<'a> {
    weight: &'a mut [f32],
    gradient: &'a [f32],
    slots: [&'a mut [f32]; SLOTS],
    rule: Rule,
}

/// Moves every parameter.
pub(super) fn update<'a>(parameters: impl Iterator<Item = Parameter<'a>>) {
    let (mut matrices, mut all_pieces) = (Vec::new(), Vec::new());
    for parameter in parameters {
        match Muon::of(&parameter.rule) {
            Some(muon) => matrices.push((muon, parameter)),
            None => all_pieces.extend(pieces(parameter)),
        }
    }
    rayon::join(
        || (matrices.into_par_iter()).for_each(|(muon, parameter)| muon.update(parameter)),
        || all_pieces.into_par_iter().for_each(Piece::update),
    );
}

fn pieces(
    Parameter {
        weight,
        gradient,
        slots: [first, second],
        rule,
    }: Parameter<'_>,
) -> impl Iterator<Item = Piece<'_>> {
    let mut slots = [first, second].map(|slot| slot.chunks_mut(PIECE));
    let pieces = weight.chunks_mut(PIECE).zip(gradient.chunks(PIECE));
    pieces.map(move |(weight, gradient)| Piece {
        weight,
        gradient,
        slots: slots.each_mut().map(|slot| slot.next().unwrap_or_default()),
        rule,
    })
}

impl Piece<'_> {
    fn update(self) {
        let rate = self.rule.learning_rate as f32;
        let decay = self.rule.decay as f32;
        match self.rule.algorithm {
            OptimizerAlgorithm::RmsProp {
                decay: smoothing,
                epsilon,
                epsilon_position,
                momentum_form,
                momentum,
                ..
            } => {
                let [smoothing, fresh, epsilon, momentum] =
                    [smoothing, 1.0 - smoothing, epsilon, momentum].map(|x| x as f32);
                // The rate is part of a step, or is applied to the averaged direction.
                let (inner, outer) = match momentum_form {
                    MomentumForm::Steps => (rate, 1.0),
                    MomentumForm::Directions => (1.0, rate),
                };
                self.each(move |weight, gradient, [square, velocity]| {
                    let gradient = gradient + decay * weight;
                    let square = smoothing * square + fresh * (gradient * gradient);
                    let divisor = match epsilon_position {
                        EpsilonPosition::Inside => (square + epsilon).sqrt(),
                        EpsilonPosition::Outside => square.sqrt() + epsilon,
                    };
                    let velocity = momentum * velocity + inner * (gradient / divisor);
                    (weight - outer * velocity, [square, velocity])
                });
            }
            OptimizerAlgorithm::Sgd {
                momentum,
                nesterov,
                dampening,
            } => {
                let is_first = self.rule.updates == 1;
                let fresh = if is_first {
                    1.0
                } else {
                    1.0 - dampening as f32
                };
                let momentum = momentum as f32;
                // Without momentum a step is the gradient.
                let (of_gradient, of_velocity) = if nesterov || momentum == 0.0 {
                    (1.0, momentum)
                } else {
                    (0.0, 1.0)
                };
                self.each(move |weight, gradient, [velocity, _]| {
                    let gradient = gradient + decay * weight;
                    let velocity = momentum * velocity + fresh * gradient;
                    let step = of_gradient * gradient + of_velocity * velocity;
                    (weight - rate * step, [velocity, 0.0])
                });
            }
            OptimizerAlgorithm::AdamW {
                beta1,
                beta2,
                epsilon,
            }
            | OptimizerAlgorithm::Muon {
                beta1,
                beta2,
                epsilon,
                ..
            } => {
                let count = self.rule.updates as f64;
                let corrections =
                    [beta1, beta2].map(|beta| (1.0 / (1.0 - beta.powf(count))) as f32);
                let kept = [beta1, beta2].map(|beta| beta as f32);
                let fresh = [beta1, beta2].map(|beta| (1.0 - beta) as f32);
                let epsilon = epsilon as f32;
                let shrink = (1.0 - self.rule.learning_rate * self.rule.decay) as f32;
                self.each(move |weight, gradient, [first, second]| {
                    let first = kept[0] * first + fresh[0] * gradient;
                    let second = kept[1] * second + fresh[1] * (gradient * gradient);
                    let divisor = (corrections[1] * second).sqrt() + epsilon;
                    let step = corrections[0] * first / divisor;
                    (shrink * weight - rate * step, [first, second])
                });
            }
        }
    }

    /// Replaces every weight and what is kept for it by `rule(weight, gradient, kept)`.
    fn each(self, rule: impl Fn(f32, f32, [f32; SLOTS]) -> (f32, [f32; SLOTS])) {
        let weights = self.weight.iter_mut().zip(self.gradient);
        let [first, second] = self.slots;
        match (first.is_empty(), second.is_empty()) {
            (false, false) => {
                for ((weight, gradient), (a, b)) in weights.zip(first.iter_mut().zip(second)) {
                    let slots;
                    (*weight, slots) = rule(*weight, *gradient, [*a, *b]);
                    [*a, *b] = slots;
                }
            }
            (false, true) => {
                for ((weight, gradient), a) in weights.zip(first) {
                    let slots;
                    (*weight, slots) = rule(*weight, *gradient, [*a, 0.0]);
                    *a = slots[0];
                }
            }
            _ => {
                for (weight, gradient) in weights {
                    *weight = rule(*weight, *gradient, [0.0; SLOTS]).0;
                }
            }
        }
    }
}

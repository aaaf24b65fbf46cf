//! Optimizers: from gradients to new weights.
//!
//! With `g` the gradient (plus `λ·w` for coupled weight decay), `w` a weight and `η` the learning
//! rate:
//!
//! - RMSProp (paper §4): `s ← d·s + (1 − d)·g²`, `u = g / √(s + ε)` (ε inside the root) or
//!   `g / (√s + ε)` (outside), `m ← μ·m + u`, `w ← w − η·m`.
//! - SGD: `m ← μ·m + (1 − τ)·g` (`m = g` at first), `u = g + μ·m` (Nesterov) or `m`,
//!   `w ← w − η·u`.
//! - AdamW: moments with bias correction, `w ← w − η·(m̂ / (√v̂ + ε) + λ·w)`: decay is decoupled.
//!
//! Weight decay spares batch norm and biases unless asked otherwise.

use super::recipe::{DecayedParameters, EpsilonPosition, OptimizerAlgorithm, OptimizerSection};
use crate::arch::graph::TensorKind;
use crate::nn::{HostTensor, Network};
use burn::tensor::{Tensor, TensorData};
use std::collections::HashMap;

/// Most values that a rule keeps for each weight.
const SLOTS: usize = 2;

/// Updates a network's parameters.
#[derive(Debug)]
pub struct Optimizer {
    section: OptimizerSection,
    /// By tensor index of the network.
    state: Vec<[Option<Tensor<1>>; SLOTS]>,
    /// Updates made so far.
    updates: u64,
}

impl Optimizer {
    /// An optimizer that has made no update.
    pub fn new(section: OptimizerSection, network: &Network) -> Self {
        Self {
            section,
            state: network.specs().iter().map(|_| [None, None]).collect(),
            updates: 0,
        }
    }

    /// Changes every parameter that has a gradient.
    ///
    /// `gradients` is by tensor index of the network.
    pub fn update(
        &mut self,
        network: &mut Network,
        gradients: Vec<Option<Tensor<1>>>,
        learning_rate: f64,
    ) {
        self.updates += 1;
        for (index, gradient) in gradients.into_iter().enumerate() {
            let Some(gradient) = gradient else { continue };
            let decay = self.weight_decay(network.specs()[index].kind);
            let weight = network.take_tensor(index);
            let slots = &mut self.state[index];
            let weight = match self.section.algorithm {
                OptimizerAlgorithm::RmsProp {
                    decay: smoothing,
                    epsilon,
                    epsilon_position,
                    initial_square,
                    momentum,
                } => {
                    let gradient = coupled(gradient, &weight, decay);
                    let square = gradient.clone().powf_scalar(2.0) * (1.0 - smoothing);
                    let running = match slots[0].take() {
                        Some(running) => running * smoothing + square,
                        None => square + smoothing * initial_square,
                    };
                    let divisor = match epsilon_position {
                        EpsilonPosition::Inside => (running.clone() + epsilon).sqrt(),
                        EpsilonPosition::Outside => running.clone().sqrt() + epsilon,
                    };
                    slots[0] = Some(running);
                    let step = gradient / divisor;
                    let step = heavy_ball(step, &mut slots[1], momentum, 0.0);
                    weight - step * learning_rate
                }
                OptimizerAlgorithm::Sgd {
                    momentum,
                    nesterov,
                    dampening,
                } => {
                    let gradient = coupled(gradient, &weight, decay);
                    let step = heavy_ball(gradient.clone(), &mut slots[0], momentum, dampening);
                    let step = if nesterov {
                        gradient + step * momentum
                    } else {
                        step
                    };
                    weight - step * learning_rate
                }
                OptimizerAlgorithm::AdamW {
                    beta1,
                    beta2,
                    epsilon,
                } => {
                    let count = self.updates as f64;
                    let first = average(gradient.clone(), &mut slots[0], beta1);
                    let second = average(gradient.powf_scalar(2.0), &mut slots[1], beta2);
                    let first = first * (1.0 / (1.0 - beta1.powf(count)));
                    let second = second * (1.0 / (1.0 - beta2.powf(count)));
                    let step = first / (second.sqrt() + epsilon);
                    let weight = weight * (1.0 - learning_rate * decay);
                    weight - step * learning_rate
                }
            };
            network.set_tensor(index, weight);
        }
    }

    /// The state by name, for a checkpoint: `optimizer.0.NAME` is the first value kept for the
    /// weight called NAME.
    pub fn to_host(&self, network: &Network) -> HashMap<String, HostTensor> {
        let mut tensors = HashMap::new();
        for (spec, slots) in network.specs().iter().zip(&self.state) {
            for (slot, tensor) in slots.iter().enumerate() {
                if let Some(tensor) = tensor {
                    let values = crate::nn::host_values(tensor.clone());
                    let shape = vec![values.len()];
                    let name = slot_name(slot, &spec.name);
                    tensors.insert(name, HostTensor { shape, values });
                }
            }
        }
        tensors
    }

    /// Continues from a checkpoint's state after `updates` updates. Takes its tensors out of
    /// `tensors`.
    ///
    /// # Errors
    /// The name of a tensor that does not fit.
    pub fn restore(
        &mut self,
        network: &Network,
        tensors: &mut HashMap<String, HostTensor>,
        updates: u64,
    ) -> Result<(), String> {
        for (spec, slots) in network.specs().iter().zip(&mut self.state) {
            for (slot, kept) in slots.iter_mut().enumerate() {
                let name = slot_name(slot, &spec.name);
                let Some(tensor) = tensors.remove(&name) else {
                    continue;
                };
                if tensor.values.len() != spec.num_elements() {
                    return Err(name);
                }
                let shape = [tensor.values.len()];
                let data = TensorData::new(tensor.values, shape);
                *kept = Some(Tensor::from_data(data, network.device()));
            }
        }
        self.updates = updates;
        Ok(())
    }

    fn weight_decay(&self, kind: TensorKind) -> f64 {
        let decays = match kind {
            TensorKind::ConvWeight | TensorKind::LinearWeight => true,
            _ => self.section.weight_decay_on == DecayedParameters::All,
        };
        if decays {
            self.section.weight_decay
        } else {
            0.0
        }
    }
}

fn slot_name(slot: usize, tensor: &str) -> String {
    format!("optimizer.{slot}.{tensor}")
}

fn coupled(gradient: Tensor<1>, weight: &Tensor<1>, decay: f64) -> Tensor<1> {
    if decay == 0.0 {
        gradient
    } else {
        gradient + weight.clone() * decay
    }
}

/// `m ← μ·m + (1 − τ)·u`, with `m = u` at first; `u` itself where μ is 0.
fn heavy_ball(
    step: Tensor<1>,
    slot: &mut Option<Tensor<1>>,
    momentum: f64,
    dampening: f64,
) -> Tensor<1> {
    if momentum == 0.0 {
        return step;
    }
    let buffer = match slot.take() {
        Some(buffer) if dampening == 0.0 => buffer * momentum + step,
        Some(buffer) => buffer * momentum + step * (1.0 - dampening),
        None => step,
    };
    *slot = Some(buffer.clone());
    buffer
}

/// `m ← β·m + (1 − β)·x`, from 0.
fn average(value: Tensor<1>, slot: &mut Option<Tensor<1>>, beta: f64) -> Tensor<1> {
    let value = value * (1.0 - beta);
    let moved = match slot.take() {
        Some(running) => running * beta + value,
        None => value,
    };
    *slot = Some(moved.clone());
    moved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Architecture;
    use crate::nn::DeviceName;

    /// Updates the classifier's bias (from 0) by each gradient in turn and returns its first
    /// element after each.
    fn path(algorithm: OptimizerAlgorithm, gradients: &[f32], rate: f64) -> Vec<f32> {
        let architecture: Architecture = "small-ir-1-2-1; width = 0.0625".parse().unwrap();
        let device = DeviceName::Cpu.open();
        let mut network = Network::init(architecture.graph().unwrap(), 0, &device);
        let section = OptimizerSection {
            algorithm,
            weight_decay: 0.1,
            weight_decay_on: DecayedParameters::Weights,
        };
        let mut optimizer = Optimizer::new(section, &network);
        let bias = network.specs().len() - 1;
        gradients
            .iter()
            .map(|&gradient| {
                let mut all = vec![None; network.specs().len()];
                let data = TensorData::new(vec![gradient; 10], [10]);
                all[bias] = Some(Tensor::from_data(data, &device));
                optimizer.update(&mut network, all, rate);
                crate::nn::host_values(network.tensors()[bias].clone())[0]
            })
            .collect()
    }

    fn check(algorithm: OptimizerAlgorithm, expected: &[f32]) {
        let found = path(algorithm, &[1.0, 2.0], 0.1);
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 1e-6,
                "{algorithm:?}: {found} {expected}"
            );
        }
    }

    #[test]
    fn rules_follow_their_formulas() {
        let rmsprop = |epsilon_position, initial_square| OptimizerAlgorithm::RmsProp {
            decay: 0.9,
            epsilon: 1.0,
            epsilon_position,
            initial_square,
            momentum: 0.0,
        };
        // s = 0.9 + 0.1·1 = 1; w = -0.1 / √2. s = 0.9 + 0.1·4 = 1.3; w -= 0.2 / √2.3.
        check(
            rmsprop(EpsilonPosition::Inside, 1.0),
            &[-0.070_710_68, -0.202_586_77],
        );
        // s = 0.1; w = -0.1 / (√0.1 + 1). s = 0.09 + 0.4 = 0.49; w -= 0.2 / 1.7.
        check(
            rmsprop(EpsilonPosition::Outside, 0.0),
            &[-0.075_974_69, -0.193_621_75],
        );
        let sgd = |nesterov| OptimizerAlgorithm::Sgd {
            momentum: 0.9,
            nesterov,
            dampening: 0.0,
        };
        // m = 1, then 0.9 + 2 = 2.9.
        check(sgd(false), &[-0.1, -0.39]);
        // u = 1 + 0.9·1, then 2 + 0.9·2.9.
        check(sgd(true), &[-0.19, -0.651]);
        // m̂ = v̂ = 1; then m = 0.29 / 0.19, v = 0.004999 / 0.001999.
        let adamw = OptimizerAlgorithm::AdamW {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
        };
        check(adamw, &[-0.1, -0.196_518_1]);
    }

    #[test]
    fn weight_decay_spares_batch_norm_and_biases() {
        let architecture: Architecture = "small-ir-1-2-1; width = 0.0625".parse().unwrap();
        let device = DeviceName::Cpu.open();
        let mut network = Network::init(architecture.graph().unwrap(), 0, &device);
        let before = network.to_host();
        let section = OptimizerSection {
            algorithm: OptimizerAlgorithm::Sgd {
                momentum: 0.0,
                nesterov: false,
                dampening: 0.0,
            },
            weight_decay: 0.5,
            weight_decay_on: DecayedParameters::Weights,
        };
        let zeros = network
            .specs()
            .iter()
            .zip(network.tensors())
            .map(|(spec, tensor)| spec.kind.is_parameter().then(|| tensor.clone() * 0.0))
            .collect();
        Optimizer::new(section, &network).update(&mut network, zeros, 1.0);
        let after = network.to_host();
        for spec in network.specs() {
            let factor = match spec.kind {
                TensorKind::ConvWeight | TensorKind::LinearWeight => 0.5,
                _ => 1.0,
            };
            let (old, new) = (&before[&spec.name].values, &after[&spec.name].values);
            assert!(
                old.iter().zip(new).all(|(old, new)| *new == old * factor),
                "{}",
                spec.name
            );
        }
    }
}

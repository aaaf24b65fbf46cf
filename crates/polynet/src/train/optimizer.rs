//! Optimizers: from gradients to new weights.
//!
//! With `g` the gradient (plus `λ·w` for coupled weight decay), `w` a weight and `η` the learning
//! rate:
//!
//! - RMSProp (paper §4): `s ← d·s + (1 − d)·g²`, `u = g / √(s + ε)` (ε inside the root) or
//!   `g / (√s + ε)` (outside), `m ← μ·m + η·u`, `w ← w − m` (steps) or `m ← μ·m + u`,
//!   `w ← w − η·m` (directions).
//! - SGD: `m ← μ·m + (1 − τ)·g` (`m = g` at first), `u = g + μ·m` (Nesterov) or `m`,
//!   `w ← w − η·u`.
//! - AdamW: moments with bias correction, `w ← w − η·(m̂ / (√v̂ + ε) + λ·w)`: decay is decoupled.
//!
//! Weight decay spares batch norm and biases unless asked otherwise.
//!
//! A parameter without a gradient, because only dropped paths use it, is left as it is: no update,
//! no decay, and what the rule keeps for it stays too, as if the step had not been. AdamW's bias
//! correction counts the updates of each parameter. PyTorch treats a gradient of `None` alike.

mod host;

use super::recipe::{
    DecayedParameters, EpsilonPosition, MomentumForm, OptimizerAlgorithm, OptimizerSection,
};
use crate::arch::graph::TensorKind;
use crate::nn::{DeviceName, HostTensor, Network, host_values, on_device};
use burn::tensor::{DType, Tensor, TensorData};
use host::{Parameter, Rule};
use std::collections::HashMap;

/// Most values that a rule keeps for each weight.
const SLOTS: usize = 2;

/// Where a checkpoint has the counts of updates.
const UPDATES: &str = "optimizer.updates";
/// The first whole number that has a neighbour which an `f32` cannot hold.
const COUNT: u64 = 1 << 24;

/// Updates a network's parameters.
#[derive(Debug)]
pub struct Optimizer {
    section: OptimizerSection,
    /// By tensor index of the network.
    state: Vec<[Option<Tensor<1>>; SLOTS]>,
    /// Updates made so far, by tensor index.
    updates: Vec<u64>,
    /// Factors of the learning rate, by tensor index.
    rates: Vec<f64>,
}

impl Optimizer {
    /// An optimizer that has made no update.
    pub fn new(section: OptimizerSection, network: &Network) -> Self {
        Self {
            section,
            state: network.specs().iter().map(|_| [None, None]).collect(),
            updates: vec![0; network.specs().len()],
            rates: vec![1.0; network.specs().len()],
        }
    }

    /// The same optimizer with factors of the learning rate by tensor index of the network; decoupled
    /// weight decay has them too.
    #[must_use]
    pub fn with_rates(mut self, rates: Vec<f64>) -> Self {
        debug_assert_eq!(rates.len(), self.rates.len());
        self.rates = rates;
        self
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
        self.count(&gradients);
        let is_f32 = |gradient: &Tensor<1>| gradient.dtype() == DType::F32;
        let is_on_processor = *network.device() == DeviceName::Cpu.open();
        if is_on_processor && gradients.iter().flatten().all(is_f32) {
            self.update_on_processor(network, gradients, learning_rate);
        } else {
            self.update_on_device(network, gradients, learning_rate);
        }
    }

    fn count(&mut self, gradients: &[Option<Tensor<1>>]) {
        for (updates, gradient) in self.updates.iter_mut().zip(gradients) {
            *updates += u64::from(gradient.is_some());
        }
    }

    fn update_on_processor(
        &mut self,
        network: &mut Network,
        gradients: Vec<Option<Tensor<1>>>,
        learning_rate: f64,
    ) {
        let mut parameters = Vec::new();
        for (index, gradient) in gradients.into_iter().enumerate() {
            let Some(gradient) = gradient else { continue };
            let rule = Rule {
                algorithm: self.section.algorithm,
                learning_rate: learning_rate * self.rates[index],
                decay: self.weight_decay(network.specs()[index].kind),
                updates: self.updates[index],
            };
            let weight = host_values(network.take_tensor(index));
            let kept = std::mem::take(&mut self.state[index]);
            let mut slot = 0;
            let slots = kept.map(|kept| {
                let initial = rule.initial(slot).map(|value| vec![value; weight.len()]);
                slot += 1;
                kept.map(host_values).or(initial).unwrap_or_default()
            });
            parameters.push(Parameter {
                index,
                gradient: host_values(gradient),
                weight,
                slots,
                rule,
            });
        }
        host::update(&mut parameters);
        for parameter in parameters {
            let index = parameter.index;
            self.state[index] = parameter.slots.map(|values| {
                let is_kept = !values.is_empty();
                is_kept.then(|| on_device(values, network.device()))
            });
            let weight = on_device(parameter.weight, network.device());
            network.set_tensor(index, weight);
        }
    }

    fn update_on_device(
        &mut self,
        network: &mut Network,
        gradients: Vec<Option<Tensor<1>>>,
        learning_rate: f64,
    ) {
        for (index, gradient) in gradients.into_iter().enumerate() {
            let Some(gradient) = gradient else { continue };
            let learning_rate = learning_rate * self.rates[index];
            let decay = self.weight_decay(network.specs()[index].kind);
            let weight = network.take_tensor(index);
            let slots = &mut self.state[index];
            let weight = match self.section.algorithm {
                OptimizerAlgorithm::RmsProp {
                    decay: smoothing,
                    epsilon,
                    epsilon_position,
                    initial_square,
                    momentum_form,
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
                    let direction = gradient / divisor;
                    match momentum_form {
                        MomentumForm::Steps => {
                            let step = direction * learning_rate;
                            weight - heavy_ball(step, &mut slots[1], momentum, 0.0)
                        }
                        MomentumForm::Directions => {
                            let step = heavy_ball(direction, &mut slots[1], momentum, 0.0);
                            weight - step * learning_rate
                        }
                    }
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
                    let count = self.updates[index] as f64;
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
    /// weight called NAME, `optimizer.updates` has two numbers for each tensor, whose updates are
    /// 2^24 times the first and once the second (an `f32` counts no further).
    pub fn to_host(&self, network: &Network) -> HashMap<String, HostTensor> {
        let counts = self.updates.iter();
        let counts = counts.flat_map(|count| [(count / COUNT) as f32, (count % COUNT) as f32]);
        let updates = HostTensor {
            shape: vec![self.updates.len(), 2],
            values: counts.collect(),
        };
        let mut tensors = HashMap::from([(UPDATES.to_owned(), updates)]);
        for (spec, slots) in network.specs().iter().zip(&self.state) {
            for (slot, tensor) in slots.iter().enumerate() {
                if let Some(tensor) = tensor {
                    let values = host_values(tensor.clone());
                    let shape = vec![values.len()];
                    let name = slot_name(slot, &spec.name);
                    tensors.insert(name, HostTensor { shape, values });
                }
            }
        }
        tensors
    }

    /// Continues from a checkpoint's state. Takes its tensors out of `tensors`.
    ///
    /// # Errors
    /// The name of a tensor that does not fit.
    pub fn restore(
        &mut self,
        network: &Network,
        tensors: &mut HashMap<String, HostTensor>,
    ) -> Result<(), String> {
        let counts = tensors.remove(UPDATES).map(|tensor| tensor.values);
        let counts = counts.filter(|counts| counts.len() == 2 * self.updates.len());
        let counts = counts.ok_or(UPDATES)?;
        let pairs = counts.as_chunks::<2>().0.iter();
        self.updates = pairs
            .map(|[high, low]| *high as u64 * COUNT + *low as u64)
            .collect();
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
    use serde_json::Value;

    type Way = fn(&mut Optimizer, &mut Network, Vec<Option<Tensor<1>>>, f64);

    /// The processor's way, and that of other devices.
    const WAYS: [Way; 2] = [Optimizer::update, |optimizer, network, gradients, rate| {
        optimizer.count(&gradients);
        optimizer.update_on_device(network, gradients, rate);
    }];

    /// Updates the classifier's bias as a fixture says and returns it after each step.
    fn path(section: OptimizerSection, fixture: &Value, way: Way) -> Vec<Vec<f32>> {
        let text = "small-ir-1-2-1; width = 0.0625; classes = 4";
        let architecture: Architecture = text.parse().unwrap();
        let device = DeviceName::Cpu.open();
        let mut network = Network::init(architecture.graph().unwrap(), 0, &device);
        let mut optimizer = Optimizer::new(section, &network);
        let bias = network.specs().len() - 1;
        let tensor = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, [4]), &device);
        network.set_tensor(bias, tensor(numbers(&fixture["start"])));
        let gradients = fixture["gradients"].as_array().unwrap();
        gradients
            .iter()
            .zip(numbers(&fixture["rates"]))
            .map(|(gradient, rate)| {
                let mut all = vec![None; network.specs().len()];
                all[bias] = (!gradient.is_null()).then(|| tensor(numbers(gradient)));
                // Resuming between any two steps changes nothing.
                let mut state = optimizer.to_host(&network);
                optimizer = Optimizer::new(section, &network);
                optimizer.restore(&network, &mut state).unwrap();
                way(&mut optimizer, &mut network, all, f64::from(rate));
                host_values(network.tensors()[bias].clone())
            })
            .collect()
    }

    fn numbers(json: &Value) -> Vec<f32> {
        let items = json.as_array().unwrap().iter();
        items.map(|item| item.as_f64().unwrap() as f32).collect()
    }

    /// The optimizer of a fixture's case.
    fn algorithm(name: &str, case: &Value) -> OptimizerAlgorithm {
        let number = |key: &str| case[key].as_f64().unwrap();
        let tensorflow = (EpsilonPosition::Inside, 1.0, MomentumForm::Steps);
        let pytorch = (EpsilonPosition::Outside, 0.0, MomentumForm::Directions);
        let mut words = name.split(' ');
        match (words.next(), words.next()) {
            (Some("rmsprop"), Some(convention)) => {
                let (epsilon_position, initial_square, momentum_form) = match convention {
                    "tensorflow" => tensorflow,
                    _ => pytorch,
                };
                OptimizerAlgorithm::RmsProp {
                    decay: 0.9,
                    epsilon: number("epsilon"),
                    epsilon_position,
                    initial_square,
                    momentum_form,
                    momentum: number("momentum"),
                }
            }
            (Some("sgd"), _) => OptimizerAlgorithm::Sgd {
                momentum: number("momentum"),
                nesterov: true,
                dampening: 0.0,
            },
            (Some("adamw"), _) => OptimizerAlgorithm::AdamW {
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 1e-8,
            },
            other => panic!("{other:?}"),
        }
    }

    /// PyTorch's optimizers, and TensorFlow's RMSProp as timm has it, with learning rates that
    /// change and steps without a gradient.
    #[test]
    fn rules_agree_with_those_of_pytorch_and_tensorflow() {
        let fixture: Value = serde_json::from_str(include_str!("fixtures/optimizer.json")).unwrap();
        for (name, case) in fixture["cases"].as_object().unwrap() {
            let section = OptimizerSection {
                algorithm: algorithm(name, case),
                weight_decay: case["decay"].as_f64().unwrap(),
                weight_decay_on: DecayedParameters::All,
            };
            let expected: Vec<Vec<f32>> = case["path"]
                .as_array()
                .unwrap()
                .iter()
                .map(numbers)
                .collect();
            for way in WAYS {
                let found = path(section, &fixture, way);
                for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    for (found, expected) in found.iter().zip(expected) {
                        let error = (found - expected).abs();
                        assert!(error < 2e-5, "{name}, step {step}: {found} {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_rate_multiplies_the_learning_rate_of_its_tensor() {
        let architecture: Architecture = "small-ir-1-2-1; width = 0.0625".parse().unwrap();
        let device = DeviceName::Cpu.open();
        let network = Network::init(architecture.graph().unwrap(), 0, &device);
        let section = OptimizerSection {
            algorithm: OptimizerAlgorithm::AdamW {
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 1e-8,
            },
            weight_decay: 0.5,
            weight_decay_on: DecayedParameters::All,
        };
        let updated = |rates: Vec<f64>, learning_rate: f64| {
            let mut network = network.clone();
            let specs = network.specs().iter();
            let gradients = specs.zip(network.tensors()).map(|(spec, tensor)| {
                let gradient = tensor.clone() * 0.1 + 0.01;
                spec.kind.is_parameter().then_some(gradient)
            });
            let gradients = gradients.collect();
            let mut optimizer = Optimizer::new(section, &network).with_rates(rates);
            optimizer.update(&mut network, gradients, learning_rate);
            network.to_host()
        };
        let count = network.specs().len();
        let rates = (0..count).map(|index| if index % 2 == 0 { 1.0 } else { 4.0 });
        let mixed = updated(rates.collect(), 0.25);
        let alike = [0.25, 1.0].map(|rate| updated(vec![1.0; count], rate));
        for (index, spec) in network.specs().iter().enumerate() {
            assert_eq!(
                mixed[&spec.name],
                alike[index % 2][&spec.name],
                "{}",
                spec.name
            );
        }
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

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
//! - Muon: `m ← μ·m + g`, `u = g + μ·m` (Nesterov) or `m`, `w ← w − η·(0.2·√max(rows, columns)·O(u) + λ·w)`,
//!   where `O` makes the singular values of a matrix about 1. A convolution's filters are the rows of a
//!   matrix; AdamW moves what is none: batch norm, biases, and the first and the last layer.
//!
//! Weight decay spares batch norm and biases unless asked otherwise.
//!
//! A parameter without a gradient, because only dropped paths use it, is left as it is: no update,
//! no decay, and what the rule keeps for it stays too, as if the step had not been. AdamW's bias
//! correction counts the updates of each parameter. PyTorch treats a gradient of `None` alike.

mod muon;
mod rule;

use super::recipe::{DecayedParameters, OptimizerSection};
use crate::arch::graph::{TensorKind, TensorSpec};
use crate::params::{Params, TensorMap, TensorRef};
use rule::{Parameter, Rule};

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
    /// What the rule keeps, by tensor index of the network; empty where it keeps nothing.
    state: Vec<[Vec<f32>; SLOTS]>,
    /// Updates made so far, by tensor index.
    updates: Vec<u64>,
    /// Factors of the learning rate, by tensor index.
    rates: Vec<f64>,
}

impl Optimizer {
    /// An optimizer that has made no update.
    pub fn new(section: OptimizerSection, params: &Params) -> Self {
        Self {
            section,
            state: vec![Default::default(); params.len()],
            updates: vec![0; params.len()],
            rates: vec![1.0; params.len()],
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

    /// Changes every parameter that has a gradient, in place: one pass over memory for all of them.
    ///
    /// `gradients` is by tensor index of the network.
    pub fn update(
        &mut self,
        params: &mut Params,
        gradients: &[Option<Vec<f32>>],
        learning_rate: f64,
    ) {
        let specs = params.specs();
        let hidden: Vec<Option<[usize; 2]>> = hidden_matrices(specs).collect();
        let kinds: Vec<TensorKind> = specs.iter().map(|spec| spec.kind).collect();
        let rules = gradients.iter().enumerate().map(|(index, gradient)| {
            self.updates[index] += u64::from(gradient.is_some());
            Rule {
                algorithm: self.section.algorithm,
                learning_rate: learning_rate * self.rates[index],
                decay: self.section.weight_decay_of(kinds[index]),
                updates: self.updates[index],
                matrix: hidden[index],
            }
        });
        let rules: Vec<Rule> = rules.collect();
        let tensors = params.tensors_mut().zip(&mut self.state);
        let parameters = tensors.zip(gradients).zip(rules);
        let parameters = parameters.filter_map(|(((weight, slots), gradient), rule)| {
            let gradient = gradient.as_deref()?;
            for (slot, kept) in slots
                .iter_mut()
                .enumerate()
                .filter(|(_, kept)| kept.is_empty())
            {
                if let Some(value) = rule.initial(slot) {
                    *kept = vec![value; weight.len()];
                }
            }
            Some(Parameter {
                weight,
                gradient,
                slots,
                rule,
            })
        });
        rule::update(parameters);
    }

    /// The state by name, for a checkpoint: `optimizer.0.NAME` is the first value kept for the
    /// weight called NAME, `optimizer.updates` has two numbers for each tensor, whose updates are
    /// 2^24 times the first and once the second (an `f32` counts no further).
    pub fn refs<'a>(&'a self, params: &'a Params) -> Vec<TensorRef<'a>> {
        let counts = self.updates.iter();
        let counts = counts.flat_map(|count| [(count / COUNT) as f32, (count % COUNT) as f32]);
        let mut tensors = vec![TensorRef {
            name: UPDATES.into(),
            shape: vec![self.updates.len(), 2].into(),
            values: counts.collect(),
        }];
        for (spec, slots) in params.specs().iter().zip(&self.state) {
            let kept = slots
                .iter()
                .enumerate()
                .filter(|(_, kept)| !kept.is_empty());
            tensors.extend(kept.map(|(slot, kept)| TensorRef {
                name: slot_name(slot, &spec.name).into(),
                shape: vec![kept.len()].into(),
                values: kept.as_slice().into(),
            }));
        }
        tensors
    }

    /// Continues from a checkpoint's state. Takes its tensors out of `tensors`.
    ///
    /// # Errors
    /// The name of a tensor that does not fit.
    pub fn restore(&mut self, params: &Params, tensors: &mut TensorMap) -> Result<(), String> {
        let counts = tensors.remove(UPDATES).map(|tensor| tensor.values);
        let counts = counts.filter(|counts| counts.len() == 2 * self.updates.len());
        let counts = counts.ok_or(UPDATES)?;
        let pairs = counts.as_chunks::<2>().0.iter();
        self.updates = pairs
            .map(|[high, low]| *high as u64 * COUNT + *low as u64)
            .collect();
        for (spec, slots) in params.specs().iter().zip(&mut self.state) {
            for (slot, kept) in slots.iter_mut().enumerate() {
                let name = slot_name(slot, &spec.name);
                let Some(tensor) = tensors.remove(&name) else {
                    continue;
                };
                if tensor.values.len() != spec.num_elements() {
                    return Err(name);
                }
                *kept = tensor.values;
            }
        }
        Ok(())
    }
}

impl OptimizerSection {
    /// Weight decay λ of a tensor.
    fn weight_decay_of(&self, kind: TensorKind) -> f64 {
        let decays = match kind {
            TensorKind::ConvWeight | TensorKind::LinearWeight => true,
            _ => self.weight_decay_on == DecayedParameters::All,
        };
        if decays { self.weight_decay } else { 0.0 }
    }
}

/// Rows and columns of the filters of every convolution but the first, by tensor index.
fn hidden_matrices(specs: &[TensorSpec]) -> impl Iterator<Item = Option<[usize; 2]>> {
    let is_filters = |spec: &TensorSpec| spec.kind == TensorKind::ConvWeight;
    let first = specs.iter().position(is_filters);
    specs.iter().enumerate().map(move |(index, spec)| {
        let rows = *spec.shape.first()?;
        (is_filters(spec) && Some(index) != first).then(|| [rows, spec.num_elements() / rows])
    })
}

fn slot_name(slot: usize, tensor: &str) -> String {
    format!("optimizer.{slot}.{tensor}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Architecture;
    use crate::params::HostTensor;
    use crate::train::recipe::{EpsilonPosition, MomentumForm, OptimizerAlgorithm};
    use serde_json::Value;

    fn params(text: &str) -> Params {
        let architecture: Architecture = text.parse().unwrap();
        Params::init(&architecture.graph().unwrap(), 0)
    }

    /// Updates the classifier's bias as a fixture says and returns it after each step.
    fn path(section: OptimizerSection, fixture: &Value) -> Vec<Vec<f32>> {
        let mut params = params("small-ir-1-2-1; width = 0.0625; classes = 4");
        let mut optimizer = Optimizer::new(section, &params);
        let bias = params.len() - 1;
        params[bias].copy_from_slice(&numbers(&fixture["start"]));
        let gradients = fixture["gradients"].as_array().unwrap();
        gradients
            .iter()
            .zip(numbers(&fixture["rates"]))
            .map(|(gradient, rate)| {
                let mut all = vec![None; params.len()];
                all[bias] = (!gradient.is_null()).then(|| numbers(gradient));
                // Resuming between any two steps changes nothing.
                let state = optimizer.refs(&params).into_iter().map(|tensor| {
                    let (shape, values) = (tensor.shape.into_owned(), tensor.values.into_owned());
                    (tensor.name.into_owned(), HostTensor { shape, values })
                });
                let mut state: TensorMap = state.collect();
                optimizer = Optimizer::new(section, &params);
                optimizer.restore(&params, &mut state).unwrap();
                optimizer.update(&mut params, &all, f64::from(rate));
                params[bias].to_vec()
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
            let found = path(section, &fixture);
            assert_eq!(found.len(), expected.len(), "{name}");
            for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert_eq!(found.len(), expected.len(), "{name}, step {step}");
                for (found, expected) in found.iter().zip(expected) {
                    let error = (found - expected).abs();
                    assert!(error < 2e-5, "{name}, step {step}: {found} {expected}");
                }
            }
        }
    }

    /// PyTorch's Muon with its iteration in f64, for a wide and a tall matrix.
    #[test]
    fn muon_agrees_with_that_of_pytorch() {
        let fixture: Value = serde_json::from_str(include_str!("fixtures/optimizer.json")).unwrap();
        for case in fixture["muon"].as_array().unwrap() {
            let rows = |json: &Value| -> Vec<f32> {
                json.as_array().unwrap().iter().flat_map(numbers).collect()
            };
            let start = rows(&case["start"]);
            let count = case["start"].as_array().unwrap().len();
            let shape = [count, start.len() / count];
            let rule = |learning_rate, updates| Rule {
                algorithm: OptimizerAlgorithm::Muon {
                    momentum: case["momentum"].as_f64().unwrap(),
                    nesterov: case["nesterov"].as_bool().unwrap(),
                    beta1: 0.9,
                    beta2: 0.999,
                    epsilon: 1e-8,
                },
                learning_rate,
                decay: case["decay"].as_f64().unwrap(),
                updates,
                matrix: Some(shape),
            };
            let mut weight = start;
            let mut slots = [vec![0.0; weight.len()], Vec::new()];
            let steps = case["steps"].as_array().unwrap().iter().enumerate();
            for ((step, given), expected) in steps.zip(case["path"].as_array().unwrap()) {
                let gradient = rows(&given["gradient"]);
                rule::update(std::iter::once(Parameter {
                    weight: &mut weight,
                    gradient: &gradient,
                    slots: &mut slots,
                    rule: rule(given["rate"].as_f64().unwrap(), step as u64 + 1),
                }));
                for (found, expected) in weight.iter().zip(rows(expected)) {
                    let error = (found - expected).abs();
                    assert!(error < 2e-5, "{shape:?}, step {step}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn muon_moves_hidden_filters_and_adamw_the_rest() {
        let params = params("small-ir-1-2-1; width = 0.0625");
        let specs = params.specs();
        let hidden: Vec<_> = hidden_matrices(specs).collect();
        let filters = |index: &usize| specs[*index].kind == TensorKind::ConvWeight;
        let all: Vec<usize> = (0..specs.len()).filter(filters).collect();
        assert_eq!(hidden[all[0]], None, "the first layer");
        for &index in &all[1..] {
            let [out_channels, inputs @ ..] = &specs[index].shape[..] else {
                panic!("no shape")
            };
            let expected = [*out_channels, inputs.iter().product()];
            assert_eq!(hidden[index], Some(expected), "{}", specs[index].name);
        }
        assert_eq!(hidden.iter().flatten().count(), all.len() - 1);

        // What it doesn't take moves as by AdamW, and keeps AdamW's two values.
        let gradients = params.iter().map(|(spec, values)| {
            let gradient = values.iter().map(|value| value * 0.1 + 0.01);
            spec.kind.is_parameter().then(|| gradient.collect())
        });
        let gradients: Vec<Option<Vec<f32>>> = gradients.collect();
        let (beta1, beta2, epsilon) = (0.9, 0.999, 1e-8);
        let updated = |algorithm| {
            let section = OptimizerSection {
                algorithm,
                weight_decay: 0.5,
                weight_decay_on: DecayedParameters::Weights,
            };
            let mut params = params.clone();
            let mut optimizer = Optimizer::new(section, &params);
            optimizer.update(&mut params, &gradients, 0.1);
            let kept = |slots: &[Vec<f32>; SLOTS]| slots.iter().filter(|s| !s.is_empty()).count();
            let kept: Vec<usize> = optimizer.state.iter().map(kept).collect();
            (params, kept)
        };
        let (muon, kept) = updated(OptimizerAlgorithm::Muon {
            momentum: 0.95,
            nesterov: true,
            beta1,
            beta2,
            epsilon,
        });
        let (adamw, _) = updated(OptimizerAlgorithm::AdamW {
            beta1,
            beta2,
            epsilon,
        });
        for (index, spec) in specs.iter().enumerate() {
            let expected = match (hidden[index], spec.kind.is_parameter()) {
                (Some(_), _) => (false, 1),
                (None, is_parameter) => (true, 2 * usize::from(is_parameter)),
            };
            let found = (muon[index] == adamw[index], kept[index]);
            assert_eq!(found, expected, "{}", spec.name);
        }
    }

    #[test]
    fn a_rate_multiplies_the_learning_rate_of_its_tensor() {
        let params = params("small-ir-1-2-1; width = 0.0625");
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
            let mut params = params.clone();
            let gradients = params.iter().map(|(spec, values)| {
                let gradient = values.iter().map(|value| value * 0.1 + 0.01);
                spec.kind.is_parameter().then(|| gradient.collect())
            });
            let gradients: Vec<Option<Vec<f32>>> = gradients.collect();
            let mut optimizer = Optimizer::new(section, &params).with_rates(rates);
            optimizer.update(&mut params, &gradients, learning_rate);
            params
        };
        let count = params.len();
        let rates = (0..count).map(|index| if index % 2 == 0 { 1.0 } else { 4.0 });
        let mixed = updated(rates.collect(), 0.25);
        let alike = [0.25, 1.0].map(|rate| updated(vec![1.0; count], rate));
        for (index, spec) in params.specs().iter().enumerate() {
            assert_eq!(mixed[index], alike[index % 2][index], "{}", spec.name);
        }
    }

    #[test]
    fn weight_decay_spares_batch_norm_and_biases() {
        let before = params("small-ir-1-2-1; width = 0.0625");
        let section = OptimizerSection {
            algorithm: OptimizerAlgorithm::Sgd {
                momentum: 0.0,
                nesterov: false,
                dampening: 0.0,
            },
            weight_decay: 0.5,
            weight_decay_on: DecayedParameters::Weights,
        };
        let zeros = before.iter().map(|(spec, values)| {
            let zeros = vec![0.0; values.len()];
            spec.kind.is_parameter().then_some(zeros)
        });
        let zeros: Vec<Option<Vec<f32>>> = zeros.collect();
        let mut after = before.clone();
        Optimizer::new(section, &before).update(&mut after, &zeros, 1.0);
        for (index, spec) in before.specs().iter().enumerate() {
            let factor = match spec.kind {
                TensorKind::ConvWeight | TensorKind::LinearWeight => 0.5,
                _ => 1.0,
            };
            let expected: Vec<f32> = before[index].iter().map(|old| old * factor).collect();
            assert_eq!(after[index], expected, "{}", spec.name);
        }
    }
}

//! The moving average of a network's tensors, running statistics among them.
//!
//! After update `n` (from 1) it is `a ← d·a + (1 − d)·w` with `d = min(ema, (1 + n) / (10 + n))`:
//! the ramp is TensorFlow's, and lets the first, random weights be forgotten soon. Before the first
//! update it is the network itself.

use crate::nn::{HostTensor, Network, host_values};
use burn::tensor::{Tensor, TensorData};
use std::collections::HashMap;

/// A moving average.
#[derive(Debug)]
pub(super) struct WeightAverage {
    ema: f64,
    /// By tensor index of the network.
    tensors: Vec<Tensor<1>>,
}

impl WeightAverage {
    pub(super) fn new(ema: f64, network: &Network) -> Self {
        Self {
            ema,
            tensors: network.tensors().to_vec(),
        }
    }

    /// Takes in the network after so many updates of the optimizer.
    pub(super) fn update(&mut self, network: &Network, updates: u64) {
        let updates = updates as f64;
        let kept = self.ema.min((1.0 + updates) / (10.0 + updates));
        self.move_by(network, kept);
    }

    fn move_by(&mut self, network: &Network, kept: f64) {
        let empty = Tensor::empty([0], network.device());
        for (average, value) in self.tensors.iter_mut().zip(network.tensors()) {
            let old = std::mem::replace(average, empty.clone());
            *average = old * kept + value.clone() * (1.0 - kept);
        }
    }

    /// The averages, flat, in the order of the network's tensors.
    pub(super) fn tensors(&self) -> &[Tensor<1>] {
        &self.tensors
    }

    /// The averages for a checkpoint: `average.NAME` is that of the tensor called NAME.
    pub(super) fn to_host(&self, network: &Network) -> HashMap<String, HostTensor> {
        let tensors = network.specs().iter().zip(&self.tensors);
        tensors
            .map(|(spec, tensor)| {
                let values = host_values(tensor.clone());
                let shape = vec![values.len()];
                (name(&spec.name), HostTensor { shape, values })
            })
            .collect()
    }

    /// Continues from a checkpoint. Takes its tensors out of `tensors`.
    ///
    /// # Errors
    /// The name of a tensor that is missing or does not fit.
    pub(super) fn restore(
        &mut self,
        network: &Network,
        tensors: &mut HashMap<String, HostTensor>,
    ) -> Result<(), String> {
        for (spec, average) in network.specs().iter().zip(&mut self.tensors) {
            let name = name(&spec.name);
            let found = tensors.remove(&name).map(|tensor| tensor.values);
            let values = found.filter(|values| values.len() == spec.num_elements());
            let data = TensorData::new(values.ok_or(name)?, [spec.num_elements()]);
            *average = Tensor::from_data(data, network.device());
        }
        Ok(())
    }
}

fn name(tensor: &str) -> String {
    format!("average.{tensor}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Architecture;
    use crate::nn::DeviceName;
    use serde_json::Value;

    fn network() -> Network {
        let architecture: Architecture = "small-ir-1-2-1; width = 0.0625".parse().unwrap();
        Network::init(architecture.graph().unwrap(), 0, &DeviceName::Cpu.open())
    }

    /// Sets every element of every tensor.
    fn fill(network: &mut Network, value: f64) {
        for index in 0..network.specs().len() {
            let old = network.take_tensor(index);
            network.set_tensor(index, old * 0.0 + value);
        }
    }

    fn firsts(tensors: &[Tensor<1>]) -> Vec<f32> {
        let first = |tensor: &Tensor<1>| host_values(tensor.clone())[0];
        tensors.iter().map(first).collect()
    }

    #[test]
    fn averages_follow_those_of_timm() {
        let json: Value = serde_json::from_str(include_str!("fixtures/optimizer.json")).unwrap();
        let json = &json["average"];
        let numbers = |key: &str| -> Vec<f64> {
            let items = json[key].as_array().unwrap().iter();
            items.map(|item| item.as_f64().unwrap()).collect()
        };
        let mut network = network();
        let values = numbers("values");
        fill(&mut network, values[0]);
        let mut average = WeightAverage::new(0.0, &network);
        for (value, expected) in values[1..].iter().zip(numbers("path")) {
            fill(&mut network, *value);
            average.move_by(&network, json["decay"].as_f64().unwrap());
            for found in firsts(average.tensors()) {
                assert!((f64::from(found) - expected).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn little_is_kept_of_the_first_weights() {
        let mut network = network();
        fill(&mut network, 1.0);
        let mut average = WeightAverage::new(0.9999, &network);
        fill(&mut network, 0.0);
        // 2/11 · 3/12 is left.
        average.update(&network, 1);
        average.update(&network, 2);
        assert!((firsts(average.tensors())[0] - 6.0 / 132.0).abs() < 1e-6);
        // Late updates keep what the recipe says.
        let before = firsts(average.tensors())[0];
        average.update(&network, 1_000_000);
        assert!((firsts(average.tensors())[0] - before * 0.9999).abs() < 1e-9);
    }

    #[test]
    fn a_checkpoint_without_averages_is_refused() {
        let mut network = network();
        let mut average = WeightAverage::new(0.9, &network);
        fill(&mut network, 2.0);
        average.update(&network, 5);
        let mut tensors = average.to_host(&network);
        let mut restored = WeightAverage::new(0.9, &network);
        restored.restore(&network, &mut tensors).unwrap();
        assert_eq!(firsts(restored.tensors()), firsts(average.tensors()));
        assert!(restored.restore(&network, &mut tensors).is_err());
    }
}

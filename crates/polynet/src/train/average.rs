//! The moving average of a network's tensors, running statistics among them.
//!
//! After update `n` (from 1) it is `a ← d·a + (1 − d)·w` with `d = min(ema, (1 + n) / (10 + n))`:
//! the ramp is TensorFlow's, and lets the first, random weights be forgotten soon. Before the first
//! update it is the network itself.

use crate::params::{Params, TensorMap, TensorRef};
use rayon::prelude::*;

/// Elements of a task.
const PIECE: usize = 1 << 14;

/// A moving average.
#[derive(Debug)]
pub(super) struct WeightAverage {
    ema: f64,
    params: Params,
}

impl WeightAverage {
    pub(super) fn new(ema: f64, params: &Params) -> Self {
        Self {
            ema,
            params: params.clone(),
        }
    }

    /// Takes in the network after so many updates of the optimizer.
    pub(super) fn update(&mut self, params: &Params, updates: u64) {
        let updates = updates as f64;
        let kept = self.ema.min((1.0 + updates) / (10.0 + updates));
        self.move_by(params, kept);
    }

    fn move_by(&mut self, params: &Params, kept: f64) {
        let (kept, fresh) = (kept as f32, (1.0 - kept) as f32);
        let averages = self.params.as_mut_slice().par_chunks_mut(PIECE);
        let pieces = averages.zip(params.as_slice().par_chunks(PIECE));
        pieces.for_each(|(averages, values)| {
            for (average, value) in averages.iter_mut().zip(values) {
                *average = *average * kept + value * fresh;
            }
        });
    }

    /// The averages.
    pub(super) fn params(&self) -> &Params {
        &self.params
    }

    /// The averages for a checkpoint: `average.NAME` is that of the tensor called NAME.
    pub(super) fn refs(&self) -> Vec<TensorRef<'_>> {
        let tensors = self.params.iter();
        tensors
            .map(|(spec, values)| TensorRef {
                name: name(&spec.name).into(),
                shape: vec![values.len()].into(),
                values: values.into(),
            })
            .collect()
    }

    /// Continues from a checkpoint. Takes its tensors out of `tensors`.
    ///
    /// # Errors
    /// The name of a tensor that is missing or does not fit.
    pub(super) fn restore(&mut self, tensors: &mut TensorMap) -> Result<(), String> {
        for index in 0..self.params.len() {
            let name = name(&self.params.specs()[index].name);
            let average = &mut self.params[index];
            let found = tensors.remove(&name).map(|tensor| tensor.values);
            let values = found.filter(|values| values.len() == average.len());
            average.copy_from_slice(&values.ok_or(name)?);
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
    use crate::params::HostTensor;
    use serde_json::Value;

    fn params() -> Params {
        let architecture: Architecture = "small-ir-1-2-1; width = 0.0625".parse().unwrap();
        Params::init(&architecture.graph().unwrap(), 0)
    }

    /// Sets every element of every tensor.
    fn fill(params: &mut Params, value: f64) {
        params
            .tensors_mut()
            .for_each(|tensor| tensor.fill(value as f32));
    }

    fn firsts(params: &Params) -> Vec<f32> {
        params.iter().map(|(_, values)| values[0]).collect()
    }

    #[test]
    fn averages_follow_those_of_timm() {
        let json: Value = serde_json::from_str(include_str!("fixtures/optimizer.json")).unwrap();
        let json = &json["average"];
        let numbers = |key: &str| -> Vec<f64> {
            let items = json[key].as_array().unwrap().iter();
            items.map(|item| item.as_f64().unwrap()).collect()
        };
        let mut params = params();
        let values = numbers("values");
        fill(&mut params, values[0]);
        let mut average = WeightAverage::new(0.0, &params);
        for (value, expected) in values[1..].iter().zip(numbers("path")) {
            fill(&mut params, *value);
            average.move_by(&params, json["decay"].as_f64().unwrap());
            for found in firsts(average.params()) {
                assert!((f64::from(found) - expected).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn little_is_kept_of_the_first_weights() {
        let mut params = params();
        fill(&mut params, 1.0);
        let mut average = WeightAverage::new(0.9999, &params);
        fill(&mut params, 0.0);
        // 2/11 · 3/12 is left.
        average.update(&params, 1);
        average.update(&params, 2);
        assert!((firsts(average.params())[0] - 6.0 / 132.0).abs() < 1e-6);
        // Late updates keep what the recipe says.
        let before = firsts(average.params())[0];
        average.update(&params, 1_000_000);
        assert!((firsts(average.params())[0] - before * 0.9999).abs() < 1e-9);
    }

    #[test]
    fn a_checkpoint_without_averages_is_refused() {
        let mut params = params();
        let mut average = WeightAverage::new(0.9, &params);
        fill(&mut params, 2.0);
        average.update(&params, 5);
        let refs = average.refs().into_iter().map(|tensor| {
            let (shape, values) = (tensor.shape.into_owned(), tensor.values.into_owned());
            (tensor.name.into_owned(), HostTensor { shape, values })
        });
        let mut tensors: TensorMap = refs.collect();
        let mut restored = WeightAverage::new(0.9, &params);
        restored.restore(&mut tensors).unwrap();
        assert_eq!(firsts(restored.params()), firsts(average.params()));
        assert!(restored.restore(&mut tensors).is_err());
    }
}

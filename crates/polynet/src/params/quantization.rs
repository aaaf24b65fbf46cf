//! How the convolutions of a model are rounded to bytes.
//!
//! In a weight file a rounded convolution `X` has its weights as 8-bit numbers in `X.weight`, and beside
//! them `X.weight_scale` `[out_channels]`, what one is worth in each output channel, and `X.input_scale`
//! `[evaluations]`, what one is worth in the map that each evaluation of the convolution in the network
//! reads. Whoever reads such weights as `f32` gets the products of both.

use std::collections::BTreeMap;

/// The suffixes of the scales of a rounded convolution's weights and inputs.
pub(super) const WEIGHT_SCALE: &str = "weight_scale";
pub(super) const INPUT_SCALE: &str = "input_scale";

/// The largest weight in 8 bits.
pub(crate) const LARGEST_WEIGHT: f32 = 127.0;

/// The rounded convolutions of a model, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quantization {
    pub(crate) layers: BTreeMap<String, QuantizedLayer>,
}

/// How a convolution is rounded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuantizedLayer {
    /// What one is worth in the weights of each output channel.
    pub weight_scales: Vec<f32>,
    /// What one is worth in the map that each evaluation of the convolution reads, in the order of the
    /// network's nodes.
    pub input_scales: Vec<f32>,
}

impl Quantization {
    /// Whether no convolution is rounded.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// How the weights of that name are rounded.
    pub(crate) fn layer_of(&self, tensor: &str) -> Option<&QuantizedLayer> {
        self.layers.get(tensor.strip_suffix(".weight")?)
    }

    /// The rounded convolutions in the order of their names, without the suffix `.weight`.
    pub fn layers(&self) -> impl Iterator<Item = (&str, &QuantizedLayer)> {
        self.layers
            .iter()
            .map(|(name, layer)| (name.as_str(), layer))
    }
}

impl QuantizedLayer {
    /// Scales for weights `[out_channels, …]` in row-major order, by which the largest weight of each
    /// output channel is 127.
    pub(crate) fn scales_of(weights: &[f32], out_channels: usize) -> Vec<f32> {
        let rows = weights.chunks_exact(weights.len() / out_channels);
        let largest = rows.map(|row| {
            row.iter()
                .fold(0.0_f32, |max, weight| max.max(weight.abs()))
        });
        // A channel of zeros is zeros by any scale.
        largest
            .map(|largest| match largest / LARGEST_WEIGHT {
                scale if scale.is_normal() => scale,
                _ => 1.0,
            })
            .collect()
    }

    /// Multiplies whole weights with their scales.
    pub(crate) fn scale(&self, weights: &mut [f32]) {
        let row = (weights.len() / self.weight_scales.len()).max(1);
        for (row, scale) in weights.chunks_exact_mut(row).zip(&self.weight_scales) {
            row.iter_mut().for_each(|weight| *weight *= scale);
        }
    }

    /// Weights after rounding.
    pub(crate) fn read_back(&self, weights: &[f32]) -> Vec<f32> {
        let mut read: Vec<f32> = self.rounded(weights).into_iter().map(f32::from).collect();
        self.scale(&mut read);
        read
    }

    /// Weights `[out_channels, …]` in row-major order as whole numbers.
    pub(crate) fn rounded(&self, weights: &[f32]) -> Vec<i8> {
        let rows = weights.chunks_exact(weights.len() / self.weight_scales.len());
        let rounded = rows.zip(&self.weight_scales).flat_map(|(row, scale)| {
            row.iter().map(move |weight| {
                let whole = (weight / scale).round_ties_even();
                whole.clamp(-LARGEST_WEIGHT, LARGEST_WEIGHT) as i8
            })
        });
        rounded.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_rounded_is_rounded_to_the_same_again() {
        let weights: Vec<f32> = (0..300)
            .map(|i| ((i * 7919) % 613) as f32 * 1.7e-3 - 0.4)
            .collect();
        let layer = QuantizedLayer {
            weight_scales: QuantizedLayer::scales_of(&weights, 3),
            input_scales: Vec::new(),
        };
        let read = layer.read_back(&weights);
        assert_eq!(layer.rounded(&read), layer.rounded(&weights));
        for (row, scale) in weights.chunks_exact(100).zip(&layer.weight_scales) {
            let largest = row
                .iter()
                .fold(0.0_f32, |max, weight| max.max(weight.abs()));
            assert_eq!((largest / scale).round(), 127.0);
        }
        for (index, (read, weight)) in read.iter().zip(&weights).enumerate() {
            let half = 0.501 * layer.weight_scales[index / 100];
            assert!(
                (read - weight).abs() <= half,
                "{index}: {read} for {weight}"
            );
        }
        assert_eq!(QuantizedLayer::scales_of(&[0.0; 4], 2), [1.0, 1.0]);
    }
}

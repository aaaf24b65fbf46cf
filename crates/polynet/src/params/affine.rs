//! Batch norm with its running statistics is a factor and a term for every channel.

use super::file::TensorSource;
use super::tensors::TensorMismatch;
use crate::arch::Graph;

/// The factors and the terms of a batch norm, `[channels]` each: `γ / √(var + ε)` and what shifts the mean
/// to `β`.
///
/// # Errors
/// If a tensor cannot be read.
pub(crate) fn norm_affine(
    graph: &Graph,
    tensors: &dyn TensorSource,
    norm: usize,
) -> Result<(Vec<f64>, Vec<f64>), TensorMismatch> {
    let norm = &graph.norms[norm];
    let wide = |name: &str, suffix: &str| -> Result<Vec<f64>, TensorMismatch> {
        let values = tensors.values(&format!("{name}.{suffix}"))?;
        Ok(values.iter().copied().map(f64::from).collect())
    };
    let (weight, bias) = (wide(&norm.name, "weight")?, wide(&norm.name, "bias")?);
    let mean = wide(&norm.statistics, "running_mean")?;
    let var = wide(&norm.statistics, "running_var")?;
    let scale: Vec<f64> = weight
        .into_iter()
        .zip(var)
        .map(|(weight, var)| weight / (var + graph.norm_epsilon).sqrt())
        .collect();
    let shift = bias
        .into_iter()
        .zip(mean)
        .zip(&scale)
        .map(|((bias, mean), scale)| bias - mean * scale)
        .collect();
    Ok((scale, shift))
}

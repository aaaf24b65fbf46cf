//! PyTorch's own weight files.
//!
//! Such a file is a pickle, which can ask for any code to be run. The reader used here interprets the few
//! operations that describe tensors and refuses everything else.

use super::file::{bf16_values, f16_values, f64_values};
use super::{HostTensor, TensorMap, WeightError};
use pytorch_reader::{DType, PytorchReader};
use std::path::Path;

/// The floating-point tensors of a file.
pub(super) fn read(path: &Path) -> Result<TensorMap, WeightError> {
    let invalid = |error: &dyn std::fmt::Display| {
        WeightError::invalid(path, format!("not a PyTorch weight file: {error}"))
    };
    std::fs::metadata(path).map_err(WeightError::io(path, "read the weights"))?;
    let reader = PytorchReader::new(path).map_err(|error| invalid(&error))?;
    let mut tensors = TensorMap::new();
    for (name, tensor) in reader.into_tensors() {
        let convert: fn(&[u8]) -> Vec<f32> = match tensor.dtype() {
            DType::F32 => f32_values,
            DType::F64 => f64_values,
            DType::F16 => f16_values,
            DType::BF16 => bf16_values,
            _ => continue,
        };
        let bytes = tensor.read().map_err(|error| invalid(&error))?;
        let shape = tensor.shape().to_vec();
        let values = convert(&bytes);
        tensors.insert(name, HostTensor { shape, values });
    }
    Ok(tensors)
}

fn f32_values(bytes: &[u8]) -> Vec<f32> {
    let chunks = bytes.as_chunks::<4>().0.iter();
    chunks.map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

//! PyTorch's own weight files.
//!
//! Such a file is a pickle, which can ask for any code to be run. The reader used here interprets the few
//! operations that describe tensors and refuses everything else.

use super::file::{bf16_values, f16_values, f64_values};
use super::tensors::{TensorMismatch, finite};
use super::{TensorSource, WeightError};
use pytorch_reader::{DType, PytorchError, PytorchReader};
use std::borrow::Cow;
use std::path::Path;

/// A PyTorch file; the tensors of its dictionaries have dotted names (`state_dict.fc.weight`).
pub(super) struct PyTorchFile(PytorchReader);

impl PyTorchFile {
    pub(super) fn open(path: &Path) -> Result<Self, WeightError> {
        std::fs::metadata(path).map_err(WeightError::io(path, "read the weights"))?;
        let reader = PytorchReader::new(path).map_err(|error| match error {
            PytorchError::Zip(error) => WeightError::invalid(
                path,
                format!(
                    "a PyTorch weight file that ends early or is damaged; copy it once more \
                     ({error})"
                ),
            ),
            error => WeightError::invalid(path, format!("not a PyTorch weight file: {error}")),
        })?;
        Ok(Self(reader))
    }
}

/// What makes `f32` of the bytes of floating-point elements.
type Conversion = fn(&[u8]) -> Vec<f32>;

fn conversion(dtype: DType) -> Option<Conversion> {
    match dtype {
        DType::F32 => Some(f32_values),
        DType::F64 => Some(f64_values),
        DType::F16 => Some(f16_values),
        DType::BF16 => Some(bf16_values),
        _ => None,
    }
}

impl TensorSource for PyTorchFile {
    fn shapes(&self) -> Box<dyn Iterator<Item = (&str, &[usize])> + '_> {
        let tensors = self.0.tensors().iter();
        let floating = tensors.filter(|(_, tensor)| conversion(tensor.dtype()).is_some());
        Box::new(floating.map(|(name, tensor)| (name.as_str(), tensor.shape())))
    }

    fn others(&self) -> Vec<(String, String)> {
        let tensors = self.0.tensors().iter();
        tensors
            .filter(|(_, tensor)| conversion(tensor.dtype()).is_none())
            .map(|(name, tensor)| (name.clone(), format!("{:?}", tensor.dtype())))
            .collect()
    }

    fn values(&self, name: &str) -> Result<Cow<'_, [f32]>, TensorMismatch> {
        let unreadable = |error: &dyn std::fmt::Display| TensorMismatch::unreadable(name, error);
        let tensor = &self.0.tensors()[name];
        let convert = conversion(tensor.dtype())
            .ok_or_else(|| unreadable(&"expected floating-point numbers"))?;
        let values = convert(&tensor.read().map_err(|error| unreadable(&error))?);
        finite(name, &values)?;
        Ok(values.into())
    }
}

fn f32_values(bytes: &[u8]) -> Vec<f32> {
    let chunks = bytes.as_chunks::<4>().0.iter();
    chunks.map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

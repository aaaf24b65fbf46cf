//! Weight files: safetensors.

use super::WeightError;
use super::tensors::{HostTensor, TensorMap};
use polynet_kernels::file::{FileBytes, as_f32};
use safetensors::tensor::{Dtype, SafeTensors, View};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

#[cfg(feature = "train")]
/// Reads the floating-point tensors of a `.safetensors` file or, by any other ending, of a PyTorch
/// file. Tensors of whole numbers (PyTorch's batch counters) are left out.
///
/// # Errors
/// If the file cannot be read or is neither.
pub fn read_weights(path: &Path) -> Result<TensorMap, WeightError> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => read_safetensors(path),
        _ => super::pytorch::read(path),
    }
}

/// Reads the floating-point tensors of a safetensors file as `f32`.
///
/// # Errors
/// If the file cannot be read or is not in the format.
pub fn read_safetensors(path: &Path) -> Result<TensorMap, WeightError> {
    let file = WeightFile::open(path)?;
    let tensor = |name: &str| HostTensor {
        shape: file.entries[name].shape.clone(),
        values: file.values(name).into_owned(),
    };
    let names = file.entries.keys();
    Ok(names.map(|name| (name.clone(), tensor(name))).collect())
}

/// Tensors by name, read where they are.
pub trait TensorSource: Sync {
    /// Names and shapes of all.
    fn shapes(&self) -> Box<dyn Iterator<Item = (&str, &[usize])> + '_>;

    /// The elements of a tensor in row-major order.
    ///
    /// # Panics
    /// If there is no such tensor: check the names and shapes first.
    fn values(&self, name: &str) -> Cow<'_, [f32]>;
}

impl TensorSource for TensorMap {
    fn shapes(&self) -> Box<dyn Iterator<Item = (&str, &[usize])> + '_> {
        Box::new((self.iter()).map(|(name, tensor)| (name.as_str(), tensor.shape.as_slice())))
    }

    fn values(&self, name: &str) -> Cow<'_, [f32]> {
        Cow::Borrowed(&self[name].values)
    }
}

/// A safetensors file in memory: its `f32` tensors are used where they are.
#[derive(Debug)]
pub struct WeightFile {
    bytes: FileBytes,
    entries: HashMap<String, Entry>,
}

/// Where a tensor lies in its file.
#[derive(Debug)]
struct Entry {
    shape: Vec<usize>,
    dtype: Dtype,
    /// Of the whole file.
    range: Range<usize>,
}

impl WeightFile {
    /// Opens a file and reads what it holds, but no tensor yet.
    ///
    /// # Errors
    /// If the file cannot be read or is not in the format.
    pub fn open(path: &Path) -> Result<Self, WeightError> {
        let bytes = FileBytes::open(path).map_err(WeightError::io(path, "read the weights"))?;
        let invalid =
            |error| WeightError::invalid(path, format!("not a safetensors file: {error}"));
        let file = SafeTensors::deserialize(&bytes).map_err(invalid)?;
        let entries = file
            .tensors()
            .into_iter()
            .filter(|(_, view)| is_floating_point(view.dtype()))
            .map(|(name, view)| {
                let data = view.data();
                let start = data.as_ptr() as usize - bytes.as_ptr() as usize;
                let entry = Entry {
                    shape: view.shape().to_vec(),
                    dtype: view.dtype(),
                    range: start..start + data.len(),
                };
                (name, entry)
            })
            .collect();
        Ok(Self { bytes, entries })
    }
}

impl TensorSource for WeightFile {
    fn shapes(&self) -> Box<dyn Iterator<Item = (&str, &[usize])> + '_> {
        let entries = self.entries.iter();
        Box::new(entries.map(|(name, entry)| (name.as_str(), entry.shape.as_slice())))
    }

    fn values(&self, name: &str) -> Cow<'_, [f32]> {
        let entry = &self.entries[name];
        let bytes = &self.bytes[entry.range.clone()];
        match entry.dtype {
            Dtype::F64 => f64_values(bytes).into(),
            Dtype::F16 => f16_values(bytes).into(),
            Dtype::BF16 => bf16_values(bytes).into(),
            _ if cfg!(target_endian = "big") => f32_values(bytes).into(),
            _ => as_f32(bytes).map_or_else(|| f32_values(bytes).into(), Cow::Borrowed),
        }
    }
}

fn is_floating_point(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F64 | Dtype::F16 | Dtype::BF16)
}

/// A tensor on its way into a file.
#[derive(Clone, Debug)]
pub struct TensorRef<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// Its shape.
    pub shape: Cow<'a, [usize]>,
    /// Its elements in row-major order.
    pub values: Cow<'a, [f32]>,
}

impl<'a> TensorRef<'a> {
    /// A tensor that lies elsewhere.
    pub fn new(name: &'a str, shape: &'a [usize], values: &'a [f32]) -> Self {
        Self {
            name: name.into(),
            shape: shape.into(),
            values: values.into(),
        }
    }
}

impl View for &TensorRef<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        size_of_val(&self.values[..])
    }
}

#[cfg(feature = "train")]
/// Writes tensors to a safetensors file in one piece: a reader sees the old file or the new one. One
/// tensor's bytes at a time are in memory twice.
///
/// # Errors
/// If the file cannot be written.
pub fn write_safetensors(
    path: &Path,
    tensors: &[TensorRef<'_>],
    metadata: Option<HashMap<String, String>>,
) -> Result<(), WeightError> {
    let named = tensors.iter().map(|tensor| (&tensor.name, tensor));
    let serialized = safetensors::serialize(named, metadata)
        .map_err(|error| WeightError::invalid(path, error))?;
    crate::files::write_atomically(path, |file| std::io::Write::write_all(file, &serialized))
        .map_err(|error| WeightError::io(path, "write the weights")(error.into_source()))
}

pub(super) fn f32_values(bytes: &[u8]) -> Vec<f32> {
    let chunks = bytes.as_chunks::<4>().0.iter();
    chunks.map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

pub(super) fn f64_values(bytes: &[u8]) -> Vec<f32> {
    let chunks = bytes.as_chunks::<8>().0.iter();
    chunks
        .map(|chunk| f64::from_le_bytes(*chunk) as f32)
        .collect()
}

pub(super) fn f16_values(bytes: &[u8]) -> Vec<f32> {
    let chunks = bytes.as_chunks::<2>().0.iter();
    chunks
        .map(|chunk| half::f16::from_le_bytes(*chunk).to_f32())
        .collect()
}

pub(super) fn bf16_values(bytes: &[u8]) -> Vec<f32> {
    let chunks = bytes.as_chunks::<2>().0.iter();
    chunks
        .map(|chunk| half::bf16::from_le_bytes(*chunk).to_f32())
        .collect()
}

#[cfg(all(test, feature = "train"))]
mod tests {
    use super::*;

    #[test]
    fn written_tensors_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let tensor = HostTensor {
            shape: vec![2, 3],
            values: vec![1.0, -2.5, 0.0, f32::MIN_POSITIVE, 1e30, -0.0],
        };
        let written = TensorRef::new("t", &tensor.shape, &tensor.values);
        write_safetensors(&path, &[written], None).unwrap();
        assert_eq!(read_weights(&path).unwrap()["t"], tensor);
    }

    #[test]
    fn text_is_no_weight_file() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.safetensors", "a.pth"] {
            let path = folder.path().join(name);
            std::fs::write(&path, "hello, this is no weight file at all").unwrap();
            let error = read_weights(&path).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("not a"), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_an_error_with_its_path() {
        let error = read_weights(Path::new("no/such.pth")).unwrap_err();
        assert!(error.to_string().starts_with("no/such.pth: cannot read"));
    }
}

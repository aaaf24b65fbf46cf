//! Weight files: safetensors.

use super::WeightError;
use super::quantization::{INPUT_SCALE, Quantization, QuantizedLayer, WEIGHT_SCALE};
use super::tensors::{HostTensor, TensorMap, TensorMismatch, finite};
use polynet_kernels::file::{read_at, read_f32_at};
use safetensors::tensor::{Dtype, Metadata};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

/// Opens a `.safetensors` file or, by any other ending, a PyTorch file.
///
/// # Errors
/// If the file cannot be read or is neither.
#[cfg(feature = "train")]
pub fn open_weights(path: &Path) -> Result<Box<dyn TensorSource>, WeightError> {
    Ok(
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => Box::new(WeightFile::open(path)?),
            _ => Box::new(super::pytorch::PyTorchFile::open(path)?),
        },
    )
}

/// Reads the floating-point tensors of a safetensors file as `f32`, whatever their values.
///
/// # Errors
/// If the file cannot be read or is not in the format.
pub fn read_safetensors(path: &Path) -> Result<TensorMap, WeightError> {
    WeightFile::open(path)?.read_all(path)
}

/// Tensors by name, read where they are.
pub trait TensorSource: Sync {
    /// Names and shapes of all.
    fn shapes(&self) -> Box<dyn Iterator<Item = (&str, &[usize])> + '_>;

    /// Names and types of tensors that are no floating-point numbers.
    fn others(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Which convolutions are rounded to bytes, if any.
    fn quantization(&self) -> Option<&Quantization> {
        None
    }

    /// The weights of a rounded convolution as whole numbers, where that is how they are kept.
    ///
    /// # Errors
    /// If they cannot be read.
    fn whole(&self, _: &str) -> Result<Option<Vec<i8>>, TensorMismatch> {
        Ok(None)
    }

    /// The elements of a tensor in row-major order.
    ///
    /// # Errors
    /// If they cannot be read, or one is infinite or no number.
    ///
    /// # Panics
    /// If there is no such tensor: check the names and shapes first.
    fn values(&self, name: &str) -> Result<Cow<'_, [f32]>, TensorMismatch>;
}

impl TensorSource for TensorMap {
    fn shapes(&self) -> Box<dyn Iterator<Item = (&str, &[usize])> + '_> {
        Box::new((self.iter()).map(|(name, tensor)| (name.as_str(), tensor.shape.as_slice())))
    }

    fn values(&self, name: &str) -> Result<Cow<'_, [f32]>, TensorMismatch> {
        let values = &self[name].values;
        finite(name, values)?;
        Ok(Cow::Borrowed(values))
    }
}

/// A safetensors file whose tensors are read one by one, when they are asked for.
#[derive(Debug)]
pub struct WeightFile {
    bytes: Bytes,
    entries: HashMap<String, Entry>,
    /// Tensors of other types, which are not read.
    others: Vec<(String, String)>,
    quantization: Quantization,
    /// What the header says beside the tensors.
    pub(crate) metadata: HashMap<String, String>,
}

/// What a weight file's bytes are read from.
#[derive(Debug)]
enum Bytes {
    File(File),
    /// A file that is a part of the program.
    Memory(&'static [u8]),
}

impl Bytes {
    fn len(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => Ok(file.metadata()?.len()),
            Self::Memory(bytes) => Ok(bytes.len() as u64),
        }
    }

    fn read_at(&self, place: u64, to: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File(file) => read_at(file, place, to),
            Self::Memory(bytes) => {
                let from = bytes.get(place as usize..).unwrap_or_default();
                let from = from.get(..to.len());
                to.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}

/// Where a tensor lies in its file.
#[derive(Debug)]
struct Entry {
    shape: Vec<usize>,
    dtype: Dtype,
    /// Bytes of the whole file.
    range: Range<u64>,
}

/// The longest header that is read, in bytes; the format's own bound.
const LONGEST_HEADER: u64 = 100_000_000;

impl WeightFile {
    /// Opens a file and reads what it holds, but no tensor yet.
    ///
    /// # Errors
    /// If the file cannot be read or is not in the format.
    pub fn open(path: &Path) -> Result<Self, WeightError> {
        let file = File::open(path).map_err(WeightError::io(path, "read the weights"))?;
        Self::of(Bytes::File(file), path)
    }

    /// A file that is a part of the program; `path` is its name in errors.
    pub(crate) fn of_memory(bytes: &'static [u8], path: &Path) -> Result<Self, WeightError> {
        Self::of(Bytes::Memory(bytes), path)
    }

    fn of(bytes: Bytes, path: &Path) -> Result<Self, WeightError> {
        let io = WeightError::io(path, "read the weights");
        let invalid = |error: &dyn std::fmt::Display| {
            WeightError::invalid(path, format!("not a safetensors file: {error}"))
        };
        let len = bytes.len().map_err(&io)?;
        let mut word = [0; 8];
        if len < 8 {
            return Err(invalid(&format!("it has {len} bytes")));
        }
        bytes.read_at(0, &mut word).map_err(&io)?;
        let header_len = u64::from_le_bytes(word);
        if header_len > LONGEST_HEADER.min(len - 8) {
            return Err(invalid(&format!("a header of {header_len} bytes in {len}")));
        }
        let mut header = vec![0; header_len as usize];
        bytes.read_at(8, &mut header).map_err(&io)?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| invalid(&error))?;
        let start = 8 + header_len;
        let expected = start + metadata.data_len() as u64;
        if len != expected {
            return Err(invalid(&format!(
                "its header asks for {expected} bytes, it has {len}"
            )));
        }
        let mut entries = HashMap::new();
        for (name, info) in metadata.tensors() {
            let entry = Entry {
                shape: info.shape.clone(),
                dtype: info.dtype,
                range: start + info.data_offsets.0 as u64..start + info.data_offsets.1 as u64,
            };
            entries.insert(name, entry);
        }
        let mut file = Self {
            bytes,
            entries,
            others: Vec::new(),
            quantization: Quantization::default(),
            metadata: metadata.metadata().clone().unwrap_or_default(),
        };
        file.quantization = file.take_scales(path)?;
        let is_read = |name: &str, entry: &Entry| {
            let is_rounded = file.quantization.layer_of(name).is_some();
            is_floating_point(entry.dtype) || is_rounded
        };
        let is_other = |(name, entry): &(&String, &Entry)| !is_read(name, entry);
        let others = file.entries.iter().filter(is_other);
        file.others = others
            .map(|(name, entry)| (name.clone(), entry.dtype.to_string()))
            .collect();
        file.others.iter().for_each(|(name, _)| {
            file.entries.remove(name);
        });
        Ok(file)
    }

    /// Takes the scales of rounded convolutions from among the tensors.
    fn take_scales(&mut self, path: &Path) -> Result<Quantization, WeightError> {
        let mut quantization = Quantization::default();
        let is_rounded = |(name, entry): (&String, &Entry)| {
            let layer = name.strip_suffix(".weight")?;
            let has = |suffix: &str| self.entries.contains_key(&format!("{layer}.{suffix}"));
            let has_scales = has(WEIGHT_SCALE) && has(INPUT_SCALE);
            let out_channels = entry.shape.first().copied().unwrap_or_default();
            (entry.dtype == Dtype::I8 && has_scales).then(|| (layer.to_owned(), out_channels))
        };
        let rounded: Vec<(String, usize)> = self.entries.iter().filter_map(is_rounded).collect();
        for (layer, out_channels) in rounded {
            let mut scales = |suffix: &str| {
                let name = format!("{layer}.{suffix}");
                let entry = self
                    .entries
                    .remove(&name)
                    .filter(|entry| entry.dtype == Dtype::F32);
                let values = entry.map(|entry| self.read(&entry)).transpose();
                let values = values.map_err(WeightError::io(path, "read the weights"))?;
                let is_scale = |scale: &f32| scale.is_normal() && *scale > 0.0;
                let values = values.filter(|values| values.iter().all(is_scale));
                let expected = || {
                    WeightError::invalid(path, format!("{name}: expected scales above 0 in f32"))
                };
                values
                    .filter(|values| !values.is_empty())
                    .ok_or_else(expected)
            };
            let (weight_scales, input_scales) = (scales(WEIGHT_SCALE)?, scales(INPUT_SCALE)?);
            if weight_scales.len() != out_channels {
                let found = weight_scales.len();
                let message = format!("{layer}: {found} scales for {out_channels} output channels");
                return Err(WeightError::invalid(path, message));
            }
            let scales = QuantizedLayer {
                weight_scales,
                input_scales,
            };
            quantization.layers.insert(layer, scales);
        }
        Ok(quantization)
    }

    /// All tensors; `path` is the file's.
    pub(crate) fn read_all(&self, path: &Path) -> Result<TensorMap, WeightError> {
        let tensors = self.entries.iter().map(|(name, entry)| {
            let values = self.read_named(name, entry);
            let values = values.map_err(WeightError::io(path, "read the weights"))?;
            let shape = entry.shape.clone();
            Ok((name.clone(), HostTensor { shape, values }))
        });
        tensors.collect()
    }

    /// The elements of a tensor, those of a rounded convolution times their scales.
    fn read_named(&self, name: &str, entry: &Entry) -> io::Result<Vec<f32>> {
        let mut values = self.read(entry)?;
        if let Some(layer) = self.quantization.layer_of(name) {
            layer.scale(&mut values);
        }
        Ok(values)
    }

    /// The elements of a tensor as they are in the file.
    fn read(&self, entry: &Entry) -> io::Result<Vec<f32>> {
        let convert: fn(&[u8]) -> Vec<f32> = match (entry.dtype, &self.bytes) {
            (Dtype::F64, _) => f64_values,
            (Dtype::F16, _) => f16_values,
            (Dtype::BF16, _) => bf16_values,
            (Dtype::I8, _) => i8_values,
            (_, Bytes::Memory(_)) => f32_values,
            (_, Bytes::File(file)) => {
                let mut values = vec![0.0; entry.shape.iter().product()];
                read_f32_at(file, entry.range.start, &mut values)?;
                return Ok(values);
            }
        };
        Ok(convert(&self.read_bytes(entry)?))
    }

    fn read_bytes(&self, entry: &Entry) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; (entry.range.end - entry.range.start) as usize];
        self.bytes.read_at(entry.range.start, &mut bytes)?;
        Ok(bytes)
    }
}

impl TensorSource for WeightFile {
    fn shapes(&self) -> Box<dyn Iterator<Item = (&str, &[usize])> + '_> {
        let entries = self.entries.iter();
        Box::new(entries.map(|(name, entry)| (name.as_str(), entry.shape.as_slice())))
    }

    fn others(&self) -> Vec<(String, String)> {
        self.others.clone()
    }

    fn whole(&self, name: &str) -> Result<Option<Vec<i8>>, TensorMismatch> {
        let entry = self.entries.get(name);
        let Some(entry) = entry.filter(|_| self.quantization.layer_of(name).is_some()) else {
            return Ok(None);
        };
        let bytes = self.read_bytes(entry);
        let bytes = bytes.map_err(|error| TensorMismatch::unreadable(name, &error))?;
        Ok(Some(bytes.into_iter().map(u8::cast_signed).collect()))
    }

    fn quantization(&self) -> Option<&Quantization> {
        (!self.quantization.is_empty()).then_some(&self.quantization)
    }

    fn values(&self, name: &str) -> Result<Cow<'_, [f32]>, TensorMismatch> {
        let values = self.read_named(name, &self.entries[name]);
        let values = values.map_err(|error| TensorMismatch::unreadable(name, &error))?;
        finite(name, &values)?;
        Ok(values.into())
    }
}

fn is_floating_point(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F64 | Dtype::F16 | Dtype::BF16)
}

pub(super) fn f64_values(bytes: &[u8]) -> Vec<f32> {
    let chunks = bytes.as_chunks::<8>().0.iter();
    chunks
        .map(|chunk| f64::from_le_bytes(*chunk) as f32)
        .collect()
}

fn f32_values(bytes: &[u8]) -> Vec<f32> {
    let chunks = bytes.as_chunks::<4>().0.iter();
    chunks.map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

fn i8_values(bytes: &[u8]) -> Vec<f32> {
    bytes
        .iter()
        .map(|byte| f32::from(byte.cast_signed()))
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

#[cfg(test)]
#[cfg(feature = "train")]
mod tests {
    use super::super::writing::{TensorRef, write_safetensors};
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
        assert_eq!(read_safetensors(&path).unwrap()["t"], tensor);
    }

    #[test]
    fn half_precision_is_for_weights_that_it_can_hold() {
        use crate::params::{ModelConfig, ModelFolder, Params};
        let folder = tempfile::tempdir().unwrap();
        let text = "small-ir-1-2-1; width = 0.0625; classes = 2";
        let architecture: crate::arch::Architecture = text.parse().unwrap();
        let graph = architecture.graph().unwrap();
        let classes = ["a", "b"].map(str::to_owned).to_vec();
        let config = ModelConfig::new(
            &architecture,
            crate::data::ClassNames::new(classes).unwrap(),
            crate::data::Preprocessing::small(32),
            "a test",
        );
        let mut params = Params::init(&graph, 1);
        // Ones and zeros would be the same in half precision.
        params.tensors_mut().for_each(|tensor| tensor[0] = 0.1);
        let mut model = ModelFolder {
            config,
            architecture,
            graph,
            params,
        };
        let half = folder.path().join("half");
        model.save_half(&half).unwrap();
        let read = ModelFolder::open(&half).unwrap().params;
        for ((spec, written), (_, found)) in model.params.iter().zip(read.iter()) {
            let rounded = |value: &f32| half::f16::from_f32(*value).to_f32();
            let expected: Vec<f32> = match spec.shape.len() {
                1 => written.to_vec(),
                _ => written.iter().map(rounded).collect(),
            };
            assert_eq!(found, expected, "{}", spec.name);
        }
        // A weight of the stem; then nothing is written.
        model.params.tensors_mut().next().unwrap()[0] = -7e4;
        let refused = folder.path().join("refused");
        let error = model.save_half(&refused).unwrap_err().to_string();
        assert!(error.contains("stem") && error.contains("65504"), "{error}");
        assert!(!refused.exists());
    }

    #[test]
    fn text_is_no_weight_file() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.safetensors", "a.pth"] {
            let path = folder.path().join(name);
            std::fs::write(&path, "hello, this is no weight file at all").unwrap();
            let error = open_weights(&path).err().unwrap().to_string();
            assert!(error.contains(name) && error.contains("not a"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_cut_short_is_an_error_whenever_it_happens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let tensor = TensorRef::new("t", &[3], &[1.0, 2.0, 3.0]);
        write_safetensors(&path, &[tensor], None).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let opened = WeightFile::open(&path).unwrap();
        assert_eq!(*opened.values("t").unwrap(), [1.0, 2.0, 3.0]);
        for len in [whole.len() - 1, whole.len() - 12, 20, 8, 7, 0] {
            std::fs::File::options()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_len(len as u64))
                .unwrap();
            let error = opened.values("t").unwrap_err().to_string();
            assert!(error.starts_with("cannot read the tensor t"), "{error}");
            let error = WeightFile::open(&path).unwrap_err().to_string();
            assert!(error.contains("not a safetensors file"), "{len}: {error}");
        }
        std::fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
        assert!(WeightFile::open(&path).is_err());
    }

    #[test]
    fn a_missing_file_is_an_error_with_its_path() {
        let error = open_weights(Path::new("no/such.pth")).err().unwrap();
        assert!(error.to_string().starts_with("no/such.pth: cannot read"));
    }
}

//! Weight files, written: which numbers a tensor is kept in.

#[cfg(feature = "train")]
use super::WeightError;
#[cfg(feature = "train")]
use super::quantization::{INPUT_SCALE, Quantization, QuantizedLayer, WEIGHT_SCALE};
#[cfg(feature = "train")]
use safetensors::tensor::{Dtype, View};
use std::borrow::Cow;
#[cfg(feature = "train")]
use std::{collections::HashMap, path::Path};

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

#[cfg(feature = "train")]
/// What the weights of convolutions and the classifier are stored in; all other tensors are in `f32`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Storage<'a> {
    /// 32 bits: every bit of what was trained.
    Full,
    /// 16 bits (IEEE's binary16), half as large.
    Half,
    /// 8 bits where a convolution is rounded, else 32.
    Bytes(&'a Quantization),
}

#[cfg(feature = "train")]
impl Storage<'_> {
    fn is_half(self, tensor: &TensorRef<'_>) -> bool {
        self == Self::Half && tensor.shape.len() > 1
    }

    /// The tensors of scales that stand beside the others.
    fn scales(self) -> Vec<TensorRef<'static>> {
        let Self::Bytes(quantization) = self else {
            return Vec::new();
        };
        let tensor = |layer: &str, suffix: &str, values: &[f32]| TensorRef {
            name: format!("{layer}.{suffix}").into(),
            shape: vec![values.len()].into(),
            values: values.to_vec().into(),
        };
        let both = |(name, layer): (&str, &QuantizedLayer)| {
            [
                tensor(name, WEIGHT_SCALE, &layer.weight_scales),
                tensor(name, INPUT_SCALE, &layer.input_scales),
            ]
        };
        quantization.layers().flat_map(both).collect()
    }

    /// The first of some tensors that has a number which this can't hold.
    pub(super) fn refuses<'a>(self, tensors: &'a [TensorRef<'_>]) -> Option<&'a str> {
        let largest = half::f16::MAX.to_f32();
        let is_too_large = |tensor: &&TensorRef<'_>| {
            self.is_half(tensor) && tensor.values.iter().any(|value| value.abs() > largest)
        };
        Some(&*tensors.iter().find(is_too_large)?.name)
    }
}

#[cfg(feature = "train")]
/// A tensor and how it is written.
struct Stored<'a> {
    tensor: &'a TensorRef<'a>,
    form: Form<'a>,
}

#[cfg(feature = "train")]
#[derive(Clone, Copy)]
enum Form<'a> {
    Full,
    Half,
    Bytes(&'a QuantizedLayer),
}

#[cfg(feature = "train")]
impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        match self.form {
            Form::Full => Dtype::F32,
            Form::Half => Dtype::F16,
            Form::Bytes(_) => Dtype::I8,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = self.tensor.values.iter();
        match self.form {
            Form::Full => values.flat_map(|value| value.to_le_bytes()).collect(),
            Form::Half => {
                let half = values.map(|value| half::f16::from_f32(*value));
                half.flat_map(half::f16::to_le_bytes).collect()
            }
            Form::Bytes(layer) => {
                let rounded = layer.rounded(&self.tensor.values).into_iter();
                rounded.map(i8::cast_unsigned).collect()
            }
        }
    }

    fn data_len(&self) -> usize {
        let element = match self.form {
            Form::Full => 4,
            Form::Half => 2,
            Form::Bytes(_) => 1,
        };
        self.tensor.values.len() * element
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
    write_stored(path, tensors, Storage::Full, metadata)
}

#[cfg(feature = "train")]
/// As [`write_safetensors`], with a choice of numbers.
pub(super) fn write_stored(
    path: &Path,
    tensors: &[TensorRef<'_>],
    storage: Storage<'_>,
    metadata: Option<HashMap<String, String>>,
) -> Result<(), WeightError> {
    let scales = storage.scales();
    let form = |tensor: &TensorRef<'_>| match storage {
        Storage::Bytes(quantization) => {
            let layer = quantization.layer_of(&tensor.name);
            layer.map_or(Form::Full, Form::Bytes)
        }
        storage if storage.is_half(tensor) => Form::Half,
        _ => Form::Full,
    };
    let named = tensors.iter().chain(&scales).map(|tensor| {
        let form = form(tensor);
        (&tensor.name, Stored { tensor, form })
    });
    let serialized = safetensors::serialize(named, metadata)
        .map_err(|error| WeightError::invalid(path, error))?;
    crate::files::write_atomically(path, |file| file.write_all(&serialized))
        .map_err(|error| WeightError::io(path, "write the weights")(error.into_source()))
}

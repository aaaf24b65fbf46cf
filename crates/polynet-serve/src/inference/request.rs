//! Inference requests: JSON, with tensors in it or after it.

use super::numbers::Numbers;
use super::{INPUT, numbers_of};
use crate::failure::Failure;
use crate::models::LoadedModel;
use crate::shared::object;
use image::RgbImage;
use polynet::data::printable;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::Duration;

/// A request, with its input as the network sees it.
#[derive(Debug)]
pub(super) struct InferenceRequest {
    pub(super) id: Option<String>,
    /// `[images, 3, size, size]`.
    pub(super) inputs: Vec<f32>,
    pub(super) outputs: Vec<Output>,
    /// How long its client waits.
    pub(super) timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tensor {
    Logits,
    Probabilities,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Json,
    Binary,
}

/// A tensor that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) tensor: Tensor,
    pub(super) coding: Coding,
}

impl Tensor {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Logits => "logits",
            Self::Probabilities => "probabilities",
        }
    }
}

type Parameters = Map<String, Value>;

#[derive(Deserialize)]
struct Header {
    id: Option<String>,
    #[serde(default)]
    parameters: Parameters,
    inputs: Vec<InputHeader>,
    #[serde(default)]
    outputs: Vec<OutputHeader>,
}

#[derive(Deserialize)]
struct InputHeader {
    name: String,
    shape: Vec<u64>,
    datatype: String,
    #[serde(default)]
    parameters: Parameters,
    data: Option<Numbers>,
}

#[derive(Deserialize)]
struct OutputHeader {
    name: String,
    #[serde(default)]
    parameters: Parameters,
}

/// Parameters that ask for what is not offered.
const NOT_OFFERED: [&str; 6] = [
    "classification",
    "sequence_id",
    "sequence_start",
    "sequence_end",
    "shared_memory_region",
    "shared_memory_byte_size",
];

impl Header {
    /// A parameter that asks for what is not offered.
    fn not_offered(&self) -> Option<&'static str> {
        let inputs = self.inputs.iter().map(|input| &input.parameters);
        let outputs = self.outputs.iter().map(|output| &output.parameters);
        let mut keys = [&self.parameters]
            .into_iter()
            .chain(inputs)
            .chain(outputs)
            .flat_map(Map::keys);
        keys.find_map(|key| NOT_OFFERED.into_iter().find(|name| name == key))
    }
}

impl InferenceRequest {
    /// Reads a request whose first `header` bytes are JSON.
    ///
    /// # Errors
    /// If it is none, does not fit the model, or asks for what is not offered.
    pub(super) fn read(body: &[u8], header: usize, model: &LoadedModel) -> Result<Self, Failure> {
        let (json, binary) = body.split_at(header.min(body.len()));
        let header: Header = object(json, "an inference request as JSON")?;
        if let Some(name) = header.not_offered() {
            let message = format!("`{name}` is not offered; send the request without it");
            return Err(Failure::bad_request(message));
        }
        let coding = match flag(&header.parameters, "binary_data_output")? {
            Some(true) => Coding::Binary,
            _ => Coding::Json,
        };
        let outputs = outputs(&header.outputs, coding)?;
        let timeout = timeout(&header.parameters)?;
        let mut inputs = header.inputs;
        let input = match (inputs.pop(), inputs.as_slice()) {
            (Some(input), []) if input.name == INPUT => input,
            (last, others) => {
                let names = others.iter().chain(&last).map(|input| input.name.as_str());
                let names: Vec<&str> = names.collect();
                return Err(Failure::bad_request(format!(
                    "expected one input, `{INPUT}`, got {}",
                    printable(&format!("{names:?}"))
                )));
            }
        };
        Ok(Self {
            id: header.id,
            inputs: input.read(binary, model)?,
            outputs,
            timeout,
        })
    }
}

/// A parameter that is true or false.
fn flag(parameters: &Parameters, name: &str) -> Result<Option<bool>, Failure> {
    match parameters.get(name) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(other) => {
            let message = format!("expected `{name}` to be true or false, got {other}");
            Err(Failure::bad_request(message))
        }
    }
}

/// Microseconds; none, or 0, is as long as the server allows.
fn timeout(parameters: &Parameters) -> Result<Option<Duration>, Failure> {
    let Some(value) = parameters.get("timeout") else {
        return Ok(None);
    };
    let microseconds = value.as_u64().ok_or_else(|| {
        let message = format!("expected `timeout` as a number of microseconds, got {value}");
        Failure::bad_request(message)
    })?;
    Ok((microseconds > 0).then(|| Duration::from_micros(microseconds)))
}

fn outputs(asked: &[OutputHeader], coding: Coding) -> Result<Vec<Output>, Failure> {
    let all = [Tensor::Logits, Tensor::Probabilities];
    if asked.is_empty() {
        return Ok(all.map(|tensor| Output { tensor, coding }).to_vec());
    }
    let output = |header: &OutputHeader| {
        let named = all.into_iter().find(|tensor| tensor.name() == header.name);
        let tensor = named.ok_or_else(|| {
            Failure::bad_request(format!(
                "expected outputs among `logits` and `probabilities`, got `{}`",
                printable(&header.name)
            ))
        })?;
        let coding = match flag(&header.parameters, "binary_data")? {
            None => coding,
            Some(true) => Coding::Binary,
            Some(false) => Coding::Json,
        };
        Ok(Output { tensor, coding })
    };
    let outputs = asked
        .iter()
        .map(output)
        .collect::<Result<Vec<_>, Failure>>()?;
    let twice = |output: &Output| {
        outputs
            .iter()
            .filter(|other| other.tensor == output.tensor)
            .count()
            > 1
    };
    match outputs.iter().find(|output| twice(output)) {
        None => Ok(outputs),
        Some(output) => {
            let message = format!(
                "expected each output once, got `{}` twice",
                output.tensor.name()
            );
            Err(Failure::bad_request(message))
        }
    }
}

impl InputHeader {
    /// The input as the network sees it, from the JSON or from the bytes after it.
    fn read(self, binary: &[u8], model: &LoadedModel) -> Result<Vec<f32>, Failure> {
        let size = model.preprocessing().input_size as u64;
        match (self.datatype.as_str(), self.shape.as_slice()) {
            ("FP32", &[images, 3, height, width]) if images > 0 && [height, width] == [size; 2] => {
                let numbers = self.numbers(binary, numbers_of(model, images), 4, |bytes| {
                    f32::from_le_bytes(bytes.try_into().unwrap_or_default())
                })?;
                if numbers.iter().all(|number| number.is_finite()) {
                    return Ok(numbers);
                }
                let message = "expected finite numbers as input, got an infinite one or none (NaN)";
                Err(Failure::bad_request(message))
            }
            ("UINT8", &[images, height, width, 3]) if images.min(height).min(width) > 0 => {
                let elements = self.shape.iter().try_fold(1, |all, &n| {
                    usize::try_from(n)
                        .ok()
                        .and_then(|n: usize| n.checked_mul(all))
                });
                let numbers = self.numbers(binary, elements, 1, |bytes| f32::from(bytes[0]))?;
                pictures(&numbers, (height, width), model)
            }
            _ => Err(Failure::bad_request(format!(
                "expected `{INPUT}` as FP32 [n, 3, {size}, {size}], preprocessed pixels, or as UINT8 \
                 [n, height, width, 3], RGB pictures, with n at least 1; got {} {:?}",
                printable(&self.datatype),
                self.shape
            ))),
        }
    }

    /// `elements` numbers, as many as the shape says; `width` bytes each where they are binary.
    fn numbers(
        &self,
        binary: &[u8],
        elements: Option<usize>,
        width: usize,
        number: impl Fn(&[u8]) -> f32,
    ) -> Result<Vec<f32>, Failure> {
        let wrong = |came: String| {
            let message = format!(
                "expected the numbers of a tensor {:?}, got {came}",
                self.shape
            );
            Err(Failure::bad_request(message))
        };
        let size = self.parameters.get("binary_data_size");
        match (&self.data, size) {
            (Some(Numbers(numbers)), None) if binary.is_empty() => {
                if Some(numbers.len()) == elements {
                    Ok(numbers.clone())
                } else {
                    wrong(format!("{} of them", numbers.len()))
                }
            }
            (None, Some(size)) => {
                let bytes = elements.and_then(|elements| elements.checked_mul(width));
                if bytes.is_some()
                    && size.as_u64() == bytes.map(|n| n as u64)
                    && bytes == Some(binary.len())
                {
                    Ok(binary.chunks_exact(width).map(number).collect())
                } else {
                    wrong(format!(
                        "`binary_data_size` {size} and {} bytes after the JSON",
                        binary.len()
                    ))
                }
            }
            (Some(_), _) => wrong("`data` and bytes besides; send one of them".to_owned()),
            (None, None) => wrong("neither `data` nor `binary_data_size`".to_owned()),
        }
    }
}

/// Pictures `[n, height, width, 3]` of numbers from 0 to 255, prepared for the model.
fn pictures(
    numbers: &[f32],
    (height, width): (u64, u64),
    model: &LoadedModel,
) -> Result<Vec<f32>, Failure> {
    let sizes = [width, height].map(|size| u32::try_from(size).ok());
    let ([Some(width), Some(height)], Ok(picture)) = (sizes, usize::try_from(3 * width * height))
    else {
        return Err(Failure::bad_request("the pictures have too many pixels"));
    };
    if !numbers
        .iter()
        .all(|n| (0.0..=255.0).contains(n) && n.fract() == 0.0)
    {
        let message = "expected UINT8 numbers, whole ones from 0 to 255, got another";
        return Err(Failure::bad_request(message));
    }
    let mut inputs = Vec::new();
    for numbers in numbers.chunks_exact(picture) {
        let bytes = numbers.iter().map(|n| *n as u8).collect();
        let picture = RgbImage::from_raw(width, height, bytes);
        inputs.extend(
            picture
                .iter()
                .flat_map(|picture| model.preprocessing().apply(picture)),
        );
    }
    Ok(inputs)
}

//! ONNX: the graph as operators that many runtimes know.
//!
//! An image's axes are `[batch, 3, height, width]`, all but the channels of any size: the classifier reads
//! the mean of the last map, whatever its size. The result `logits` is `[batch, classes]`.
//!
//! ```no_run
//! use polynet::ModelFolder;
//! use polynet::export::{OnnxOptions, write_onnx};
//!
//! let model = ModelFolder::open("runs/first/model".as_ref())?;
//! write_onnx("first.onnx".as_ref(), &model, &OnnxOptions::default())?;
//! # Ok::<(), polynet::WeightError>(())
//! ```

mod layers;
mod message;

use crate::files::write_atomically;
use crate::params::{ModelFolder, WeightError};
use crate::protobuf::Message;
use layers::Layers;
use message::{Axis, ElementType};
use serde::Serialize;
use std::io::{BufWriter, Write};
use std::path::Path;

/// The input's name.
const INPUT: &str = "images";
/// The result's name.
const OUTPUT: &str = "logits";
/// What protobuf can hold. More would have to lie in files beside it.
const LARGEST: usize = i32::MAX as usize;

/// How a model is written as ONNX.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnnxOptions {
    /// What becomes of batch norm.
    pub batch_norm: BatchNormForm,
    /// What the graph takes.
    pub input: OnnxInput,
    /// Under which terms the weights may be used, for the file's metadata.
    pub license: Option<String>,
}

/// What becomes of a batch norm that follows a convolution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BatchNormForm {
    /// It is part of the convolution's weights, and so are residual scales; dropout is left out. For
    /// prediction.
    #[default]
    Folded,
    /// It is an operator with the model's own tensors by their own names, and so is dropout. For training.
    Kept,
}

/// What the graph takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnnxInput {
    /// `f32`, `[batch, 3, height, width]`, prepared as the model's preprocessing says.
    #[default]
    Prepared,
    /// Bytes of red, green and blue, `[batch, height, width, 3]`, resized and cropped; the graph normalises.
    BytesNhwc,
    /// As [`OnnxInput::BytesNhwc`], `[batch, 3, height, width]`.
    BytesNchw,
}

/// Writes a model as an ONNX file of opset 17, whole or not at all. Resizing and cropping are no part of it:
/// no operator of ONNX does them as the model wants it.
///
/// # Errors
/// If the file cannot be written or would have more than 2 GiB.
pub fn write_onnx(
    path: &Path,
    model: &ModelFolder,
    options: &OnnxOptions,
) -> Result<(), WeightError> {
    let mut layers = Layers::new(model, options.batch_norm);
    let images = prepared(&mut layers, model, options.input);
    layers.graph(images);
    let (nodes, initializers) = layers.finish();
    let classes = model.architecture.num_classes;
    let output = [Axis::Any("batch"), Axis::Size(classes)];
    let output = message::value(OUTPUT, ElementType::Float, &output);
    let graph = message::graph(nodes, initializers, input(options.input), output);
    let file = message::model(graph, &metadata(model, options));
    check_size(path, file.len())?;
    write_atomically(path, |to| {
        let mut to = BufWriter::new(to);
        file.write_to(&mut to)?;
        to.flush()
    })
    .map_err(|error| WeightError::io(path, "write the model")(error.into_source()))
}

fn check_size(path: &Path, bytes: usize) -> Result<(), WeightError> {
    if bytes <= LARGEST {
        return Ok(());
    }
    let message = format!(
        "the model takes {bytes} bytes as ONNX, where a file holds {LARGEST}; weights in files beside it are \
         not written: export a smaller network"
    );
    Err(WeightError::invalid(path, message))
}

fn input(input: OnnxInput) -> Message<'static> {
    let (batch, channels) = (Axis::Any("batch"), Axis::Size(3));
    let (height, width) = (Axis::Any("height"), Axis::Any("width"));
    let (element, axes) = match input {
        OnnxInput::Prepared => (ElementType::Float, [batch, channels, height, width]),
        OnnxInput::BytesNhwc => (ElementType::Uint8, [batch, height, width, channels]),
        OnnxInput::BytesNchw => (ElementType::Uint8, [batch, channels, height, width]),
    };
    message::value(INPUT, element, &axes)
}

/// The name of the image as the network takes it: `(bytes / 255 - mean) / std`, rounded as everywhere.
fn prepared(layers: &mut Layers<'_>, model: &ModelFolder, input: OnnxInput) -> String {
    let preprocessing = &model.config.preprocessing;
    let mut image = INPUT.to_owned();
    match input {
        OnnxInput::Prepared => return image,
        OnnxInput::BytesNchw => {}
        OnnxInput::BytesNhwc => image = layers.channels_first(&image),
    }
    image = layers.floats(&image);
    for (operator, name, values) in [
        ("Div", "preprocessing.255", [255.0; 3]),
        ("Sub", "preprocessing.mean", preprocessing.mean),
        ("Div", "preprocessing.std", preprocessing.std),
    ] {
        image = layers.by_channel(operator, name, &image, values.to_vec());
    }
    image
}

/// What the model is apart from its graph.
fn metadata(model: &ModelFolder, options: &OnnxOptions) -> Vec<(&'static str, String)> {
    let config = &model.config;
    let mut entries = vec![
        ("architecture", config.architecture.clone()),
        ("classes", json(&config.classes)),
        ("preprocessing", json(&config.preprocessing)),
        ("origin", config.origin.clone()),
    ];
    entries.extend(options.license.clone().map(|license| ("license", license)));
    entries
}

/// As `config.json` has it.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("lists and tables of texts and numbers are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_protobuf_holds_is_refused_before_it_is_written() {
        let path = Path::new("large.onnx");
        check_size(path, LARGEST).unwrap();
        let error = check_size(path, LARGEST + 1).unwrap_err().to_string();
        assert!(error.contains("takes 2147483648 bytes"), "{error}");
    }
}

//! Inference responses: JSON, with tensors in it or after it.

use super::HEADER_LENGTH;
use super::request::{Coding, Output, Tensor};
use crate::failure::Failure;
use crate::models::LoadedModel;
use crate::shared::{answer, json};
use axum::http::HeaderValue;
use axum::response::Response;
use polynet::probabilities;
use serde::Serialize;
use std::borrow::Cow;

#[derive(Serialize)]
struct Header<'a> {
    model_name: &'a str,
    model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<OutputHeader<'a>>,
}

#[derive(Serialize)]
struct OutputHeader<'a> {
    name: &'static str,
    datatype: &'static str,
    shape: [usize; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Cow<'a, [f32]>>,
}

#[derive(Serialize)]
struct BinarySize {
    binary_data_size: usize,
}

/// The answer to a request for these outputs, from logits `[images, classes]`.
pub(super) fn response(
    model: &LoadedModel,
    id: Option<&str>,
    outputs: &[Output],
    logits: &[f32],
) -> Result<Response, Failure> {
    let classes = model.classes().len();
    let mut header = Header {
        model_name: model.name(),
        model_version: model.version().to_string(),
        id,
        outputs: Vec::new(),
    };
    let mut binary: Vec<u8> = Vec::new();
    for output in outputs {
        let values = values(output.tensor, logits, classes);
        let (parameters, data) = match output.coding {
            Coding::Json => (None, Some(values)),
            Coding::Binary => {
                binary.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                let binary_data_size = size_of_val(&*values);
                (Some(BinarySize { binary_data_size }), None)
            }
        };
        header.outputs.push(OutputHeader {
            name: output.tensor.name(),
            datatype: "FP32",
            shape: [logits.len() / classes, classes],
            parameters,
            data,
        });
    }
    if outputs.iter().all(|output| output.coding == Coding::Json) {
        return json(&header);
    }
    let mut body = serde_json::to_vec(&header).map_err(|error| {
        tracing::error!(%error, "an inference response is no JSON");
        Failure::internal()
    })?;
    let length = body.len();
    body.extend(binary);
    let mut response = answer("application/octet-stream", body);
    response
        .headers_mut()
        .insert(HEADER_LENGTH, HeaderValue::from(length));
    Ok(response)
}

fn values(tensor: Tensor, logits: &[f32], classes: usize) -> Cow<'_, [f32]> {
    match tensor {
        Tensor::Logits => Cow::Borrowed(logits),
        Tensor::Probabilities => {
            let rows = logits.chunks_exact(classes);
            let all = rows.flat_map(probabilities);
            all.map(|probability| probability as f32).collect()
        }
    }
}

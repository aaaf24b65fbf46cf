//! The Open Inference Protocol, version 2, over HTTP.
//!
//! | tensor | datatype, shape | holds |
//! |---|---|---|
//! | `input` | FP32 `[n, 3, size, size]` | pixels as the model's preprocessing makes them |
//! | `input` | UINT8 `[n, height, width, 3]` | RGB pictures of any size, which the server prepares |
//! | `logits`, `probabilities` | FP32 `[n, classes]` | what is asked for; both unless anything is |
//!
//! Numbers are JSON, or follow it as bytes (the extension for binary data).

mod numbers;
mod request;
mod response;

use crate::body::Payload;
use crate::failure::{Failure, Kind};
use crate::models::LoadedModel;
use crate::shared::{Shared, Target, json};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::Response;
use request::InferenceRequest;
use serde_json::json;
use std::sync::Arc;
use tokio::time::Instant;

/// Bytes of the JSON before binary tensors.
const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
const INPUT: &str = "input";

/// `GET /v2`.
pub(crate) async fn server() -> Result<Response, Failure> {
    json(&json!({
        "name": "polynet",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": ["binary_tensor_data", "model_repository"],
    }))
}

/// `GET /v2/health/live`.
pub(crate) async fn live() -> Result<Response, Failure> {
    json(&json!({ "live": true }))
}

/// `GET /v2/health/ready`.
pub(crate) async fn ready(State(shared): State<Arc<Shared>>) -> Result<Response, Failure> {
    if shared.is_stopping() {
        let message = "the server is stopping; ask another";
        return Err(Failure::new(Kind::Stopping, message));
    }
    if !shared.models.are_ready() {
        let message = "no model is loaded; load one: POST /v2/repository/models/NAME/load";
        return Err(Failure::new(Kind::NotLoaded, message));
    }
    json(&json!({ "ready": true }))
}

/// `GET /v2/models/NAME/ready`.
pub(crate) async fn model_ready(
    State(shared): State<Arc<Shared>>,
    target: Target,
) -> Result<Response, Failure> {
    let model = shared.model(&target)?;
    json(&json!({ "name": model.name(), "ready": true }))
}

/// `GET /v2/models/NAME`.
pub(crate) async fn model(
    State(shared): State<Arc<Shared>>,
    target: Target,
) -> Result<Response, Failure> {
    let model = shared.model(&target)?;
    let size = model.preprocessing().input_size;
    let outputs = ["logits", "probabilities"].map(
        |name| json!({ "name": name, "datatype": "FP32", "shape": [-1, model.classes().len()] }),
    );
    json(&json!({
        "name": model.name(),
        "versions": shared.models.versions(model.name()),
        "platform": "polynet",
        "inputs": [{ "name": INPUT, "datatype": "FP32", "shape": [-1, 3, size, size] }],
        "outputs": outputs,
        "parameters": {
            "architecture": model.config().architecture,
            "classes": model.classes(),
        },
    }))
}

/// `POST /v2/models/NAME/infer`.
pub(crate) async fn infer(
    State(shared): State<Arc<Shared>>,
    target: Target,
    headers: HeaderMap,
    payload: Payload,
) -> Result<Response, Failure> {
    let start = Instant::now();
    let model = shared.model(&target)?;
    let place = shared.compute.admit()?;
    let header = header_length(&headers, payload.bytes.len())?;
    let reading = Arc::clone(&model);
    let read = move || InferenceRequest::read(&payload.bytes, header, &reading);
    let request = shared
        .in_time(start, None, shared.compute.decode(read))
        .await?;
    let InferenceRequest {
        id,
        inputs,
        outputs,
        timeout,
    } = request;
    let work = shared.compute.logits(place, &model, inputs);
    let logits = shared.in_time(start, timeout, work).await?;
    response::response(&model, id.as_deref(), &outputs, &logits)
}

/// Bytes of the JSON: what the header says, or the whole body.
fn header_length(headers: &HeaderMap, body: usize) -> Result<usize, Failure> {
    let Some(value) = headers.get(HEADER_LENGTH) else {
        return Ok(body);
    };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.filter(|length| *length <= body).ok_or_else(|| {
        Failure::bad_request(format!(
            "expected Inference-Header-Content-Length as the bytes of JSON that a body of {body} bytes \
             begins with, got {value:?}"
        ))
    })
}

/// Numbers of `n` images of a model.
fn numbers_of(model: &LoadedModel, images: u64) -> Option<usize> {
    usize::try_from(images).ok()?.checked_mul(model.input_len())
}

//! The protocol's extension that loads, replaces and unloads models.

use crate::body::Payload;
use crate::failure::{Failure, Kind};
use crate::options::Control;
use crate::shared::{Shared, Target, json, object};
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

#[derive(Deserialize)]
struct IndexQuestion {
    /// Only what is ready.
    #[serde(default)]
    ready: bool,
}

/// A body that may be missing.
fn read<'a, T: Deserialize<'a>>(payload: &'a Payload) -> Result<T, Failure> {
    let bytes = payload.bytes.as_ref();
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    object(bytes, "a JSON object or no body")
}

/// `POST /v2/repository/index`.
pub(crate) async fn index(
    State(shared): State<Arc<Shared>>,
    payload: Payload,
) -> Result<Response, Failure> {
    let question: IndexQuestion = read(&payload)?;
    let index = in_background(move || {
        let mut rows = shared.models.index();
        rows.retain(|row| !question.ready || row.state == "READY");
        Ok(rows)
    });
    json(&index.await?)
}

#[derive(Deserialize)]
struct Change {
    #[serde(default)]
    parameters: Map<String, Value>,
}

impl Change {
    /// Reads a change that the server lets clients make.
    fn read(shared: &Shared, payload: &Payload) -> Result<(), Failure> {
        if shared.options.control == Control::Fixed {
            let message = "this server's models are fixed; start it with --control to let clients load \
                           and unload them";
            return Err(Failure::new(Kind::Forbidden, message));
        }
        let change: Self = read(payload)?;
        // No model depends on another, so that all who depend on it are unloaded in either case.
        let mut parameters = change.parameters.iter();
        let known =
            |(key, value): &(&String, &Value)| *key == "unload_dependents" && value.is_boolean();
        match parameters.find(|parameter| !known(parameter)) {
            None => Ok(()),
            Some((key, _)) => Err(Failure::bad_request(format!(
                "expected no parameter but `unload_dependents`, true or false, got `{}`; a \
                 model's files come from its folder on the server",
                polynet::data::printable(key)
            ))),
        }
    }
}

/// `POST /v2/repository/models/NAME/load`.
pub(crate) async fn load(
    State(shared): State<Arc<Shared>>,
    target: Target,
    payload: Payload,
) -> Result<Response, Failure> {
    Change::read(&shared, &payload)?;
    in_background(move || shared.models.load(&target.name)).await?;
    json(&json!({}))
}

/// `POST /v2/repository/models/NAME/unload`.
pub(crate) async fn unload(
    State(shared): State<Arc<Shared>>,
    target: Target,
    payload: Payload,
) -> Result<Response, Failure> {
    Change::read(&shared, &payload)?;
    in_background(move || shared.models.unload(&target.name)).await?;
    json(&json!({}))
}

/// Does what reads files, or frees a model, away from the thread that serves connections.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Failure::internal()))
}

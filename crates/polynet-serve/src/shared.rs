//! What all requests of a server share, and what handlers take from a request.

use crate::body::{Bodies, Payload};
use crate::compute::Compute;
use crate::failure::{Failure, Kind};
use crate::metrics::Metrics;
use crate::models::{LoadedModel, Models};
use crate::options::Options;
use crate::runs::Runs;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) models: Models,
    pub(crate) compute: Compute,
    pub(crate) bodies: Bodies,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) runs: Runs,
    pub(crate) stopping: AtomicBool,
}

impl Shared {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The model that an address names; the server's only one where it names none.
    ///
    /// # Errors
    /// As [`Models::find`] and [`Models::only`].
    pub(crate) fn model(&self, target: &Target) -> Result<Arc<LoadedModel>, Failure> {
        match target.name.as_str() {
            "" => self.models.only(),
            name => self.models.find(name, target.version.as_deref()),
        }
    }

    /// What `work` gives before the deadline, which counts from `start`; a request may ask for an
    /// earlier one.
    pub(crate) async fn in_time<T>(
        &self,
        start: Instant,
        asked: Option<Duration>,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let limit = self.options.limits.deadline;
        let wait = asked.map_or(limit, |asked| asked.min(limit));
        let done = timeout_at(start + wait, work).await;
        done.unwrap_or_else(|_| {
            let message = format!(
                "no answer within {} s; try again when the server has less to do, or allow more",
                wait.as_secs_f64()
            );
            Err(Failure::new(Kind::Deadline, message))
        })
    }
}

/// The model that an address names.
#[derive(Debug)]
pub(crate) struct Target {
    /// Empty where the address names none.
    pub(crate) name: String,
    pub(crate) version: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path: Result<Path<HashMap<String, String>>, PathRejection> =
            Path::from_request_parts(parts, state).await;
        let mut names = match path {
            Ok(Path(names)) => names,
            Err(PathRejection::MissingPathParams(_)) => HashMap::new(),
            Err(error) => {
                let message = format!("expected a model's name in the address: {error}");
                return Err(Failure::bad_request(message));
            }
        };
        Ok(Self {
            name: names.remove("name").unwrap_or_default(),
            version: names.remove("version"),
        })
    }
}

impl FromRequest<Arc<Shared>> for Payload {
    type Rejection = Failure;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        shared.bodies.read(&parts.headers, body).await
    }
}

/// A body of a type.
pub(crate) fn answer(kind: &'static str, body: impl IntoResponse) -> Response {
    let mut response = body.into_response();
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// A value as JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<Response, Failure> {
    let text = serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "an answer is no JSON");
        Failure::internal()
    })?;
    Ok(answer("application/json", text))
}

/// A JSON object. Lists, which serde takes for structs, are none.
pub(crate) fn object<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T, Failure> {
    let wrong = |error: &dyn Display| Failure::bad_request(format!("expected {what}: {error}"));
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(wrong(&"it does not begin with `{`"));
    }
    serde_json::from_slice(bytes).map_err(|error| wrong(&error))
}

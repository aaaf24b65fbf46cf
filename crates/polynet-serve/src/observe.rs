//! Each request's identity, its line in the log and its counts.

use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::shared::Shared;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::X_CONTENT_TYPE_OPTIONS;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Gives a request an id, or keeps the one that it has; counts it and logs it when it is answered or
/// its client has left.
pub(crate) async fn observe(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let id = request_id(request.headers());
    let trace = traceparent(request.headers());
    let route = request.extensions().get::<MatchedPath>();
    let mut watched = Watched {
        started: Instant::now(),
        route: route.map_or_else(|| "none".to_owned(), |route| route.as_str().to_owned()),
        method: known(request.method()),
        path: request.uri().path().to_owned(),
        id: id.to_str().unwrap_or_default().to_owned(),
        trace: trace
            .as_ref()
            .and_then(|trace| Some(trace.to_str().ok()?[3..35].to_owned())),
        metrics: Arc::clone(&shared.metrics),
        answered: false,
    };
    shared.metrics.in_flight.inc();
    let mut response = next.run(request).await;
    watched.answer(&response);
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    // An answer is of the type that it says.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(trace) = trace {
        headers.insert(TRACEPARENT, trace);
    }
    response
}

/// A request that is being answered.
struct Watched {
    started: Instant,
    route: String,
    method: &'static str,
    path: String,
    id: String,
    trace: Option<String>,
    metrics: Arc<Metrics>,
    answered: bool,
}

impl Watched {
    fn answer(&mut self, response: &Response) {
        self.answered = true;
        let failure = response.extensions().get::<Failure>();
        if let Some(failure) = failure {
            self.metrics.failure(failure.kind);
        }
        self.log(response.status().as_u16(), failure);
    }

    fn log(&self, status: u16, failure: Option<&Failure>) {
        let took = self.started.elapsed();
        self.metrics.request(&self.route, self.method, status, took);
        let error = failure.map(|failure| failure.message.as_str());
        tracing::info!(
            request_id = self.id,
            trace_id = self.trace,
            method = self.method,
            path = ?self.path,
            status,
            milliseconds = took.as_secs_f64() * 1e3,
            kind = failure.map(|failure| failure.kind.name()),
            error,
            "request"
        );
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        if !self.answered {
            self.metrics.abandoned.inc();
            // As nginx counts a client that closed its request.
            self.log(499, None);
        }
    }
}

/// The method's name, of those that are worth a counter of their own.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// The client's id if it is a short text of visible ASCII, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    static START: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(()));
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let usable = |id: &&HeaderValue| {
        (1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    headers
        .get(REQUEST_ID)
        .filter(usable)
        .cloned()
        .unwrap_or_else(|| {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let id = format!("{:016x}-{count}", *START);
            HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("none"))
        })
}

/// The W3C trace context that came, if it is one: `00-` trace `-` parent `-` flags.
fn traceparent(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(TRACEPARENT)?;
    let parts: Vec<&str> = value.to_str().ok()?.split('-').collect();
    let is_hex = |text: &str, length| {
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        text.len() == length && text.bytes().all(digit)
    };
    let [version, trace, parent, flags] = parts.as_slice() else {
        return None;
    };
    let is_zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    let is_valid = *version == "00"
        && is_hex(trace, 32)
        && is_hex(parent, 16)
        && is_hex(flags, 2)
        && !is_zero(trace)
        && !is_zero(parent);
    is_valid.then(|| value.clone())
}

/// What a panic in a handler is answered with.
pub(crate) fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    Failure::internal().into_response()
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    fn traced(text: &'static str) -> bool {
        let headers = HeaderMap::from_iter([(TRACEPARENT, HeaderValue::from_static(text))]);
        traceparent(&headers).is_some()
    }

    #[test]
    fn a_trace_context_is_passed_on_if_it_is_one() {
        assert!(traced(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        ));
        assert!(!traced(
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01"
        ));
        assert!(!traced(
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"
        ));
        assert!(!traced(
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01"
        ));
        assert!(!traced(
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        ));
    }

    #[test]
    fn an_id_that_came_is_kept_and_others_are_new() {
        let with = |text| HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static(text))]);
        assert_eq!(request_id(&with("abc-1")), "abc-1");
        assert_ne!(request_id(&with("a b")), "a b");
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}

//! What a request is refused with: a status, a kind for the counters, and a message that says what was
//! expected, what came and what to do.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Why there is no answer, in the words of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request is not what the route reads.
    BadRequest,
    /// The bytes are no picture that is read.
    BadPicture,
    /// There is no token, or another.
    Unauthorized,
    /// Clients may not do that here.
    Forbidden,
    /// No such route, model or version.
    NotFound,
    /// The route has no such method.
    MethodNotAllowed,
    /// The body did not come in time.
    SlowBody,
    /// The body, the picture or the number of images is beyond a limit.
    TooLarge,
    /// The body's type or coding is not read.
    UnsupportedType,
    /// It is our mistake.
    Internal,
    /// Every place in the queue is taken.
    QueueFull,
    /// The model is known and not loaded.
    NotLoaded,
    /// The server is about to stop.
    Stopping,
    /// There was no answer in time.
    Deadline,
}

impl Kind {
    const fn row(self) -> (StatusCode, &'static str) {
        match self {
            Self::BadRequest => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::BadPicture => (StatusCode::UNPROCESSABLE_ENTITY, "bad_picture"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::SlowBody => (StatusCode::REQUEST_TIMEOUT, "slow_body"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::UnsupportedType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_type"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            Self::QueueFull => (StatusCode::SERVICE_UNAVAILABLE, "queue_full"),
            Self::NotLoaded => (StatusCode::SERVICE_UNAVAILABLE, "not_loaded"),
            Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            Self::Deadline => (StatusCode::GATEWAY_TIMEOUT, "deadline"),
        }
    }

    pub(crate) const fn status(self) -> StatusCode {
        self.row().0
    }

    pub(crate) const fn name(self) -> &'static str {
        self.row().1
    }
}

/// A refusal. As an extension of its response it tells the log and the metrics what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, message }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Kind::BadRequest, message)
    }

    /// What is told of a mistake of ours; the log has the rest.
    pub(crate) fn internal() -> Self {
        let message = "the server failed at this request; its log says how";
        Self::new(Kind::Internal, message)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let text = json!({ "error": self.message, "kind": self.kind.name() }).to_string();
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = self.kind.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.kind.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.kind == Kind::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

//! Who may ask.

use crate::failure::{Failure, Kind};
use crate::shared::Shared;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// Lets a request on that brings the token, where there is one.
pub(crate) async fn authorize(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(token) = &shared.options.token else {
        return next.run(request).await;
    };
    if bearer(request.headers()).is_some_and(|bytes| token.is(bytes)) {
        return next.run(request).await;
    }
    shared.bodies.discard(request.into_body()).await;
    let message = "expected the server's token, `Authorization: Bearer TOKEN`; got none or another";
    Failure::new(Kind::Unauthorized, message).into_response()
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

//! The pages: at `/` photographs chosen, dropped, pasted or taken, and their classes; at `/runs` training runs.
//! They have no outside address, and their policy lets them have none.

use crate::shared::answer;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::response::Response;

/// Scripts, styles and requests are the server's own; pictures may also be the reader's.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";
const SCRIPT: &str = "text/javascript; charset=utf-8";

fn page(text: &'static str) -> Response {
    let mut page = answer("text/html; charset=utf-8", text);
    let policy = HeaderValue::from_static(POLICY);
    page.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    page
}

/// `GET /`.
pub(crate) async fn index() -> Response {
    page(include_str!("page/index.html"))
}

/// `GET /runs`.
pub(crate) async fn runs() -> Response {
    page(include_str!("page/runs.html"))
}

/// `GET /page.css`.
pub(crate) async fn style() -> Response {
    answer("text/css; charset=utf-8", include_str!("page/page.css"))
}

/// `GET /ask.js`.
pub(crate) async fn ask() -> Response {
    answer(SCRIPT, include_str!("page/ask.js"))
}

/// `GET /page.js`.
pub(crate) async fn script() -> Response {
    answer(SCRIPT, include_str!("page/page.js"))
}

/// `GET /runs.js`.
pub(crate) async fn runs_script() -> Response {
    answer(SCRIPT, include_str!("page/runs.js"))
}

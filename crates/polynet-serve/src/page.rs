//! The page at `/`: photographs chosen, dropped, pasted or taken, and their classes. It has no outside
//! address, and its policy lets it have none.

use crate::shared::answer;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::response::Response;

/// Scripts, styles and requests are the server's own; pictures may also be the reader's.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// `GET /`.
pub(crate) async fn index() -> Response {
    let mut page = answer("text/html; charset=utf-8", include_str!("page/index.html"));
    let policy = HeaderValue::from_static(POLICY);
    page.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    page
}

/// `GET /page.css`.
pub(crate) async fn style() -> Response {
    answer("text/css; charset=utf-8", include_str!("page/page.css"))
}

/// `GET /page.js`.
pub(crate) async fn script() -> Response {
    answer(
        "text/javascript; charset=utf-8",
        include_str!("page/page.js"),
    )
}

//! The routes, in one table: from it come the router, and the test that holds `openapi.json` to it.

use crate::access::authorize;
use crate::failure::{Failure, Kind};
use crate::observe::{observe, panicked};
use crate::shared::{Shared, answer, json};
use crate::{classify, inference, page, repository, runs};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use serde_json::Value;
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, CorsLayer, ExposeHeaders};

/// Whom a route answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody: whoever starts and watches servers has no token.
    Everybody,
    /// Who has the token, where there is one.
    Token,
}

pub(crate) struct Route {
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    handler: MethodRouter<Arc<Shared>>,
}

/// The document of all routes, OpenAPI 3.1, kept by hand; as a server with a token gives it.
pub(crate) const OPENAPI: &str = include_str!("openapi.json");

#[rustfmt::skip]
pub(crate) fn routes() -> Vec<Route> {
    use Access::{Everybody, Token};
    let route = |access, path, handler| Route { path, access, handler };
    vec![
        route(Everybody, "/", get(page::index)),
        route(Everybody, "/page.css", get(page::style)),
        route(Everybody, "/page.js", get(page::script)),
        route(Everybody, "/ask.js", get(page::ask)),
        route(Everybody, "/runs", get(page::runs)),
        route(Everybody, "/runs.js", get(page::runs_script)),
        route(Everybody, "/v2/health/live", get(inference::live)),
        route(Everybody, "/v2/health/ready", get(inference::ready)),
        route(Token, "/v2", get(inference::server)),
        route(Token, "/v2/models/{name}", get(inference::model)),
        route(Token, "/v2/models/{name}/versions/{version}", get(inference::model)),
        route(Token, "/v2/models/{name}/ready", get(inference::model_ready)),
        route(Token, "/v2/models/{name}/versions/{version}/ready", get(inference::model_ready)),
        route(Token, "/v2/models/{name}/infer", post(inference::infer)),
        route(Token, "/v2/models/{name}/versions/{version}/infer", post(inference::infer)),
        route(Token, "/v2/repository/index", post(repository::index)),
        route(Token, "/v2/repository/models/{name}/load", post(repository::load)),
        route(Token, "/v2/repository/models/{name}/unload", post(repository::unload)),
        route(Token, "/classify", post(classify::classify)),
        route(Token, "/models/{name}/classify", post(classify::classify)),
        route(Token, "/models/{name}/versions/{version}/classify", post(classify::classify)),
        route(Token, "/models/{name}/explain", post(classify::explain)),
        route(Token, "/models/{name}/versions/{version}/explain", post(classify::explain)),
        route(Token, "/models/{name}/structure", get(classify::structure)),
        route(Token, "/models/{name}/versions/{version}/structure", get(classify::structure)),
        route(Token, "/runs.json", get(runs::list)),
        route(Token, "/runs/{name}/curves", get(runs::draw_curves)),
        route(Token, "/runs/{name}/confusion", get(runs::draw_confusion)),
        route(Token, "/metrics", get(metrics)),
        route(Token, "/openapi.json", get(openapi)),
    ]
}

/// All routes with what stands before them.
pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    let mut router = Router::new();
    for Route {
        path,
        access,
        handler,
        ..
    } in routes()
    {
        let handler = match access {
            Access::Everybody => handler,
            Access::Token => handler.layer(from_fn_with_state(Arc::clone(shared), authorize)),
        };
        router = router.route(path, handler);
    }
    let router = router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Arc::clone(shared), observe));
    let origins = shared.options.origins.iter();
    let origins: Vec<HeaderValue> = origins.filter_map(|origin| origin.parse().ok()).collect();
    let router = match origins.is_empty() {
        true => router,
        false => router.layer(
            CorsLayer::new()
                .allow_origin(origins)
                .allow_methods([Method::GET, Method::POST])
                .allow_headers(AllowHeaders::mirror_request())
                .expose_headers(ExposeHeaders::list(EXPOSED)),
        ),
    };
    router.with_state(Arc::clone(shared))
}

/// What scripts of other origins may read besides the body.
const EXPOSED: [HeaderName; 2] = [
    HeaderName::from_static("inference-header-content-length"),
    HeaderName::from_static("x-request-id"),
];

async fn no_route(State(shared): State<Arc<Shared>>, request: Request) -> Failure {
    let path = request.uri().path().to_owned();
    shared.bodies.discard(request.into_body()).await;
    let path = polynet::data::printable(&path);
    let message = format!("there is nothing at {path}; /openapi.json lists what there is");
    Failure::new(Kind::NotFound, message)
}

async fn no_method(State(shared): State<Arc<Shared>>, request: Request) -> Failure {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    shared.bodies.discard(request.into_body()).await;
    let path = polynet::data::printable(&path);
    let message = format!("{path} does not answer {method}; /openapi.json lists what it answers");
    Failure::new(Kind::MethodNotAllowed, message)
}

/// `GET /metrics`.
async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    answer(kind, shared.metrics.text())
}

/// `GET /openapi.json`.
async fn openapi(State(shared): State<Arc<Shared>>) -> Result<Response, Failure> {
    let mut document: Value = serde_json::from_str(OPENAPI).map_err(|error| {
        tracing::error!(%error, "openapi.json is no JSON");
        Failure::internal()
    })?;
    if shared.options.token.is_none() {
        document["security"] = Value::Array(Vec::new());
    }
    json(&document)
}

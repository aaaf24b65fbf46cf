//! `POST /classify?top=5`: a photograph's classes, and what of it speaks for them.

use crate::body::Payload;
use crate::failure::Failure;
use crate::picture;
use crate::shared::{Shared, Target, answer, json};
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use image::RgbImage;
use polynet::report::explanation;
use polynet::{Ranked, ranked};
use serde::Serialize;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How many classes an answer has.
#[derive(Clone, Copy)]
struct Top {
    /// Unless the request says.
    usual: usize,
    most: usize,
}

const CLASSES: Top = Top {
    usual: 5,
    most: 1_000_000,
};
/// Each of them is a picture.
const EXPLAINED: Top = Top { usual: 3, most: 10 };

#[derive(Serialize)]
struct Answer<'a> {
    model: &'a str,
    version: String,
    /// The most probable first.
    classes: Vec<Ranked>,
}

/// `POST /classify` and `/models/{name}/classify`.
pub(crate) async fn classify(
    State(shared): State<Arc<Shared>>,
    target: Target,
    uri: Uri,
    headers: HeaderMap,
    payload: Payload,
) -> Result<Response, Failure> {
    let model = &shared.model(&target)?;
    let question = Question::read(uri.query().unwrap_or_default(), CLASSES)?;
    let start = Instant::now();
    let place = shared.compute.admit()?;
    let work = async {
        let prepared = Arc::clone(model);
        let prepare = move |picture| prepared.preprocessing().apply(&picture);
        let inputs = decoded(&shared, &headers, payload, prepare).await?;
        shared.compute.logits(place, model, inputs).await
    };
    let logits = shared.in_time(start, question.timeout, work).await?;
    json(&Answer {
        model: model.name(),
        version: model.version().to_string(),
        classes: ranked(&logits, model.classes(), question.top),
    })
}

/// `POST /models/{name}/explain?top=3`: a drawing of what of a photograph speaks for its classes.
pub(crate) async fn explain(
    State(shared): State<Arc<Shared>>,
    target: Target,
    uri: Uri,
    headers: HeaderMap,
    payload: Payload,
) -> Result<Response, Failure> {
    let model = shared.model(&target)?;
    let question = Question::read(uri.query().unwrap_or_default(), EXPLAINED)?;
    let start = Instant::now();
    let place = shared.compute.admit()?;
    let work = async {
        let picture = decoded(&shared, &headers, payload, |picture| picture).await?;
        let top = question.top;
        let found = shared.compute.explanation(place, &model, picture, top);
        let found = found.await?;
        let title = model.name().to_owned();
        let draw = move || Ok(explanation(&found, &title));
        shared.compute.decode(draw).await
    };
    let drawing = shared.in_time(start, question.timeout, work).await?;
    Ok(answer("image/svg+xml", drawing))
}

/// `GET /models/{name}/structure`: a drawing of the network.
pub(crate) async fn structure(
    State(shared): State<Arc<Shared>>,
    target: Target,
) -> Result<Response, Failure> {
    let model = shared.model(&target)?;
    Ok(answer("image/svg+xml", model.structure()?))
}

/// What becomes of a request's picture in the pool that decodes.
async fn decoded<T: Send + 'static>(
    shared: &Shared,
    headers: &HeaderMap,
    payload: Payload,
    then: impl FnOnce(RgbImage) -> T + Send + 'static,
) -> Result<T, Failure> {
    let bytes = picture::bytes(headers, payload.bytes.clone()).await?;
    let memory = shared.options.limits.picture;
    let decode = move || {
        // The payload counts as long as its bytes are there.
        let picture = picture::decoded(&bytes, memory);
        drop(payload);
        picture.map(then)
    };
    shared.compute.decode(decode).await
}

const SECONDS: RangeInclusive<f64> = 0.0..=1e9;

/// What stands after the `?`.
#[derive(Debug, PartialEq)]
struct Question {
    top: usize,
    timeout: Option<Duration>,
}

impl Question {
    fn read(query: &str, top: Top) -> Result<Self, Failure> {
        let mut question = Self {
            top: top.usual,
            timeout: None,
        };
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let wrong = |expected: &str| {
                Failure::bad_request(format!(
                    "expected {expected}, got `{key}={}`",
                    polynet::data::printable(&value)
                ))
            };
            match key.as_ref() {
                "top" => {
                    let asked = value.parse().ok();
                    let asked = asked.filter(|asked| (1..=top.most).contains(asked));
                    let expected = || wrong(&format!("`top` from 1 to {} classes", top.most));
                    question.top = asked.ok_or_else(expected)?;
                }
                "timeout" => {
                    let seconds = value.parse().ok().filter(|s| SECONDS.contains(s));
                    let seconds = seconds.ok_or_else(|| wrong("`timeout` from 0 to 1e9 seconds"));
                    question.timeout = Some(Duration::from_secs_f64(seconds?));
                }
                _ => return Err(wrong("`top` or `timeout`")),
            }
        }
        Ok(question)
    }
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn a_question_is_read_or_refused_with_what_came() {
        let read = |query| Question::read(query, CLASSES);
        let plain = Question {
            top: 5,
            timeout: None,
        };
        assert_eq!(read(""), Ok(plain));
        let timeout = Some(Duration::from_millis(500));
        assert_eq!(read("top=3&timeout=0.5"), Ok(Question { top: 3, timeout }));
        let error = Question::read("top=11", EXPLAINED).unwrap_err().message;
        assert!(error.contains("from 1 to 10"), "{error}");
        for query in [
            "top=0",
            "top=1000001",
            "top=-1",
            "top=x",
            "timeout=-1",
            "timeout=NaN",
            "timeout=1e300",
            "tip=1",
        ] {
            let error = read(query).unwrap_err().message;
            assert!(error.contains(query), "{error}");
        }
    }
}

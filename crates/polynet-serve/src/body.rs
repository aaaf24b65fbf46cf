//! Requests' bodies, read within their limits.

use crate::failure::{Failure, Kind};
use crate::options::Limits;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// What a permit of the memory stands for.
const UNIT: usize = 64 << 10;

/// A body that has been read, and the memory that it counts for.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) bytes: Bytes,
    _memory: Option<OwnedSemaphorePermit>,
}

/// Reads bodies.
#[derive(Debug)]
pub(crate) struct Bodies {
    limit: usize,
    patience: Duration,
    memory: Arc<Semaphore>,
}

impl Bodies {
    pub(crate) fn new(limits: &Limits) -> Self {
        let units = limits.bodies.max(limits.body).div_ceil(UNIT);
        Self {
            limit: limits.body,
            patience: limits.patience,
            memory: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// All of a body.
    ///
    /// # Errors
    /// If it is too large, too slow, compressed, or ends too early, or all bodies take too much memory.
    pub(crate) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Payload, Failure> {
        let mut body = body;
        let read = timeout(self.patience, self.collect(headers, &mut body)).await;
        let read = read.unwrap_or_else(|_| Err(self.slow()));
        if read.is_err() {
            self.discard(body).await;
        }
        read
    }

    async fn collect(&self, headers: &HeaderMap, body: &mut Body) -> Result<Payload, Failure> {
        let coding = headers.get(CONTENT_ENCODING);
        if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            let message =
                "expected a body as it is, got one with a Content-Encoding; send it without";
            return Err(Failure::new(Kind::UnsupportedType, message));
        }
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > self.limit {
            return Err(self.too_large());
        }
        let mut memory = self.reserve(announced)?;
        let mut bytes = Vec::with_capacity(announced);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Failure::bad_request(format!("the body ended before its end: {error}"))
            })?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let length = bytes.len() + data.len();
            if length > self.limit {
                return Err(self.too_large());
            }
            let reserved = memory.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) * UNIT;
            if let Some(more) = self.reserve(length.saturating_sub(reserved))? {
                match &mut memory {
                    Some(memory) => memory.merge(more),
                    None => memory = Some(more),
                }
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Payload {
            bytes: Bytes::from(bytes),
            _memory: memory,
        })
    }

    fn reserve(&self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, Failure> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        if units == 0 {
            return Ok(None);
        }
        let memory = Arc::clone(&self.memory).try_acquire_many_owned(units);
        memory.map(Some).map_err(|_| {
            let message =
                "the server holds as many bytes of requests as it may; try again in a second";
            Failure::new(Kind::QueueFull, message)
        })
    }

    /// Reads on what will not be used, up to as much as a body may have: a client that still sends
    /// would not see its answer.
    pub(crate) async fn discard(&self, body: Body) {
        let mut body = body;
        let mut rest = self.limit;
        let read = async {
            while let Some(Ok(frame)) = body.frame().await {
                let length = frame.data_ref().map_or(0, Bytes::len);
                match rest.checked_sub(length) {
                    Some(less) => rest = less,
                    None => break,
                }
            }
        };
        // Too slow is over, too.
        let _ = timeout(self.patience, read).await;
    }

    fn too_large(&self) -> Failure {
        let message = format!(
            "expected a body of at most {} bytes, got more; send less, or start the server with a \
             larger --body",
            self.limit
        );
        Failure::new(Kind::TooLarge, message)
    }

    fn slow(&self) -> Failure {
        let message = format!(
            "expected the whole body within {} s, it did not come",
            self.patience.as_secs_f64()
        );
        Failure::new(Kind::SlowBody, message)
    }
}

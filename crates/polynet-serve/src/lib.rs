//! Models over HTTP.
//!
//! ```text
//! connection ─ observe ─ authorize ─ route ─ body ─ admit ─ decode ─ queue ─ batch ─ logits ─ answer
//!   (server)   (log, metrics, id)                  (place)  (pool)          (one thread)
//! ```
//!
//! [`Server`] opens model folders through the library's door and answers the
//! [Open Inference Protocol](https://github.com/kserve/open-inference-protocol) (`/v2/…`), photographs
//! (`/classify`, and by a page at `/`) and the questions of operators (`/metrics`, `/openapi.json`).
//!
//! Laws:
//! 1. A request's answer is the same, bit for bit, whatever it is computed with.
//! 2. What is accepted is answered: a model that is replaced or unloaded, or a server that is stopped,
//!    ends what has a place. What has none is refused at once.
//! 3. Nobody's request is computed when nobody waits for it.
//! 4. Memory follows from the limits: of connections, of bodies, of places in the queue.
//! 5. A refusal is JSON and says what to do. No input panics.
//!
//! ```no_run
//! use polynet_serve::{ModelSource, Options, Server};
//!
//! let model: ModelSource = "flowers=runs/flowers/model".parse()?;
//! let server = Server::bind(&[model], Options::default())?;
//! println!("http://{}", server.address());
//! server.run_until_signal()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod access;
mod body;
mod classify;
mod compute;
mod failure;
mod inference;
mod logs;
mod metrics;
mod models;
mod observe;
mod options;
mod page;
mod picture;
mod queue;
mod repository;
mod routes;
mod runs;
mod server;
mod shared;
mod source;
#[cfg(test)]
mod tests;

pub use logs::{LogFormat, start_logs};
pub use options::{Batching, Control, Limits, Options, Token, TokenError};
pub use server::{ServeError, Server, Stopper};
pub use source::{ModelSource, SourceError};

//! Connections: accepted, served, cut where they are slow, ended when the server is stopped.

use crate::body::Bodies;
use crate::compute::{Compute, Gate};
use crate::metrics::Metrics;
use crate::models::{LoadError, Models};
use crate::options::{Limits, Options};
use crate::routes::router;
use crate::runs::Runs;
use crate::shared::Shared;
use crate::source::{ModelSource, SourceError};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use polynet::WeightError;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_io_timeout::TimeoutStream;

/// Why a server cannot be started or run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A name or a folder is no model's.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A model cannot be opened.
    #[error(transparent)]
    Model(#[from] WeightError),
    /// Two models have one name.
    #[error("two models are named `{name}`; give one another name: NAME=FOLDER")]
    Twice {
        /// The name.
        name: String,
    },
    /// There is nothing to serve.
    #[error(
        "expected a model to serve, a folder of models that clients may load, or one of runs; got none"
    )]
    NoModel,
    /// An origin cannot stand in a header.
    #[error(
        "expected an origin such as https://example.org, got `{}`",
        polynet::data::printable(origin)
    )]
    Origin {
        /// What came.
        origin: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another address or port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system has no thread, timer or signal for the server.
    #[error("the system cannot run the server: {0}")]
    System(#[from] io::Error),
}

impl From<LoadError> for ServeError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Source(error) => Self::Source(error),
            LoadError::Weights(error) => Self::Model(error),
        }
    }
}

/// A server whose models are open and that listens.
pub struct Server {
    listener: std::net::TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    stopper: Stopper,
}

/// Stops a server: what is accepted is ended, nothing more is accepted.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<watch::Sender<Stage>>);

/// How far a server is with stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Running,
    /// Accepted requests are ended.
    Ending,
    /// They are cut.
    Cut,
}

impl Stopper {
    /// Stops the server; the second time without waiting for what it has accepted.
    pub fn stop(&self) {
        self.0.send_modify(|stage| {
            *stage = match stage {
                Stage::Running => Stage::Ending,
                Stage::Ending | Stage::Cut => Stage::Cut,
            };
        });
    }
}

impl Server {
    /// Opens the models and listens.
    ///
    /// # Errors
    /// If a model cannot be opened, two have one name, or the address is taken.
    pub fn bind(sources: &[ModelSource], options: Options) -> Result<Self, ServeError> {
        Self::bind_with(sources, options, None)
    }

    pub(crate) fn bind_with(
        sources: &[ModelSource],
        options: Options,
        gate: Option<Gate>,
    ) -> Result<Self, ServeError> {
        if sources.is_empty() && options.repository.is_none() && options.runs.is_none() {
            return Err(ServeError::NoModel);
        }
        for (index, source) in sources.iter().enumerate() {
            if sources[..index]
                .iter()
                .any(|other| other.name() == source.name())
            {
                let name = source.name().to_owned();
                return Err(ServeError::Twice { name });
            }
        }
        let is_bad = |origin: &&String| {
            !origin.contains("://") || axum::http::HeaderValue::from_str(origin).is_err()
        };
        if let Some(origin) = options.origins.iter().find(is_bad) {
            let origin = origin.clone();
            return Err(ServeError::Origin { origin });
        }
        let models = Models::open(sources, options.repository.clone(), options.model())?;
        let address = options.address;
        let listen = |source| ServeError::Listen { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let metrics = Arc::new(Metrics::new());
        let limits = options.limits;
        let compute = Compute::start(options.batching, limits.queue, &metrics, gate)?;
        let shared = Shared {
            options,
            models,
            compute,
            bodies: Bodies::new(&limits),
            metrics,
            runs: Runs::default(),
            stopping: AtomicBool::new(false),
        };
        Ok(Self {
            listener,
            address,
            shared: Arc::new(shared),
            stopper: Stopper(Arc::new(watch::channel(Stage::Running).0)),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stops it.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Serves until it is stopped.
    ///
    /// # Errors
    /// If the system cannot run it.
    pub fn run(self) -> Result<(), ServeError> {
        self.run_with(|_| Ok(()))
    }

    /// As [`Server::run`], and is stopped by SIGTERM and SIGINT; the second cuts what is left.
    ///
    /// # Errors
    /// As [`Server::run`].
    pub fn run_until_signal(self) -> Result<(), ServeError> {
        self.run_with(|stopper| stop_by_signals(&stopper))
    }

    fn run_with(self, start: impl FnOnce(Stopper) -> io::Result<()>) -> Result<(), ServeError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let shared = Arc::clone(&self.shared);
        let served = runtime.block_on(async {
            start(self.stopper())?;
            self.serve().await
        });
        // What was not ended in time is cut.
        runtime.shutdown_background();
        shared.compute.stop();
        Ok(served?)
    }

    async fn serve(self) -> io::Result<()> {
        let limits = self.shared.options.limits;
        let listener = TcpListener::from_std(self.listener)?;
        let places = limits.connections.min(Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(places));
        let mut stage = self.stopper.0.subscribe();
        let connections = Connections {
            router: router(&self.shared),
            shared: self.shared,
            graceful: GracefulShutdown::new(),
        };
        tracing::info!(address = %self.address, "listening");
        loop {
            let accepting = async {
                // The semaphore is never closed.
                let place = Arc::clone(&places).acquire_owned().await.ok();
                (listener.accept().await, place)
            };
            let Some(accepted) = unless(&mut stage, Stage::Ending, accepting).await else {
                break;
            };
            match accepted {
                (Ok((stream, _)), place) => connections.serve(stream, place),
                (Err(error), _) => {
                    // No file handle is left, or the client is gone already.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        connections.shared.stopping.store(true, Ordering::Relaxed);
        tracing::info!("stopping");
        connections.serve_waiting(listener).await;
        let ended = tokio::time::timeout(limits.grace, connections.graceful.shutdown());
        match unless(&mut stage, Stage::Cut, ended).await {
            Some(Ok(())) => tracing::info!("stopped"),
            _ => tracing::warn!("stopped before every request was ended"),
        }
        Ok(())
    }
}

/// The connections of a server, each a task.
struct Connections {
    shared: Arc<Shared>,
    router: Router,
    graceful: GracefulShutdown,
}

impl Connections {
    /// Serves who has connected already and was not accepted yet: their requests may be on their way.
    /// Nobody connects from then on.
    async fn serve_waiting(&self, listener: TcpListener) {
        let next = || {
            poll_fn(|context| match listener.poll_accept(context) {
                Poll::Ready(Ok((stream, _))) => Poll::Ready(Some(stream)),
                _ => Poll::Ready(None),
            })
        };
        while let Some(stream) = next().await {
            self.serve(stream, None);
        }
        // A connection that has read nothing counts as idle; these read what has come.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }

    fn serve(&self, stream: TcpStream, place: Option<OwnedSemaphorePermit>) {
        let limits = &self.shared.options.limits;
        // Answers are small: they do not wait for more.
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(limits.patience));
        let io = TokioIo::new(Box::pin(stream));
        let service = TowerToHyperService::new(self.router.clone());
        let connection = http(limits).serve_connection(io, service);
        let connection = self.graceful.watch(connection);
        let metrics = Arc::clone(&self.shared.metrics);
        metrics.connections.inc();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection broke");
            }
            metrics.connections.dec();
            drop(place);
        });
    }
}

#[cfg(unix)]
fn stop_by_signals(stopper: &Stopper) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let (mut signals, stopper) = (signal(kind)?, stopper.clone());
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                stopper.stop();
            }
        });
    }
    Ok(())
}

#[cfg(not(unix))]
fn stop_by_signals(stopper: &Stopper) -> io::Result<()> {
    let stopper = stopper.clone();
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            stopper.stop();
        }
    });
    Ok(())
}

fn http(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.patience)
        .max_header_size(limits.head)
        .max_buf_size(limits.head.max(64 << 10));
    http
}

/// What a future gives, unless the server gets as far as `stage` first.
async fn unless<T>(
    stages: &mut watch::Receiver<Stage>,
    stage: Stage,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut stopped = pin!(stages.wait_for(|now| *now >= stage));
    let mut future = pin!(future);
    poll_fn(|context| {
        if stopped.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        future.as_mut().poll(context).map(Some)
    })
    .await
}

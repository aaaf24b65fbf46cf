//! Counters and histograms, as `/metrics` gives them to Prometheus.

use crate::failure::Kind;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::time::Duration;

/// Labels with their values.
type Labels<const N: usize> = [(&'static str, String); N];
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// What a request's time is spent on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// Reading JSON or numbers, or decoding and preparing a picture.
    Decode,
    /// Waiting for its batch.
    Queue,
    /// Its batch.
    Compute,
}

/// What is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Labels<3>, Counter>,
    seconds: Histograms<1>,
    parts: Histograms<1>,
    failures: Family<Labels<1>, Counter>,
    images: Family<Labels<2>, Counter>,
    batches: Histogram,
    /// Requests whose clients left before the answer.
    pub(crate) abandoned: Counter,
    /// Requests that are being answered.
    pub(crate) in_flight: Gauge,
    /// Images that wait for their batch.
    pub(crate) waiting: Gauge,
    /// Connections.
    pub(crate) connections: Gauge,
}

/// 0.1 ms to 52 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(1e-4, 2.0, 20))
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("polynet"),
            requests: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            parts: Family::new_with_constructor(seconds),
            failures: Family::default(),
            images: Family::default(),
            batches: Histogram::new(exponential_buckets(1.0, 2.0, 9)),
            abandoned: Counter::default(),
            in_flight: Gauge::default(),
            waiting: Gauge::default(),
            connections: Gauge::default(),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let to = &mut self.registry;
        to.register(
            "requests",
            "Requests by route, method and status",
            self.requests.clone(),
        );
        to.register(
            "request_seconds",
            "From a request's head to its answer",
            self.seconds.clone(),
        );
        to.register(
            "part_seconds",
            "Parts of a request: decode, queue, compute",
            self.parts.clone(),
        );
        to.register(
            "failures",
            "Refused requests by kind",
            self.failures.clone(),
        );
        to.register(
            "images",
            "Images computed, by model and version",
            self.images.clone(),
        );
        to.register("batch_images", "Images of a batch", self.batches.clone());
        to.register(
            "abandoned",
            "Requests whose clients left",
            self.abandoned.clone(),
        );
        to.register(
            "requests_in_flight",
            "Requests being answered",
            self.in_flight.clone(),
        );
        to.register(
            "waiting_images",
            "Images that wait for a batch",
            self.waiting.clone(),
        );
        to.register("connections", "Open connections", self.connections.clone());
        self
    }

    pub(crate) fn request(&self, route: &str, method: &str, status: u16, took: Duration) {
        let labels = [
            ("route", route.to_owned()),
            ("method", method.to_owned()),
            ("status", status.to_string()),
        ];
        self.requests.get_or_create(&labels).inc();
        let labels = [("route", route.to_owned())];
        self.seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    pub(crate) fn part(&self, part: Part, took: Duration) {
        let name = match part {
            Part::Decode => "decode",
            Part::Queue => "queue",
            Part::Compute => "compute",
        };
        let labels = [("part", name.to_owned())];
        self.parts
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    pub(crate) fn failure(&self, kind: Kind) {
        let labels = [("kind", kind.name().to_owned())];
        self.failures.get_or_create(&labels).inc();
    }

    pub(crate) fn batch(&self, model: &str, version: u64, images: usize) {
        self.batches.observe(images as f64);
        let labels = [
            ("model", model.to_owned()),
            ("version", version.to_string()),
        ];
        self.images.get_or_create(&labels).inc_by(images as u64);
    }

    /// All of it, in the OpenMetrics text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

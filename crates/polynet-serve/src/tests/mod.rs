//! A real server on a free port, with a tiny model, asked over HTTP.
//!
//! No test waits for time to pass: batches are held at a gate, and what must have happened is read from
//! the server's metrics.

mod batching;
mod life;
mod limits;
mod protocol;
mod routes;
mod runs;

use crate::compute::Gate;
use crate::{ModelSource, Options, Server, Stopper};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use polynet::data::{ClassNames, Preprocessing, encode_png};
use polynet::{Architecture, ModelConfig, ModelFolder, Params};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use tempfile::TempDir;

const SIZE: usize = 16;
const CLASSES: usize = 3;

/// Writes a model with weights of a seed.
fn write_model(folder: &Path, seed: u64) {
    let text = format!("small-polynet; width = 0.125; classes = {CLASSES}; input = {SIZE}");
    let architecture: Architecture = text.parse().unwrap();
    let graph = architecture.graph().unwrap();
    let names = ["cat", "dog", "owl"].map(str::to_owned).to_vec();
    let classes = ClassNames::new(names).unwrap();
    let config = ModelConfig::new(&architecture, classes, Preprocessing::small(SIZE), "a test");
    ModelFolder::save(folder, &config, &Params::init(&graph, seed)).unwrap();
}

/// A server that runs in a thread, with the model `tiny` of seed 1.
struct Running {
    address: SocketAddr,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
    folder: TempDir,
}

impl Running {
    fn start(options: Options) -> Self {
        Self::gated(options, None)
    }

    fn gated(options: Options, gate: Option<Gate>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("tiny");
        write_model(&model, 1);
        let sources = [ModelSource::new("tiny", &model).unwrap()];
        Self::serve(&sources, options, gate, folder)
    }

    fn serve(
        sources: &[ModelSource],
        mut options: Options,
        gate: Option<Gate>,
        folder: TempDir,
    ) -> Self {
        options.address.set_port(0);
        let server = Server::bind_with(sources, options, gate).unwrap();
        Self {
            address: server.address(),
            stopper: server.stopper(),
            thread: Some(std::thread::spawn(|| server.run().unwrap())),
            folder,
        }
    }

    fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        send(self.address, request)
    }

    fn get(&self, path: &str) -> Answer {
        self.send(get(path))
    }

    fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(post(path, body))
    }

    /// A number of the metrics; 0 where it is not there yet.
    fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0.0, |rest| rest.trim().parse().unwrap())
    }

    /// Waits until a number of the metrics is this one.
    fn until(&self, name: &str, wanted: f64) {
        while self.metric(name) != wanted {
            std::thread::yield_now();
        }
    }

    /// Stops the server and waits for its end.
    fn end(mut self) {
        self.stopper.stop();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stopper.stop();
            self.stopper.stop();
        }
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The answer's message, if it is a refusal of this status and kind.
    #[track_caller]
    fn refusal(&self, status: u16, kind: &str) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        let value = self.json();
        assert_eq!(value["kind"], kind, "{value}");
        value["error"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        self
    }
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).body(Full::default()).unwrap()
}

fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(path).body(Full::new(body.into())).unwrap()
}

/// Paths and methods that the document tells of.
fn operations() -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(crate::routes::OPENAPI).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, operations): (&String, &Value)| {
        let methods = operations.as_object().unwrap().keys();
        let path = path.clone();
        methods
            .map(move |method| (path.clone(), method.to_uppercase()))
            .collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

/// A path with the tiny model's name and version.
fn filled(path: &str) -> String {
    path.replace("{name}", "tiny").replace("{version}", "1")
}

/// Sends a request over a connection of its own.
fn send(address: SocketAddr, mut request: Request<Full<Bytes>>) -> Answer {
    request
        .headers_mut()
        .insert("host", "localhost".parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let io = TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let response = sender.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    })
}

/// A picture of a colour.
fn png(shade: u8) -> Vec<u8> {
    encode_png(&image::RgbImage::from_fn(24, 20, |x, y| {
        image::Rgb([shade, (9 * x) as u8, (11 * y) as u8])
    }))
}

/// An inference request for the logits of an image made of a number.
fn infer_body(number: f32) -> String {
    let data: Vec<f32> = (0..3 * SIZE * SIZE)
        .map(|i| (i as f32 * number).sin())
        .collect();
    json!({
        "inputs": [{ "name": "input", "datatype": "FP32", "shape": [1, 3, SIZE, SIZE], "data": data }],
        "outputs": [{ "name": "logits" }],
    })
    .to_string()
}

const INFER: &str = "/v2/models/tiny/infer";

/// The bits of the logits in an answer.
fn logits(answer: Answer) -> Vec<u32> {
    let value = answer.ok().json();
    let numbers = value["outputs"][0]["data"].as_array().unwrap().clone();
    numbers
        .iter()
        .map(|number| (number.as_f64().unwrap() as f32).to_bits())
        .collect()
}

/// Holds each batch until it is told to go on.
struct Held {
    /// Images of the batches that have come to the gate.
    came: mpsc::Receiver<usize>,
    go: mpsc::Sender<()>,
}

fn held() -> (Gate, Held) {
    let (said, came) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let (said, wait) = (Mutex::new(said), Mutex::new(wait));
    let gate: Gate = Arc::new(move |images| {
        // A test that has ended holds nothing.
        let _ = said.lock().unwrap().send(images);
        let _ = wait.lock().unwrap().recv();
    });
    (gate, Held { came, go })
}

//! What clients send to a server.

use super::{MIB, Target};
use crate::{Allowance, scratch};
use polynet::data::{ClassNames, Preprocessing, encode_png};
use polynet::{Architecture, ModelConfig, ModelFolder, Params};
use polynet_serve::{Limits, ModelSource, Options, Server};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

/// Pixels of the model's input.
const SIZE: usize = 16;
/// A client that waits so long has found a server that hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// All that a connection brings, head and body, to a server with a model.
pub(super) const REQUEST: Target = Target {
    name: "request",
    read: |input| {
        let answer = exchange(input);
        let text = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || text.starts_with("HTTP/1."),
            "not an answer: {text}"
        );
        assert!(!text.contains(" 500 Internal"), "a fault: {text}");
    },
    seeds,
    words: &[
        "GET ",
        "POST ",
        "HEAD ",
        "OPTIONS ",
        " HTTP/1.1\r\n",
        "HTTP/1.0",
        "\r\n",
        "\r\n\r\n",
        "/v2",
        "/v2/models/tiny/infer",
        "/v2/models/tiny/versions/1/infer",
        "/classify",
        "/models/tiny/explain",
        "/models/tiny/structure",
        "/v2/repository/index",
        "?top=",
        "%00",
        "%2e%2e/",
        "Content-Length: ",
        "Transfer-Encoding: chunked\r\n",
        "Expect: 100-continue\r\n",
        "Inference-Header-Content-Length: ",
        "Content-Type: multipart/form-data; boundary=x\r\n",
        "Content-Type: image/png\r\n",
        "Authorization: Bearer ",
        "Origin: http://localhost\r\n",
        "\"inputs\"",
        "\"datatype\"",
        "\"shape\"",
        "\"data\"",
        "\"parameters\"",
        "\"binary_data_size\"",
        "\"outputs\"",
        "\"timeout\"",
        "FP32",
        "UINT8",
        "1e400",
        "null",
        "[",
        "]",
        "{",
        "}",
        ",",
    ],
    memory: Allowance {
        fixed: 64 * MIB,
        per_byte: 4096,
    },
};

fn seeds() -> Vec<Vec<u8>> {
    // What it allocates for good is no input's.
    server();
    let request = |line: &str, head: &str, body: &[u8]| {
        let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{head}Connection: close\r\n");
        let length = format!("Content-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), length.as_bytes(), body].concat()
    };
    let count = 3 * SIZE * SIZE;
    let infer = |data: &str, parameters: &str| {
        format!(
            r#"{{"id":"7","inputs":[{{"name":"input","datatype":"FP32","shape":[1,3,16,16]{data}{parameters}}}],"outputs":[{{"name":"logits"}}]}}"#
        )
    };
    let numbers = vec!["0.5"; count].join(",");
    let header = infer("", r#","parameters":{"binary_data_size":3072}"#);
    let binary = [header.as_bytes(), &vec![0; 4 * count]].concat();
    let before = format!("Inference-Header-Content-Length: {}\r\n", header.len());
    let png = encode_png(&image::RgbImage::from_fn(9, 7, |x, y| {
        image::Rgb([x as u8, y as u8, 77])
    }));
    let form = [
        b"--x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n"
            .as_slice(),
        &png,
        b"\r\n--x--\r\n",
    ]
    .concat();
    let numbers = infer(&format!(r#","data":[{numbers}]"#), "");
    vec![
        request("GET /v2", "", b""),
        request("GET /v2/models/tiny", "", b""),
        request("POST /v2/models/tiny/infer", "", numbers.as_bytes()),
        request("POST /v2/models/tiny/infer", &before, &binary),
        request("POST /classify?top=2", "Content-Type: image/png\r\n", &png),
        request(
            "POST /classify",
            "Content-Type: multipart/form-data; boundary=x\r\n",
            &form,
        ),
        request("POST /v2/repository/index", "", br#"{"ready":true}"#),
    ]
}

/// A server of this process.
fn server() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| {
        let text = "small-polynet; width = 0.0625; classes = 3; input = 16";
        let architecture: Architecture = text.parse().expect("a network");
        let graph = architecture.graph().expect("a network that fits its input");
        let classes = ["cat", "dog", "owl"].map(str::to_owned).to_vec();
        let classes = ClassNames::new(classes).expect("three names");
        let config = ModelConfig::new(&architecture, classes, Preprocessing::small(SIZE), "");
        let folder = scratch::folder().join("tiny");
        ModelFolder::save(&folder, &config, &Params::init(&graph, 1)).expect("a model folder");
        let options = Options {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            limits: Limits {
                picture: 16 * MIB as u64,
                body: MIB,
                ..Limits::default()
            },
            ..Options::default()
        };
        let source = ModelSource::new("tiny", folder).expect("a name and a folder");
        let server = Server::bind(&[source], options).expect("a server");
        let address = server.address();
        thread::spawn(|| server.run());
        address
    })
}

/// What the server answers to these bytes. A server may close a connection before it has read all of it.
fn exchange(input: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server()).expect("a server that accepts");
    let timeouts = [
        stream.set_read_timeout(Some(PATIENCE)),
        stream.set_write_timeout(Some(PATIENCE)),
    ];
    timeouts.into_iter().for_each(|set| set.expect("a timeout"));
    let _ = stream.write_all(input);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        let hangs = [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut];
        assert!(!hangs.contains(&error.kind()), "no answer: {error}");
    }
    answer
}

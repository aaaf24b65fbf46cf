//! Models that come and go, and the server's end.

use super::*;
use crate::options::Control;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

fn controlled() -> Options {
    Options {
        control: Control::ByClients,
        ..Options::default()
    }
}

fn load(server: &Running, name: &str) -> Answer {
    server.post(&format!("/v2/repository/models/{name}/load"), "")
}

#[test]
fn models_are_fixed_unless_clients_may_change_them() {
    let server = Running::start(Options::default());
    for change in ["load", "unload"] {
        let path = format!("/v2/repository/models/tiny/{change}");
        let message = server.post(&path, "{}").refusal(403, "forbidden");
        assert!(message.contains("--control"), "{message}");
    }
    server.post(INFER, infer_body(1.0)).ok();
}

#[test]
fn a_model_is_unloaded_and_loaded_again() {
    let server = Running::start(controlled());
    let index = || server.post("/v2/repository/index", "").ok().json();
    let row = |state: &str, reason: &str| json!({ "name": "tiny", "version": "1", "state": state, "reason": reason });
    assert_eq!(index(), json!([row("READY", "")]));
    server
        .post(
            "/v2/repository/models/tiny/unload",
            r#"{"parameters":{"unload_dependents":true}}"#,
        )
        .ok();
    let message = server
        .post(INFER, infer_body(1.0))
        .refusal(503, "not_loaded");
    assert!(message.contains("/load"), "{message}");
    server
        .get("/v2/models/tiny/ready")
        .refusal(503, "not_loaded");
    server.get("/v2/health/ready").refusal(503, "not_loaded");
    assert_eq!(
        index(),
        json!([{ "name": "tiny", "state": "UNAVAILABLE", "reason": "unloaded" }])
    );
    assert_eq!(
        server
            .post("/v2/repository/index", r#"{"ready":true}"#)
            .json(),
        json!([])
    );
    load(&server, "tiny").ok();
    server.post(INFER, infer_body(1.0)).ok();
    for (body, expected) in [
        (r#"{"parameters":{"config":"{}"}}"#, "`config`"),
        (r#"{"parameters":{"unload_dependents":1}}"#, "true or false"),
        ("[]", "JSON object"),
        ("x", "JSON object"),
    ] {
        let message = server
            .post("/v2/repository/models/tiny/load", body)
            .refusal(400, "bad_request");
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn models_of_the_repository_are_loaded_by_their_folders_names() {
    let repository = tempfile::tempdir().unwrap();
    let options = Options {
        repository: Some(repository.path().to_owned()),
        ..controlled()
    };
    let server = Running::start(options);
    load(&server, "new").refusal(404, "not_found");
    write_model(&repository.path().join("new/3"), 2);
    write_model(&repository.path().join("new/20"), 3);
    let index = server.post("/v2/repository/index", "").json();
    assert_eq!(
        index[0],
        json!({ "name": "new", "state": "UNAVAILABLE", "reason": "not loaded" })
    );
    load(&server, "new").ok();
    let ask = |path: &str| logits(server.post(path, infer_body(1.0)));
    let newest = ask("/v2/models/new/infer");
    assert_eq!(newest, ask("/v2/models/new/versions/20/infer"));
    assert_ne!(newest, ask("/v2/models/new/versions/3/infer"));
    let versions = server.get("/v2/models/new").json()["versions"].clone();
    assert_eq!(versions, json!(["3", "20"]));
    for name in ["..", "%2e%2e", "..%2ftiny", "%00"] {
        load(&server, name).refusal(404, "not_found");
    }
    load(&server, "%ff").refusal(400, "bad_request");
}

#[test]
fn a_model_that_cannot_be_opened_leaves_the_one_that_is_served() {
    let server = Running::start(controlled());
    let before = logits(server.post(INFER, infer_body(1.0)));
    let weights = server.folder.path().join("tiny/model.safetensors");
    std::fs::write(weights, "broken").unwrap();
    let message = load(&server, "tiny").refusal(400, "bad_request");
    assert!(
        message.contains("cannot load the model `tiny`"),
        "{message}"
    );
    assert_eq!(logits(server.post(INFER, infer_body(1.0))), before);
}

#[test]
fn a_model_is_replaced_under_load_without_a_lost_request() {
    let server = Running::start(controlled());
    let ask = || logits(server.post(INFER, infer_body(1.0)));
    let old = ask();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients = [0, 1, 2].map(|_| {
            scope.spawn(|| {
                let mut answers = vec![ask()];
                while !done.load(Ordering::Relaxed) {
                    answers.push(ask());
                }
                answers
            })
        });
        for seed in [2, 3, 2] {
            write_model(&server.folder.path().join("tiny"), seed);
            load(&server, "tiny").ok();
        }
        let new = ask();
        assert_ne!(old, new);
        done.store(true, Ordering::Relaxed);
        for client in clients {
            // `ask` has panicked already if an answer was none.
            let answers = client.join().unwrap();
            assert!(!answers.is_empty());
        }
        assert_eq!(ask(), new);
    });
}

#[test]
fn a_request_that_has_found_a_model_is_computed_by_it_after_it_is_replaced() {
    let (gate, held) = held();
    let server = Running::gated(controlled(), Some(gate));
    std::thread::scope(|scope| {
        let ask = || logits(server.post(INFER, infer_body(1.0)));
        let first = scope.spawn(ask);
        held.came.recv().unwrap();
        let second = scope.spawn(ask);
        server.until("polynet_waiting_images", 1.0);
        write_model(&server.folder.path().join("tiny"), 2);
        load(&server, "tiny").ok();
        let third = scope.spawn(ask);
        server.until("polynet_waiting_images", 2.0);
        server.post("/v2/repository/models/tiny/unload", "").ok();
        drop(held.go);
        let [first, second, third] = [first, second, third].map(|thread| thread.join().unwrap());
        assert_eq!(first, second);
        assert_ne!(second, third);
    });
}

#[test]
fn a_stopped_server_ends_what_it_has_accepted_and_takes_no_more() {
    let (gate, held) = held();
    let server = Running::gated(Options::default(), Some(gate));
    let (address, stopper) = (server.address, server.stopper.clone());
    std::thread::scope(|scope| {
        let ask = move || send(address, post(INFER, infer_body(1.0))).status;
        let first = scope.spawn(ask);
        held.came.recv().unwrap();
        let second = scope.spawn(ask);
        server.until("polynet_waiting_images", 1.0);
        let mut idle = TcpStream::connect(address).unwrap();
        idle.write_all(b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n")
            .unwrap();
        let mut head = [0; 12];
        idle.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        stopper.stop();
        // An idle connection is closed, and the listener before it.
        idle.read_to_end(&mut Vec::new()).unwrap();
        assert!(TcpStream::connect(address).is_err());
        drop(held.go);
        for thread in [first, second] {
            assert_eq!(thread.join().unwrap(), StatusCode::OK);
        }
    });
    server.end();
}

#[test]
fn a_server_that_is_stopped_twice_does_not_wait() {
    let (gate, held) = held();
    let server = Running::gated(Options::default(), Some(gate));
    let mut stream = TcpStream::connect(server.address).unwrap();
    let body = infer_body(1.0);
    let head = format!(
        "POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all([head, body].concat().as_bytes()).unwrap();
    held.came.recv().unwrap();
    server.stopper.stop();
    server.stopper.stop();
    let mut answer = Vec::new();
    // Cut: nothing, or the connection is reset.
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty());
    drop(held);
    server.end();
}

#[test]
fn what_cannot_be_served_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    write_model(&folder.path().join("tiny"), 1);
    let source =
        |name: &str, place: &str| ModelSource::new(name, folder.path().join(place)).unwrap();
    let refused = |sources: &[ModelSource], options| match Server::bind(sources, options) {
        Ok(_) => panic!("expected a refusal"),
        Err(error) => error.to_string(),
    };
    let options = || Options {
        address: ([127, 0, 0, 1], 0).into(),
        ..Options::default()
    };
    assert!(refused(&[], options()).contains("expected a model to serve"));
    assert!(refused(&[source("a", "none")], options()).contains("numbered folders"));
    let twice = [source("a", "tiny"), source("a", "tiny")];
    assert!(refused(&twice, options()).contains("two models are named `a`"));
    let origins = vec!["example".to_owned()];
    let message = refused(
        &[source("a", "tiny")],
        Options {
            origins,
            ..options()
        },
    );
    assert!(message.contains("https://example.org"), "{message}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let message = refused(
        &[source("a", "tiny")],
        Options {
            address,
            ..options()
        },
    );
    assert!(
        message.contains("choose another address or port"),
        "{message}"
    );
}

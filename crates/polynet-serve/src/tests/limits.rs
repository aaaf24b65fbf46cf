//! What is refused, and who is cut.

use super::*;
use crate::options::{Batching, Limits, Token};
use crate::routes::{Access, routes};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn with(limits: Limits) -> Options {
    Options {
        limits,
        ..Options::default()
    }
}

#[test]
fn a_body_beyond_the_limit_is_refused_announced_or_not() {
    let server = Running::start(with(Limits {
        body: 1000,
        ..Limits::default()
    }));
    let message = server
        .post("/classify", vec![0; 1001])
        .refusal(413, "too_large");
    assert!(
        message.contains("at most 1000 bytes") && message.contains("--body"),
        "{message}"
    );
    server
        .post("/classify", vec![0; 1000])
        .refusal(422, "bad_picture");
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = "POST /classify HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("258\r\n{}\r\n", "x".repeat(600));
    stream
        .write_all(format!("{head}{chunk}{chunk}0\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[test]
fn a_picture_or_a_head_beyond_the_limit_is_refused() {
    let server = Running::start(with(Limits {
        picture: 100,
        head: 2000,
        ..Limits::default()
    }));
    let message = server.post("/classify", png(1)).refusal(413, "too_large");
    assert!(
        message.contains("24x20") && message.contains("--picture"),
        "{message}"
    );
    let mut request = get("/v2");
    request
        .headers_mut()
        .insert("x-long", "x".repeat(3000).parse().unwrap());
    assert_eq!(server.send(request).status.as_u16(), 431);
}

#[test]
fn beyond_the_queues_places_requests_are_told_to_come_again() {
    let (gate, held) = held();
    let limits = Limits {
        queue: 2,
        ..Limits::default()
    };
    let server = Running::gated(with(limits), Some(gate));
    std::thread::scope(|scope| {
        let ask = || server.post(INFER, infer_body(1.0)).status;
        let first = scope.spawn(ask);
        held.came.recv().unwrap();
        let second = scope.spawn(ask);
        server.until("polynet_waiting_images", 1.0);
        let answer = server.post(INFER, infer_body(1.0));
        let message = answer.refusal(503, "queue_full");
        assert!(message.contains("2 images wait"), "{message}");
        assert_eq!(answer.headers["retry-after"], "1");
        drop(held.go);
        for thread in [first, second] {
            assert_eq!(thread.join().unwrap(), StatusCode::OK);
        }
    });
    let pictures = json!({ "inputs": [{ "name": "input", "datatype": "UINT8", "shape": [3, 1, 1, 3],
        "data": [1, 2, 3, 4, 5, 6, 7, 8, 9] }] });
    let message = server
        .post(INFER, pictures.to_string())
        .refusal(413, "too_large");
    assert!(message.contains("at most 2 images"), "{message}");
}

#[test]
fn bodies_beyond_the_memory_for_all_are_told_to_come_again() {
    let limits = Limits {
        body: 64 << 10,
        bodies: 64 << 10,
        ..Limits::default()
    };
    let server = Running::start(with(limits));
    let mut slow = TcpStream::connect(server.address).unwrap();
    slow.write_all(b"POST /classify HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx")
        .unwrap();
    server.until("polynet_requests_in_flight", 2.0);
    let message = server.post("/classify", "x").refusal(503, "queue_full");
    assert!(message.contains("try again"), "{message}");
    drop(slow);
    server.until("polynet_requests_in_flight", 1.0);
    server.post("/classify", "x").refusal(422, "bad_picture");
}

#[test]
fn an_answer_that_does_not_come_in_time_is_refused_and_not_computed() {
    let (gate, held) = held();
    let server = Running::gated(Options::default(), Some(gate));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| server.post(INFER, infer_body(1.0)).status);
        held.came.recv().unwrap();
        let mut hasty: Value = serde_json::from_str(&infer_body(2.0)).unwrap();
        hasty["parameters"] = json!({ "timeout": 1 });
        let message = server
            .post(INFER, hasty.to_string())
            .refusal(504, "deadline");
        assert!(message.contains("no answer within"), "{message}");
        server
            .post("/classify?timeout=0", png(1))
            .refusal(504, "deadline");
        drop(held.go);
        assert_eq!(first.join().unwrap(), StatusCode::OK);
    });
    assert_eq!(server.metric("polynet_batch_images_sum"), 1.0);
    let (gate, held) = super::held();
    let deadline = Duration::from_millis(1);
    let server = Running::gated(
        with(Limits {
            deadline,
            ..Limits::default()
        }),
        Some(gate),
    );
    server
        .post("/classify?timeout=100", png(1))
        .refusal(504, "deadline");
    drop(held);
}

#[test]
fn a_request_whose_client_left_is_not_computed() {
    let (gate, held) = held();
    let batching = Batching {
        images: 1,
        ..Batching::default()
    };
    let server = Running::gated(
        Options {
            batching,
            ..Options::default()
        },
        Some(gate),
    );
    std::thread::scope(|scope| {
        let first = scope.spawn(|| server.post(INFER, infer_body(1.0)).status);
        held.came.recv().unwrap();
        let body = infer_body(2.0);
        let mut stream = TcpStream::connect(server.address).unwrap();
        let head = format!(
            "POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all([head, body].concat().as_bytes()).unwrap();
        server.until("polynet_waiting_images", 1.0);
        drop(stream);
        server.until("polynet_waiting_images", 0.0);
        assert_eq!(server.metric("polynet_abandoned_total"), 1.0);
        drop(held.go);
        assert_eq!(first.join().unwrap(), StatusCode::OK);
    });
    server.post(INFER, infer_body(3.0)).ok();
    assert_eq!(
        held.came.try_iter().count(),
        1,
        "the third request alone came after the first"
    );
    assert_eq!(server.metric("polynet_batch_images_sum"), 2.0);
}

#[test]
fn slow_clients_are_cut() {
    let patience = Duration::from_millis(50);
    let server = Running::start(with(Limits {
        patience,
        ..Limits::default()
    }));
    let answer_to = |text: &str| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        // The server closes the connection: else this would not end.
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    answer_to("POST /classify HT");
    let answer = answer_to("POST /classify HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("slow_body"), "{answer}");
}

#[test]
fn without_the_token_only_health_and_the_bare_pages_are_told() {
    let token = Some(Token::new("0123456789abcdef").unwrap());
    let server = Running::start(Options {
        token,
        ..Options::default()
    });
    let routes = routes();
    let is_open = |path: &str| {
        let mut routes = routes.iter();
        routes.any(|route| route.path == path && route.access == Access::Everybody)
    };
    let open = [
        "/",
        "/page.css",
        "/page.js",
        "/ask.js",
        "/runs",
        "/runs.js",
        "/v2/health/live",
        "/v2/health/ready",
    ];
    for (path, method) in operations() {
        assert_eq!(is_open(&path), open.contains(&&*path), "{path}");
        if is_open(&path) {
            server.get(&path).ok();
            continue;
        }
        let path = filled(&path);
        let bare = || {
            Request::builder()
                .method(method.as_str())
                .uri(path.as_str())
        };
        for value in [
            None,
            Some("0123456789abcdef"),
            Some("Bearer 0123456789abcdeF"),
            Some("Bearer "),
        ] {
            let request = value.iter().fold(bare(), |request, value| {
                request.header("authorization", *value)
            });
            let answer = server.send(request.body(Full::default()).unwrap());
            answer.refusal(401, "unauthorized");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
        let request = bare().header("authorization", "Bearer 0123456789abcdef");
        let answer = server.send(request.body(Full::default()).unwrap());
        assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

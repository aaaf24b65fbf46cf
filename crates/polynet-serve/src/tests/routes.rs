//! What each route answers.

use super::*;
use crate::routes::routes;
use std::collections::BTreeSet;

#[test]
fn the_document_names_the_routes_and_methods_that_there_are() {
    let documented: BTreeSet<String> = operations().into_iter().map(|(path, _)| path).collect();
    let served: BTreeSet<String> = routes().iter().map(|route| route.path.to_owned()).collect();
    assert_eq!(documented, served);
    let (_folder, options) = runs::with_run("tiny");
    let server = Running::start(options);
    for path in served {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let request = Request::builder().method(method).uri(filled(&path));
            let answer = server.send(request.body(Full::default()).unwrap());
            assert_eq!(answer.headers["x-content-type-options"], "nosniff");
            if operations().contains(&(path.clone(), method.to_owned())) {
                let status = answer.status.as_u16();
                assert!(
                    ![404, 405, 500].contains(&status),
                    "{path}: {}",
                    answer.text()
                );
            } else {
                answer.refusal(405, "method_not_allowed");
                assert!(answer.headers.contains_key("allow"), "{path}");
            }
        }
    }
    let message = server.get("/nothing").refusal(404, "not_found");
    assert!(message.contains("/openapi.json"), "{message}");
}

#[test]
fn the_page_is_there_and_has_no_outside_address() {
    let server = Running::start(Options::default());
    let page = server.get("/").ok();
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let mut files = vec![page.text()];
    let runs = server.get("/runs").ok();
    assert_eq!(runs.headers["content-security-policy"], policy);
    files.push(runs.text());
    for (path, kind) in [
        ("/page.css", "text/css"),
        ("/ask.js", "text/javascript"),
        ("/page.js", "text/javascript"),
        ("/runs.js", "text/javascript"),
    ] {
        assert!(files[..2].iter().any(|page| page.contains(path)));
        let file = server.get(path).ok();
        let found = file.headers["content-type"].to_str().unwrap();
        assert!(found.starts_with(kind), "{found}");
        files.push(file.text());
    }
    assert!(files.iter().all(|file| !file.contains("://")));
}

#[test]
fn a_photograph_is_explained_and_a_structure_drawn_as_by_the_library() {
    let server = Running::start(Options::default());
    let picture = png(200);
    let mut model = polynet::Model::open(server.folder.path().join("tiny")).unwrap();
    let decoded = polynet::data::decode(&picture).unwrap();
    let found = model.explain(&decoded, 2).unwrap();
    let explained = polynet::report::explanation(&found, "tiny");
    let structure = polynet::report::drawing::network(model.architecture()).unwrap();
    for model in ["/models/tiny", "/models/tiny/versions/1"] {
        let answer = server.post(&format!("{model}/explain?top=2"), picture.clone());
        assert!(answer.headers["content-type"] == "image/svg+xml");
        assert_eq!(answer.ok().text(), explained);
        let answer = server.get(&format!("{model}/structure")).ok();
        assert_eq!(answer.text(), structure);
    }
    let message = server.post("/models/tiny/explain", b"none".to_vec());
    message.refusal(422, "bad_picture");
}

#[test]
fn a_photograph_gives_the_classes_that_the_library_gives() {
    let server = Running::start(Options::default());
    let picture = png(200);
    let mut model = polynet::Model::open(server.folder.path().join("tiny")).unwrap();
    let wanted = serde_json::to_value(model.classify_bytes(&picture, 2).unwrap()).unwrap();

    let answer = server.post("/classify?top=2", picture.clone()).ok().json();
    assert_eq!(answer["classes"], wanted);
    assert_eq!(
        (&answer["model"], &answer["version"]),
        (&json!("tiny"), &json!("1"))
    );
    for path in [
        "/models/tiny/classify?top=2",
        "/models/tiny/versions/1/classify?top=2",
    ] {
        assert_eq!(
            server.post(path, picture.clone()).ok().json()["classes"],
            wanted
        );
    }
    let form = [
        b"--x\r\ncontent-disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n\r\n"
            .as_slice(),
        &picture,
        b"\r\n--x--\r\n",
    ]
    .concat();
    let mut request = post("/classify?top=2", form);
    let kind = "multipart/form-data; boundary=x".parse().unwrap();
    request.headers_mut().insert("content-type", kind);
    assert_eq!(server.send(request).ok().json()["classes"], wanted);
}

#[test]
fn what_is_no_photograph_is_refused_by_what_it_is() {
    let server = Running::start(Options::default());
    let message = server
        .post("/classify", "no picture")
        .refusal(422, "bad_picture");
    assert!(message.contains("JPEG"), "{message}");
    let typed = |kind: &str, body: &str| {
        let mut request = post("/classify", body.to_owned());
        request
            .headers_mut()
            .insert("content-type", kind.parse().unwrap());
        server.send(request)
    };
    let message = typed("text/html", "x").refusal(415, "unsupported_type");
    assert!(message.contains("image/jpeg"), "{message}");
    for (kind, body) in [
        ("multipart/form-data", ""),
        ("multipart/form-data; boundary=x", ""),
        ("multipart/form-data; boundary=x", "--x--\r\n"),
        (
            "multipart/form-data; boundary=x",
            "--x\r\ncontent-disposition: form-data; name=\"note\"\r\n\r\nhello\r\n--x--\r\n",
        ),
    ] {
        let message = typed(kind, body).refusal(400, "bad_request");
        assert!(message.contains("a form with one file"), "{message}");
    }
    let mut request = post("/classify", png(1));
    request
        .headers_mut()
        .insert("content-encoding", "gzip".parse().unwrap());
    let message = server.send(request).refusal(415, "unsupported_type");
    assert!(message.contains("Content-Encoding"), "{message}");
}

#[test]
fn metrics_tell_what_was_done() {
    let server = Running::start(Options::default());
    server.post("/classify", png(3)).ok();
    server.post("/classify", "none").refusal(422, "bad_picture");
    let text = server.get("/metrics").ok().text();
    for line in [
        "polynet_images_total{model=\"tiny\",version=\"1\"} 1",
        "polynet_failures_total{kind=\"bad_picture\"} 1",
        "polynet_requests_total{route=\"/classify\",method=\"POST\",status=\"200\"} 1",
        "polynet_part_seconds_count{part=\"decode\"} 2",
        "polynet_part_seconds_count{part=\"queue\"} 1",
        "polynet_part_seconds_count{part=\"compute\"} 1",
        "polynet_batch_images_count 1",
        "polynet_waiting_images 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn a_request_keeps_its_id_and_its_trace() {
    let server = Running::start(Options::default());
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut request = get("/v2");
    let headers = request.headers_mut();
    headers.insert("x-request-id", "mine".parse().unwrap());
    headers.insert("traceparent", trace.parse().unwrap());
    let answer = server.send(request).ok();
    assert_eq!(answer.headers["x-request-id"], "mine");
    assert_eq!(answer.headers["traceparent"], trace);
    let plain = server.get("/v2").ok();
    assert!(
        plain.headers.contains_key("x-request-id") && !plain.headers.contains_key("traceparent")
    );
}

#[test]
fn other_origins_may_ask_only_if_told() {
    let preflight = |server: &Running| {
        let request = Request::options("/classify").header("origin", "https://a.example");
        let request = request.header("access-control-request-method", "POST");
        let answer = server.send(request.body(Full::default()).unwrap());
        answer.headers.get("access-control-allow-origin").cloned()
    };
    assert_eq!(preflight(&Running::start(Options::default())), None);
    let origins = vec!["https://a.example".to_owned()];
    let options = Options {
        origins,
        ..Options::default()
    };
    assert_eq!(
        preflight(&Running::start(options)).unwrap(),
        "https://a.example"
    );
}

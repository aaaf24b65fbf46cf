//! `polynet serve` as users run it.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

use polynet::data::{ClassNames, Preprocessing};
use polynet::{Architecture, ModelConfig, ModelFolder, Params};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

fn write_model(folder: &Path) {
    let architecture: Architecture = "small-polynet; width = 0.125; classes = 2; input = 16"
        .parse()
        .unwrap();
    let graph = architecture.graph().unwrap();
    let classes = ClassNames::new(["cat", "dog"].map(str::to_owned).to_vec()).unwrap();
    let config = ModelConfig::new(&architecture, classes, Preprocessing::small(16), "a test");
    ModelFolder::save(folder, &config, &Params::init(&graph, 1)).unwrap();
}

fn serve(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_polynet"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(arguments)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Standard error of a server that must not start.
fn failure(arguments: &[&str], status: i32) -> String {
    let output = serve(arguments).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// A server of a model named `pets`, its log, and its address.
fn pets(folder: &Path) -> (Child, BufReader<ChildStderr>, String) {
    write_model(folder);
    let source = format!("pets={}", folder.display());
    let mut server = serve(&[&source, "--log", "json"]);
    let mut said = BufReader::new(server.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let address = line.strip_prefix("serving on http://").unwrap();
    let address = address.split(';').next().unwrap().to_owned();
    (server, said, address)
}

fn ask(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET /v2/models/pets HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn terminate(server: &Child) {
    let id = server.id().to_string();
    let killed = Command::new("kill").args(["-TERM", &id]).status();
    assert!(killed.unwrap().success());
}

#[test]
fn a_server_whose_log_nobody_reads_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, said, address) = pets(folder.path());
    drop(said);
    for _ in 0..2 {
        let answer = ask(&address);
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
    terminate(&server);
    let status = server.wait().unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn a_server_says_where_it_is_and_ends_at_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, mut said, address) = pets(folder.path());
    let answer = ask(&address);
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    terminate(&server);
    let mut log = String::new();
    said.read_to_string(&mut log).unwrap();
    assert!(server.wait().unwrap().success(), "{log}");
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let request = lines
        .iter()
        .find(|line| line["message"] == "request")
        .unwrap();
    assert_eq!(request["path"], "\"/v2/models/pets\"");
    assert_eq!(request["status"], 200);
    assert_eq!(lines.last().unwrap()["message"], "stopped");
}

#[test]
fn a_server_without_a_model_does_not_start() {
    assert!(failure(&[], 2).contains("[NAME=]FOLDER"));
    assert!(failure(&["--repository", "models"], 2).contains("--control"));
    assert!(failure(&["no-such-folder"], 1).contains("numbered folders"));
    assert!(failure(&["a/b c"], 2).contains("NAME=FOLDER"));
}

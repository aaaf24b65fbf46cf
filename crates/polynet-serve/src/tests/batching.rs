//! Requests that are computed together.

use super::*;
use crate::options::Batching;

#[test]
fn requests_together_give_the_bits_that_they_give_alone() {
    let (gate, held) = held();
    let server = Running::gated(Options::default(), Some(gate));
    let numbers = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6];
    let ask = |number| logits(server.post(INFER, infer_body(number)));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| ask(9.0));
        assert_eq!(held.came.recv().unwrap(), 1);
        let ask = &ask;
        let together = numbers.map(|number| scope.spawn(move || ask(number)));
        server.until("polynet_waiting_images", numbers.len() as f64);
        held.go.send(()).unwrap();
        assert_eq!(held.came.recv().unwrap(), numbers.len(), "one batch");
        held.go.send(()).unwrap();
        first.join().unwrap();
        let together = together.map(|thread| thread.join().unwrap());
        drop(held.go);
        for (number, bits) in numbers.into_iter().zip(together) {
            assert_eq!(ask(number), bits, "{number}");
            assert_eq!(held.came.recv().unwrap(), 1);
        }
    });
}

#[test]
fn a_batch_is_of_one_model_and_of_no_more_images_than_it_may() {
    let (gate, held) = held();
    let folder = tempfile::tempdir().unwrap();
    let sources = ["a", "b"].map(|name| {
        write_model(&folder.path().join(name), 1);
        ModelSource::new(name, folder.path().join(name)).unwrap()
    });
    let batching = Batching {
        images: 2,
        ..Batching::default()
    };
    let options = Options {
        batching,
        ..Options::default()
    };
    let server = Running::serve(&sources, options, Some(gate), folder);
    let ask = |name: &str| {
        server
            .post(&format!("/v2/models/{name}/infer"), infer_body(1.0))
            .status
    };
    std::thread::scope(|scope| {
        let ask = &ask;
        let mut threads = vec![scope.spawn(move || ask("a"))];
        assert_eq!(held.came.recv().unwrap(), 1);
        for (waiting, name) in ["a", "b", "a", "a"].into_iter().enumerate() {
            threads.push(scope.spawn(move || ask(name)));
            server.until("polynet_waiting_images", waiting as f64 + 1.0);
        }
        drop(held.go);
        let batches: Vec<usize> = held.came.iter().take(3).collect();
        assert_eq!(batches, [2, 1, 1], "two of a, the one of b, the last of a");
        for thread in threads {
            assert_eq!(thread.join().unwrap(), StatusCode::OK);
        }
    });
    let message = server.post("/classify", png(1)).refusal(400, "bad_request");
    assert!(message.contains("`a`, `b`"), "{message}");
}

#[test]
fn a_batch_that_becomes_full_does_not_wait_for_its_delay() {
    let batching = Batching {
        images: 2,
        delay: std::time::Duration::from_secs(1_000_000),
    };
    let server = Running::start(Options {
        batching,
        ..Options::default()
    });
    std::thread::scope(|scope| {
        let two =
            [0, 1].map(|_| scope.spawn(|| server.post("/classify?timeout=1e6", png(1)).status));
        for thread in two {
            // With the server's deadline the pair would be refused if it were not computed.
            assert_eq!(thread.join().unwrap(), StatusCode::OK);
        }
    });
    assert_eq!(server.metric("polynet_batch_images_count"), 1.0);
}

//! What was found once is not found again.

#![allow(clippy::unwrap_used)] // a test may panic

use polynet_fuzz::{TARGETS, Target, kept, listen_to_panics, mutant, seeds};

/// Inputs of each target beside its corpus.
const MUTANTS: u64 = 200;

// One test: the memory of an input is what the whole process takes.
#[test]
fn what_was_found_once_is_read_or_refused() {
    let mut found = Vec::new();
    let mut attempt = |target: &Target, name: String, input: &[u8]| {
        let finding = polynet_fuzz::attempt(target, input).err();
        found.extend(finding.map(|finding| (target.name, name, finding)));
    };
    listen_to_panics();
    for target in TARGETS {
        for (index, seed) in (target.seeds)().iter().enumerate() {
            attempt(target, format!("seed {index}"), seed);
        }
        for (name, input) in kept(target).unwrap() {
            attempt(target, name, &input);
        }
        let seeds = seeds(target).unwrap();
        for number in 0..MUTANTS {
            let input = mutant(&seeds, target.words, number);
            attempt(target, format!("mutant {number}"), &input);
        }
    }
    drop(std::panic::take_hook());
    assert!(found.is_empty(), "{found:#?}");
}

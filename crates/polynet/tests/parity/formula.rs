//! The formula of weights and inputs, the fixtures' folder, and comparisons.

use polynet::Params;
use polynet::arch::Graph;
use polynet::cpu::{Classifier, CompileOptions, Isa};
use serde_json::Value;
use std::path::PathBuf;

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
/// Largest deviation of logits, relative to the largest reference value.
pub(crate) const LOGITS: f64 = 1e-5;

/// The formula's words of a tensor.
fn words(name: &str, seed: u64) -> impl Iterator<Item = u64> {
    let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    });
    let base = hash ^ seed.wrapping_mul(GOLDEN);
    (1_u64..).map(move |index| {
        let z = base.wrapping_add(index.wrapping_mul(GOLDEN));
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

/// The formula's tensor, in C order, with values from `low` over `span`.
pub(crate) fn values(name: &str, shape: &[usize], seed: u64, (low, span): (f32, f32)) -> Vec<f32> {
    words(name, seed)
        .take(shape.iter().product())
        .map(|word| {
            let unit = (word >> 40) as f32 / (1 << 24) as f32;
            let scaled = span * unit;
            low + scaled
        })
        .collect()
}

/// Low end and span of a weight with `shape`, whose variance is `gain / 3` over its fan-in.
pub(crate) fn bounded(gain: f64, shape: &[usize]) -> (f32, f32) {
    let fan_in: usize = shape[1..].iter().product();
    let bound = (gain / fan_in as f64).sqrt() as f32;
    (-bound, 2.0 * bound)
}

/// The sampled indices below `count`; a fixture holds the first of them.
pub(crate) fn sample_indices(name: &str, count: usize, seed: u64) -> Vec<usize> {
    words(name, seed)
        .map(|word| (word % count as u64) as usize)
        .take(256)
        .collect()
}

/// The folder of the fixtures.
pub(crate) fn folder() -> PathBuf {
    match std::env::var_os("POLYNET_FIXTURES") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"),
    }
}

/// Every fixture called `<name>_seed<number>.json`, with its seed; at least one.
pub(crate) fn fixtures(name: &str) -> Vec<(Value, u64)> {
    let prefix = format!("{name}_seed");
    let fixtures: Vec<(Value, u64)> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with(&prefix)
        })
        .map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            let json: Value = serde_json::from_str(&text).unwrap();
            let seed = json["seed"].as_u64().unwrap();
            (json, seed)
        })
        .collect();
    let folder = folder();
    assert!(!fixtures.is_empty(), "no {name} in {}", folder.display());
    fixtures
}

pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    let numbers = value.as_array().unwrap().iter();
    numbers.map(|number| number.as_f64().unwrap()).collect()
}

pub(crate) fn largest(values: &[f64]) -> f64 {
    values
        .iter()
        .fold(0.0, |largest, value| value.abs().max(largest))
}

/// Checks the logits of the engine, on every instruction set of this processor, against `bound`
/// relative to the largest reference value.
pub(crate) fn check_logits(
    name: &str,
    (graph, params): (&Graph, &Params),
    images: &[f32],
    (expected, bound): (&[f64], f64),
) {
    // For f32 the two kinds of AVX-512 are one.
    for isa in Isa::available().filter(|isa| !isa.multiplies_bf16()) {
        let options = CompileOptions {
            isa,
            ..CompileOptions::default()
        };
        let mut classifier = Classifier::new(graph, params, options).unwrap();
        let found = classifier.logits(images);
        assert_eq!(found.len(), expected.len());
        let errors = found.iter().zip(expected);
        let errors = errors.map(|(found, expected)| (f64::from(*found) - expected).abs());
        let error = errors.fold(0.0, f64::max) / largest(expected);
        println!("{name}: {isa}, logits within {error:.1e}, asked for {bound:.0e}");
        assert!(error <= bound, "{name} {isa}: {error:e}");
    }
}

//! The formula of weights and inputs that Python shares (`peers/fixtures_polynet.py`), and the files of
//! reference numbers.

use polynet::arch::graph::{TensorKind, TensorSpec};
use serde_json::Value;
use std::path::PathBuf;

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

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
pub fn values(name: &str, shape: &[usize], seed: u64, (low, span): (f32, f32)) -> Vec<f32> {
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
pub fn bounded(gain: f64, shape: &[usize]) -> (f32, f32) {
    let fan_in: usize = shape[1..].iter().product();
    let bound = (gain / fan_in as f64).sqrt() as f32;
    (-bound, 2.0 * bound)
}

/// Low end and span of a tensor by what it is for.
pub fn range(spec: &TensorSpec, conv_gain: f64) -> (f32, f32) {
    match spec.kind {
        TensorKind::ConvWeight => bounded(conv_gain, &spec.shape),
        TensorKind::LinearWeight => bounded(1.0, &spec.shape),
        TensorKind::NormWeight | TensorKind::RunningVar => (0.5, 1.0),
        TensorKind::LinearBias => (-0.1, 0.2),
        TensorKind::ConvBias | TensorKind::NormBias | TensorKind::RunningMean => (-0.2, 0.4),
    }
}

/// The sampled indices below `count`; a fixture holds the first of them.
pub fn sample_indices(name: &str, count: usize, seed: u64) -> Vec<usize> {
    words(name, seed)
        .map(|word| (word % count as u64) as usize)
        .take(256)
        .collect()
}

/// The folder of the fixtures.
pub fn folder() -> PathBuf {
    match std::env::var_os("POLYNET_FIXTURES") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../polynet/tests/fixtures"),
    }
}

/// A file of the fixtures' folder.
pub fn fixture(file: &str) -> Value {
    let path = folder().join(file);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// Every fixture called `<name>_seed<number>.json`, with its seed; at least one.
pub fn fixtures(name: &str) -> Vec<(Value, u64)> {
    let prefix = format!("{name}_seed");
    let names = std::fs::read_dir(folder()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let fixtures: Vec<(Value, u64)> = names
        .filter(|name| name.starts_with(&prefix))
        .map(|name| {
            let json = fixture(&name);
            let seed = json["seed"].as_u64().unwrap();
            (json, seed)
        })
        .collect();
    let folder = folder();
    assert!(!fixtures.is_empty(), "no {name} in {}", folder.display());
    fixtures
}

/// The numbers of an array of a fixture.
pub fn numbers(value: &Value) -> Vec<f64> {
    let numbers = value.as_array().unwrap().iter();
    numbers.map(|number| number.as_f64().unwrap()).collect()
}

/// The whole numbers of an array of a fixture.
pub fn wholes(value: &Value) -> Vec<usize> {
    let numbers = value.as_array().unwrap().iter();
    numbers
        .map(|number| number.as_u64().unwrap() as usize)
        .collect()
}

/// The largest magnitude.
pub fn largest(values: &[f64]) -> f64 {
    values
        .iter()
        .fold(0.0, |largest, value| value.abs().max(largest))
}

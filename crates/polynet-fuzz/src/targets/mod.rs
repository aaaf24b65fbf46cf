//! The readers, and what to begin with.

use crate::Allowance;

mod pictures;
mod records;
mod requests;
mod sets;
mod texts;
mod weights;

/// One reader of what comes from outside.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Reads an input.
    pub read: fn(&[u8]),
    /// Inputs that are read without an error, or nearly.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// What such inputs are made of.
    pub words: &'static [&'static str],
    /// What reading may take.
    pub memory: Allowance,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    texts::ALGEBRA,
    texts::ARCHITECTURE,
    texts::RECIPE,
    texts::STUDY,
    texts::SEARCH,
    pictures::JPEG,
    pictures::CROP,
    pictures::PNG,
    pictures::EXIF,
    weights::SAFETENSORS,
    weights::TENSORS,
    weights::PTH,
    weights::PICKLE,
    weights::CHECKPOINT,
    weights::CONFIG,
    sets::TAR,
    sets::SHARDS,
    sets::LABELS,
    records::METRICS,
    records::LEDGER,
    records::PREDICTIONS,
    requests::REQUEST,
];

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Of what is small whatever the input says.
const SMALL: Allowance = Allowance {
    fixed: MIB,
    per_byte: 256,
};

//! The model that comes with the library: the folder `pretrained` of this crate.

use super::model::parse_config;
use super::{ModelConfig, WeightError, WeightFile};
use crate::arch::Architecture;
use std::path::Path;

const CONFIG: &str = include_str!("../../pretrained/config.json");
const WEIGHTS: &[u8] = include_bytes!("../../pretrained/model.safetensors");

/// Its `config.json`.
pub(crate) fn config() -> Result<(ModelConfig, Architecture), WeightError> {
    parse_config(CONFIG, Path::new("the model in the box: config.json"))
}

/// As [`digest_of_model`](super::digest_of_model) of its folder.
#[cfg(feature = "train")]
pub(crate) fn digest() -> String {
    use sha2::{Digest, Sha256};
    let files = [CONFIG.as_bytes(), WEIGHTS];
    let digests = files.map(|bytes| crate::bytes::hex(&Sha256::digest(bytes)));
    digests.concat()
}

/// Its weights.
pub(crate) fn weights() -> Result<WeightFile, WeightError> {
    let path = Path::new("the model in the box: model.safetensors");
    WeightFile::of_memory(WEIGHTS, path)
}

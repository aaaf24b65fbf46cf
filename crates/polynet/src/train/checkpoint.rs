//! Checkpoints: all that a run needs to go on as if it had never stopped.
//!
//! A checkpoint is one safetensors file, `checkpoints/step-000001234.safetensors`: the network's
//! tensors by their names, the optimizer's state as `optimizer.N.NAME`, averaged weights, where there
//! are any, as `average.NAME`, and the [`Position`] as JSON in the metadata. It appears in one piece, and the one before stays until then. Random
//! numbers need no state: each is drawn from the seed and the step or sample that it is for.

use super::average::WeightAverage;
use super::optimizer::Optimizer;
use super::paths::PathState;
use super::window::Window;
use crate::params::{Params, TensorMap, WeightError, read_safetensors, write_safetensors};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Key of the position in the file's metadata.
const POSITION: &str = "polynet.position";
/// Checkpoints kept: the newest, and one to fall back on.
const KEPT: usize = 2;

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Steps made.
    pub step: u64,
    /// Updates of the optimizer: steps whose batch was not empty.
    pub updates: u64,
    /// Best top-1 accuracy of the validations so far.
    pub best_top1: Option<f64>,
    /// Images left out so far because they could not be decoded.
    pub skipped: u64,
    /// What the next training record has gathered.
    pub window: Window,
    /// What the rule of stochastic paths remembers.
    #[serde(default)]
    pub paths: PathState,
}

/// Writes the checkpoint of a position and removes the oldest beyond two.
///
/// # Errors
/// If it cannot be written; older ones are then untouched.
pub(super) fn save(
    folder: &Path,
    params: &Params,
    optimizer: &Optimizer,
    average: Option<&WeightAverage>,
    position: &Position,
) -> Result<(), WeightError> {
    let path = folder.join(format!("step-{:09}.safetensors", position.step));
    let mut tensors = params.refs();
    tensors.extend(optimizer.refs(params));
    tensors.extend(average.into_iter().flat_map(WeightAverage::refs));
    let json =
        serde_json::to_string(position).map_err(|error| WeightError::invalid(&path, error))?;
    let metadata = HashMap::from([(POSITION.to_owned(), json)]);
    write_safetensors(&path, &tensors, Some(metadata))?;
    let steps = list(folder)?;
    for (_, old) in steps.iter().rev().skip(KEPT) {
        std::fs::remove_file(old).map_err(WeightError::io(old, "remove the old checkpoint"))?;
    }
    Ok(())
}

/// The newest checkpoint of a folder, or `None` where there is none.
///
/// # Errors
/// If it cannot be read.
pub fn load_newest(folder: &Path) -> Result<Option<(Position, TensorMap)>, WeightError> {
    let Some((_, path)) = list(folder)?.pop() else {
        return Ok(None);
    };
    let position = read_position(&path)?;
    Ok(Some((position, read_safetensors(&path)?)))
}

fn read_position(path: &Path) -> Result<Position, WeightError> {
    let invalid = |message: &dyn std::fmt::Display| WeightError::invalid(path, message);
    let bytes = std::fs::read(path).map_err(WeightError::io(path, "read the checkpoint"))?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| invalid(&error))?;
    let json = metadata
        .metadata()
        .as_ref()
        .and_then(|map| map.get(POSITION));
    let json = json.ok_or_else(|| invalid(&"not a checkpoint: it has no position"))?;
    serde_json::from_str(json).map_err(|error| invalid(&error))
}

/// The checkpoints of a folder by step, oldest first.
fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>, WeightError> {
    let entries = std::fs::read_dir(folder).map_err(WeightError::io(folder, "list it"))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(WeightError::io(folder, "list it"))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let step = name
            .and_then(|name| name.strip_prefix("step-"))
            .and_then(|name| name.strip_suffix(".safetensors"))
            .and_then(|step| step.parse().ok());
        if let Some(step) = step {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

//! Checkpoints: all that a run needs to go on as if it had never stopped.
//!
//! A checkpoint is one safetensors file, `checkpoints/step-000001234.safetensors`: the network's
//! tensors by their names, the optimizer's state as `optimizer.N.NAME`, averaged weights, where there
//! are any, as `average.NAME`, and the [`Position`] as JSON in the metadata, with a digest of all. It
//! appears in one piece, and the one before stays until then. Random numbers need no state: each is
//! drawn from the seed and the step or sample that it is for.

use super::average::WeightAverage;
use super::optimizer::Optimizer;
use super::paths::PathState;
use super::window::Window;
use crate::bytes;
use crate::files;
use crate::params::{Params, TensorMap, WeightError, WeightFile, write_safetensors};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Key of the position in the file's metadata, its only one: several would be written in any order.
const POSITION: &str = "polynet.position";
/// Key of the digest beside the position's. Checkpoints of earlier programs have none.
const DIGEST: &str = "digest";
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
    /// Whether the validation after these steps is still to be made: the last one ended in an error.
    #[serde(default)]
    pub validation_due: bool,
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
    let mut stored =
        serde_json::to_value(position).map_err(|error| WeightError::invalid(&path, error))?;
    let named = tensors
        .iter()
        .map(|tensor| (&*tensor.name, &*tensor.values));
    stored[DIGEST] = digest(&stored, named).into();
    let json = stored.to_string();
    let metadata = HashMap::from([(POSITION.to_owned(), json)]);
    write_safetensors(&path, &tensors, Some(metadata))?;
    let steps = list(folder)?;
    for (_, old) in steps.iter().rev().skip(KEPT) {
        files::remove_file(old).map_err(WeightError::io(old, "remove the old checkpoint"))?;
    }
    Ok(())
}

/// A checkpoint as it was read.
#[derive(Debug)]
pub struct Loaded {
    /// Where the run stood.
    pub position: Position,
    /// The network's tensors, the optimizer's and averages.
    pub tensors: TensorMap,
    /// Newer checkpoints that are damaged, and what is wrong with each.
    pub damaged: Vec<(PathBuf, WeightError)>,
}

/// The newest checkpoint of a folder that can be used, or `None` where there is none.
///
/// # Errors
/// If one can't be read, or all are damaged.
pub fn load_newest(folder: &Path) -> Result<Option<Loaded>, WeightError> {
    let mut damaged = Vec::new();
    for (_, path) in list(folder)?.into_iter().rev() {
        match load(&path) {
            Ok((position, tensors)) => {
                return Ok(Some(Loaded {
                    position,
                    tensors,
                    damaged,
                }));
            }
            Err(error @ WeightError::Invalid { .. }) => damaged.push((path, error)),
            // Another rank has set it aside.
            Err(WeightError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    match damaged.pop() {
        None => Ok(None),
        Some((path, error)) => {
            let why = "no older checkpoint is there to go on from; start the run anew, or remove \
                       the file to begin at step 0";
            Err(WeightError::invalid(
                &path,
                format!("{}; {why}", error.message()),
            ))
        }
    }
}

/// Gives a damaged checkpoint another name, under which nothing looks for it; says which.
///
/// # Errors
/// If it can't be renamed.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, WeightError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    let aside = PathBuf::from(name);
    files::rename(path, &aside).map_err(WeightError::io(path, "set the damaged file aside"))?;
    Ok(aside)
}

fn load(path: &Path) -> Result<(Position, TensorMap), WeightError> {
    let file = WeightFile::open(path)?;
    let json = file.metadata.get(POSITION);
    let json =
        json.ok_or_else(|| WeightError::invalid(path, "not a checkpoint: it has no position"))?;
    let invalid = |error| WeightError::invalid(path, error);
    // What was written is compared, not what is known of it: another version's position may have more.
    let mut stored: Map<String, Value> = serde_json::from_str(json).map_err(invalid)?;
    let written = stored.shift_remove(DIGEST);
    let stored = Value::Object(stored);
    let tensors = file.read_all(path)?;
    let named = tensors
        .iter()
        .map(|(name, tensor)| (&**name, &*tensor.values));
    if written.is_some_and(|written| written != digest(&stored, named)) {
        let message = "its bytes are not those that were written";
        return Err(WeightError::invalid(path, message));
    }
    let position = serde_json::from_value(stored).map_err(invalid)?;
    Ok((position, tensors))
}

/// A hash of a position and of tensors, whatever their order.
fn digest<'a>(position: &Value, tensors: impl Iterator<Item = (&'a str, &'a [f32])>) -> String {
    let mut hash = Sha256::new_with_prefix(position.to_string());
    let mut buffer = Vec::new();
    for (name, values) in tensors.collect::<BTreeMap<_, _>>() {
        buffer.clear();
        bytes::put_f32s(&mut buffer, values);
        hash.update(bytes::of_words([name.len() as u64, values.len() as u64]));
        hash.update(name);
        hash.update(&buffer);
    }
    format!("{:x}", hash.finalize())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::TensorRef;

    /// Writes a checkpoint of one tensor whose position has been through `change` since its digest.
    fn write(path: &Path, mut position: Value, change: impl FnOnce(&mut Value)) {
        let tensor = TensorRef::new("weight", &[2], &[1.5, -0.1]);
        let digest = digest(&position, [("weight", &[1.5, -0.1][..])].into_iter());
        change(&mut position);
        position[DIGEST] = digest.into();
        let metadata = HashMap::from([(POSITION.to_owned(), position.to_string())]);
        write_safetensors(path, &[tensor], Some(metadata)).unwrap();
    }

    #[test]
    fn a_digest_is_of_what_was_written_whatever_is_known_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step-000000007.safetensors");
        let position = Position {
            step: 7,
            best_top1: Some(0.1 + 0.2),
            ..Position::default()
        };
        let mut later = serde_json::to_value(&position).unwrap();
        later["of_a_later_version"] = 0.1.into();
        later
            .as_object_mut()
            .unwrap()
            .shift_remove("validation_due");
        write(&path, later.clone(), |_| ());
        assert_eq!(load(&path).unwrap().0, position);
        write(&path, later, |position| position["step"] = 8.into());
        let error = load(&path).unwrap_err().to_string();
        assert!(error.contains("not those that were written"), "{error}");
    }
}

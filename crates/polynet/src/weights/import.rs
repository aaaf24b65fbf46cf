//! Public weight files become model folders.

use super::{ModelConfig, TensorMap, WeightError, port_names, read_weights};
use crate::arch::{Architecture, Graph};
use crate::nn::{HostTensor, TensorMismatch};
use std::path::Path;

/// A weight file whose tensors carry the network's own names and shapes.
#[derive(Debug)]
pub struct Imported {
    /// What the network is.
    pub graph: Graph,
    /// Every tensor of the network.
    pub tensors: TensorMap,
}

/// Reads a public weight file for an architecture, in the port's names or in the project's own.
///
/// # Errors
/// If the file cannot be read, or tensors are missing, extra or misshapen: all of them are listed.
pub fn import(path: &Path, architecture: &Architecture) -> Result<Imported, WeightError> {
    let graph = architecture
        .graph()
        .map_err(|error| WeightError::invalid(path, error))?;
    let mut found = read_weights(path)?;
    if graph.tensors().any(|spec| found.contains_key(&spec.name)) {
        let shapes = found
            .iter()
            .map(|(name, t)| (name.as_str(), t.shape.as_slice()));
        TensorMismatch::check(graph.tensors(), shapes)
            .map_err(|mismatch| WeightError::mismatch(path, mismatch))?;
        return Ok(Imported {
            graph,
            tensors: found,
        });
    }
    let names = port_names(architecture, &graph)?;
    let expected = graph.tensors().zip(&names).map(|(mut spec, name)| {
        spec.name.clone_from(name);
        spec
    });
    let shapes = found
        .iter()
        .map(|(name, t)| (name.as_str(), t.shape.as_slice()));
    TensorMismatch::check(expected, shapes)
        .map_err(|mismatch| WeightError::mismatch(path, mismatch))?;
    let tensors = graph
        .tensors()
        .zip(&names)
        .filter_map(|(spec, name)| found.remove(name).map(|tensor| (spec.name, tensor)))
        .collect::<TensorMap>();
    Ok(Imported { graph, tensors })
}

impl Imported {
    /// Writes the model folder.
    ///
    /// # Errors
    /// If the folder exists or cannot be written.
    pub fn save(&self, folder: &Path, config: &ModelConfig) -> Result<(), WeightError> {
        let tensors: Vec<(&str, &HostTensor)> = self
            .tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
            .collect();
        super::model::create_folder(folder)?;
        super::model::write(folder, config, tensors)
    }
}

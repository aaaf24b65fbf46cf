//! Public weight files become model folders.

use super::{
    ModelConfig, Naming, Params, TensorMap, TensorMismatch, WeightError, read_weights,
    write_new_model,
};
use crate::arch::graph::{TensorKind, TensorSpec};
use crate::arch::{Architecture, Graph};
use crate::data::Preprocessing;
use std::path::Path;

/// A weight file whose tensors carry the network's own names and shapes.
#[derive(Debug)]
pub struct Imported {
    /// What the network is.
    pub graph: Graph,
    /// Every tensor of the network.
    pub params: Params,
    /// Whose names the file had; none where they were the network's own.
    pub naming: Option<Naming>,
    /// Whether the file had a background class before the others, which was left out.
    pub background_dropped: bool,
}

/// Reads a public weight file for an architecture. Whose names it has, a public implementation's
/// ([`Naming`]) or the network's own, is found out from the names.
///
/// Files made from TensorFlow's weights may have a background class before the 1,000 others; it is
/// left out where the architecture has one class less than the file.
///
/// # Errors
/// If the file cannot be read, or tensors are missing, extra or misshapen: all of them are listed.
pub fn import_weights(path: &Path, architecture: &Architecture) -> Result<Imported, WeightError> {
    let graph = architecture
        .graph()
        .map_err(|error| WeightError::invalid(path, error))?;
    let mut found = read_weights(path)?;
    let specs: Vec<TensorSpec> = graph.tensors().collect();
    let is_own = specs.iter().any(|spec| found.contains_key(&spec.name));
    let (naming, names) = if is_own {
        let names = specs.iter().map(|spec| spec.name.clone()).collect();
        (None, names)
    } else {
        let (naming, names) = detect(architecture, &graph, &found)?;
        (Some(naming), names)
    };
    let background_dropped = naming.is_some_and(Naming::may_have_background)
        && drop_background(&specs, &names, &mut found);
    drop_empty_axes(&specs, &names, &mut found);
    let expected = specs.iter().zip(&names).map(|(spec, name)| TensorSpec {
        name: name.clone(),
        ..spec.clone()
    });
    let shapes = found
        .iter()
        .map(|(name, t)| (name.as_str(), t.shape.as_slice()));
    TensorMismatch::check(expected, shapes)
        .map_err(|mismatch| WeightError::mismatch(path, mismatch))?;
    let tensors = specs
        .into_iter()
        .zip(&names)
        .filter_map(|(spec, name)| found.remove(name).map(|tensor| (spec.name, tensor)))
        .collect::<TensorMap>();
    let params = Params::from_source(&graph, &tensors)
        .map_err(|mismatch| WeightError::mismatch(path, mismatch))?;
    Ok(Imported {
        graph,
        params,
        naming,
        background_dropped,
    })
}

/// The implementation that has most of its names in the file, with all its names.
fn detect(
    architecture: &Architecture,
    graph: &Graph,
    found: &TensorMap,
) -> Result<(Naming, Vec<String>), WeightError> {
    let mut best: Option<(usize, Naming, Vec<String>)> = None;
    for &naming in Naming::of(architecture.family) {
        let names = naming.names(architecture, graph)?;
        let known = names.iter().filter(|name| found.contains_key(*name));
        let known = known.count();
        if best.as_ref().is_none_or(|(count, ..)| known > *count) {
            best = Some((known, naming, names));
        }
    }
    let best = best.map(|(_, naming, names)| (naming, names));
    best.ok_or_else(|| {
        let family = architecture.family.name();
        let message = format!("family `{family}`; only files with its own names can be read");
        WeightError::NoPort(message)
    })
}

/// Leaves the first class of the classifier out where the file has one more than the network.
fn drop_background(specs: &[TensorSpec], names: &[String], found: &mut TensorMap) -> bool {
    let mut dropped = false;
    for (spec, name) in specs.iter().zip(names) {
        if !matches!(spec.kind, TensorKind::LinearWeight | TensorKind::LinearBias) {
            continue;
        }
        let Some(tensor) = found.get_mut(name) else {
            continue;
        };
        if tensor.shape.first() == Some(&(spec.shape[0] + 1)) {
            let row = tensor.values.len() / tensor.shape[0];
            tensor.values.drain(..row);
            tensor.shape[0] -= 1;
            dropped = true;
        }
    }
    dropped
}

/// A classifier that is a 1×1 convolution has the shape `[classes, features, 1, 1]`.
fn drop_empty_axes(specs: &[TensorSpec], names: &[String], found: &mut TensorMap) {
    for (spec, name) in specs.iter().zip(names) {
        let Some(tensor) = found.get_mut(name) else {
            continue;
        };
        let rank = spec.shape.len();
        if let Some(rest) = tensor.shape.get(rank..)
            && rest.iter().all(|&size| size == 1)
        {
            tensor.shape.truncate(rank);
        }
    }
}

impl Imported {
    /// How an image is prepared for the weights, at an input of `input_size` pixels.
    pub fn preprocessing(&self, input_size: usize) -> Preprocessing {
        match self.naming {
            Some(naming) => naming.preprocessing(input_size),
            None => Preprocessing::imagenet(input_size),
        }
    }

    /// Writes the model folder.
    ///
    /// # Errors
    /// If the folder exists or cannot be written.
    pub fn save(&self, folder: &Path, config: &ModelConfig) -> Result<(), WeightError> {
        write_new_model(folder, config, &self.params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{HostTensor, TensorRef, write_safetensors};

    fn tensor(shape: &[usize], first: f32) -> HostTensor {
        let count = shape.iter().product();
        HostTensor {
            shape: shape.to_vec(),
            values: (0..count).map(|index| first + index as f32).collect(),
        }
    }

    /// Writes a network's tensors by a naming, each with values of its own, changed by `change`.
    fn write(
        path: &Path,
        text: &str,
        naming: Naming,
        change: impl Fn(&TensorSpec, &mut HostTensor),
    ) -> (Architecture, TensorMap) {
        let architecture: Architecture = text.parse().unwrap();
        let graph = architecture.graph().unwrap();
        let names = naming.names(&architecture, &graph).unwrap();
        let mut expected = TensorMap::new();
        let mut file = Vec::new();
        for (index, (spec, name)) in graph.tensors().zip(names).enumerate() {
            let mut written = tensor(&spec.shape, index as f32 * 0.5);
            expected.insert(spec.name.clone(), written.clone());
            change(&spec, &mut written);
            file.push((name, written));
        }
        let tensors = file.iter();
        let tensors = tensors.map(|(name, t)| TensorRef::new(name, &t.shape, &t.values));
        write_safetensors(path, &tensors.collect::<Vec<_>>(), None).unwrap();
        (architecture, expected)
    }

    #[test]
    fn every_naming_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let table = [
            ("ir-3-6-3; width = 0.1", Naming::Polynet),
            ("inception-v4; width = 0.05", Naming::InceptionV4),
            (
                "inception-resnet-v2; width = 0.05",
                Naming::InceptionResnetV2,
            ),
            (
                "inception-resnet-v2; width = 0.05",
                Naming::PretrainedInceptionResnetV2,
            ),
            ("resnet-50; width = 0.1", Naming::TimmResnetV2),
            ("resnet-v1-50; width = 0.1", Naming::TorchvisionResnet),
        ];
        for (text, naming) in table {
            let text = format!("{text}; classes = 3");
            let (architecture, expected) = write(&path, &text, naming, |_, _| {});
            let imported = import_weights(&path, &architecture).unwrap();
            assert_eq!(imported.naming, Some(naming), "{text}");
            assert_eq!(imported.params.to_map(), expected, "{text}");
            assert!(!imported.background_dropped);
            let preprocessing = imported.preprocessing(architecture.input_size);
            preprocessing.validate().unwrap();
        }
    }

    #[test]
    fn a_background_class_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let text = "inception-v4; width = 0.05; classes = 3";
        let (architecture, expected) = write(&path, text, Naming::InceptionV4, |spec, tensor| {
            if spec.name.starts_with("head.") {
                let row = tensor.values.len() / 3;
                tensor.shape[0] = 4;
                tensor.values.splice(..0, vec![9.0; row]);
            }
        });
        let imported = import_weights(&path, &architecture).unwrap();
        assert!(imported.background_dropped);
        assert_eq!(imported.params.to_map(), expected);
        // As many classes as the file has: nothing is dropped.
        let all: Architecture = text.replace('3', "4").parse().unwrap();
        assert!(!import_weights(&path, &all).unwrap().background_dropped);
    }

    #[test]
    fn a_classifier_may_be_a_convolution() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let text = "resnet-50; width = 0.1; classes = 3";
        let (architecture, expected) = write(&path, text, Naming::TimmResnetV2, |spec, tensor| {
            if spec.kind == TensorKind::LinearWeight {
                tensor.shape.extend([1, 1]);
            }
        });
        assert_eq!(
            import_weights(&path, &architecture)
                .unwrap()
                .params
                .to_map(),
            expected
        );
    }

    #[test]
    fn structures_without_public_weights_are_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let other = TensorRef::new("other", &[1], &[0.0]);
        write_safetensors(&path, &[other], None).unwrap();
        let table = [
            ("multi-resnet-101", "module `stage_1.0` is I + F + G"),
            ("inception-v4; A: I + F x4", "`stage_a.0` is I + F"),
            ("small-polynet", "family `small`"),
        ];
        for (text, expected) in table {
            let error = import_weights(&path, &text.parse().unwrap()).unwrap_err();
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
    }
}

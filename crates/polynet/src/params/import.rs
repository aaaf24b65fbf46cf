//! Public weight files become model folders.

use super::{
    HostTensor, ModelConfig, Naming, Params, TensorMap, TensorMismatch, WeightError, open_weights,
    write_new_model,
};
use crate::arch::graph::{TensorKind, TensorSpec};
use crate::arch::{Architecture, Graph};
use crate::data::Preprocessing;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
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
    /// What stood before every name in the file, as `state_dict.module.`; often nothing.
    pub wrapper: String,
    /// Other wrappers in the file with all the names.
    pub other_wrappers: Vec<String>,
    /// Whether the file had a background class before the others, which was left out.
    pub background_dropped: bool,
}

/// Reads a public weight file for an architecture. Whose names it has, a public implementation's
/// ([`Naming`]) or the network's own, is found out from the names. What a training program has put
/// before all of them (`state_dict.`, `module.`, `model_ema.`) is seen through; of several such sets of
/// weights an average is taken.
///
/// Files made from TensorFlow's weights may have a background class before the 1,000 others; it is
/// left out where the architecture has one class less than the file.
///
/// # Errors
/// If the file cannot be read, tensors are missing, extra or misshapen, or a weight is infinite or no
/// number.
pub fn import_weights(path: &Path, architecture: &Architecture) -> Result<Imported, WeightError> {
    let graph = architecture
        .graph()
        .map_err(|error| WeightError::invalid(path, error))?;
    let file = open_weights(path)?;
    let found: HashMap<&str, &[usize]> = file.shapes().collect();
    let others = file.others();
    let unread = others.iter().map(|(name, _)| name.as_str());
    let present: Vec<&str> = found.keys().copied().chain(unread).collect();
    let matched = recognize(architecture, &graph, &present)?;
    let background_dropped = matched.fit(&graph, &found).map_err(|mismatch| {
        let others = others
            .iter()
            .filter_map(|(name, dtype)| Some((matched.without_wrapper(name)?, dtype.clone())));
        WeightError::mismatch(path, mismatch.with_types(others.collect()))
    })?;
    let Match {
        naming,
        names,
        wrapper,
        other_wrappers,
    } = matched;
    let mut tensors = TensorMap::new();
    for (spec, name) in graph.tensors().zip(&names) {
        let values = file
            .values(&format!("{wrapper}{name}"))
            .map_err(|mismatch| WeightError::mismatch(path, mismatch))?;
        // A background is the first row.
        let values = values[values.len() - spec.num_elements()..].to_vec();
        let shape = spec.shape;
        tensors.insert(spec.name, HostTensor { shape, values });
    }
    let params = Params::from_source(&graph, &tensors)
        .map_err(|mismatch| WeightError::mismatch(path, mismatch))?;
    Ok(Imported {
        params,
        naming,
        wrapper,
        other_wrappers,
        background_dropped,
        graph,
    })
}

/// How a file names the tensors of a network.
struct Match {
    naming: Option<Naming>,
    /// Without the wrapper, in the order of the graph.
    names: Vec<String>,
    wrapper: String,
    other_wrappers: Vec<String>,
}

impl Match {
    fn without_wrapper(&self, name: &str) -> Option<String> {
        Some(name.strip_prefix(&self.wrapper)?.to_owned())
    }

    /// Whether a file's tensors are the network's, and if so, whether one has a background class.
    fn fit(&self, graph: &Graph, found: &HashMap<&str, &[usize]>) -> Result<bool, TensorMismatch> {
        let named = || self.names.iter().map(String::as_str).zip(graph.tensors());
        let specs: HashMap<&str, TensorSpec> = named().collect();
        let may_have_background = self.naming.is_some_and(Naming::may_have_background);
        let mut with_background = false;
        let shapes: Vec<(&str, Vec<usize>)> = found
            .iter()
            .filter_map(|(name, shape)| {
                let name = name.strip_prefix(&self.wrapper)?;
                let mut shape = shape.to_vec();
                if let Some(spec) = specs.get(name) {
                    drop_empty_axes(spec, &mut shape);
                    if may_have_background && has_background(spec, &shape) {
                        shape[0] -= 1;
                        with_background = true;
                    }
                }
                Some((name, shape))
            })
            .collect();
        let expected = named().map(|(name, spec)| TensorSpec {
            name: name.to_owned(),
            ..spec
        });
        let shapes = shapes.iter().map(|(name, shape)| (*name, &shape[..]));
        TensorMismatch::check(expected, shapes)?;
        Ok(with_background)
    }
}

/// The names, and what stands before them, of which most are in the file.
fn recognize(
    architecture: &Architecture,
    graph: &Graph,
    present: &[&str],
) -> Result<Match, WeightError> {
    let own: Vec<String> = graph.tensors().map(|spec| spec.name).collect();
    let wrappers = wrappers(&own, present);
    let (mut most, mut best) = (0, None);
    let mut consider = |naming, names: Vec<String>, wrappers: Vec<(usize, String)>| {
        let (count, wrapper) = wrappers.first().cloned().unwrap_or_default();
        if count > most || best.is_none() {
            let others = wrappers.into_iter().skip(1);
            let others = others.filter(|(known, _)| *known == names.len());
            most = count;
            best = Some(Match {
                naming,
                wrapper,
                other_wrappers: others.map(|(_, wrapper)| wrapper).collect(),
                names,
            });
        }
    };
    let is_foreign = wrappers.is_empty();
    if !is_foreign {
        consider(None, own, wrappers);
    }
    // A structure that no implementation has is an error only where the names are not our own.
    for &naming in Naming::of(architecture.family) {
        match naming.names(architecture, graph) {
            Ok(names) => {
                let wrappers = self::wrappers(&names, present);
                consider(Some(naming), names, wrappers);
            }
            Err(_) if !is_foreign => {}
            Err(error) => return Err(error),
        }
    }
    best.ok_or_else(|| {
        let family = architecture.family.name();
        let message = format!("family `{family}`; only files with its own names can be read");
        WeightError::NoPort(message)
    })
}

/// What stands before any of `names` in a file, with how many of them it stands before, the most
/// first; of equals averages of weights, and then what is shorter.
fn wrappers(names: &[String], present: &[&str]) -> Vec<(usize, String)> {
    let names: HashSet<&str> = names.iter().map(String::as_str).collect();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for name in present {
        let dots = name.match_indices('.').map(|(dot, _)| dot + 1);
        for start in std::iter::once(0).chain(dots) {
            if names.contains(&name[start..]) {
                *counts.entry(&name[..start]).or_default() += 1;
            }
        }
    }
    let mut counts: Vec<(usize, String)> = counts
        .into_iter()
        .map(|(wrapper, count)| (count, wrapper.to_owned()))
        .collect();
    let is_average = |wrapper: &str| wrapper.contains("ema") || wrapper.contains("average");
    counts.sort_by_key(|(count, wrapper)| {
        let rank = (!is_average(wrapper), wrapper.len(), wrapper.clone());
        (Reverse(*count), rank)
    });
    counts
}

/// Whether a classifier's tensor has one row more than the network's.
fn has_background(spec: &TensorSpec, shape: &[usize]) -> bool {
    matches!(spec.kind, TensorKind::LinearWeight | TensorKind::LinearBias)
        && shape.first() == Some(&(spec.shape[0] + 1))
}

/// A classifier that is a 1×1 convolution has the shape `[classes, features, 1, 1]`.
fn drop_empty_axes(spec: &TensorSpec, shape: &mut Vec<usize>) {
    let rank = spec.shape.len();
    if let Some(rest) = shape.get(rank..)
        && rest.iter().all(|&size| size == 1)
    {
        shape.truncate(rank);
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
    use crate::params::{TensorRef, read_safetensors, write_safetensors};
    use safetensors::Dtype;

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
    fn what_training_programs_put_before_names_is_seen_through() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, wrapped) = (
            folder.path().join("plain.safetensors"),
            folder.path().join("wrapped.safetensors"),
        );
        let text = "resnet-v1-50; width = 0.1; classes = 3";
        let (architecture, expected) = write(&plain, text, Naming::TorchvisionResnet, |_, _| {});
        let weights = read_safetensors(&plain).unwrap();
        let table: [(&[&str], &str, &[&str]); 6] = [
            (&["module."], "module.", &[]),
            (&["model."], "model.", &[]),
            (&["state_dict."], "state_dict.", &[]),
            (&["model_state_dict."], "model_state_dict.", &[]),
            (
                &["state_dict.", "state_dict_ema."],
                "state_dict_ema.",
                &["state_dict."],
            ),
            (
                &["model.", "model_ema.module."],
                "model_ema.module.",
                &["model."],
            ),
        ];
        for (wrappers, taken, others) in table {
            let mut file = vec![("optimizer.state.0.weight".to_owned(), tensor(&[2], 0.0))];
            for wrapper in wrappers {
                // Others than those that are to be taken are zeros.
                let values = |tensor: &HostTensor| match *wrapper == taken {
                    true => tensor.clone(),
                    false => HostTensor {
                        values: vec![0.0; tensor.values.len()],
                        ..tensor.clone()
                    },
                };
                let named = weights.iter();
                file.extend(
                    named.map(|(name, tensor)| (format!("{wrapper}{name}"), values(tensor))),
                );
            }
            let tensors = file.iter();
            let tensors = tensors.map(|(name, t)| TensorRef::new(name, &t.shape, &t.values));
            write_safetensors(&wrapped, &tensors.collect::<Vec<_>>(), None).unwrap();
            let imported = import_weights(&wrapped, &architecture).unwrap();
            assert_eq!(imported.wrapper, taken);
            assert_eq!(imported.other_wrappers, others);
            assert_eq!(imported.params.to_map(), expected, "{taken}");
        }
    }

    #[test]
    fn weights_of_whole_numbers_are_not_called_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let view = |bytes| safetensors::tensor::TensorView::new(Dtype::I8, vec![1], bytes).unwrap();
        safetensors::serialize_to_file([("module.fc.bias", view(&[1]))], None, &path).unwrap();
        let architecture = "resnet-v1-50; width = 0.1; classes = 1".parse().unwrap();
        let told = import_weights(&path, &architecture)
            .unwrap_err()
            .to_string();
        assert!(
            told.contains("1 of whole numbers") && told.contains("I8        fc.bias"),
            "{told}"
        );
    }

    #[test]
    fn a_weight_that_is_no_number_is_refused_with_its_tensor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let text = "resnet-v1-50; width = 0.1; classes = 3";
        let naming = Naming::TorchvisionResnet;
        let (architecture, _) = write(&path, text, naming, |spec, tensor| {
            if spec.kind == TensorKind::LinearBias {
                tensor.values[1] = f32::NAN;
            }
        });
        let told = import_weights(&path, &architecture)
            .unwrap_err()
            .to_string();
        assert!(
            told.contains("tensor fc.bias: expected finite numbers, its element 1 is NaN"),
            "{told}"
        );
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

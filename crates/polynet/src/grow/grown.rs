//! Copies and draws what a [`Growth`] says.

use super::head::{matching_rows, with_rows};
use super::report::GrowthReport;
use super::tensors::Origin;
use super::{GrowError, GrowOptions, Growth, Start};
use crate::arch::graph::TensorSpec;
use crate::arch::{Architecture, Graph};
use crate::cpu::{Classifier, CompileOptions};
use crate::data::{ClassNames, Preprocessing, Resize};
use crate::params::{
    HostTensor, ModelConfig, ModelFolder, Params, TensorMap, WeightError, default_class_names,
    initial_values, write_new_model,
};
use crate::random::compared_images_rng;
use rand_distr::{Distribution, StandardNormal};
use serde::Serialize;
use std::path::Path;

/// Images that the two networks are compared on.
const COMPARED_IMAGES: usize = 4;
/// The largest difference that counts as none, as a share of the largest feature. Adding zeros is
/// exact, but convolutions that are computed as one order their sums anew.
const TOLERANCE: f32 = 1e-5;

/// A grown model, not yet written.
#[derive(Debug)]
pub struct Grown {
    /// What the model folder will say.
    pub config: ModelConfig,
    /// What the network computes.
    pub graph: Graph,
    /// The network's tensors.
    pub params: Params,
    /// What came from where, and how far the functions are apart.
    pub report: GrowthReport,
}

/// How far what two networks compute is apart, on random images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Images: standard normal numbers drawn from the seed.
    pub images: usize,
    /// Their height and width: the model's input size.
    pub input_size: usize,
    /// Largest absolute difference of what enters the classifier's pooling.
    pub features: f32,
    /// Largest absolute value there in the model.
    pub largest_feature: f32,
    /// Classes that both have.
    pub classes: usize,
    /// Largest absolute difference of the logits of those classes.
    pub logits: f32,
    /// Largest absolute logit of those classes in the model.
    pub largest_logit: f32,
}

/// Grows a model into a larger network. `name` is what the card calls the model; `classes` are the
/// names of the larger network's classes: by default the model's where their number stays, and
/// placeholders otherwise.
///
/// # Errors
/// If the larger network has no place for something of the model, the names do not fit, or the
/// function should stay the same and can't.
pub fn grow(
    model: &ModelFolder,
    name: &str,
    to: &Architecture,
    classes: Option<ClassNames>,
    options: GrowOptions,
) -> Result<Grown, GrowError> {
    let (classes, rows) = classes_and_rows(&model.config.classes, to, classes)?;
    let growth = Growth::plan(&model.architecture, to, &rows, options)?;
    let graph = to.graph()?;
    let tensors = tensors(&growth, &graph, &model.params, &rows, options.seed)?;
    let mismatch = |mismatch| WeightError::mismatch(Path::new(name), mismatch);
    let params = Params::from_source(&graph, &tensors).map_err(mismatch)?;
    let difference = difference(model, &params, to, &rows, options.seed)?;
    let limit = TOLERANCE * difference.largest_feature;
    if options.start == Start::SameFunction && difference.features > limit {
        return Err(GrowError::Drift {
            difference: difference.features,
            largest: difference.largest_feature,
        });
    }
    let preprocessing = resized(&model.config.preprocessing, to.input_size);
    let origin = ancestry(model, name, options);
    Ok(Grown {
        config: ModelConfig::new(to, classes, preprocessing, origin),
        graph,
        params,
        report: GrowthReport::new(model, to, options, growth, difference),
    })
}

impl Grown {
    /// Writes the model folder.
    ///
    /// # Errors
    /// If the folder is there and not empty, or cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), GrowError> {
        Ok(write_new_model(folder, &self.config, &self.params)?)
    }
}

/// The names of the larger network's classes, and for each its row in the model.
fn classes_and_rows(
    model: &ClassNames,
    to: &Architecture,
    names: Option<ClassNames>,
) -> Result<(ClassNames, Vec<Option<usize>>), GrowError> {
    let expected = to.num_classes;
    match names {
        Some(names) if names.len() != expected => Err(GrowError::ClassNames {
            expected,
            found: names.len(),
        }),
        Some(names) => {
            let rows = matching_rows(model, &names);
            Ok((names, rows))
        }
        None if model.len() == expected => Ok((model.clone(), (0..expected).map(Some).collect())),
        None => Ok((default_class_names(expected), vec![None; expected])),
    }
}

fn tensors(
    growth: &Growth,
    graph: &Graph,
    model: &Params,
    rows: &[Option<usize>],
    seed: u64,
) -> Result<TensorMap, GrowError> {
    let mut grown = TensorMap::new();
    for (spec, growth) in graph.tensors().zip(&growth.tensors) {
        let from = |name: &str| {
            let index = model.specs().iter().position(|spec| spec.name == name);
            let tensor = index.map(|index| HostTensor {
                shape: model.specs()[index].shape.clone(),
                values: model[index].to_vec(),
            });
            tensor.ok_or_else(|| GrowError::Tensor {
                tensor: spec.name.clone(),
                from: name.to_owned(),
                expected: spec.shape.clone(),
                found: "none".to_owned(),
            })
        };
        let tensor = match &growth.origin {
            Origin::Copied { from: name } => from(name)?,
            Origin::Rows { from: name, .. } => with_rows(&from(name)?, drawn(&spec, seed), rows),
            Origin::New => drawn(&spec, seed),
            Origin::Zero => HostTensor {
                shape: spec.shape.clone(),
                values: vec![0.0; spec.num_elements()],
            },
        };
        grown.insert(spec.name, tensor);
    }
    Ok(grown)
}

/// First values of a new tensor. Those of a random network with the same seed would be what the
/// model's own tensors began with.
pub(crate) fn drawn(spec: &TensorSpec, seed: u64) -> HostTensor {
    let grown = TensorSpec {
        name: format!("grown/{}", spec.name),
        ..spec.clone()
    };
    HostTensor {
        shape: spec.shape.clone(),
        values: initial_values(&grown, seed),
    }
}

/// Compares what the model and the grown network compute on random images of the model's size.
fn difference(
    model: &ModelFolder,
    grown: &Params,
    to: &Architecture,
    rows: &[Option<usize>],
    seed: u64,
) -> Result<Difference, GrowError> {
    let input_size = model.architecture.input_size;
    let resized = to.clone().with_input_size(input_size).graph()?;
    let images = random_images(input_size, seed);
    let run = |graph: &Graph, params: &Params| {
        let classifier = Classifier::new(graph, params, CompileOptions::own());
        let mut classifier = classifier.expect("the tensors are those of the graph");
        classifier.predict(&images)
    };
    let (old, new) = (run(&model.graph, &model.params), run(&resized, grown));
    let (old_logits, new_logits) = (&old.logits, &new.logits);
    let (old_classes, new_classes) = (model.config.classes.len(), rows.len());
    let kept: Vec<(usize, usize)> = (rows.iter().enumerate())
        .filter_map(|(new, old)| old.map(|old| (old, new)))
        .collect();
    let pairs = (0..COMPARED_IMAGES).flat_map(|image| {
        let (old, new) = (
            &old_logits[image * old_classes..],
            &new_logits[image * new_classes..],
        );
        kept.iter().map(move |&(from, to)| (old[from], new[to]))
    });
    let (logits, largest_logit) = distance(pairs);
    let pairs = old.last_maps.iter().copied().zip(new.last_maps);
    let (features, largest_feature) = distance(pairs);
    Ok(Difference {
        images: COMPARED_IMAGES,
        input_size,
        features,
        largest_feature,
        classes: kept.len(),
        logits,
        largest_logit,
    })
}

/// The largest distance of two values, and the largest first value. Not a number counts as infinite.
fn distance(pairs: impl Iterator<Item = (f32, f32)>) -> (f32, f32) {
    pairs.fold((0.0, 0.0), |(distance, largest), (old, new)| {
        let apart = (old - new).abs();
        let apart = if apart.is_nan() { f32::INFINITY } else { apart };
        (apart.max(distance), old.abs().max(largest))
    })
}

/// Standard normal numbers, `[COMPARED_IMAGES, 3, size, size]`.
fn random_images(size: usize, seed: u64) -> Vec<f32> {
    let mut rng = compared_images_rng(seed);
    let count = COMPARED_IMAGES * 3 * size * size;
    (0..count)
        .map(|_| StandardNormal.sample(&mut rng))
        .collect()
}

/// The same preprocessing for another input size, its resize in proportion.
fn resized(preprocessing: &Preprocessing, input_size: usize) -> Preprocessing {
    let old = preprocessing.input_size;
    if *preprocessing == Preprocessing::imagenet(old) {
        return Preprocessing::imagenet(input_size);
    }
    let in_proportion = |size: usize| ((size * input_size + old / 2) / old).max(input_size);
    let resize = match preprocessing.resize {
        Resize::Exact { size } => Resize::Exact {
            size: in_proportion(size),
        },
        Resize::ShorterSide { size } => Resize::ShorterSide {
            size: in_proportion(size),
        },
        Resize::None => Resize::None,
    };
    Preprocessing {
        input_size,
        resize,
        ..preprocessing.clone()
    }
}

/// Where the weights come from, with the model's own history.
fn ancestry(model: &ModelFolder, name: &str, options: GrowOptions) -> String {
    let GrowOptions {
        placement,
        start,
        seed,
    } = options;
    format!(
        "Grown from {name}, which is `{}`: new modules {placement}, start {start}, seed {seed}.\n\n\
         The history of {name}: {}",
        model.config.architecture, model.config.origin
    )
}

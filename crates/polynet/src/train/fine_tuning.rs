//! Fine-tuning: which tensors stay as they are, and how fast the others move.
//!
//! The tensors of a network fall into parts: the stem, each stage's modules, what stands between
//! stages, what closes the network, the head. A recipe names parts:
//!
//! ```toml
//! [model]
//! architecture = "small-polynet; classes = 37"
//! init = "runs/cifar10/model"      # rows of classes of the same name are kept, the others drawn
//!
//! [fine_tuning]
//! frozen = ["stem", "A"]           # no gradients; batch norm uses its running statistics
//! rates = { head = 10.0, B = 0.1 } # factors of the learning rate
//! ```

use super::recipe::FineTuningSection;
use crate::arch::graph::TensorSpec;
use crate::arch::{Architecture, Graph};
use crate::grow::{matching_rows, with_rows};
use crate::params::{HostTensor, TensorMap, initial_values};
use crate::step::Frozen;
use polynet_algebra::nearest;

/// How the tensors of a network are trained.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FineTuning {
    /// What stays as it is.
    pub(super) frozen: Frozen,
    /// Factor of the learning rate by tensor index.
    pub(super) rates: Vec<f64>,
}

/// A `[fine_tuning]` that does not fit the network.
#[derive(Debug, thiserror::Error)]
pub enum FineTuningError {
    /// There is no such part.
    #[error(
        "{key}: the network has no part `{name}`{}; its parts are {}",
        nearest.as_ref().map_or_else(String::new, |name| format!(", did you mean `{name}`?")),
        known.join(", ")
    )]
    UnknownPart {
        /// The key of the recipe.
        key: &'static str,
        /// What it names.
        name: String,
        /// The part whose name is most like it.
        nearest: Option<String>,
        /// The network's parts.
        known: Vec<String>,
    },
    /// A part that does not move has no rate.
    #[error(
        "fine_tuning: part `{name}` is both in `frozen` and in `rates`; a frozen part does not \
         move, so take it out of one of them"
    )]
    FrozenRate {
        /// The part.
        name: String,
    },
    /// Nothing would be trained.
    #[error(
        "fine_tuning.frozen: every part of the network is frozen ({}), so there is nothing to \
         train; leave out at least `head`", known.join(", ")
    )]
    NothingLeft {
        /// The network's parts.
        known: Vec<String>,
    },
}

impl FineTuning {
    /// What a recipe's section means for a network.
    ///
    /// # Errors
    /// If it names a part that the network does not have, or leaves nothing to train.
    pub(super) fn new(
        section: &FineTuningSection,
        architecture: &Architecture,
        graph: &Graph,
    ) -> Result<Self, FineTuningError> {
        let specs: Vec<TensorSpec> = graph.tensors().collect();
        let parts: Vec<&str> = (specs.iter())
            .map(|spec| part_of(&spec.name, architecture, graph))
            .collect();
        let known = distinct(architecture, graph, &parts);
        let check = |key, name: &String| match known.contains(name) {
            true => Ok(()),
            false => Err(FineTuningError::UnknownPart {
                key,
                name: name.clone(),
                nearest: nearest(name, known.iter().map(String::as_str)).map(str::to_owned),
                known: known.clone(),
            }),
        };
        for name in &section.frozen {
            check("fine_tuning.frozen", name)?;
        }
        for name in section.rates.keys() {
            check("fine_tuning.rates", name)?;
            if section.frozen.contains(name) {
                return Err(FineTuningError::FrozenRate { name: name.clone() });
            }
        }
        if known.iter().all(|name| section.frozen.contains(name)) {
            return Err(FineTuningError::NothingLeft { known });
        }
        let is_frozen = |spec: &TensorSpec| {
            let part = part_of(&spec.name, architecture, graph);
            section.frozen.iter().any(|name| name == part)
        };
        Ok(Self {
            frozen: Frozen::new(&specs, is_frozen),
            rates: (parts.iter())
                .map(|part| section.rates.get(*part).copied().unwrap_or(1.0))
                .collect(),
        })
    }
}

/// The part that a tensor belongs to.
fn part_of<'a>(tensor: &str, architecture: &'a Architecture, graph: &'a Graph) -> &'a str {
    let mut parts = graph.parts.iter();
    let part = parts.find(|part| {
        let rest = tensor.strip_prefix(part.name.as_str());
        rest.is_some_and(|rest| rest.starts_with('.'))
    });
    match part {
        Some(part) => match part.module {
            Some((stage, _)) => &architecture.stages[stage].label,
            None => &part.name,
        },
        None => "head",
    }
}

/// The parts that have tensors, in the network's order.
fn distinct(architecture: &Architecture, graph: &Graph, found: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for part in &graph.parts {
        let name = match part.module {
            Some((stage, _)) => &architecture.stages[stage].label,
            None => &part.name,
        };
        if found.contains(&name.as_str()) && !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// Makes a model's classifier fit other classes: rows of classes of the same name go to their new
/// places, the others are drawn. Returns how many rows are kept, or `None` where the classes are the
/// same already.
pub(super) fn fit_head(
    tensors: &mut TensorMap,
    old: &[String],
    new: &[String],
    graph: &Graph,
    seed: u64,
) -> Option<usize> {
    if old == new {
        return None;
    }
    let rows = matching_rows(old, new);
    let head = format!("{}.", graph.linear.name);
    for spec in graph.tensors().filter(|spec| spec.name.starts_with(&head)) {
        let Some(tensor) = tensors.get_mut(&spec.name) else {
            continue;
        };
        // Another number of features is a model of another width: its tensors do not fit anyway.
        if tensor.shape.get(1..) == spec.shape.get(1..) && tensor.shape.first() == Some(&old.len())
        {
            let drawn = HostTensor {
                shape: spec.shape.clone(),
                values: initial_values(&spec, seed),
            };
            *tensor = with_rows(tensor, drawn, &rows);
        }
    }
    Some(rows.iter().flatten().count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn read(
        spec: &str,
        frozen: &[&str],
        rates: &[(&str, f64)],
    ) -> Result<(Vec<TensorSpec>, FineTuning), String> {
        let architecture: Architecture = spec.parse().unwrap();
        let graph = architecture.graph().unwrap();
        let rates = rates.iter().map(|(name, rate)| ((*name).to_owned(), *rate));
        let section = FineTuningSection {
            frozen: frozen.iter().map(|name| (*name).to_owned()).collect(),
            rates: rates.collect::<BTreeMap<_, _>>(),
        };
        let read = FineTuning::new(&section, &architecture, &graph);
        let read = read.map_err(|error| error.to_string())?;
        Ok((graph.tensors().collect(), read))
    }

    #[test]
    fn parts_are_frozen_and_hurried_by_name() {
        let rates = [("head", 10.0), ("B", 0.1)];
        let (specs, tuning) = read("small-polynet", &["stem", "A"], &rates).unwrap();
        for (index, spec) in specs.iter().enumerate() {
            let starts = |prefix: &str| spec.name.starts_with(prefix);
            let frozen = starts("stem.") || starts("stage_a.");
            assert_eq!(tuning.frozen.contains(index), frozen, "{}", spec.name);
            let rate = match () {
                () if starts("head.") => 10.0,
                () if starts("stage_b.") => 0.1,
                () => 1.0,
            };
            assert_eq!(tuning.rates[index], rate, "{}", spec.name);
        }
    }

    #[test]
    fn a_section_that_does_not_fit_is_an_error_with_the_names() {
        let all = "its parts are stem, A, reduction_a, B, reduction_b, C, head";
        let error = |frozen: &[&str], rates: &[(&str, f64)]| {
            read("small-polynet", frozen, rates).unwrap_err()
        };
        assert!(error(&["D"], &[]).contains(all));
        let typed = error(&[], &[("heads", 2.0)]);
        assert!(typed.starts_with("fine_tuning.rates:") && typed.contains("did you mean `head`?"));
        assert!(error(&["A"], &[("A", 2.0)]).contains("both in `frozen` and in `rates`"));
        let parts = ["stem", "A", "reduction_a", "B", "reduction_b", "C", "head"];
        assert!(error(&parts, &[]).contains("nothing to train"));
        let error = read("resnet-50", &["5"], &[]).unwrap_err();
        let all = "its parts are stem, stage_1_entry, 1, stage_2_entry, 2, stage_3_entry, 3, \
                   stage_4_entry, 4, closing, head";
        assert!(error.contains(all), "{error}");
    }

    #[test]
    fn rows_of_known_classes_stay_and_the_others_follow_the_seed() {
        let architecture: Architecture = "small-ir-1-2-1; classes = 3".parse().unwrap();
        let graph = architecture.graph().unwrap();
        let features = graph.linear.in_features;
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let old = HostTensor {
            shape: vec![2, features],
            values: (0..2 * features).map(|value| value as f32).collect(),
        };
        let fit = |seed| {
            let mut tensors = TensorMap::from([("head.linear.weight".to_owned(), old.clone())]);
            let (from, to) = (names(&["cat", "dog"]), names(&["cow", "dog", "cat"]));
            let kept = fit_head(&mut tensors, &from, &to, &graph, seed);
            assert_eq!(kept, Some(2));
            tensors["head.linear.weight"].values.clone()
        };
        let (one, two) = (fit(1), fit(2));
        assert_eq!(one[features..2 * features], old.values[features..]);
        assert_eq!(one[2 * features..], old.values[..features]);
        assert_ne!(one[..features], two[..features]);
        let same = names(&["a"]);
        assert_eq!(
            fit_head(&mut TensorMap::new(), &same, &same, &graph, 0),
            None
        );
    }
}

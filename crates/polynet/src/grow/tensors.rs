//! Where each tensor of a larger network comes from.
//!
//! | tensor | comes from |
//! |---|---|
//! | stem, reductions, closing | the model, by name |
//! | a kept block of a kept module | the model's block of that letter |
//! | of which batch norms and last convolutions of further uses of the block, where they are separate (`sharing = release`) | new |
//! | any other block | new |
//! | classifier | the rows of the classes that the model has, the others new |
//!
//! With `sharing = release` a block's inner convolutions serve all of its uses, so they are copied,
//! and a use that the trained module does not have gets new batch norms and a new last convolution.
//! From `full` to `release`, every use that the trained module has starts from the shared tensors.
//!
//! New convolutions are drawn, new batch norms start as the identity with the running statistics of
//! a standard normal input (mean 0, variance 1), which training replaces within some 50 steps.

use super::evaluations::{Evaluations, Use};
use super::modules::{ModuleMap, ModuleSource};
use super::{GrowError, Start};
use crate::arch::graph::TensorSpec;
use crate::arch::{Architecture, Cell, Graph, Normalization, Sharing};
use polynet_algebra::{Block, Polynomial, Term};
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// Where a tensor's first values come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "origin", rename_all = "kebab-case")]
pub enum Origin {
    /// The model's tensor of that name.
    Copied {
        /// Its name in the model.
        from: String,
    },
    /// Rows of the model's tensor of that name; rows of new classes are new.
    Rows {
        /// Its name in the model.
        from: String,
        /// Rows that are copied.
        copied: usize,
    },
    /// New: drawn from the seed, or the start of batch norm.
    New,
    /// New, and zero so that its block gives zero.
    Zero,
}

/// A tensor of the larger network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorGrowth {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Where its first values come from.
    #[serde(flatten)]
    pub origin: Origin,
}

/// Makes the list of tensors.
pub(super) struct Tensors<'a> {
    from: &'a Architecture,
    to: &'a Architecture,
    map: &'a ModuleMap,
    start: Start,
    /// Shapes of the model's tensors.
    model: HashMap<String, Vec<usize>>,
    /// By the module's name in the larger network: stage, module, its source.
    modules: HashMap<String, Module>,
}

/// A module of the larger network and its source.
struct Module {
    evaluations: Evaluations,
    kept: Option<Kept>,
    /// Names of the tensors that make new evaluations zero.
    silent: HashSet<String>,
}

/// The trained module that becomes a larger one.
struct Kept {
    name: String,
    evaluations: Evaluations,
}

/// A block's tensor, as its name says: `G.0.branch1.norm.2.weight` is of use 2.
struct Layer<'a> {
    block: Block,
    /// `G.0.branch1.norm`
    base: String,
    used: Option<usize>,
    field: &'a str,
}

impl<'a> Tensors<'a> {
    pub(super) fn new(
        from: &'a Architecture,
        to: &'a Architecture,
        map: &'a ModuleMap,
        start: Start,
    ) -> Result<Self, GrowError> {
        let graph = from.graph()?;
        let model = graph
            .tensors()
            .map(|spec| (spec.name, spec.shape))
            .collect();
        let mut tensors = Self {
            from,
            to,
            map,
            start,
            model,
            modules: HashMap::new(),
        };
        for (stage, larger) in to.stages.iter().enumerate() {
            for position in 0..larger.modules.len() {
                let name = format!("{}.{position}", larger.name());
                let module = tensors.module(stage, position, &name);
                tensors.modules.insert(name, module);
            }
        }
        Ok(tensors)
    }

    fn module(&self, stage: usize, position: usize, name: &str) -> Module {
        let polynomial = &self.to.stages[stage].modules[position].polynomial;
        let kept = match self.map.source(stage, position) {
            ModuleSource::Kept(j) => Some((j, &self.from.stages[stage].modules[j].polynomial)),
            ModuleSource::Inserted => None,
        };
        let evaluations = Evaluations::of(polynomial);
        let block = &self.to.stages[stage].block;
        let silent = match self.start {
            Start::Random => HashSet::new(),
            Start::SameFunction => {
                let new_terms = new_terms(polynomial, kept.map(|(_, polynomial)| polynomial));
                let uses = new_terms.iter().filter_map(|term| evaluations.find(term));
                uses.flat_map(|used| self.last_tensors(name, block, used, &evaluations))
                    .collect()
            }
        };
        Module {
            kept: kept.map(|(j, polynomial)| Kept {
                name: format!("{}.{j}", self.from.stages[stage].name()),
                evaluations: Evaluations::of(polynomial),
            }),
            evaluations,
            silent,
        }
    }

    /// The tensors that, all zero, make an evaluation of a block zero: those of the layer that ends
    /// it. None where a block does not end in one layer.
    fn last_tensors(
        &self,
        module: &str,
        block: &Cell,
        (letter, used): Use,
        evaluations: &Evaluations,
    ) -> Vec<String> {
        let Some((path, normalization)) = last_layer(block) else {
            return Vec::new();
        };
        let is_separate = self.to.sharing == Sharing::Release && evaluations.uses(letter) > 1;
        let suffix = match is_separate {
            true => format!(".{used}"),
            false => String::new(),
        };
        let layer = |kind: &str| format!("{module}.{letter}{path}.{kind}{suffix}");
        match normalization {
            Normalization::Batch => {
                let norm = layer("norm");
                vec![format!("{norm}.weight"), format!("{norm}.bias")]
            }
            Normalization::Bias => {
                let conv = layer("conv");
                vec![format!("{conv}.weight"), format!("{conv}.bias")]
            }
            Normalization::None => vec![format!("{}.weight", layer("conv"))],
        }
    }

    /// Every tensor of the larger network in the order of [`Graph::tensors`]. `rows` has for each
    /// class of the larger network its row in the model, if the model has it.
    pub(super) fn origins(
        &self,
        graph: &Graph,
        rows: &[Option<usize>],
    ) -> Result<Vec<TensorGrowth>, GrowError> {
        let head = format!("{}.", graph.linear.name);
        let growths = graph.tensors().map(|spec| {
            let origin = match spec.name.starts_with(&head) {
                true => self.head(&spec, rows)?,
                false => self.origin(&spec)?,
            };
            Ok(TensorGrowth {
                name: spec.name,
                shape: spec.shape,
                origin,
            })
        });
        growths.collect()
    }

    fn head(&self, spec: &TensorSpec, rows: &[Option<usize>]) -> Result<Origin, GrowError> {
        let copied = rows.iter().flatten().count();
        let is_whole = rows.iter().enumerate().all(|(to, from)| *from == Some(to));
        if is_whole && self.from.num_classes == rows.len() {
            return self.copied(spec, spec.name.clone());
        }
        Ok(match copied {
            0 => Origin::New,
            _ => Origin::Rows {
                from: spec.name.clone(),
                copied,
            },
        })
    }

    fn origin(&self, spec: &TensorSpec) -> Result<Origin, GrowError> {
        let Some((name, module, rest)) = self.split(&spec.name) else {
            return self.copied(spec, spec.name.clone());
        };
        let new = match module.silent.contains(&spec.name) {
            true => Origin::Zero,
            false => Origin::New,
        };
        let (Some(kept), Some(layer)) = (&module.kept, Layer::read(rest)) else {
            return Ok(new);
        };
        let uses = kept.evaluations.uses(layer.block);
        if uses == 0 {
            return Ok(new);
        }
        let is_separate_tensor =
            self.from.sharing == Sharing::Release || layer.field.starts_with("running_");
        let is_separate = is_separate_tensor && uses > 1;
        let base = format!("{}.{}", kept.name, layer.base);
        let shared = format!("{base}.{}", layer.field);
        let from = match (layer.used, is_separate) {
            (None, true) if !self.model.contains_key(&shared) => {
                return Err(GrowError::Sharing {
                    module: name.to_owned(),
                    block: layer.block.to_string(),
                    tensor: spec.name.clone(),
                });
            }
            (None, _) => shared,
            (Some(used), _) => {
                let term = module.evaluations.term((layer.block, used));
                match term.and_then(|term| kept.evaluations.find(term)) {
                    None => return Ok(new),
                    Some((_, used)) if is_separate => format!("{base}.{used}.{}", layer.field),
                    Some(_) => shared,
                }
            }
        };
        self.copied(spec, from)
    }

    /// The name of a tensor's module, the module, and the rest of the tensor's name.
    fn split<'n>(&self, tensor: &'n str) -> Option<(&'n str, &Module, &'n str)> {
        let mut dots = tensor.match_indices('.').map(|(index, _)| index);
        let end = dots.nth(1)?;
        let module = self.modules.get(&tensor[..end])?;
        Some((&tensor[..end], module, &tensor[end + 1..]))
    }

    fn copied(&self, spec: &TensorSpec, from: String) -> Result<Origin, GrowError> {
        match self.model.get(&from) {
            Some(shape) if *shape == spec.shape => Ok(Origin::Copied { from }),
            found => Err(GrowError::Tensor {
                tensor: spec.name.clone(),
                from,
                expected: spec.shape.clone(),
                found: found.map_or("none".to_owned(), |shape| format!("{shape:?}")),
            }),
        }
    }
}

impl<'a> Layer<'a> {
    fn read(rest: &'a str) -> Option<Self> {
        let (layer, field) = rest.rsplit_once('.')?;
        let block = layer.split('.').next()?.parse().ok()?;
        let (before, last) = layer.rsplit_once('.')?;
        let is_use = before.ends_with(".conv") || before.ends_with(".norm");
        let (base, used) = match last.parse() {
            Ok(used) if is_use => (before, Some(used)),
            _ => (layer, None),
        };
        let base = base.to_owned();
        Some(Self {
            block,
            base,
            used,
            field,
        })
    }
}

/// The terms of a module that its source does not have, the identity apart.
pub(super) fn new_terms(polynomial: &Polynomial, source: Option<&Polynomial>) -> Vec<Term> {
    let mut old = source.map_or(&[][..], Polynomial::terms).iter().peekable();
    let mut new = Vec::new();
    for term in polynomial.terms() {
        if old.next_if(|old| *old == term).is_none() && *term != Term::Identity {
            new.push(term.clone());
        }
    }
    new
}

/// Path and normalization of the one layer that a block ends in.
pub(super) fn last_layer(block: &Cell) -> Option<(String, Normalization)> {
    match block {
        Cell::Conv(conv) => Some((String::new(), conv.normalization)),
        Cell::Chain(cells) => {
            let (path, normalization) = last_layer(cells.last()?)?;
            Some((format!(".{}{path}", cells.len() - 1), normalization))
        }
        _ => None,
    }
}

//! What a growth did, for people and as JSON.

use super::tensors::{Origin, TensorGrowth};
use super::{Difference, GrowOptions, Growth, ModuleMap, ModuleSource};
use crate::arch::Architecture;
use crate::params::ModelFolder;
use serde::Serialize;
use std::fmt;

/// What came from where.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GrowthReport {
    /// The model's network.
    pub from: String,
    /// The larger network.
    pub to: String,
    /// Where new modules stand: `interleaved` or `append`.
    pub placement: String,
    /// What inserted blocks compute at first: `random` or `same-function`.
    pub start: String,
    /// The seed of what was drawn.
    pub seed: u64,
    /// Every module of the larger network.
    pub modules: Vec<ModuleGrowth>,
    /// Every tensor of the larger network.
    pub tensors: Vec<TensorGrowth>,
    /// How far the functions are apart.
    pub difference: Difference,
}

/// A module of the larger network and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModuleGrowth {
    /// Its name.
    pub name: String,
    /// As it was written.
    pub module: String,
    /// The module of the model that it was.
    pub from: Option<String>,
    /// How that was written.
    pub from_module: Option<String>,
}

impl GrowthReport {
    pub(super) fn new(
        model: &ModelFolder,
        to: &Architecture,
        options: GrowOptions,
        growth: Growth,
        difference: Difference,
    ) -> Self {
        Self {
            from: model.architecture.to_string(),
            to: to.to_string(),
            placement: options.placement.to_string(),
            start: options.start.to_string(),
            seed: options.seed,
            modules: modules(&model.architecture, to, &growth.modules),
            tensors: growth.tensors,
            difference,
        }
    }

    /// Tensors and numbers that came from the model, and all of them.
    pub fn copied(&self) -> [(usize, usize); 2] {
        let mut counts = [(0, 0); 2];
        for tensor in &self.tensors {
            let numbers: usize = tensor.shape.iter().product();
            let copied = match tensor.origin {
                Origin::Copied { .. } => numbers,
                Origin::Rows { copied, .. } => numbers / tensor.shape[0].max(1) * copied,
                Origin::New | Origin::Zero => 0,
            };
            counts[0].0 += usize::from(copied > 0);
            counts[0].1 += copied;
            counts[1].0 += 1;
            counts[1].1 += numbers;
        }
        counts
    }
}

fn modules(from: &Architecture, to: &Architecture, map: &ModuleMap) -> Vec<ModuleGrowth> {
    let mut found = Vec::new();
    for (stage, (_, sources)) in map.stages.iter().enumerate() {
        let (old, new) = (&from.stages[stage], &to.stages[stage]);
        for (position, source) in sources.iter().enumerate() {
            let source = match *source {
                ModuleSource::Kept(j) => Some(j),
                ModuleSource::Inserted => None,
            };
            found.push(ModuleGrowth {
                name: format!("{}.{position}", new.name()),
                module: new.modules[position].polynomial.to_string(),
                from: source.map(|j| format!("{}.{j}", old.name())),
                from_module: source.map(|j| old.modules[j].polynomial.to_string()),
            });
        }
    }
    found
}

impl fmt::Display for GrowthReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.tensors.iter().map(|tensor| tensor.name.len());
        let width = names.max().unwrap_or_default();
        writeln!(f, "{:<width$}  {:<18} first values", "tensor", "shape")?;
        for tensor in &self.tensors {
            let shape = format!("{:?}", tensor.shape);
            write!(f, "{:<width$}  {shape:<18} ", tensor.name)?;
            match &tensor.origin {
                Origin::Copied { from } => writeln!(f, "copy of {from}")?,
                Origin::Rows { from, copied } => {
                    writeln!(f, "{copied} rows of {from}, the others new")?;
                }
                Origin::New => writeln!(f, "new")?,
                Origin::Zero => writeln!(f, "zero")?,
            }
        }
        writeln!(f, "\n{:<14} {:<24} from", "module", "computes")?;
        for module in &self.modules {
            write!(f, "{:<14} {:<24} ", module.name, module.module)?;
            match (&module.from, &module.from_module) {
                (Some(from), Some(computed)) => writeln!(f, "{from}, {computed}")?,
                _ => writeln!(f, "new")?,
            }
        }
        let [(copied, copied_numbers), (all, numbers)] = self.copied();
        writeln!(
            f,
            "\n{copied} of {all} tensors and {:.3} M of {:.3} M numbers come from the model",
            copied_numbers as f64 / 1e6,
            numbers as f64 / 1e6
        )?;
        let Difference {
            images,
            input_size,
            features,
            largest_feature,
            classes,
            logits,
            largest_logit,
        } = self.difference;
        writeln!(
            f,
            "before and after, on {images} random images of {input_size} px:\n  features differ by \
             at most {features} (largest {largest_feature})"
        )?;
        match classes {
            0 => write!(f, "  no class is kept, so no logit can be compared"),
            _ => write!(
                f,
                "  logits of {classes} classes differ by at most {logits} (largest {largest_logit})"
            ),
        }
    }
}

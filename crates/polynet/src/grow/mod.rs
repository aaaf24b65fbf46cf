//! Initialization by insertion: a trained model becomes the start of a larger one (paper §4, Fig. 9).
//!
//! A [`ModuleMap`] says which module of the larger network comes from which trained one, a list of
//! [`TensorGrowth`] where each tensor comes from, and [`grow`] copies and draws. The first two are
//! functions of the architectures alone.
//!
//! ```
//! use polynet::grow::{Growth, GrowOptions, Origin, Start};
//! let trained = "small-ir-1-2-1".parse()?;
//! let larger = "small-polynet".parse()?;
//! let rows: Vec<Option<usize>> = (0..10).map(Some).collect();
//! let growth = Growth::plan(&trained, &larger, &rows, GrowOptions::default())?;
//! let origin = |name: &str| growth.tensors.iter().find(|t| t.name == name).map(|t| &t.origin);
//! let kept = Origin::Copied { from: "stage_a.0.F.1.conv.weight".to_owned() };
//! assert_eq!(origin("stage_a.0.F.1.conv.weight"), Some(&kept));
//! assert_eq!(origin("stage_a.0.G.1.conv.weight"), Some(&Origin::New));
//! // poly-3 applies F again with the same parameters: that changes what the network computes.
//! let same = GrowOptions { start: Start::SameFunction, ..GrowOptions::default() };
//! assert!(Growth::plan(&trained, &larger, &rows, same).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod evaluations;
mod function;
mod grown;
mod head;
mod modules;
mod placement;
mod report;
mod symbolic;
mod tensors;

pub use error::GrowError;
pub use grown::{Difference, Grown, grow};
pub use head::matching_rows;
pub(crate) use head::with_rows;
pub use modules::{ModuleMap, ModuleSource};
pub use placement::{Placement, place};
pub use report::GrowthReport;
pub use tensors::{Origin, TensorGrowth};

use crate::arch::Architecture;
use function::Comparison;
use std::fmt;
use std::str::FromStr;
use tensors::Tensors;

/// What the inserted blocks compute at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// What their random weights give, as the paper has it.
    #[default]
    Random,
    /// Zero: the last layer of each inserted block is zero (its batch norm's scale, or its
    /// convolution where no batch norm follows), so that the network computes what the model
    /// computes. Gradients flow into that layer from the first step on.
    SameFunction,
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Random => "random",
            Self::SameFunction => "same-function",
        })
    }
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "random" => Ok(Self::Random),
            "same-function" => Ok(Self::SameFunction),
            _ => Err("expected `random` or `same-function`".to_owned()),
        }
    }
}

/// How to grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrowOptions {
    /// Where new modules stand in a stage.
    pub placement: Placement,
    /// What inserted blocks compute at first.
    pub start: Start,
    /// Seed of what is drawn.
    pub seed: u64,
}

/// Where every module and every tensor of a larger network comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth {
    /// The modules.
    pub modules: ModuleMap,
    /// The tensors, in the order of [`Graph::tensors`](crate::arch::Graph::tensors).
    pub tensors: Vec<TensorGrowth>,
}

impl Growth {
    /// Where everything comes from, by the architectures alone. `rows` has for each class of the
    /// larger network its row in the model, if the model has it.
    ///
    /// # Errors
    /// If the larger network has no place for something of the model, and for
    /// [`Start::SameFunction`] if no weights make it compute what the model computes.
    pub fn plan(
        from: &Architecture,
        to: &Architecture,
        rows: &[Option<usize>],
        options: GrowOptions,
    ) -> Result<Self, GrowError> {
        let modules = ModuleMap::new(from, to, options.placement)?;
        let origins = Tensors::new(from, to, &modules, options.start)?;
        let tensors = origins.origins(&to.graph()?, rows)?;
        if options.start == Start::SameFunction {
            let comparison = Comparison {
                from,
                to,
                map: &modules,
                tensors: &tensors,
            };
            comparison.check()?;
        }
        Ok(Self { modules, tensors })
    }
}

#[cfg(test)]
mod tests;

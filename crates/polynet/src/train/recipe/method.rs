//! Keys of the paper's method: stochastic paths and the forms of RMSProp.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::step::{Activations, Precision};
use crate::train::duration::{Duration, DurationError};

/// The gap in accuracy that an adaptive recipe takes for overfitting, if it names none.
pub(super) const DEFAULT_GAP: f64 = 0.1;
/// The validations in a row that an adaptive recipe waits for, if it names none.
pub(super) const DEFAULT_PATIENCE: u64 = 3;

/// `[stochastic_paths]`: terms of the modules are dropped at random (§4, Fig. 10).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StochasticPathsSection {
    /// From when on. Default `never`.
    pub when: When,
    /// The chance that a path of the last module is dropped, in [0, 1); it rises linearly from 0 in
    /// the first. Default 0.25, the paper's.
    pub max_drop: f64,
    /// For `adaptive`: by how much training top-1 must exceed validation top-1, in (0, 1).
    /// Default 0.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<f64>,
    /// For `adaptive`: at how many validations in a row. Default 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
}

/// From when on paths are dropped; written `never`, `always`, `adaptive`, `from 20 epochs`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum When {
    /// `never`, the default.
    Never,
    /// `always`: from the first step.
    Always,
    /// `adaptive`: once training and validation are too far apart (§4: when there is serious
    /// overfitting). The paper gives no rule; ours is `gap` and `patience`.
    Adaptive,
    /// `from` a duration: `from 100K steps`.
    From(Duration),
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Always => f.write_str("always"),
            Self::Adaptive => f.write_str("adaptive"),
            Self::From(duration) => write!(f, "from {duration}"),
        }
    }
}

impl FromStr for When {
    type Err = Option<DurationError>;

    /// Fails with the fault of the duration, if there is one.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "never" => Ok(Self::Never),
            "always" => Ok(Self::Always),
            "adaptive" => Ok(Self::Adaptive),
            _ => match text.strip_prefix("from ") {
                Some(duration) => duration.parse().map(Self::From).map_err(Some),
                None => Err(None),
            },
        }
    }
}

impl Serialize for When {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What RMSProp's momentum gathers; the same without momentum or at a constant learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MomentumForm {
    /// `steps`, TensorFlow's: `m ← μ·m + η·u`, `w ← w − m`.
    Steps,
    /// `directions`, PyTorch's: `m ← μ·m + u`, `w ← w − η·m`.
    Directions,
}

/// Whose images batch norm takes its statistics from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormGroup {
    /// `local`, the paper's: each part of a batch has its own.
    Local,
    /// `synchronised`: all images of a step, in whatever parts and on whatever ranks (Peng et al. 2018,
    /// MegDet; the paper has none of it). All parts of a rank are in memory at the same time. Where
    /// Burn differentiates, one rank computes its batches whole, and several are refused.
    Synchronised,
}

/// Words of [`NormGroup`]; the first is the default.
pub(super) const NORM_GROUPS: [(&str, NormGroup); 2] = [
    ("local", NormGroup::Local),
    ("synchronised", NormGroup::Synchronised),
];

/// Words of [`Activations`]; the first is the default.
pub(super) const ACTIVATIONS: [(&str, Activations); 2] = [
    ("kept", Activations::Kept),
    ("recomputed", Activations::Recomputed),
];

pub(super) fn precision<S: Serializer>(value: &Precision, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(word_of(&Precision::NAMES, value))
}

pub(super) fn activations<S: Serializer>(value: &Activations, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(word_of(&ACTIVATIONS, value))
}

fn word_of<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    let found = words.iter().find(|(_, known)| known == value);
    found.map_or("", |(word, _)| word)
}

//! What a study asks and how its answer is shown, without what its jobs do: enough to report what is done.
//!
//! ```toml
//! [report]
//! kind = "trade-off"        # or bars, budget
//! groups = ["A", "B"]       # an architecture `A-poly-2` is of group A; others are of every group
//! baseline = "base"         # an architecture, a variant or a group
//! ```
//!
//! What is compared with a baseline differs from it in that alone: with the baseline `base`, `A-poly-2/plain`
//! is compared with `base/plain`; with a variant `random`, `2-way/grown` with `2-way/random`; with a group
//! `ir`, `polynet-2/plain` with `ir-2/plain`.

use super::StudyError;
use super::file::{self, Text};
use super::keys::Keys;
use serde::Serialize;
use std::path::Path;
use toml::Table;

/// A study without its jobs.
#[derive(Clone, Debug, PartialEq)]
pub struct Outline {
    /// A line that names it.
    pub title: String,
    /// What is expected to come out, in words; may be empty.
    pub claim: String,
    /// The seeds, in their order.
    pub seeds: Vec<u64>,
    /// Architecture and variant of what is trained with each seed.
    pub networks: Vec<(String, String)>,
    /// How results are drawn.
    pub kind: ReportKind,
    /// Names that architectures begin with, before a `-`.
    pub groups: Vec<String>,
    pub(super) baseline: Baseline,
}

/// How results are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportKind {
    /// The error of each network with every seed as a point.
    #[default]
    Bars,
    /// The error against the time of a step and against parameters, with the hull of the best.
    TradeOff,
    /// The error of each group against its cost.
    Budget,
}

/// What all else is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Baseline {
    Architecture(String),
    Variant(String),
    Group(String),
}

/// The table, as it is read.
#[derive(Clone, Debug, Default)]
pub(super) struct ReportText {
    kind: ReportKind,
    groups: Vec<String>,
    baseline: Option<Baseline>,
}

impl std::str::FromStr for ReportKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "bars" => Ok(Self::Bars),
            "trade-off" => Ok(Self::TradeOff),
            "budget" => Ok(Self::Budget),
            other => Err(format!(
                "expected bars, trade-off or budget, came {other:?}"
            )),
        }
    }
}

impl ReportText {
    /// Reads the table; `architectures` and `variants` are the names that a baseline may have.
    pub(super) fn read(
        table: Table,
        keys: &mut Keys<'_>,
        architectures: &[&str],
        variants: &[&str],
    ) -> Self {
        let mut keys = keys.within("[report]".to_owned(), table);
        let kind = file::word(&mut keys, "kind");
        let groups = keys.texts("groups").unwrap_or_default();
        for group in &groups {
            if !architectures.iter().any(|name| is_of(group, name)) {
                let message = format!("expected groups, each with an architecture `{group}-…`");
                keys.fault("groups", &message);
            }
        }
        let baseline = keys.text("baseline");
        let known = |names: &[&str], name: &String| names.contains(&name.as_str());
        let baseline = baseline.and_then(|name| {
            if known(architectures, &name) {
                Some(Baseline::Architecture(name))
            } else if known(variants, &name) {
                Some(Baseline::Variant(name))
            } else if groups.contains(&name) {
                Some(Baseline::Group(name))
            } else {
                let message =
                    format!("expected an architecture, a variant or a group, came {name:?}");
                keys.fault("baseline", &message);
                None
            }
        });
        keys.finish();
        Self {
            kind,
            groups,
            baseline,
        }
    }
}

/// Whether an architecture is one of a group's own.
fn is_of(group: &str, architecture: &str) -> bool {
    let rest = architecture.strip_prefix(group);
    rest.is_some_and(|rest| rest.starts_with('-'))
}

impl Outline {
    /// Reads a study file; recipes and networks are not looked at.
    ///
    /// # Errors
    /// If the file can't be read, and with every fault of its text.
    pub fn load(path: &Path) -> Result<Self, StudyError> {
        Self::parse(&file::text_of(path)?).map_err(|error| error.at(path))
    }

    /// Reads a study's text; recipes and networks are not looked at.
    ///
    /// # Errors
    /// With every fault of the text.
    pub fn parse(text: &str) -> Result<Self, StudyError> {
        let text = Text::parse(text)?;
        let of = text.architectures.iter().flat_map(|architecture| {
            let own = text.variants.iter();
            own.filter(|variant| variant.applies_to(&architecture.name))
                .map(|variant| (architecture.name.clone(), variant.name.clone()))
        });
        let first = match text.architectures.len() {
            1 => Baseline::Variant(text.variants[0].name.clone()),
            _ => Baseline::Architecture(text.architectures[0].name.clone()),
        };
        Ok(Self {
            networks: of.collect(),
            title: text.title,
            claim: text.claim,
            seeds: text.seeds,
            kind: text.report.kind,
            groups: text.report.groups,
            baseline: text.report.baseline.unwrap_or(first),
        })
    }

    /// The group that an architecture is of, if it is of one.
    pub(super) fn group(&self, architecture: &str) -> Option<&str> {
        let mut groups = self.groups.iter().map(String::as_str);
        groups.find(|group| is_of(group, architecture))
    }

    /// What a network is compared with, if with any.
    pub(super) fn baseline_of(
        &self,
        architecture: &str,
        variant: &str,
    ) -> Option<(String, String)> {
        let other = match &self.baseline {
            Baseline::Architecture(name) => (name.clone(), variant.to_owned()),
            Baseline::Variant(name) => (architecture.to_owned(), name.clone()),
            Baseline::Group(name) => {
                let own = self.group(architecture)?;
                let rest = architecture.strip_prefix(own)?;
                (format!("{name}{rest}"), variant.to_owned())
            }
        };
        let is_itself = other.0 == architecture && other.1 == variant;
        (!is_itself && self.networks.contains(&other)).then_some(other)
    }
}

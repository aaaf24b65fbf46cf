//! The text of a study.
//!
//! ```toml
//! title = "Every replacement of a residual unit helps"
//! claim = "…"
//! base = "recipes/cifar10.toml"     # a recipe
//! settings = "width = 0.25"         # what every network's text ends with
//! seeds = [1, 2, 3]
//!
//! [recipe]                          # keys of the recipe with other values
//! data.hold_out = 5000
//!
//! [[architectures]]
//! name = "poly-2"
//! network = "small-ir-3-6-3; B: poly-2 x6"
//! recipe = { training.batch_size = 32 }
//! from = "residual"                 # where a `grow` without `from` starts
//!
//! [[variants]]
//! name = "grown"
//! architectures = ["poly-2"]        # all where the key is absent
//! settings = "scale = 0.3"
//! recipe = { training.duration = "1 epoch" }
//! grow = { from = "residual", variant = "short" }
//!
//! [report]                          # how the results are shown: see `outline`
//! kind = "bars"
//! ```
//!
//! A value of an architecture's `recipe` wins over one of its variant's, which wins over `[recipe]`,
//! which wins over `base`; the command line wins over all. Paths are relative to the working directory.

use super::StudyError;
use super::grid::{self, Job};
use super::keys::{Keys, overrides};
use super::outline::ReportText;
use crate::grow::{Placement, Start};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use toml::Table;

/// The longest study file that is read, in bytes.
const LONGEST: u64 = 1 << 20;
/// The variant of a study that names none.
const ONLY_VARIANT: &str = "plain";

/// A study: what it asks, and its jobs.
#[derive(Clone, Debug)]
pub struct Study {
    /// A line that names it.
    pub title: String,
    /// What is expected to come out, in words; may be empty.
    pub claim: String,
    /// The names of the architectures, in their order.
    pub architectures: Vec<String>,
    /// The names of the variants, in their order.
    pub variants: Vec<String>,
    /// The seeds, in their order.
    pub seeds: Vec<u64>,
    /// Every job in the order in which they are begun: all architectures with the first seed come
    /// before any with the second.
    pub jobs: Vec<Job>,
    /// The file's text.
    pub text: String,
}

/// A text, not yet a grid.
pub(super) struct Text {
    pub(super) title: String,
    pub(super) claim: String,
    /// A recipe's file.
    pub(super) base: Option<PathBuf>,
    pub(super) settings: Option<String>,
    pub(super) seeds: Vec<u64>,
    pub(super) recipe: Vec<String>,
    pub(super) architectures: Vec<ArchitectureText>,
    pub(super) variants: Vec<VariantText>,
    pub(super) report: ReportText,
}

pub(super) struct ArchitectureText {
    pub(super) name: String,
    pub(super) network: String,
    /// What it starts from where a variant grows and does not say.
    pub(super) from: Option<String>,
    pub(super) recipe: Vec<String>,
}

pub(super) struct VariantText {
    pub(super) name: String,
    /// None: every architecture.
    pub(super) architectures: Option<Vec<String>>,
    pub(super) settings: Option<String>,
    pub(super) recipe: Vec<String>,
    pub(super) growing: Option<GrowingText>,
}

pub(super) struct GrowingText {
    /// None: the architecture itself, or its `from`.
    pub(super) from: Option<String>,
    /// None: the study's first.
    pub(super) variant: Option<String>,
    pub(super) placement: Placement,
    pub(super) start: Start,
}

impl Study {
    /// Reads a study file and then the overrides of its recipe, and checks every job of it.
    ///
    /// # Errors
    /// If the file can't be read, and with every fault of its text.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, StudyError> {
        Self::parse(&text_of(path)?, overrides).map_err(|error| error.at(path))
    }

    /// Reads a study's text and then the overrides of its recipe, and checks every job of it.
    ///
    /// # Errors
    /// With every fault of the text.
    pub fn parse(text: &str, overrides: &[String]) -> Result<Self, StudyError> {
        let read = Text::parse(text)?;
        let jobs = grid::jobs(&read, overrides)?;
        let names = |names: &mut dyn Iterator<Item = &String>| names.cloned().collect();
        Ok(Self {
            architectures: names(&mut read.architectures.iter().map(|one| &one.name)),
            variants: names(&mut read.variants.iter().map(|one| &one.name)),
            title: read.title,
            claim: read.claim,
            seeds: read.seeds,
            jobs,
            text: text.to_owned(),
        })
    }
}

/// The text of a study file.
pub(crate) fn text_of(path: &Path) -> Result<String, StudyError> {
    let fail = |source| StudyError::Read {
        path: path.to_owned(),
        source,
    };
    let length = std::fs::metadata(path).map_err(fail)?.len();
    if length > LONGEST {
        let message = format!("expected at most {LONGEST} bytes, came {length}");
        return Err(StudyError::Faults(vec![message]).at(path));
    }
    std::fs::read_to_string(path).map_err(fail)
}

impl Text {
    /// Reads a study's text; recipes and networks are not looked at.
    pub(super) fn parse(text: &str) -> Result<Self, StudyError> {
        let table: Table = text
            .parse()
            .map_err(|error| StudyError::Faults(vec![format!("expected TOML: {error}")]))?;
        let mut faults = Vec::new();
        let read = read(table, &mut faults);
        match faults.is_empty() {
            true => Ok(read),
            false => Err(StudyError::Faults(faults)),
        }
    }
}

fn read(table: Table, faults: &mut Vec<String>) -> Text {
    let mut keys = Keys::new("the top of a study", table, faults);
    let title = keys.needed_text("title", "poly-2 against a residual unit");
    let claim = keys.text("claim").unwrap_or_default();
    let base = keys.text("base").map(PathBuf::from);
    let settings = keys.text("settings");
    let seeds = keys.seeds("seeds").unwrap_or_else(|| vec![0]);
    if seeds.is_empty() || seeds.iter().any(|seed| i64::try_from(*seed).is_err()) {
        keys.fault("seeds", "expected seeds below 2^63, at least one");
    }
    let recipe = keys.table("recipe").as_ref().map(overrides);
    let architectures = keys.tables("architectures").into_iter();
    let architectures: Vec<_> = architectures
        .map(|table| architecture(table, &mut keys))
        .collect();
    if architectures.is_empty() {
        keys.fault(
            "architectures",
            "expected at least one, headed [[architectures]]",
        );
    }
    let variants = keys.tables("variants").into_iter();
    let mut variants: Vec<_> = variants.map(|table| variant(table, &mut keys)).collect();
    if variants.is_empty() {
        variants.push(VariantText::only());
    }
    let names = architectures.iter().map(|one| one.name.as_str());
    check_names(names, "architectures", &mut keys);
    let names = variants.iter().map(|one| one.name.as_str());
    check_names(names, "variants", &mut keys);
    let report = keys.table("report").map(|table| {
        let architectures: Vec<&str> = architectures.iter().map(|one| &*one.name).collect();
        let variants: Vec<&str> = variants.iter().map(|one| &*one.name).collect();
        ReportText::read(table, &mut keys, &architectures, &variants)
    });
    keys.finish();
    Text {
        title,
        claim,
        base,
        settings,
        seeds,
        recipe: recipe.unwrap_or_default(),
        architectures,
        variants,
        report: report.unwrap_or_default(),
    }
}

impl VariantText {
    fn only() -> Self {
        Self {
            name: ONLY_VARIANT.to_owned(),
            architectures: None,
            settings: None,
            recipe: Vec::new(),
            growing: None,
        }
    }
}

fn architecture(table: Table, keys: &mut Keys<'_>) -> ArchitectureText {
    let mut keys = keys.within("[[architectures]]".to_owned(), table);
    let text = ArchitectureText {
        name: keys.needed_text("name", "poly-2"),
        network: keys.needed_text("network", "small-ir-3-6-3; B: poly-2 x6"),
        from: keys.text("from"),
        recipe: keys
            .table("recipe")
            .as_ref()
            .map_or_else(Vec::new, overrides),
    };
    keys.finish();
    text
}

fn variant(table: Table, keys: &mut Keys<'_>) -> VariantText {
    let mut keys = keys.within("[[variants]]".to_owned(), table);
    let mut text = VariantText {
        name: keys.needed_text("name", "grown"),
        architectures: keys.texts("architectures"),
        settings: keys.text("settings"),
        recipe: keys
            .table("recipe")
            .as_ref()
            .map_or_else(Vec::new, overrides),
        growing: None,
    };
    if let Some(table) = keys.table("grow") {
        let place = format!("`grow` of variant {:?}", text.name);
        let mut keys = keys.within(place, table);
        text.growing = Some(GrowingText {
            from: keys.text("from"),
            variant: keys.text("variant"),
            placement: word(&mut keys, "placement"),
            start: word(&mut keys, "start"),
        });
        keys.finish();
    }
    keys.finish();
    text
}

pub(super) fn word<T: FromStr<Err = String> + Default>(
    keys: &mut Keys<'_>,
    key: &'static str,
) -> T {
    let parsed = keys.text(key).map(|text| text.parse());
    parsed
        .unwrap_or_else(|| Ok(T::default()))
        .unwrap_or_else(|message| {
            keys.fault(key, &message);
            T::default()
        })
}

/// Names become folders and stand in tables: each must be one plain word, and none may come twice.
fn check_names<'n>(names: impl Iterator<Item = &'n str>, key: &'static str, keys: &mut Keys<'_>) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_+.".contains(c);
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if name.starts_with('.') || name.len() > 80 || !name.chars().all(plain) {
            let message = format!(
                "expected a name of at most 80 letters, digits, `-`, `_`, `+` and `.`, came {name:?}"
            );
            keys.fault(key, &message);
        }
        if !seen.insert(name) {
            keys.fault(
                key,
                &format!("expected different names, came {name:?} twice"),
            );
        }
    }
}

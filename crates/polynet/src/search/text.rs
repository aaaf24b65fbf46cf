//! The text of a search.
//!
//! ```toml
//! title = "What pays at the cost of the mixed design?"
//! base = "recipes/cifar10.toml"                 # a recipe; may be left out
//! settings = "family = small; width = 0.125"    # what every network's text ends with
//! start = "A: I + F; B: (I + F) x2; C: (I + F) x2"
//! seed = 1                                      # of the draws and of every run
//!
//! [recipe]                                      # keys of the recipe with other values
//! data.hold_out = 5000
//!
//! [space]                                       # may be left out, and each of its keys
//! evaluations = 3                               # of blocks in a module, at most
//! blocks = 3                                    # different ones in a module, at most
//! modules = 4                                   # of a stage, at most
//! stages = ["B", "C"]                           # which change; all where the key is absent
//!
//! [limits]                                      # each may be left out
//! macs = 18e6                                   # multiply-accumulates of an image
//! parameters = 400_000
//! memory_mib = 64                               # of a training step, planned
//! ms_per_step = 80                              # measured by ten steps
//!
//! [rungs]
//! candidates = 12                               # of the first
//! durations = ["1 epoch", "1 epoch", "2 epochs"]
//! keep = 2                                      # one of so many goes on
//! children = 1                                  # of each that goes on
//! cost = "macs"                                 # or "parameters", "ms_per_step"
//!
//! [confirm]                                     # may be left out
//! baseline = "A: 2-way; B: poly-3 -> 2-way; C: poly-3 -> 2-way"
//! best = 2                                      # of the last rung's front
//! seeds = [101, 102, 103]
//! duration = "4 epochs"
//! ```

use super::limits::Limits;
use super::structure::{Space, Structure};
use crate::arch::Architecture;
use crate::study::{Keys, StudyError, text_of};
use serde::Serialize;
use std::path::Path;
use toml::Table;

/// The most evaluations of a module: their number of structures grows faster than exponentially.
const MOST_EVALUATIONS: u64 = 4;

/// A search: see [its module](super).
#[derive(Clone, Debug)]
pub struct Search {
    /// A line that names it.
    pub title: String,
    /// What candidates may cost.
    pub limits: Limits,
    /// What the best are compared with in the end.
    pub confirmation: Option<Confirmation>,
    /// The file's text.
    pub text: String,
    pub(super) base: Option<String>,
    pub(super) settings: Option<String>,
    pub(super) recipe: Option<Table>,
    pub(super) overrides: Vec<String>,
    pub(super) start: Structure,
    pub(super) seed: u64,
    pub(super) space: Space,
    pub(super) rungs: Rungs,
}

#[derive(Clone, Debug)]
pub(super) struct Rungs {
    pub(super) candidates: usize,
    pub(super) durations: Vec<String>,
    pub(super) keep: usize,
    pub(super) children: usize,
    pub(super) cost: CostKind,
}

/// What error is traded against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CostKind {
    /// Multiply-accumulates of an image.
    #[default]
    Macs,
    /// Trained parameters.
    Parameters,
    /// Milliseconds of a training step, as the ledger has them.
    MsPerStep,
}

/// A comparison on seeds that the search has not seen, from random weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Confirmation {
    /// The network that the best are compared with, without the settings.
    pub baseline: String,
    /// How many of the last rung's front.
    pub best: usize,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// How long each trains, as `training.duration`.
    pub duration: String,
}

impl Search {
    /// Reads a search file and then the overrides of its recipe.
    ///
    /// # Errors
    /// If the file can't be read, and with every fault of its text.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, StudyError> {
        Self::parse(&text_of(path)?, overrides).map_err(|error| error.at(path))
    }

    /// Reads a search's text and then the overrides of its recipe. The first round checks the recipe.
    ///
    /// # Errors
    /// With every fault of the text.
    pub fn parse(text: &str, overrides: &[String]) -> Result<Self, StudyError> {
        let table: Table = text
            .parse()
            .map_err(|error| StudyError::Faults(vec![format!("expected TOML: {error}")]))?;
        let mut faults = Vec::new();
        let mut search = read(table, &mut faults);
        if !faults.is_empty() {
            return Err(StudyError::Faults(faults));
        }
        text.clone_into(&mut search.text);
        overrides.clone_into(&mut search.overrides);
        Ok(search)
    }
}

fn read(table: Table, faults: &mut Vec<String>) -> Search {
    let mut keys = Keys::new("the top of a search", table, faults);
    let title = keys.needed_text("title", "What pays below 20 MMAC?");
    let base = keys.text("base");
    let settings = keys.text("settings");
    let start = keys.needed_text("start", "A: I + F; B: I + F; C: I + F");
    let seed = keys.whole("seed", 0..=i64::MAX as u64).unwrap_or_default();
    let recipe = keys.table("recipe");
    let mut structure = Structure::default();
    if !start.is_empty() {
        let settings = settings.as_deref().unwrap_or_default();
        match format!("{start}; {settings}").parse::<Architecture>() {
            Ok(network) => structure = Structure::of(&network),
            Err(error) => keys.fault("start", &error.to_string()),
        }
    }
    let space = keys.table("space").unwrap_or_default();
    let space = read_space(space, &structure, &mut keys);
    let limits = keys.table("limits").unwrap_or_default();
    let limits = read_limits(limits, &mut keys);
    let rungs = match keys.table("rungs") {
        Some(table) => Some(read_rungs(table, &mut keys)),
        None => {
            keys.fault("rungs", "expected a table, headed [rungs]");
            None
        }
    };
    let confirmation = keys
        .table("confirm")
        .map(|table| read_confirmation(table, seed, &mut keys));
    keys.finish();
    Search {
        title,
        limits,
        confirmation,
        text: String::new(),
        base,
        settings,
        recipe,
        overrides: Vec::new(),
        start: structure,
        seed,
        space,
        rungs: rungs.unwrap_or(Rungs {
            candidates: 1,
            durations: Vec::new(),
            keep: 2,
            children: 1,
            cost: CostKind::Macs,
        }),
    }
}

fn read_space(table: Table, start: &Structure, keys: &mut Keys<'_>) -> Space {
    let mut keys = keys.within("[space]".to_owned(), table);
    let least = start.largest();
    let mut most = |key, default: u64, most, least: usize| {
        let given = keys.whole(key, 1..=most);
        let value = given.unwrap_or(default.max(least as u64)) as usize;
        if value < least {
            keys.fault(key, &format!("the start has {least}"));
        }
        value
    };
    let space = Space {
        evaluations: most("evaluations", 3, MOST_EVALUATIONS, least.evaluations),
        blocks: most("blocks", 3, MOST_EVALUATIONS, least.blocks),
        modules: most("modules", 4, 100, least.modules),
        stages: Vec::new(),
    };
    let labels: Vec<String> = start.labels().map(str::to_owned).collect();
    let stages = keys.texts("stages").unwrap_or_else(|| labels.clone());
    if stages.is_empty() {
        keys.fault("stages", "expected at least one stage");
    }
    for stage in stages.iter().filter(|stage| !labels.contains(stage)) {
        let known = labels.join(", ");
        keys.fault(
            "stages",
            &format!("the start has no stage {stage:?}: its stages are {known}"),
        );
    }
    keys.finish();
    Space { stages, ..space }
}

fn read_limits(table: Table, keys: &mut Keys<'_>) -> Limits {
    let mut keys = keys.within("[limits]".to_owned(), table);
    let limits = Limits {
        macs: keys.positive("macs"),
        parameters: keys.positive("parameters"),
        memory_mib: keys.positive("memory_mib"),
        ms_per_step: keys.positive("ms_per_step"),
    };
    keys.finish();
    limits
}

fn read_rungs(table: Table, keys: &mut Keys<'_>) -> Rungs {
    let mut keys = keys.within("[rungs]".to_owned(), table);
    let durations = keys.texts("durations").unwrap_or_default();
    if durations.is_empty() {
        let message = "expected how long each rung trains, for example durations = [\"1 epoch\", \"2 epochs\"]";
        keys.fault("durations", message);
    }
    let candidates = keys.whole("candidates", 2..=10_000).unwrap_or(12) as usize;
    let keep = keys.whole("keep", 2..=1000).unwrap_or(2) as usize;
    let children = keys.whole("children", 0..=100).unwrap_or(1) as usize;
    let cost = match keys.text("cost").as_deref() {
        None | Some("macs") => CostKind::Macs,
        Some("parameters") => CostKind::Parameters,
        Some("ms_per_step") => CostKind::MsPerStep,
        Some(_) => {
            keys.fault(
                "cost",
                "expected \"macs\", \"parameters\" or \"ms_per_step\"",
            );
            CostKind::Macs
        }
    };
    keys.finish();
    Rungs {
        candidates,
        durations,
        keep,
        children,
        cost,
    }
}

fn read_confirmation(table: Table, seed: u64, keys: &mut Keys<'_>) -> Confirmation {
    let mut keys = keys.within("[confirm]".to_owned(), table);
    let confirmation = Confirmation {
        baseline: keys.needed_text("baseline", "A: 2-way; B: 2-way; C: 2-way"),
        best: keys.whole("best", 1..=100).unwrap_or(2) as usize,
        seeds: keys.seeds("seeds").unwrap_or_default(),
        duration: keys.needed_text("duration", "4 epochs"),
    };
    if confirmation.seeds.is_empty() || confirmation.seeds.contains(&seed) {
        let message =
            format!("expected at least one seed, and not {seed}, which the search has seen");
        keys.fault("seeds", &message);
    }
    keys.finish();
    confirmation
}

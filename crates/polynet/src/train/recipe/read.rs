//! From the tree of values to a [`Recipe`]: every key is asked for once, with its default.
//!
//! Reading goes on after a fault, so that one run of the command shows all of them. What was never
//! asked for is an unknown key, and the keys that were asked for are what it is compared with.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::document::{Located, Places, Sources};
use super::error::RecipeError;
use super::method;
use super::validate;
use super::value::{Value, describe};
use super::{
    AugmentationSection, DataSection, DecayedParameters, EpsilonPosition, FineTuningSection,
    ModelSection, MomentumForm, OnError, OptimizerAlgorithm, OptimizerSection,
    PreprocessingSection, Recipe, ScheduleSection, StochasticPathsSection, TrainingSection, When,
};
use crate::train::duration::Duration;

/// Reads `text`, called `origin` in messages, and the overrides; `name` is the run's default name.
pub(super) fn recipe(
    origin: &str,
    text: &str,
    overrides: &[String],
    name: &str,
) -> Result<Recipe, RecipeError> {
    let sources = Sources::new(origin, text, overrides);
    let fail = |faults| RecipeError::faults(sources.place(origin, faults));
    let mut reader = Reader::default();
    let recipe = reader.recipe(sources.tree().map_err(fail)?, name);
    let faults = reader.finish();
    if !faults.is_empty() {
        return Err(fail(faults));
    }
    let out_of_range: Vec<Located> = validate::faults(&recipe)
        .iter()
        .map(|fault| (fault.to_string(), reader.places.get(fault.key).cloned()))
        .collect();
    if !out_of_range.is_empty() {
        return Err(fail(out_of_range));
    }
    Ok(recipe)
}

#[derive(Default)]
struct Reader {
    faults: Vec<Located>,
    /// Section and key of all that was asked for.
    known: Vec<(&'static str, &'static str)>,
    /// What was there and nobody asked for.
    unknown: Vec<Unknown>,
    places: Places,
}

struct Unknown {
    section: &'static str,
    kind: Option<&'static str>,
    key: String,
    range: std::ops::Range<usize>,
}

/// One table of the recipe; the root's name is empty.
struct Section<'r, 'i> {
    reader: &'r mut Reader,
    name: &'static str,
    kind: Option<&'static str>,
    table: DeTable<'i>,
}

impl Section<'_, '_> {
    fn path(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    fn fault(&mut self, key: &str, message: &str, range: Option<std::ops::Range<usize>>) {
        let message = format!("`{}`: {message}", self.path(key));
        self.reader.faults.push((message, range));
    }

    fn optional<T: Value>(&mut self, key: &'static str) -> Option<T> {
        self.reader.known.push((self.name, key));
        let value = self.table.remove(key)?;
        let path = self.path(key);
        self.reader.places.insert(path, value.span());
        T::read(value.get_ref())
            .map_err(|message| self.fault(key, &message, Some(value.span())))
            .ok()
    }

    fn or<T: Value>(&mut self, key: &'static str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// A key without a default; `placeholder` stands in until the fault is reported.
    fn required<T: Value>(&mut self, key: &'static str, example: &str, placeholder: T) -> T {
        let there = self.table.contains_key(key);
        let value = self.optional(key);
        if !there {
            let message = format!("expected this key, for example `{key} = {example}`, came none");
            self.fault(key, &message, None);
        }
        value.unwrap_or(placeholder)
    }

    /// One of a few words; the first is the default.
    fn word<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)]) -> T {
        self.word_or(key, words, words[0].1)
    }

    fn word_or<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
        default: T,
    ) -> T {
        self.reader.known.push((self.name, key));
        let Some(value) = self.table.remove(key) else {
            return default;
        };
        let path = self.path(key);
        self.reader.places.insert(path, value.span());
        let word = value.get_ref().as_str();
        if let Some((_, found)) = words.iter().find(|(name, _)| Some(*name) == word) {
            return *found;
        }
        let names: Vec<String> = words.iter().map(|(name, _)| format!("{name:?}")).collect();
        let came = describe(value.get_ref());
        let message = format!("expected one of {}, came {came}", names.join(", "));
        self.fault(key, &message, Some(value.span()));
        default
    }

    /// The word under `kind`, which decides what other keys there are.
    fn kind(&mut self, kinds: &[&'static str]) -> &'static str {
        let words: Vec<_> = kinds.iter().map(|kind| (*kind, *kind)).collect();
        let kind = self.word("kind", &words);
        self.kind = Some(kind);
        kind
    }

    /// Notes what nobody asked for.
    fn finish(self) {
        let (section, kind) = (self.name, self.kind);
        self.reader
            .unknown
            .extend(self.table.iter().map(|(key, _)| Unknown {
                section,
                kind,
                key: key.get_ref().to_string(),
                range: key.span(),
            }));
    }
}

impl Reader {
    fn recipe(&mut self, mut tree: DeTable<'_>, default_name: &str) -> Recipe {
        let model = self.section(&mut tree, "model", model);
        let fine_tuning = self.section(&mut tree, "fine_tuning", fine_tuning);
        let data = self.section(&mut tree, "data", data);
        let preprocessing = self.section(&mut tree, "preprocessing", preprocessing);
        let augmentation = self.section(&mut tree, "augmentation", augmentation);
        let optimizer = self.section(&mut tree, "optimizer", optimizer);
        let schedule = self.section(&mut tree, "schedule", schedule);
        let stochastic_paths = self.section(&mut tree, "stochastic_paths", stochastic_paths);
        let training = self.section(&mut tree, "training", training);
        let mut root = Section {
            reader: self,
            name: "",
            kind: None,
            table: tree,
        };
        let recipe = Recipe {
            name: root.or("name", default_name.to_owned()),
            seed: root.or("seed", 0),
            out: root.optional("out"),
            device: root.or("device", "cpu".to_owned()),
            model,
            fine_tuning,
            data,
            preprocessing,
            augmentation,
            optimizer,
            schedule,
            stochastic_paths,
            training,
        };
        root.finish();
        recipe
    }

    /// Reads the table `name` of the tree, which is empty where there is none.
    fn section<T>(
        &mut self,
        tree: &mut DeTable<'_>,
        name: &'static str,
        read: impl FnOnce(&mut Section<'_, '_>) -> T,
    ) -> T {
        self.known.push(("", name));
        let table = match tree
            .remove(name)
            .map(|value| (value.span(), value.into_inner()))
        {
            None => DeTable::new(),
            Some((_, DeValue::Table(table))) => table,
            Some((range, value)) => {
                let message = format!("`{name}`: expected a section, came {}", describe(&value));
                self.faults.push((message, Some(range)));
                DeTable::new()
            }
        };
        let mut section = Section {
            reader: self,
            name,
            kind: None,
            table,
        };
        let value = read(&mut section);
        section.finish();
        value
    }

    fn finish(&mut self) -> Vec<Located> {
        let mut faults = std::mem::take(&mut self.faults);
        for unknown in &self.unknown {
            faults.push((self.unknown_key(unknown), Some(unknown.range.clone())));
        }
        faults
    }

    fn unknown_key(&self, unknown: &Unknown) -> String {
        let Unknown {
            section, kind, key, ..
        } = unknown;
        let shown: String = key.chars().take(60).collect();
        let here = match (*section, kind) {
            ("", _) => "the top of a recipe".to_owned(),
            (section, None) => format!("[{section}]"),
            (section, Some(kind)) => format!("[{section}] of kind {kind:?}"),
        };
        let elsewhere: Vec<String> = (self.known.iter())
            .filter(|(section, known)| *known == key && !section.is_empty() && *known != "kind")
            .map(|(section, _)| format!("[{section}]"))
            .collect();
        if !elsewhere.is_empty() {
            let belongs = elsewhere.join(" and ");
            return format!("`{shown}` is no key of {here}: it is one of {belongs}");
        }
        let keys: Vec<&str> = (self.known.iter())
            .filter(|(known, _)| known == section)
            .map(|(_, key)| *key)
            .collect();
        let nearest = keys.iter().min_by_key(|known| distance(&shown, known));
        let nearest = nearest.copied().unwrap_or_default();
        let all = keys.join(", ");
        format!("`{shown}` is no key of {here}: the nearest is `{nearest}`, all are {all}")
    }
}

/// Insertions, removals and replacements that turn one word into the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[to.len()]
}

fn model(section: &mut Section<'_, '_>) -> ModelSection {
    ModelSection {
        architecture: section.required("architecture", "\"ir-3-6-3\"", String::new()),
        init: section.optional("init"),
    }
}

fn fine_tuning(section: &mut Section<'_, '_>) -> FineTuningSection {
    FineTuningSection {
        frozen: section.or("frozen", Vec::new()),
        rates: section.or("rates", BTreeMap::new()),
    }
}

fn data(section: &mut Section<'_, '_>) -> DataSection {
    DataSection {
        path: section.required("path", "\"photos\"", PathBuf::new()),
        validation_fraction: section.optional("validation_fraction"),
        threads: section.or("threads", 0),
        on_error: section.word(
            "on_error",
            &[("fail", OnError::Fail), ("skip", OnError::Skip)],
        ),
    }
}

fn preprocessing(section: &mut Section<'_, '_>) -> PreprocessingSection {
    PreprocessingSection {
        size: section.optional("size"),
        resize: section.optional("resize"),
        mean: section.optional("mean"),
        std: section.optional("std"),
    }
}

fn augmentation(section: &mut Section<'_, '_>) -> AugmentationSection {
    match section.kind(&["multi-area", "pad-crop", "none"]) {
        "multi-area" => AugmentationSection::MultiArea {
            min_area: section.or("min_area", 0.08),
            aspect: section.or("aspect", [3.0 / 4.0, 4.0 / 3.0]),
            flip: section.or("flip", 0.5),
        },
        "pad-crop" => AugmentationSection::PadCrop {
            padding: section.or("padding", 4),
            flip: section.or("flip", 0.5),
        },
        _ => AugmentationSection::None,
    }
}

fn optimizer(section: &mut Section<'_, '_>) -> OptimizerSection {
    let algorithm = match section.kind(&["rmsprop", "sgd", "adamw"]) {
        "sgd" => OptimizerAlgorithm::Sgd {
            momentum: section.or("momentum", 0.9),
            nesterov: section.or("nesterov", true),
            dampening: section.or("dampening", 0.0),
        },
        "adamw" => OptimizerAlgorithm::AdamW {
            beta1: section.or("beta1", 0.9),
            beta2: section.or("beta2", 0.999),
            epsilon: section.or("epsilon", 1e-8),
        },
        _ => rmsprop(section),
    };
    OptimizerSection {
        algorithm,
        weight_decay: section.or("weight_decay", 0.0),
        weight_decay_on: section.word(
            "weight_decay_on",
            &[
                ("weights", DecayedParameters::Weights),
                ("all", DecayedParameters::All),
            ],
        ),
    }
}

fn rmsprop(section: &mut Section<'_, '_>) -> OptimizerAlgorithm {
    let tensorflow = (EpsilonPosition::Inside, 1.0, MomentumForm::Steps);
    let pytorch = (EpsilonPosition::Outside, 0.0, MomentumForm::Directions);
    let conventions = [("tensorflow", tensorflow), ("pytorch", pytorch)];
    let (epsilon_position, initial_square, form) = section.word("convention", &conventions);
    let positions = [
        ("inside", EpsilonPosition::Inside),
        ("outside", EpsilonPosition::Outside),
    ];
    let forms = [
        ("steps", MomentumForm::Steps),
        ("directions", MomentumForm::Directions),
    ];
    OptimizerAlgorithm::RmsProp {
        decay: section.or("decay", 0.9),
        epsilon: section.or("epsilon", 1.0),
        epsilon_position: section.word_or("epsilon_position", &positions, epsilon_position),
        initial_square: section.or("initial_square", initial_square),
        momentum_form: section.word_or("momentum_form", &forms, form),
        momentum: section.or("momentum", 0.0),
    }
}

fn schedule(section: &mut Section<'_, '_>) -> ScheduleSection {
    let kind = section.kind(&["steps", "cosine", "one-cycle", "constant"]);
    let learning_rate = if kind == "steps" {
        section.or("learning_rate", 0.45)
    } else {
        section.required("learning_rate", "0.1", 0.1)
    };
    match kind {
        "cosine" => ScheduleSection::Cosine {
            learning_rate,
            warm_up: section.or("warm_up", Duration::Steps(0)),
            final_learning_rate: section.or("final_learning_rate", 0.0),
        },
        "one-cycle" => ScheduleSection::OneCycle {
            learning_rate,
            warm_up: section.or("warm_up", Duration::Epochs(1.0)),
            final_learning_rate: section.or("final_learning_rate", 0.0),
        },
        "constant" => ScheduleSection::Constant { learning_rate },
        _ => ScheduleSection::Steps {
            learning_rate,
            every: section.or("every", Duration::Steps(160_000)),
            factor: section.or("factor", 0.1),
        },
    }
}

fn stochastic_paths(section: &mut Section<'_, '_>) -> StochasticPathsSection {
    let when = section.or("when", When::Never);
    let adaptive = when == When::Adaptive;
    let gap = section.optional("gap");
    let patience = section.optional("patience");
    StochasticPathsSection {
        when,
        max_drop: section.or("max_drop", 0.25),
        gap: gap.or(adaptive.then_some(method::DEFAULT_GAP)),
        patience: patience.or(adaptive.then_some(method::DEFAULT_PATIENCE)),
    }
}

fn training(section: &mut Section<'_, '_>) -> TrainingSection {
    TrainingSection {
        batch_size: section.or("batch_size", 256),
        accumulate: section.or("accumulate", 1),
        batch_norm: section.word("batch_norm", &method::NORM_GROUPS),
        duration: section.or("duration", Duration::Steps(560_000)),
        label_smoothing: section.or("label_smoothing", 0.0),
        clip_norm: section.optional("clip_norm"),
        clip_value: section.optional("clip_value"),
        ema: section.optional("ema"),
        precision: section.word("precision", &crate::step::Precision::NAMES),
        activations: section.word("activations", &method::ACTIVATIONS),
        validate_every: section.or("validate_every", Duration::Epochs(1.0)),
        checkpoint_every: section.or("checkpoint_every", Duration::Epochs(1.0)),
        log_every: section.or("log_every", 50),
    }
}

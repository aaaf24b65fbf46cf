//! The jobs of a study: architectures × variants × seeds.

use super::StudyError;
use super::file::{ArchitectureText, GrowingText, Text, VariantText};
use crate::arch::Architecture;
use crate::grow::{GrowOptions, Placement, Start};
use crate::random::fnv1a;
use crate::train::Recipe;
use polynet_algebra::nearest;
use std::collections::HashMap;

/// One run of a study.
#[derive(Clone, Debug)]
pub struct Job {
    /// `ARCHITECTURE/VARIANT/SEED`
    pub id: String,
    /// The architecture's name.
    pub architecture: String,
    /// The variant's name.
    pub variant: String,
    /// The seed.
    pub seed: u64,
    /// What is run; of a job that starts from another's model without `model.init`.
    pub recipe: Recipe,
    /// The network of the recipe.
    pub network: Architecture,
    /// Where it starts from, if not from random weights.
    pub growing: Option<Growing>,
    /// Says which experiment it is: equal for equal recipes and starts.
    pub hash: String,
}

/// A start from another job's model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growing {
    /// That job's id.
    pub from: String,
    /// How its model grows.
    pub options: GrowOptions,
}

/// The jobs of a text, with their starts before them.
pub(super) fn jobs(text: &Text, overrides: &[String]) -> Result<Vec<Job>, StudyError> {
    let base = match &text.base {
        Some(path) => std::fs::read_to_string(path).map_err(|source| StudyError::Read {
            path: path.clone(),
            source,
        })?,
        None => String::new(),
    };
    let mut faults = Vec::new();
    let mut jobs = Vec::new();
    for seed in &text.seeds {
        for architecture in &text.architectures {
            for variant in text
                .variants
                .iter()
                .filter(|one| one.applies_to(&architecture.name))
            {
                let combined = Combination {
                    text,
                    base: &base,
                    architecture,
                    variant,
                    seed: *seed,
                };
                match combined.job(overrides) {
                    Ok(job) => jobs.push(job),
                    Err(message) => faults.push(message),
                }
            }
        }
        // Those of the other seeds would be the same.
        if !faults.is_empty() {
            break;
        }
    }
    faults.extend(unknown_names(text));
    if faults.is_empty() {
        order(&mut jobs, &mut faults);
    }
    match faults.is_empty() {
        true => Ok(jobs),
        false => Err(StudyError::Faults(faults)),
    }
}

struct Combination<'t> {
    text: &'t Text,
    base: &'t str,
    architecture: &'t ArchitectureText,
    variant: &'t VariantText,
    seed: u64,
}

impl VariantText {
    pub(super) fn applies_to(&self, architecture: &str) -> bool {
        let named = self.architectures.as_ref();
        named.is_none_or(|names| names.iter().any(|name| name == architecture))
    }
}

impl Combination<'_> {
    fn id(&self) -> String {
        id(&self.architecture.name, &self.variant.name, self.seed)
    }

    fn job(&self, overrides: &[String]) -> Result<Job, String> {
        let id = self.id();
        let settings = [&self.text.settings, &self.variant.settings];
        let settings = settings.into_iter().flatten().map(String::as_str);
        let network: Vec<&str> = std::iter::once(self.architecture.network.as_str())
            .chain(settings)
            .map(|part| part.trim().trim_end_matches(';'))
            .collect();
        let network = network.join("; ");
        let fail = |message: &dyn std::fmt::Display| format!("job {id}: {message}");
        let keys = [
            &self.text.recipe,
            &self.variant.recipe,
            &self.architecture.recipe,
            overrides,
        ];
        let own = [
            format!("model.architecture={}", toml::Value::from(network.as_str())),
            format!("seed={}", self.seed),
            format!("name={}", toml::Value::from(id.as_str())),
        ];
        let keys = [keys.concat(), own.to_vec()].concat();
        let recipe = Recipe::parse(self.base, &keys).map_err(|error| fail(&error))?;
        let mut architecture: Architecture = (recipe.model.architecture.parse())
            .map_err(|error| fail(&format!("`{network}`: {error}")))?;
        if let Some(size) = recipe.preprocessing.size {
            architecture.input_size = size as usize;
        }
        architecture.graph().map_err(|error| fail(&error))?;
        let growing = self.variant.growing.as_ref();
        let growing = growing.map(|text| self.growing(text)).transpose();
        let growing = growing.map_err(|message| fail(&message))?;
        if growing.is_some() && recipe.model.init.is_some() {
            return Err(fail(&"expected `grow` or model.init, came both"));
        }
        Ok(Job {
            hash: hash(&recipe),
            architecture: self.architecture.name.clone(),
            variant: self.variant.name.clone(),
            seed: self.seed,
            recipe,
            network: architecture,
            growing,
            id,
        })
    }

    fn growing(&self, text: &GrowingText) -> Result<Growing, String> {
        let first = || self.text.variants[0].name.clone();
        let variant = text.variant.clone().unwrap_or_else(first);
        let own = &self.architecture.name;
        let mut variants = self.text.variants.iter();
        let is_continued = variants.any(|one| one.name == variant && one.applies_to(own));
        let from = match (&text.from, &self.architecture.from) {
            (Some(from), _) => from,
            (None, _) if is_continued => own,
            (None, Some(from)) => from,
            (None, None) => {
                return Err(format!(
                    "`grow` has no `from`, and {own:?} is no architecture of variant {variant:?} and has no \
                     `from` either"
                ));
            }
        };
        Ok(Growing {
            from: id(from, &variant, self.seed),
            options: GrowOptions {
                placement: text.placement,
                start: text.start,
                seed: self.seed,
            },
        })
    }
}

fn id(architecture: &str, variant: &str, seed: u64) -> String {
    format!("{architecture}/{variant}/{seed}")
}

/// Equal for recipes that ask for the same work: where its files lie, what it is called and how many
/// threads decode makes no other work of it, nor does what it leaves beside the metrics.
pub(super) fn hash(recipe: &Recipe) -> String {
    let mut recipe = recipe.clone();
    recipe.out = None;
    recipe.name.clear();
    recipe.data.threads = 0;
    // A recipe that was read from a text can be written.
    let text = recipe.to_toml().unwrap_or_default();
    let text = text.split("\n[record]").next().unwrap_or_default();
    format!("{:016x}", fnv1a(text.bytes()))
}

/// Names of architectures that variants mention and the study does not have.
fn unknown_names(text: &Text) -> Vec<String> {
    let known: Vec<&str> = text
        .architectures
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    let mentioned = text.variants.iter().flat_map(|variant| {
        let names = variant.architectures.iter().flatten();
        names.map(|name| (variant.name.as_str(), name.as_str()))
    });
    let unknown = mentioned.filter(|(_, name)| !known.contains(name));
    unknown
        .map(|(variant, name)| {
            let near = nearest(name, known.iter().copied());
            let near = near.map_or_else(String::new, |near| format!(", the nearest is {near:?}"));
            format!("variant {variant:?}: no architecture is called {name:?}{near}")
        })
        .collect()
}

/// Puts the job that another starts from before it, and its hash into the other's.
fn order(jobs: &mut Vec<Job>, faults: &mut Vec<String>) {
    let mut waiting = std::mem::take(jobs);
    let mut hashes: HashMap<String, String> = HashMap::new();
    while !waiting.is_empty() {
        let ready = waiting.iter().position(|job| {
            let from = job.growing.as_ref().map(|growing| &growing.from);
            from.is_none_or(|from| hashes.contains_key(from))
        });
        let Some(ready) = ready else {
            let known: Vec<&str> = waiting.iter().map(|job| job.id.as_str()).collect();
            let missing = waiting.iter().filter_map(|job| {
                let from = &job.growing.as_ref()?.from;
                let why = match known.contains(&from.as_str()) {
                    true => "which waits for it in turn",
                    false => "which the study does not have",
                };
                Some(format!("job {}: `grow` starts from {from}, {why}", job.id))
            });
            faults.extend(missing);
            return;
        };
        let mut job = waiting.remove(ready);
        if let Some(Growing { from, options }) = &job.growing {
            let start = (options.placement, options.start);
            job.hash = grown_hash(&job.hash, &hashes[from], start);
        }
        hashes.insert(job.id.clone(), job.hash.clone());
        jobs.push(job);
    }
}

fn grown_hash(own: &str, from: &str, (placement, start): (Placement, Start)) -> String {
    let text = format!("{own} from {from} {placement} {start}");
    format!("{:016x}", fnv1a(text.bytes()))
}

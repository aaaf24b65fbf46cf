//! The keys of a recipe as a list: for the terminal, for programs and as `docs/recipe.md`.
//!
//! What is listed is what reading asks for: an empty recipe shows every default, and with each word of
//! each key that has words, reading shows which other keys and defaults that word brings.

use serde::Serialize;

use super::read::keys_asked;
use super::value::{Bounds, Value, quoted};

/// What a recipe can say under one key.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Key {
    /// The section; empty at the top.
    pub section: &'static str,
    /// The kinds that have the key; empty where all have it or there are none.
    pub kinds: Vec<&'static str>,
    /// The key itself.
    pub name: &'static str,
    /// The type, such as `whole number`; `section` for a section.
    #[serde(rename = "type")]
    pub value: &'static str,
    /// What a number counts, such as `images`; mostly empty.
    pub unit: &'static str,
    /// What else the value must be; empty where the type says all.
    pub range: String,
    /// The value where the key is absent, as TOML; `required` or `none` where there is no value.
    pub default: String,
    /// Other defaults, each with the value of another key that brings it.
    pub other_defaults: Vec<String>,
    /// What it is.
    pub about: String,
    #[serde(skip)]
    words: &'static [(&'static str, &'static str)],
}

impl Key {
    /// A section, or a key whose type [`of`](Self::of) says.
    pub(super) fn new(section: &'static str, name: &'static str, about: &str) -> Self {
        Self {
            section,
            kinds: Vec::new(),
            name,
            value: "section",
            unit: "",
            range: String::new(),
            default: "none".to_owned(),
            other_defaults: Vec::new(),
            about: about.trim().to_owned(),
            words: &[],
        }
    }

    pub(super) fn of<T: Value>(
        mut self,
        kind: Option<&'static str>,
        example: Option<&str>,
        default: &T,
    ) -> Self {
        self.kinds.extend(kind);
        (self.value, self.words) = (T::TYPE, T::WORDS);
        self.default = match (toml::Value::try_from(default), example) {
            (_, Some(_)) => "required".to_owned(),
            (Ok(value), None) => value.to_string(),
            (Err(_), None) => self.default,
        };
        self.range = quoted(self.words);
        for (word, about) in self.words {
            self.about += &format!(" `{word}`: {}", about.trim());
        }
        self
    }

    /// Adds to the range what the bounds say.
    pub(super) fn add(&mut self, bounds: &Bounds) -> String {
        let (says, unit) = bounds.says();
        self.unit = unit;
        self.range += if self.range.is_empty() { "" } else { "; " };
        self.range += &says;
        says
    }

    /// The default and the other defaults.
    pub fn defaults(&self) -> String {
        let defaults = std::iter::once(&self.default).chain(&self.other_defaults);
        defaults.map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    fn has_kinds_of(&self, other: &Self) -> bool {
        other.kinds.iter().all(|kind| self.kinds.contains(kind))
    }

    /// Whether this is `other` of another kind of the section.
    fn is_of_another_kind(&self, other: &Self) -> bool {
        let like_other = Self {
            kinds: other.kinds.clone(),
            ..self.clone()
        };
        like_other == *other
    }
}

/// Every key and every section of a recipe, each section before its keys.
pub fn keys() -> Vec<Key> {
    let mut keys = keys_asked("name=polynet");
    for asking in keys.clone() {
        for (word, _) in asking.words {
            let answer = format!("{} = {word:?}", asking.name);
            let mut asked = keys_asked(&format!("{}.{answer}", asking.section));
            asked.retain(|key| key.section == asking.section);
            merge(&mut keys, asked, &answer);
        }
    }
    for index in 0..keys.len() {
        let mut of_section = keys.iter().filter(|key| key.section == keys[index].section);
        let kind = of_section.find(|key| key.name == "kind");
        if kind.is_some_and(|kind| kind.words.len() == keys[index].kinds.len()) {
            keys[index].kinds.clear();
        }
    }
    keys
}

/// Adds the keys of a section that are asked for at the word `answer`, each where it is asked.
fn merge(keys: &mut Vec<Key>, asked: Vec<Key>, answer: &str) {
    let section = asked[0].section;
    let mut next = keys
        .iter()
        .rposition(|key| key.section == section)
        .map_or(0, |last| last + 1);
    for other in asked.into_iter().rev() {
        let same_name = |key: &Key| (key.section, key.name) == (section, other.name);
        let same = |key: &Key| {
            same_name(key) && (key.has_kinds_of(&other) || key.is_of_another_kind(&other))
        };
        let Some(index) = keys.iter().position(same) else {
            keys.insert(next, other);
            continue;
        };
        let known = &mut keys[index];
        next = index;
        if !known.has_kinds_of(&other) {
            known.kinds.extend(other.kinds);
        } else if known.default != other.default {
            known
                .other_defaults
                .push(format!("{} with {answer}", other.default));
        }
    }
}

/// The listing as a Markdown document, docs/recipe.md.
pub fn markdown() -> String {
    let mut text = format!("{INTRODUCTION}{TABLE}");
    for key in keys() {
        let (name, kinds, defaults) = (key.name, key.kinds.join(", "), key.defaults());
        let (value, range, about) = (key.value, key.range, key.about);
        text += &match (value, kinds.as_str()) {
            ("section", _) => format!("\n## `[{name}]`\n\n{about}\n{TABLE}"),
            (_, "") => format!("| `{name}` | {value} | {range} | {defaults} | {about} |\n"),
            _ => format!("| `{name}` ({kinds}) | {value} | {range} | {defaults} | {about} |\n"),
        };
    }
    text
}

const INTRODUCTION: &str = "\
# The keys of a recipe

A recipe is an experiment as text in TOML: `polynet train RECIPE.toml`. Only `model.architecture` and
`data.path` are required; the defaults of the others are the paper's training (§4). Any key can be given
on the command line as well, with a value in TOML's syntax or a bare word or phrase:
`polynet train recipes/first.toml training.duration=\"3 epochs\" seed=1`. A value `{…}` replaces a whole
section: `schedule='{kind = \"constant\", learning_rate = 0.1}'`. The run folder holds the recipe with
every default written out.

A duration is a number and a unit, `\"560K steps\"`, `\"0.5 epochs\"` or `\"1.5M images\"`. Paths are
relative to the working directory. In parentheses stand the kinds of a section that have a key; without
them all have it.

This is what `polynet train --keys --markdown` prints; without `--markdown` it is a table for the terminal.

## At the top
";
const TABLE: &str = "
| key | type | range | default | what it is |
|---|---|---|---|---|
";

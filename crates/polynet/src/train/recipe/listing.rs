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
    let mut next = keys.iter().rposition(|key| key.section == section).map_or(0, |last| last + 1);
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
            known.default += &format!("; with {answer} {}", other.default);
        }
    }
}

/// The listing as a Markdown document, docs/recipe.md.
pub fn markdown() -> String {
    String::new()
}

//! The models of a server: by name, each with its versions.
//!
//! Law: a model that is replaced or unloaded lives until the last request that found it has its answer.

use crate::failure::{Failure, Kind};
use crate::source::{ModelSource, SourceError, is_name, versions};
use image::RgbImage;
use polynet::arch::Architecture;
use polynet::data::Preprocessing;
use polynet::report::drawing;
use polynet::{Explanation, Model, ModelConfig, ModelOptions, WeightError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A version of a model, ready to compute.
#[derive(Debug)]
pub(crate) struct LoadedModel {
    name: String,
    version: u64,
    config: ModelConfig,
    model: Mutex<Model>,
}

impl LoadedModel {
    fn open(
        name: &str,
        version: u64,
        folder: &Path,
        options: ModelOptions,
    ) -> Result<Self, WeightError> {
        let model = Model::open_with(folder, options)?;
        Ok(Self {
            name: name.to_owned(),
            version,
            config: model.config().clone(),
            model: Mutex::new(model),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn config(&self) -> &ModelConfig {
        &self.config
    }

    pub(crate) fn classes(&self) -> &[String] {
        &self.config.classes
    }

    pub(crate) fn preprocessing(&self) -> &Preprocessing {
        &self.config.preprocessing
    }

    /// Numbers of one image, `3 · size · size`.
    pub(crate) fn input_len(&self) -> usize {
        self.config.preprocessing.input_len()
    }

    /// The logits `[images, classes]` of prepared images.
    pub(crate) fn logits(&self, inputs: &[f32]) -> Vec<f32> {
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        model.predictor().logits(inputs)
    }

    /// A drawing of the network.
    ///
    /// # Errors
    /// If the structure is none, which opening the model has ruled out.
    pub(crate) fn structure(&self) -> Result<String, Failure> {
        let architecture = self.config.architecture.parse::<Architecture>();
        let drawing = architecture.and_then(|network| drawing::network(&network));
        drawing.map_err(|error| {
            tracing::error!(%error, "a network can't be drawn");
            Failure::internal()
        })
    }

    /// What of a picture speaks for its `top` classes.
    ///
    /// # Errors
    /// If its weights can't be read again.
    pub(crate) fn explain(&self, picture: &RgbImage, top: usize) -> Result<Explanation, Failure> {
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        model.explain(picture, top).map_err(|error| {
            tracing::error!(%error, "a picture can't be explained");
            let message = "the model's weights can't be read again; load it again";
            Failure::new(Kind::NotLoaded, message)
        })
    }
}

/// A row of the repository's index.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct IndexRow {
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    pub(crate) state: &'static str,
    pub(crate) reason: String,
}

/// Why models cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Weights(#[from] WeightError),
}

type Versions = BTreeMap<u64, Arc<LoadedModel>>;

#[derive(Debug)]
struct Entry {
    folder: PathBuf,
    /// None where it is not loaded.
    versions: Versions,
    /// Why it is not.
    reason: String,
}

#[derive(Debug)]
pub(crate) struct Models {
    entries: RwLock<BTreeMap<String, Entry>>,
    /// Held while a model is opened, so that of two that load the same one the later wins.
    loading: Mutex<()>,
    repository: Option<PathBuf>,
    options: ModelOptions,
}

fn open_versions(name: &str, folder: &Path, options: ModelOptions) -> Result<Versions, LoadError> {
    let mut opened = Versions::new();
    for (version, folder) in versions(folder)? {
        let model = LoadedModel::open(name, version, &folder, options)?;
        opened.insert(version, Arc::new(model));
    }
    Ok(opened)
}

impl Models {
    /// Opens models, of each source all versions.
    pub(crate) fn open(
        sources: &[ModelSource],
        repository: Option<PathBuf>,
        options: ModelOptions,
    ) -> Result<Self, LoadError> {
        let mut entries = BTreeMap::new();
        for source in sources {
            let entry = Entry {
                folder: source.folder().to_owned(),
                versions: open_versions(source.name(), source.folder(), options)?,
                reason: String::new(),
            };
            entries.insert(source.name().to_owned(), entry);
        }
        Ok(Self {
            entries: RwLock::new(entries),
            loading: Mutex::new(()),
            repository,
            options,
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Entry>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A model by name and version; by default its newest version.
    ///
    /// # Errors
    /// If there is none, or it is not loaded.
    pub(crate) fn find(
        &self,
        name: &str,
        version: Option<&str>,
    ) -> Result<Arc<LoadedModel>, Failure> {
        let entries = self.read();
        let Some(entry) = entries.get(name) else {
            return Err(no_model(name, entries.keys()));
        };
        if entry.versions.is_empty() {
            return Err(not_loaded(name, &entry.reason));
        }
        let found = match version {
            None => entry.versions.values().next_back(),
            Some(text) => {
                let number = text.parse::<u64>().ok();
                number.and_then(|number| entry.versions.get(&number))
            }
        };
        found.cloned().ok_or_else(|| {
            let all: Vec<String> = entry.versions.keys().map(u64::to_string).collect();
            let message = format!(
                "no version `{}` of the model `{name}`; it has {}",
                version.unwrap_or_default(),
                all.join(", ")
            );
            Failure::new(Kind::NotFound, message)
        })
    }

    /// The model of a request that names none: the only one there is.
    ///
    /// # Errors
    /// If there are several, or it is not loaded.
    pub(crate) fn only(&self) -> Result<Arc<LoadedModel>, Failure> {
        let names: Vec<String> = self.read().keys().cloned().collect();
        match names.as_slice() {
            [name] => self.find(name, None),
            _ => Err(Failure::bad_request(format!(
                "this server has {}; name one: /models/NAME/classify",
                listed(names.iter())
            ))),
        }
    }

    /// The versions of a model.
    pub(crate) fn versions(&self, name: &str) -> Vec<String> {
        let entries = self.read();
        let versions = entries.get(name).map(|entry| entry.versions.keys());
        versions.into_iter().flatten().map(u64::to_string).collect()
    }

    /// Every model that is loaded, or could be.
    pub(crate) fn index(&self) -> Vec<IndexRow> {
        let mut rows = Vec::new();
        let entries = self.read();
        for (name, entry) in entries.iter() {
            let row = |version, state| IndexRow {
                name: name.clone(),
                version,
                state,
                reason: entry.reason.clone(),
            };
            if entry.versions.is_empty() {
                rows.push(row(None, "UNAVAILABLE"));
            }
            let versions = entry.versions.keys();
            rows.extend(versions.map(|version| row(Some(version.to_string()), "READY")));
        }
        let others = self.in_repository().into_iter();
        let others = others.filter(|name| !entries.contains_key(name));
        rows.extend(others.map(|name| IndexRow {
            name,
            version: None,
            state: "UNAVAILABLE",
            reason: "not loaded".to_owned(),
        }));
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }

    /// Names of the folders of the repository that hold models.
    fn in_repository(&self) -> Vec<String> {
        let folders = self
            .repository
            .iter()
            .filter_map(|path| path.read_dir().ok());
        let entries = folders.flatten().flatten();
        let models = entries.filter(|entry| versions(&entry.path()).is_ok());
        let names = models.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| is_name(name)).collect()
    }

    /// Opens a model's folder, anew if it is loaded already: requests that come from then on find what is
    /// there now. If it cannot be opened, what was loaded stays. Takes as long as reading the weights.
    ///
    /// # Errors
    /// If there is no such model, or it cannot be opened.
    pub(crate) fn load(&self, name: &str) -> Result<(), Failure> {
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.read().get(name).map(|entry| entry.folder.clone());
        let of_repository = || {
            let folder = self.repository.as_ref()?.join(name);
            (is_name(name) && versions(&folder).is_ok()).then_some(folder)
        };
        let Some(folder) = known.or_else(of_repository) else {
            let names = self.index().into_iter().map(|row| row.name);
            return Err(no_model(name, names.collect::<Vec<_>>().iter()));
        };
        let versions = open_versions(name, &folder, self.options).map_err(|error| {
            tracing::warn!(model = name, %error, "a model was not loaded");
            Failure::bad_request(format!("cannot load the model `{name}`: {error}"))
        })?;
        tracing::info!(
            model = name,
            versions = versions.len(),
            "a model was loaded"
        );
        let entry = Entry {
            folder,
            versions,
            reason: String::new(),
        };
        self.write().insert(name.to_owned(), entry);
        Ok(())
    }

    /// Takes a model out; what has found it already is computed.
    ///
    /// # Errors
    /// If there is no such model.
    pub(crate) fn unload(&self, name: &str) -> Result<(), Failure> {
        let mut entries = self.write();
        let Some(entry) = entries.get_mut(name) else {
            return Err(no_model(name, entries.keys()));
        };
        entry.versions = Versions::new();
        entry.reason = "unloaded".to_owned();
        tracing::info!(model = name, "a model was unloaded");
        Ok(())
    }

    /// Whether there is a model and all are loaded that were not unloaded.
    pub(crate) fn are_ready(&self) -> bool {
        self.read().values().any(|entry| !entry.versions.is_empty())
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => "no model".to_owned(),
        names => names.join(", "),
    }
}

fn no_model<'a>(name: &str, names: impl Iterator<Item = &'a String>) -> Failure {
    let message = format!("no model `{name}`; this server has {}", listed(names));
    Failure::new(Kind::NotFound, message)
}

fn not_loaded(name: &str, reason: &str) -> Failure {
    let message = format!(
        "the model `{name}` is not loaded ({reason}); load it: POST /v2/repository/models/{name}/load"
    );
    Failure::new(Kind::NotLoaded, message)
}

//! The page at `/runs`: what training runs in a folder have come to. Files are read anew at each question, so
//! what a run writes is seen at once.

use crate::failure::{Failure, Kind};
use crate::shared::{Shared, Target, answer, json};
use axum::extract::State;
use axum::response::Response;
use polynet::Recipe;
use polynet::report::{Record, RunFolder, TrainRecord, ValidationRecord, curves, read_metrics};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::UNIX_EPOCH;
use std::{fs, io};

/// The most runs that are listed, those that were written last.
const LISTED: usize = 200;

/// A run as it is listed.
#[derive(Debug, Serialize)]
struct Run {
    name: String,
    /// Whether it has made all its steps.
    is_finished: bool,
    /// When its metrics were last written, in seconds since 1970.
    updated: f64,
    /// The last means over training steps.
    train: Option<TrainRecord>,
    /// The last validation.
    validation: Option<ValidationRecord>,
    /// The largest share of held-out images whose best class was right.
    best_top1: Option<f64>,
    has_confusion: bool,
    /// Every key of its recipe with its value.
    recipe: BTreeMap<String, String>,
    /// Why something of it can't be read.
    problem: Option<String>,
}

impl Run {
    fn read(name: String, folder: &RunFolder) -> Self {
        let (mut problem, mut records) = (None, Vec::new());
        match read_metrics(&folder.metrics()) {
            Ok(metrics) => records = metrics.records,
            Err(error) => problem = Some(error.to_string()),
        }
        let recipe = match Recipe::load(&folder.recipe(), &[]) {
            Ok(recipe) => keys(&recipe),
            Err(error) => {
                problem = Some(error.to_string());
                BTreeMap::new()
            }
        };
        let (mut train, mut validation, mut best_top1) = (None, None, None);
        for record in records {
            match record {
                Record::Train(record) => train = Some(record),
                Record::Validation(record) => {
                    best_top1 = Some(record.top1.max(best_top1.unwrap_or(0.0)));
                    validation = Some(record);
                }
                Record::Event(_) => {}
            }
        }
        Self {
            name,
            is_finished: folder.report().is_file(),
            updated: written(&folder.metrics()).unwrap_or_default(),
            train,
            validation,
            best_top1,
            has_confusion: folder.confusion().is_file(),
            recipe,
            problem,
        }
    }
}

/// When a file was written, in seconds since 1970.
fn written(path: &Path) -> Option<f64> {
    let written = fs::metadata(path).ok()?.modified().ok()?;
    Some(written.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
}

/// The keys of a recipe, `training.batch_size`, with their values as text.
fn keys(recipe: &Recipe) -> BTreeMap<String, String> {
    fn add(to: &mut BTreeMap<String, String>, key: &str, value: &Value) {
        match value {
            Value::Object(inner) => {
                for (name, value) in inner {
                    let dot = if key.is_empty() { "" } else { "." };
                    add(to, &format!("{key}{dot}{name}"), value);
                }
            }
            Value::Null => {}
            Value::String(text) => drop(to.insert(key.to_owned(), text.clone())),
            other => drop(to.insert(key.to_owned(), other.to_string())),
        }
    }
    let mut keys = BTreeMap::new();
    add(
        &mut keys,
        "",
        &serde_json::to_value(recipe).unwrap_or_default(),
    );
    keys
}

/// `GET /runs.json`.
pub(crate) async fn list(State(shared): State<Arc<Shared>>) -> Result<Response, Failure> {
    let root = root(&shared)?.to_owned();
    let runs = apart(move || {
        let entries = fs::read_dir(&root).map_err(|error| unreadable(&root, &error))?;
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let (Ok(name), Ok(folder)) = (
                entry.file_name().into_string(),
                RunFolder::open(&entry.path()),
            ) else {
                continue;
            };
            found.push((written(&folder.metrics()), name, folder));
        }
        found.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap_or(std::cmp::Ordering::Equal));
        found.truncate(LISTED);
        let runs = found
            .into_iter()
            .map(|(_, name, folder)| Run::read(name, &folder));
        Ok(runs.collect::<Vec<_>>())
    });
    json(&runs.await?)
}

/// `GET /runs/{name}/curves`.
pub(crate) async fn draw_curves(
    State(shared): State<Arc<Shared>>,
    target: Target,
) -> Result<Response, Failure> {
    let folder = run(&shared, &target)?;
    let drawing = apart(move || {
        let metrics = read_metrics(&folder.metrics());
        let metrics = metrics.map_err(|error| Failure::new(Kind::NotFound, error.to_string()))?;
        Ok(curves(&metrics.records, &target.name))
    });
    Ok(answer("image/svg+xml", drawing.await?))
}

/// `GET /runs/{name}/confusion`.
pub(crate) async fn draw_confusion(
    State(shared): State<Arc<Shared>>,
    target: Target,
) -> Result<Response, Failure> {
    let path = run(&shared, &target)?.confusion();
    let drawing = apart(move || {
        fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                let message = "the run has no confusion matrix yet: it is drawn at its end";
                Failure::new(Kind::NotFound, message)
            }
            _ => unreadable(&path, &error),
        })
    });
    Ok(answer("image/svg+xml", drawing.await?))
}

/// The folder whose runs are shown.
fn root(shared: &Shared) -> Result<&Path, Failure> {
    shared.options.runs.as_deref().ok_or_else(|| {
        let message = "this server shows no runs; start it with --runs FOLDER";
        Failure::new(Kind::NotFound, message)
    })
}

/// The run that an address names: a folder right inside that of the runs.
fn run(shared: &Shared, target: &Target) -> Result<RunFolder, Failure> {
    let name = Path::new(&target.name);
    let mut parts = name.components();
    let is_name = matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name.as_os_str());
    let found = root(shared)?.join(name);
    let folder = is_name.then(|| RunFolder::open(&found).ok()).flatten();
    folder.ok_or_else(|| {
        let name = polynet::data::printable(&target.name);
        Failure::new(
            Kind::NotFound,
            format!("there is no run {name}; /runs.json lists what there is"),
        )
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    tracing::error!(path = %path.display(), %error, "can't read a run");
    Failure::internal()
}

/// Reads files where no connection waits for it.
async fn apart<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or_else(|error| {
        tracing::error!(%error, "reading runs failed");
        Err(Failure::internal())
    })
}

//! The page at `/runs`: what training runs in a folder have come to. At each question the files of those that
//! have been written since are read anew.

use crate::failure::{Failure, Kind};
use crate::shared::{Shared, Target, answer, json};
use axum::extract::State;
use axum::response::Response;
use polynet::Recipe;
use polynet::report::{Record, RunFolder, TrainRecord, ValidationRecord, curves, read_metrics};
use serde::Serialize;
use serde_json::Value;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
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

/// What of a run's files tells that it has gone on, without reading them.
#[derive(Debug, PartialEq)]
struct Stamp {
    metrics: Option<(SystemTime, u64)>,
    recipe: Option<(SystemTime, u64)>,
    is_finished: bool,
    has_confusion: bool,
}

impl Stamp {
    fn of(folder: &RunFolder) -> Self {
        let written = |path: &Path| {
            let data = fs::metadata(path).ok()?;
            Some((data.modified().ok()?, data.len()))
        };
        Self {
            metrics: written(&folder.metrics()),
            recipe: written(&folder.recipe()),
            is_finished: folder.report().is_file(),
            has_confusion: folder.confusion().is_file(),
        }
    }
}

/// The runs that were last listed, by name.
#[derive(Default)]
pub(crate) struct Runs(Mutex<HashMap<String, (Stamp, Arc<Run>)>>);

impl Runs {
    /// The runs in a folder, the last written first.
    fn list(&self, root: &Path) -> io::Result<Vec<Arc<Run>>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(root)?.flatten() {
            let name = entry.file_name().into_string();
            if let (Ok(name), Ok(folder)) = (name, RunFolder::open(&entry.path())) {
                found.push((Stamp::of(&folder), name, folder));
            }
        }
        found.sort_by_key(|(stamp, ..)| Reverse(stamp.metrics));
        found.truncate(LISTED);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut listed = HashMap::new();
        let runs = found.into_iter().map(|(stamp, name, folder)| {
            let run = match known.remove(&name) {
                Some((seen, run)) if seen == stamp => run,
                _ => Arc::new(Run::read(name.clone(), &folder, &stamp)),
            };
            listed.insert(name, (stamp, Arc::clone(&run)));
            run
        });
        let runs = runs.collect();
        *known = listed;
        Ok(runs)
    }
}

impl Run {
    fn read(name: String, folder: &RunFolder, stamp: &Stamp) -> Self {
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
            is_finished: stamp.is_finished,
            updated: stamp.metrics.map_or(0.0, |(written, _)| seconds(written)),
            train,
            validation,
            best_top1,
            has_confusion: stamp.has_confusion,
            recipe,
            problem,
        }
    }
}

fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
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
        let runs = shared.runs.list(&root);
        runs.map_err(|error| unreadable(&root, &error))
    });
    let runs = runs.await?;
    json(&runs.iter().map(Arc::as_ref).collect::<Vec<&Run>>())
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

//! Training by a recipe, watched from Python.

use crate::error::{Error, OrRaise as _, exception};
use crate::fork;
use crate::json;
use polynet::distributed::Communicator;
use polynet::report::{ValidationRecord, read_metrics};
use polynet::train::ChangedData;
use polynet::train::progress::{Progress, RunStart, StepReport, Warning};
use polynet::{Outcome, Recipe, TrainError, Trainer};
use pyo3::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A finished step, as `on_step` is given it.
#[pyclass(frozen, get_all, module = "polynet")]
pub(crate) struct Step {
    /// Finished steps, this one included.
    step: u64,
    /// Steps of the whole run.
    total_steps: u64,
    /// Finished steps in epochs.
    epoch: f64,
    /// Mean loss per image since the last training record, in nats.
    loss: f64,
    /// Share of images that were right since the last training record.
    top1: f64,
    /// Training images in a second, lately.
    images_per_s: f64,
}

#[pymethods]
impl Step {
    fn __repr__(&self) -> String {
        let Self {
            step,
            total_steps,
            epoch,
            loss,
            top1,
            images_per_s,
        } = self;
        format!(
            "Step(step={step}, total_steps={total_steps}, epoch={epoch:.2}, loss={loss:.4}, top1={top1:.4}, \
             images_per_s={images_per_s:.1})"
        )
    }
}

/// A validation, as `on_validation` is given it.
#[pyclass(frozen, get_all, module = "polynet")]
pub(crate) struct Validation {
    /// Finished steps.
    step: u64,
    /// The same in epochs.
    epoch: f64,
    /// Mean loss per image, in nats.
    loss: f64,
    /// Share of images whose best class is right.
    top1: f64,
    /// Share of images with the right class among the best five.
    top5: f64,
}

#[pymethods]
impl Validation {
    fn __repr__(&self) -> String {
        let Self {
            step,
            epoch,
            loss,
            top1,
            top5,
        } = self;
        format!(
            "Validation(step={step}, epoch={epoch:.2}, loss={loss:.4}, top1={top1:.4}, top5={top5:.4})"
        )
    }
}

/// Whom a run tells what happens.
struct Watcher<'a> {
    on_step: Option<&'a Py<PyAny>>,
    on_validation: Option<&'a Py<PyAny>>,
    total_steps: u64,
    stop: &'a AtomicBool,
    /// Why the run is to stop: Ctrl-C, or what a callback has raised.
    raised: Option<PyErr>,
}

impl Watcher<'_> {
    /// Looks for Ctrl-C and tells something; an exception stops the run after its step, with a checkpoint.
    fn tell(&mut self, tell: impl FnOnce(Python<'_>) -> PyResult<()>) {
        if self.raised.is_some() {
            return;
        }
        let told = Python::attach(|py| py.check_signals().and_then(|()| tell(py)));
        if let Err(raised) = told {
            self.raised = Some(raised);
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

impl Progress for Watcher<'_> {
    fn started(&mut self, run: &RunStart) {
        self.total_steps = run.total_steps;
        self.tell(|_| Ok(()));
    }

    fn step(&mut self, report: &StepReport) {
        let total_steps = self.total_steps;
        let on_step = self.on_step;
        self.tell(|py| {
            let Some(on_step) = on_step else {
                return Ok(());
            };
            let step = Step {
                step: report.step,
                total_steps,
                epoch: report.epoch,
                loss: report.loss,
                top1: report.top1,
                images_per_s: report.images_per_s,
            };
            on_step.call1(py, (step,)).map(drop)
        });
    }

    fn validating(&mut self, _done: u64, _total: u64) {
        self.tell(|_| Ok(()));
    }

    fn validation(&mut self, scores: &ValidationRecord) {
        let on_validation = self.on_validation;
        let &ValidationRecord {
            step,
            epoch,
            loss,
            top1,
            top5,
        } = scores;
        self.tell(|py| {
            let Some(on_validation) = on_validation else {
                return Ok(());
            };
            let validation = Validation {
                step,
                epoch,
                loss,
                top1,
                top5,
            };
            on_validation.call1(py, (validation,)).map(drop)
        });
    }

    fn message(&mut self, text: &str) {
        self.tell(|py| {
            let logger = py
                .import("logging")?
                .call_method1("getLogger", ("polynet",))?;
            logger.call_method1("info", (text,)).map(drop)
        });
    }

    fn warning(&mut self, warning: &Warning) {
        // Whoever stopped the run has its exception.
        if matches!(warning, Warning::Interrupted { .. }) {
            return;
        }
        let text = warning.to_string();
        self.tell(|py| {
            let category = py.import("polynet._errors")?.getattr("TrainingWarning")?;
            py.import("warnings")?
                .call_method1("warn", (text, category))
                .map(drop)
        });
    }
}

/// What a run has to be told besides its recipe.
#[derive(FromPyObject)]
pub(crate) struct Watching {
    #[pyo3(item)]
    on_step: Option<Py<PyAny>>,
    #[pyo3(item)]
    on_validation: Option<Py<PyAny>>,
    /// The command line, for the run's `command.txt`.
    #[pyo3(item)]
    command: Vec<String>,
}

/// Starts or resumes a run by `begin` and trains it to its end. Gives its folder.
fn run(
    py: Python<'_>,
    watching: &Watching,
    begin: impl FnOnce(&mut dyn Progress) -> Result<Trainer, TrainError> + Send,
) -> PyResult<PathBuf> {
    fork::has_threads()?;
    let stop = AtomicBool::new(false);
    let mut watcher = Watcher {
        on_step: watching.on_step.as_ref(),
        on_validation: watching.on_validation.as_ref(),
        total_steps: 0,
        stop: &stop,
        raised: None,
    };
    let ended = py.detach(|| {
        let mut trainer = begin(&mut watcher)?;
        let outcome = trainer.run(&mut watcher, &stop)?;
        Ok::<_, TrainError>((trainer.folder().root().to_owned(), outcome))
    });
    let raised = watcher.raised;
    match (ended, raised) {
        (Ok((folder, _)), None) => Ok(folder),
        (Ok((folder, outcome)), Some(raised)) => {
            note(py, &raised, &folder, &outcome)?;
            Err(raised)
        }
        (Err(error), raised) => {
            let error = exception(&error);
            error.set_cause(py, raised);
            Err(error)
        }
    }
}

/// Says at the end of a traceback what became of the run; before Python 3.11 exceptions have no notes.
fn note(py: Python<'_>, raised: &PyErr, folder: &Path, outcome: &Outcome) -> PyResult<()> {
    let folder = folder.display().to_string();
    let text = match outcome {
        Outcome::Interrupted { step } => format!(
            "the run stopped after step {step} with a checkpoint; go on with polynet.resume({folder:?})"
        ),
        Outcome::Finished(_) => format!("the run in {folder:?} had made all its steps"),
    };
    let raised = raised.value(py);
    if raised.hasattr("add_note")? {
        raised.call_method1("add_note", (text,))?;
    }
    Ok(())
}

fn read_recipe(path: Option<&Path>, text: Option<&str>, overrides: &[String]) -> PyResult<Recipe> {
    match (path, text) {
        (Some(path), None) => Recipe::load(path, overrides).or_raise(),
        (None, Some(text)) => Recipe::parse(text, overrides).or_raise(),
        _ => Err(Error::new_err("expected a recipe as a path or as text")),
    }
}

/// Trains by a recipe, a file or a text; gives the run folder.
#[pyfunction]
pub(crate) fn train(
    py: Python<'_>,
    path: Option<PathBuf>,
    text: Option<String>,
    overrides: Vec<String>,
    out: Option<PathBuf>,
    watching: Watching,
) -> PyResult<PathBuf> {
    let recipe = read_recipe(path.as_deref(), text.as_deref(), &overrides)?;
    let folder = out.or_else(|| recipe.out.clone());
    let folder = folder.unwrap_or_else(|| Path::new("runs").join(&recipe.name));
    let command = watching.command.clone();
    run(py, &watching, |progress| {
        Trainer::start(recipe, &folder, &command, progress)
    })
}

/// Goes on with a run; gives its folder.
#[pyfunction]
pub(crate) fn resume(
    py: Python<'_>,
    folder: PathBuf,
    accept_changed_data: bool,
    watching: Watching,
) -> PyResult<PathBuf> {
    let changed = match accept_changed_data {
        true => ChangedData::Accept,
        false => ChangedData::Refuse,
    };
    let command = watching.command.clone();
    run(py, &watching, |progress| {
        let alone = Arc::new(Communicator::alone());
        Trainer::resume_with(&alone, &folder, changed, &command, progress)
    })
}

/// A recipe with every default written out, as TOML.
#[pyfunction]
pub(crate) fn recipe(
    path: Option<PathBuf>,
    text: Option<String>,
    overrides: Vec<String>,
) -> PyResult<String> {
    let recipe = read_recipe(path.as_deref(), text.as_deref(), &overrides)?;
    recipe.to_toml().or_raise()
}

/// The records of a run's `metrics.jsonl`, in their order.
#[pyfunction]
pub(crate) fn metrics(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyAny>> {
    json::to_python(py, &read_metrics(&path).or_raise()?.records)
}

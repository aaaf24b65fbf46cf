//! A data set looked through before training.

use crate::error::OrRaise as _;
use crate::fork;
use crate::json;
use polynet::data::{CheckReport, check_until};
use polynet::read_config;
use pyo3::prelude::*;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How often Ctrl-C is looked for.
const PATIENCE: Duration = Duration::from_millis(50);

#[derive(Serialize)]
struct Output<'a> {
    breaks_training: bool,
    #[serde(flatten)]
    report: &'a CheckReport,
}

/// Decodes every image of a data set; gives what `polynet data check --json` prints.
#[pyfunction]
#[pyo3(signature = (path, model = None))]
pub(crate) fn check_data(
    py: Python<'_>,
    path: PathBuf,
    model: Option<PathBuf>,
) -> PyResult<Bound<'_, PyAny>> {
    fork::has_threads()?;
    let config = model.map(|folder| read_config(&folder)).transpose();
    let classes = config.or_raise()?.map(|(config, _)| config.classes);
    let stop = AtomicBool::new(false);
    let work = || check_until(&path, classes.as_deref(), |_, _| {}, &stop);
    // Only the thread that runs Python hears Ctrl-C: it listens while another works.
    let (report, raised) = py.detach(|| {
        thread::scope(|scope| {
            let worker = scope.spawn(work);
            let mut raised = None;
            while !worker.is_finished() {
                thread::sleep(PATIENCE);
                if raised.is_none() {
                    raised = Python::attach(|py| py.check_signals().err());
                    stop.store(raised.is_some(), Ordering::Relaxed);
                }
            }
            let report = worker.join();
            (
                report.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                raised,
            )
        })
    });
    match (report.or_raise()?, raised) {
        (Some(report), None) => json::to_python(
            py,
            &Output {
                breaks_training: report.breaks_training(),
                report: &report,
            },
        ),
        (_, Some(raised)) => Err(raised),
        (None, None) => unreachable!("only Ctrl-C stops a check"),
    }
}

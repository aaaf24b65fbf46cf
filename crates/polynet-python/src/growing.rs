//! Larger networks from trained models.

use crate::error::{Error, OrRaise as _};
use crate::fork;
use crate::json;
use polynet::data::ClassNames;
use polynet::grow::{GrowError, GrowOptions};
use polynet::{Architecture, ModelFolder};
use pyo3::prelude::*;
use std::path::PathBuf;

/// Grows a model folder into a larger network in a new folder; gives what `polynet grow --json` prints.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
pub(crate) fn grow<'py>(
    py: Python<'py>,
    from: PathBuf,
    architecture: &str,
    out: PathBuf,
    placement: &str,
    start: &str,
    classes: Option<Vec<String>>,
    seed: u64,
) -> PyResult<Bound<'py, PyAny>> {
    fork::has_threads()?;
    let to: Architecture = architecture.parse().or_raise()?;
    let classes = classes.map(ClassNames::new).transpose().or_raise()?;
    let of_key = |key: &'static str| move |message| Error::new_err(format!("{key}: {message}"));
    let options = GrowOptions {
        placement: placement.parse().map_err(of_key("placement"))?,
        start: start.parse().map_err(of_key("start"))?,
        seed,
    };
    let name = from.display().to_string();
    let taken = out
        .read_dir()
        .is_ok_and(|mut entries| entries.next().is_some());
    if taken {
        let message = "the folder is not empty; choose another, or remove it first";
        return Err(Error::new_err(format!("{}: {message}", out.display())));
    }
    let grown = py.detach(|| {
        let model = ModelFolder::open(&from)?;
        let grown = polynet::grow::grow(&model, &name, &to, classes, options)?;
        grown.save(&out)?;
        Ok::<_, GrowError>(grown)
    });
    json::to_python(py, &grown.or_raise()?.report)
}

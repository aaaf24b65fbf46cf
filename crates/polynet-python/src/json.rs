//! Reports cross into Python as JSON, and dicts come back as TOML.

use crate::error::{Error, OrRaise as _};
use pyo3::prelude::*;
use serde::Serialize;

/// A value as Python's dicts, lists and numbers.
pub(crate) fn to_python<'py>(
    py: Python<'py>,
    value: &impl Serialize,
) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(value).or_raise()?;
    py.import("json")?.call_method1("loads", (text,))
}

/// A JSON object as a document in TOML.
#[pyfunction]
pub(crate) fn toml_document(json: &str) -> PyResult<String> {
    match toml_of(json)? {
        toml::Value::Table(table) => Ok(table.to_string()),
        other => Err(Error::new_err(format!(
            "expected a recipe as a dict, found {other}"
        ))),
    }
}

/// A JSON value in TOML, in one line.
#[pyfunction]
pub(crate) fn toml_value(json: &str) -> PyResult<String> {
    Ok(toml_of(json)?.to_string())
}

fn toml_of(json: &str) -> PyResult<toml::Value> {
    serde_json::from_str(json).map_err(|_| {
        Error::new_err("expected values that TOML can hold; leave out a key that is None")
    })
}

//! The library's errors as Python's exceptions.
//!
//! `polynet.Error` is a `ValueError`: what was given is not usable. `polynet.FileError` is also an `OSError`: the
//! operating system refused a file. Their text is the library's, with causes that it does not tell already.

use polynet::TrainError;
use polynet::data::{DataError, DataErrorKind};
use pyo3::prelude::*;
use std::error::Error as StdError;
use std::io;
use std::iter::successors;

pyo3::import_exception!(polynet._errors, Error);
pyo3::import_exception!(polynet._errors, FileError);

/// Gives a library's result to Python.
pub(crate) trait OrRaise<T> {
    /// The value, or the exception that stands for the error.
    fn or_raise(self) -> PyResult<T>;
}

impl<T, E: StdError + 'static> OrRaise<T> for Result<T, E> {
    fn or_raise(self) -> PyResult<T> {
        self.map_err(|error| exception(&error))
    }
}

/// The exception that stands for an error.
pub(crate) fn exception(error: &(dyn StdError + 'static)) -> PyErr {
    let text = told(error);
    match causes(error).any(is_of_files) {
        true => FileError::new_err(text),
        false => Error::new_err(text),
    }
}

fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    successors(Some(error), |&error| error.source())
}

fn is_of_files(error: &(dyn StdError + 'static)) -> bool {
    // A transparent error hides the one that it wraps from the chain of causes.
    let data = match error.downcast_ref() {
        Some(TrainError::Data(data)) => Some(data),
        _ => error.downcast_ref::<DataError>(),
    };
    error.is::<io::Error>() || data.is_some_and(|data| data.kind() == DataErrorKind::Io)
}

/// An error with its causes; a cause that the message before it already tells is left out.
fn told(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    for cause in causes(error).map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

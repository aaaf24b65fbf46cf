//! Processes that were forked: threads do not come along, and work handed to them would wait for ever.

use crate::error::Error;
use pyo3::prelude::*;
use std::process;
use std::sync::OnceLock;

/// The process in which the first work was done, whose threads do it.
static PROCESS: OnceLock<u32> = OnceLock::new();

/// Refuses work in a process that was forked from one that had worked already.
pub(crate) fn has_threads() -> PyResult<()> {
    if *PROCESS.get_or_init(process::id) == process::id() {
        return Ok(());
    }
    Err(Error::new_err(
        "this process was forked from one that had used polynet already, and its threads did not come along; start \
         processes with multiprocessing.get_context(\"spawn\")",
    ))
}

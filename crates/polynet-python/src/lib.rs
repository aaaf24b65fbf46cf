//! The Python package `polynet`: the library's face as Python's objects.
//!
//! ```text
//! polynet/__init__.py     what users import
//! polynet/_native         this crate: objects and functions on the library's public face
//! polynet/*.py            what is Python's alone: runs, scikit-learn's estimator
//! ```
//!
//! Laws:
//! 1. Whatever takes long gives up the interpreter's lock and looks for Ctrl-C between its parts.
//! 2. An error of the library is an exception with the library's own message (`error.rs`).
//! 3. NumPy and Pillow are known by the methods of their objects. No image needs either.

// PyO3's methods take what Python gives by value.
#![allow(clippy::needless_pass_by_value)]

mod data;
mod error;
mod fork;
mod growing;
mod images;
mod json;
mod model;
mod structure;
mod training;

use polynet::Isa;
use polynet_kernels::CachingAllocator;
use pyo3::prelude::*;

#[global_allocator]
static ALLOCATOR: CachingAllocator = CachingAllocator::advising(
    "lower training.batch_size or `batch`; training.activations = \"recomputed\" takes less, too. A run goes on from \
     its last checkpoint with polynet.resume",
);

/// What the build can do beyond the processor.
fn features() -> Vec<&'static str> {
    let features = [
        (
            "gpu",
            cfg!(any(feature = "gpu", feature = "cuda", feature = "metal")),
        ),
        ("cuda", cfg!(feature = "cuda")),
        ("metal", cfg!(feature = "metal")),
    ];
    let features = features.into_iter().filter(|(_, is_there)| *is_there);
    features.map(|(name, _)| name).collect()
}

/// Instruction sets of this processor that there are kernels for, by name.
#[pyfunction]
fn instruction_sets() -> Vec<String> {
    Isa::available().map(|isa| isa.to_string()).collect()
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("features", features())?;
    module.add_class::<model::Model>()?;
    module.add_class::<model::Explanation>()?;
    module.add_class::<structure::Polynomial>()?;
    module.add_class::<structure::Architecture>()?;
    module.add_class::<structure::Stage>()?;
    module.add_class::<training::Step>()?;
    module.add_class::<training::Validation>()?;
    module.add_function(wrap_pyfunction!(instruction_sets, module)?)?;
    module.add_function(wrap_pyfunction!(structure::parse, module)?)?;
    module.add_function(wrap_pyfunction!(structure::presets, module)?)?;
    module.add_function(wrap_pyfunction!(images::encoded, module)?)?;
    module.add_function(wrap_pyfunction!(data::check_data, module)?)?;
    module.add_function(wrap_pyfunction!(growing::grow, module)?)?;
    module.add_function(wrap_pyfunction!(json::toml_document, module)?)?;
    module.add_function(wrap_pyfunction!(json::toml_value, module)?)?;
    module.add_function(wrap_pyfunction!(training::train, module)?)?;
    module.add_function(wrap_pyfunction!(training::resume, module)?)?;
    module.add_function(wrap_pyfunction!(training::recipe, module)?)?;
    module.add_function(wrap_pyfunction!(training::metrics, module)?)?;
    Ok(())
}

//! Structures: polynomials and networks, as text and as objects.

use crate::error::{Error, OrRaise as _};
use crate::json;
use polynet::arch::presets::all;
use polynet::report::{NetworkReport, drawing};
use polynet_algebra::parse_polynomial;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// An operator polynomial in canonical form. Equal ones are equal under the laws of nonlinear operators.
#[pyclass(frozen, eq, hash, module = "polynet")]
#[derive(PartialEq, Eq, Hash, Clone)]
pub(crate) struct Polynomial(polynet_algebra::Polynomial);

/// Reads a polynomial: `I + F + GF`, `(I + F)^2`, `poly-3`.
#[pyfunction]
pub(crate) fn parse(text: &str) -> PyResult<Polynomial> {
    parse_polynomial(text).map(Polynomial).or_raise()
}

#[pymethods]
impl Polynomial {
    #[new]
    fn new(text: &str) -> PyResult<Self> {
        parse(text)
    }

    /// The name of a module, `mpoly-2`, if it has one.
    #[getter]
    fn name(&self) -> Option<String> {
        self.0.name()
    }

    /// Factored as the paper writes it, each shared prefix once.
    #[getter]
    fn cascaded(&self) -> String {
        self.0.cascaded()
    }

    /// The steps by which it is evaluated, every distinct operator once.
    #[getter]
    fn plan(&self) -> String {
        self.0.plan().to_string()
    }

    /// Most blocks along one path.
    #[getter]
    fn order(&self) -> usize {
        self.0.order()
    }

    /// Paths from input to output.
    #[getter]
    fn paths(&self) -> u64 {
        self.0.paths()
    }

    /// The distinct blocks by name, sorted.
    #[getter]
    fn blocks(&self) -> Vec<String> {
        self.0.blocks().iter().map(ToString::to_string).collect()
    }

    /// Evaluations of blocks by the plan.
    #[getter]
    fn evaluations(&self) -> usize {
        self.0.plan().evaluations.len()
    }

    /// Evaluations that the plan saves against term by term.
    #[getter]
    fn evaluations_saved(&self) -> usize {
        self.0.plan().evaluations_saved()
    }

    /// The terms as texts, in canonical order.
    #[getter]
    fn terms(&self) -> Vec<String> {
        self.0.terms().iter().map(ToString::to_string).collect()
    }

    fn __add__(&self, other: &Self) -> PyResult<Self> {
        let sum = polynet_algebra::Polynomial::sum([self.0.clone(), other.0.clone()]);
        sum.map(Self).or_raise()
    }

    /// `self @ inner` applies `inner` first.
    fn __matmul__(&self, inner: &Self) -> PyResult<Self> {
        self.0.compose(&inner.0).map(Self).or_raise()
    }

    fn __pow__(&self, exponent: usize, modulo: Option<usize>) -> PyResult<Self> {
        if modulo.is_some() {
            return Err(Error::new_err("a power of a polynomial has no modulus"));
        }
        self.0.pow(exponent).map(Self).or_raise()
    }

    /// The module drawn as its plan evaluates it.
    fn svg(&self) -> String {
        drawing::module(&self.0)
    }

    fn _repr_svg_(&self) -> String {
        self.svg()
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("polynet.parse({:?})", self.0.to_string())
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        (py.get_type::<Self>(), (self.0.to_string(),)).into_pyobject(py)
    }
}

/// A network's structure. Equal ones compute the same graph.
#[pyclass(frozen, module = "polynet")]
pub(crate) struct Architecture(pub(crate) polynet::Architecture);

#[pymethods]
impl Architecture {
    #[new]
    #[pyo3(signature = (text, input_size = None, classes = None))]
    fn new(text: &str, input_size: Option<usize>, classes: Option<usize>) -> PyResult<Self> {
        let mut architecture: polynet::Architecture = text.parse().or_raise()?;
        if let Some(size) = input_size {
            architecture = architecture.with_input_size(size);
        }
        if let Some(classes) = classes {
            if classes == 0 {
                return Err(Error::new_err("classes: expected at least one, found 0"));
            }
            architecture = architecture.with_num_classes(classes);
        }
        Ok(Self(architecture))
    }

    /// Trained parameters.
    #[getter]
    fn parameters(&self) -> PyResult<u64> {
        Ok(self.0.cost().or_raise()?.parameters.total())
    }

    /// Multiply-accumulates of convolutions and classifier for one image.
    #[getter]
    fn macs(&self) -> PyResult<u64> {
        Ok(self.0.cost().or_raise()?.macs)
    }

    /// Height and width of the input in pixels.
    #[getter]
    fn input_size(&self) -> usize {
        self.0.input_size
    }

    /// Number of classes.
    #[getter]
    fn classes(&self) -> usize {
        self.0.num_classes
    }

    /// The stages in order.
    #[getter]
    fn stages(&self) -> Vec<Stage> {
        self.0.stages.iter().map(Stage::of).collect()
    }

    /// What `polynet inspect --json` prints: parts, cost, memory for `batch` images, and published figures.
    #[pyo3(signature = (batch = 1))]
    fn report<'py>(&self, py: Python<'py>, batch: u64) -> PyResult<Bound<'py, PyAny>> {
        json::to_python(py, &self.network_report(batch)?)
    }

    /// What `polynet inspect` prints.
    #[pyo3(signature = (batch = 1))]
    fn describe(&self, batch: u64) -> PyResult<String> {
        Ok(self.network_report(batch)?.to_string())
    }

    /// The network and its modules, drawn.
    fn svg(&self) -> PyResult<String> {
        drawing::network(&self.0).or_raise()
    }

    fn _repr_svg_(&self) -> PyResult<String> {
        self.svg()
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("polynet.Architecture({:?})", self.0.to_string())
    }

    fn __eq__(&self, other: &Self) -> PyResult<bool> {
        Ok(self.0.graph().or_raise()? == other.0.graph().or_raise()?)
    }

    fn __hash__(&self) -> PyResult<u64> {
        let mut hasher = DefaultHasher::new();
        (self.input_size(), self.classes(), self.parameters()?).hash(&mut hasher);
        Ok(hasher.finish())
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        (py.get_type::<Self>(), (self.0.to_string(),)).into_pyobject(py)
    }
}

impl Architecture {
    fn network_report(&self, batch: u64) -> PyResult<NetworkReport> {
        if batch == 0 {
            return Err(Error::new_err(
                "batch: expected at least one image, found 0",
            ));
        }
        NetworkReport::new(&self.0.to_string(), &self.0, batch).or_raise()
    }
}

/// A stage of a network.
#[pyclass(frozen, get_all, module = "polynet")]
pub(crate) struct Stage {
    /// `A`, `B`, `C`, or `1` … `4`.
    label: String,
    /// The modules as text, repetitions folded.
    text: String,
    /// The modules in order.
    modules: Vec<Polynomial>,
}

impl Stage {
    fn of(stage: &polynet::arch::Stage) -> Self {
        let modules = stage.modules.iter();
        Self {
            label: stage.label.clone(),
            text: stage.text.clone(),
            modules: modules
                .map(|module| Polynomial(module.polynomial.clone()))
                .collect(),
        }
    }
}

#[pymethods]
impl Stage {
    fn __str__(&self) -> String {
        format!("{}: {}", self.label, self.text)
    }

    fn __repr__(&self) -> String {
        format!("<polynet.Stage {}: {}>", self.label, self.text)
    }
}

/// The presets: names and the networks that they stand for, the paper's final ones first.
#[pyfunction]
pub(crate) fn presets(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let presets = PyDict::new(py);
    for preset in all() {
        presets.set_item(preset.name, preset.spec)?;
    }
    Ok(presets)
}

//! A model folder, opened: photographs classified.

use crate::error::{Error, OrRaise as _};
use crate::fork;
use crate::images::{self, Images, Source};
use crate::json;
use crate::structure::Architecture;
use image::RgbImage;
use polynet::{
    CompileOptions, Device, Isa, ModelConfig, ModelOptions, PrecisionChoice, Prediction, Ranked,
    ranked, report,
};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyList, PyTuple};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A model folder, or the model that comes with the package, opened for prediction.
#[pyclass(frozen, weakref, module = "polynet")]
pub(crate) struct Model {
    /// Nothing for the model that comes with the package.
    folder: Option<PathBuf>,
    config: ModelConfig,
    architecture: polynet::Architecture,
    options: Options,
    /// Taken only while the interpreter's lock is not held.
    model: Mutex<polynet::Model>,
}

/// How it was opened, to open it again where it is unpickled.
#[derive(Clone)]
struct Options {
    threads: Option<usize>,
    precision: String,
    isa: Option<String>,
    device: String,
}

impl Options {
    fn new(threads: Option<usize>, precision: &str, isa: Option<String>, device: &str) -> Self {
        Self {
            threads,
            precision: precision.to_owned(),
            isa,
            device: device.to_owned(),
        }
    }

    fn read(&self) -> PyResult<ModelOptions> {
        if self.threads == Some(0) {
            return Err(Error::new_err("threads: expected at least one, found 0"));
        }
        let isa = self.isa.as_deref().map(Isa::from_str).transpose();
        let precision: PrecisionChoice = self.precision.parse().or_raise()?;
        let compile = CompileOptions::new(isa.or_raise()?, precision);
        let device: Device = self.device.parse().or_raise()?;
        if device != Device::Cpu && compile != CompileOptions::default() {
            return Err(Error::new_err(format!(
                "precision and isa are for the device `cpu`; leave them out on {device}"
            )));
        }
        Ok(ModelOptions {
            device,
            compile,
            threads: self.threads,
        })
    }
}

/// What was asked of one image, or of several.
enum Answers<T> {
    One(T),
    Several(Vec<T>),
}

impl Model {
    /// Opens a folder, or else the model that comes with the package.
    fn opened(py: Python<'_>, folder: Option<PathBuf>, options: Options) -> PyResult<Self> {
        fork::has_threads()?;
        let read = options.read()?;
        let opened = py.detach(|| match &folder {
            Some(folder) => polynet::Model::open_with(folder, read),
            None => polynet::Model::pretrained(read),
        });
        let model = opened.or_raise()?;
        Ok(Self {
            folder,
            config: model.config().clone(),
            architecture: model.architecture().clone(),
            options,
            model: Mutex::new(model),
        })
    }

    fn lock(&self) -> MutexGuard<'_, polynet::Model> {
        // A panic leaves the model's buffers in any state, and every prediction writes them anew.
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers for every image, a batch at a time; looks for Ctrl-C between batches.
    fn answer<T: Send>(
        &self,
        py: Python<'_>,
        images: &Bound<'_, PyAny>,
        batch: usize,
        of: impl Fn(&mut polynet::Model, &[RgbImage]) -> Vec<T> + Sync,
    ) -> PyResult<Answers<T>> {
        fork::has_threads()?;
        let predict = |sources, first| {
            py.detach(|| {
                let pictures = images::read(sources, first)?;
                Ok::<_, PyErr>(of(&mut self.lock(), &pictures))
            })
        };
        let several = match Images::of(images)? {
            Images::One(source) => {
                let answer = predict(vec![source], None)?.pop();
                let answer = answer.ok_or_else(|| Error::new_err("expected an answer"))?;
                return Ok(Answers::One(answer));
            }
            Images::Several(several) => several,
        };
        let mut answers = Vec::new();
        let mut sources = several.try_iter()?.map(|image| Source::of(&image?));
        loop {
            let next = sources.by_ref().take(batch.max(1));
            let next: Vec<Source> = next.collect::<PyResult<_>>()?;
            if next.is_empty() {
                return Ok(Answers::Several(answers));
            }
            let first = answers.len();
            answers.extend(predict(next, Some(first))?);
            py.check_signals()?;
        }
    }

    /// Rows of numbers as an array: `[width]` of one image, `[images, width]` of several.
    fn rows<'py>(
        &self,
        images: &Bound<'py, PyAny>,
        batch: usize,
        width: usize,
        of: impl Fn(Prediction) -> Vec<f32> + Sync,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = images.py();
        let answers = self.answer(py, images, batch, |model, pictures| {
            let rows = of(model.predict(pictures));
            rows.chunks_exact(width).map(<[f32]>::to_vec).collect()
        })?;
        match answers {
            Answers::One(row) => array(py, &row, &[width]),
            Answers::Several(rows) => array(py, &rows.concat(), &[rows.len(), width]),
        }
    }
}

#[pymethods]
impl Model {
    /// Opens a model folder.
    #[staticmethod]
    #[pyo3(signature = (path, threads = None, precision = "auto", isa = None, device = "cpu"))]
    fn open(
        py: Python<'_>,
        path: PathBuf,
        threads: Option<usize>,
        precision: &str,
        isa: Option<String>,
        device: &str,
    ) -> PyResult<Self> {
        Self::opened(
            py,
            Some(path),
            Options::new(threads, precision, isa, device),
        )
    }

    /// The model that comes with the package, for the ten classes of CIFAR-10.
    #[staticmethod]
    #[pyo3(signature = (threads = None, precision = "auto", isa = None, device = "cpu"))]
    fn pretrained(
        py: Python<'_>,
        threads: Option<usize>,
        precision: &str,
        isa: Option<String>,
        device: &str,
    ) -> PyResult<Self> {
        Self::opened(py, None, Options::new(threads, precision, isa, device))
    }

    /// The `top` most probable classes as pairs of name and probability, the best first; of several images a list.
    #[pyo3(signature = (images, top = 5, batch = 8))]
    fn classify<'py>(
        &self,
        py: Python<'py>,
        images: &Bound<'py, PyAny>,
        top: usize,
        batch: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let classes = &self.config.classes;
        let answers = self.answer(py, images, batch, |model, pictures| {
            let logits = model.predict(pictures).logits;
            let rows = logits.chunks_exact(classes.len());
            rows.map(|row| ranked(row, classes, top)).collect()
        })?;
        match answers {
            Answers::One(ranking) => Ok(pairs(py, &ranking)?.into_any()),
            Answers::Several(rankings) => {
                let rankings = rankings.iter().map(|ranking| pairs(py, ranking));
                let rankings = rankings.collect::<PyResult<Vec<_>>>()?;
                Ok(PyList::new(py, rankings)?.into_any())
            }
        }
    }

    /// Logits: float32 `[classes]` of one image, `[images, classes]` of several.
    #[pyo3(signature = (images, batch = 8))]
    fn logits<'py>(&self, images: &Bound<'py, PyAny>, batch: usize) -> PyResult<Bound<'py, PyAny>> {
        self.rows(images, batch, self.config.classes.len(), |found| {
            found.logits
        })
    }

    /// What the classifier reads: float32 `[features]` of one image, `[images, features]` of several.
    #[pyo3(signature = (images, batch = 8))]
    fn embeddings<'py>(
        &self,
        images: &Bound<'py, PyAny>,
        batch: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let features = self.architecture.graph().or_raise()?.linear.in_features;
        self.rows(images, batch, features, |found| found.embeddings)
    }

    /// What of an image speaks for its `top` most probable classes.
    #[pyo3(signature = (image, top = 3))]
    fn explain(
        &self,
        py: Python<'_>,
        image: &Bound<'_, PyAny>,
        top: usize,
    ) -> PyResult<Explanation> {
        fork::has_threads()?;
        let source = Source::of(image)?;
        py.detach(|| {
            let pictures = images::read(vec![source], None)?;
            let explained = self.lock().explain(&pictures[0], top);
            Ok(Explanation(explained.or_raise()?))
        })
    }

    /// Class names in the order of the logits.
    #[getter]
    fn classes(&self) -> Vec<String> {
        self.config.classes.to_vec()
    }

    /// The network's structure.
    #[getter]
    fn architecture(&self) -> Architecture {
        Architecture(self.architecture.clone())
    }

    /// All that `config.json` says.
    #[getter]
    fn config<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json::to_python(py, &self.config)
    }

    /// The model folder; None for the model that comes with the package.
    #[getter]
    fn folder(&self) -> Option<PathBuf> {
        self.folder.clone()
    }

    fn __repr__(&self) -> String {
        let origin = match &self.folder {
            Some(folder) => format!("{:?}", folder.display().to_string()),
            None => "pretrained".to_owned(),
        };
        format!("<polynet.Model {origin}: {}>", self.architecture)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let class = py.get_type::<Self>();
        let Options {
            threads,
            precision,
            isa,
            device,
        } = self.options.clone();
        match self.folder.clone() {
            Some(folder) => {
                let arguments = (folder, threads, precision, isa, device);
                (class.getattr("open")?, arguments).into_pyobject(py)
            }
            None => {
                let arguments = (threads, precision, isa, device);
                (class.getattr("pretrained")?, arguments).into_pyobject(py)
            }
        }
    }
}

/// Which regions of an image speak for its classes.
#[pyclass(frozen, module = "polynet")]
pub(crate) struct Explanation(polynet::Explanation);

#[pymethods]
impl Explanation {
    /// The explained classes as pairs of name and probability, the best first.
    #[getter]
    fn classes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let ranking: Vec<Ranked> = self
            .0
            .classes
            .iter()
            .map(|(class, _)| class.clone())
            .collect();
        pairs(py, &ranking)
    }

    /// A map for each class, float32 `[classes, rows, columns]`: the logit that the classifier would give if the
    /// whole image were as this place.
    #[getter]
    fn maps<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let maps: Vec<f32> = self
            .0
            .classes
            .iter()
            .flat_map(|(_, map)| map.clone())
            .collect();
        let [rows, columns] = self.0.size;
        array(py, &maps, &[self.0.classes.len(), rows, columns])
    }

    /// The image as the network sees it, uint8 `[height, width, 3]`.
    #[getter]
    fn seen<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (width, height) = self.0.seen.dimensions();
        let shape = [height as usize, width as usize, 3];
        numpy_of(py, self.0.seen.as_raw(), "uint8", &shape)
    }

    /// A drawing: the image, and for each class the image darkened where nothing speaks for it.
    #[pyo3(signature = (title = ""))]
    fn svg(&self, title: &str) -> String {
        report::explanation(&self.0, title)
    }

    fn _repr_svg_(&self) -> String {
        self.svg("")
    }

    fn __repr__(&self) -> String {
        let classes = self.0.classes.iter();
        let names: Vec<&str> = classes.map(|(class, _)| class.class.as_str()).collect();
        format!("<polynet.Explanation of {}>", names.join(", "))
    }
}

fn pairs<'py>(py: Python<'py>, ranking: &[Ranked]) -> PyResult<Bound<'py, PyList>> {
    PyList::new(
        py,
        ranking.iter().map(|best| (&best.class, best.probability)),
    )
}

/// A NumPy array of float32 that owns its memory.
fn array<'py>(py: Python<'py>, values: &[f32], shape: &[usize]) -> PyResult<Bound<'py, PyAny>> {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_ne_bytes())
        .collect();
    numpy_of(py, &bytes, "float32", shape)
}

fn numpy_of<'py>(
    py: Python<'py>,
    bytes: &[u8],
    kind: &str,
    shape: &[usize],
) -> PyResult<Bound<'py, PyAny>> {
    let numpy = py.import("numpy")?;
    let array = numpy.call_method1("frombuffer", (PyByteArray::new(py, bytes), kind))?;
    array.call_method1("reshape", (PyTuple::new(py, shape)?,))
}

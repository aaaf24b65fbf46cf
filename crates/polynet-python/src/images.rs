//! Images as Python has them: a path, a file's bytes, an array, a Pillow image; and several of them.

use crate::error::{Error, exception};
use image::RgbImage;
use polynet::data::{self, DataError};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyString};
use rayon::prelude::*;
use std::path::PathBuf;

/// What may stand for an image.
const EXPECTED: &str = "expected an image, which is a path, the bytes of a JPEG or PNG, a NumPy array of uint8 \
                        [height, width, 3] or [height, width], or a Pillow image, or a list of images";

/// An image that is not yet read.
pub(crate) enum Source {
    File(PathBuf),
    Bytes(Vec<u8>),
    Pixels(RgbImage),
}

/// One image or several.
pub(crate) enum Images<'py> {
    One(Source),
    Several(Bound<'py, PyAny>),
}

impl Source {
    fn read(self) -> Result<RgbImage, DataError> {
        match self {
            Self::File(path) => data::read_image(&path),
            Self::Bytes(bytes) => data::decode(&bytes),
            Self::Pixels(pixels) => Ok(pixels),
        }
    }

    /// An image that must be one alone.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        match Images::of(object)? {
            Images::One(source) => Ok(source),
            Images::Several(_) => Err(PyTypeError::new_err(format!(
                "{EXPECTED}; found several where one image must be"
            ))),
        }
    }
}

/// Reads images on all threads; `first` is the number of the first among all that were given, if they are several.
pub(crate) fn read(sources: Vec<Source>, first: Option<usize>) -> PyResult<Vec<RgbImage>> {
    let sources = sources.into_par_iter().enumerate();
    let read = sources.map(|(index, source)| source.read().map_err(|error| (index, error)));
    let images: Result<Vec<RgbImage>, (usize, DataError)> = read.collect();
    images.map_err(|(index, error)| match (first, error.location()) {
        (Some(first), None) => Error::new_err(format!("image {}: {error}", first + index)),
        _ => exception(&error),
    })
}

impl<'py> Images<'py> {
    /// What Python gave.
    pub(crate) fn of(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        if object.is_instance_of::<PyString>() || object.hasattr("__fspath__")? {
            return Ok(Self::One(Source::File(object.extract()?)));
        }
        if let Ok(bytes) = object.cast::<PyBytes>() {
            return Ok(Self::One(Source::Bytes(bytes.as_bytes().to_vec())));
        }
        if let Ok(bytes) = object.cast::<PyByteArray>() {
            return Ok(Self::One(Source::Bytes(bytes.to_vec())));
        }
        if has_all(object, ["mode", "size", "convert", "tobytes"])? {
            return Ok(Self::One(Source::Pixels(pillow(object)?)));
        }
        if has_all(object, ["dtype", "shape", "ndim", "tobytes"])? {
            return Self::of_array(object);
        }
        match object.try_iter() {
            Ok(_) => Ok(Self::Several(object.clone())),
            Err(_) => {
                let found = object.get_type().name()?;
                Err(PyTypeError::new_err(format!("{EXPECTED}; found {found}")))
            }
        }
    }

    /// An array of pixels is an image, one with an axis more or of anything else is several.
    fn of_array(array: &Bound<'py, PyAny>) -> PyResult<Self> {
        let kind = array.getattr("dtype")?.str()?.to_string();
        let shape: Vec<usize> = array.getattr("shape")?.extract()?;
        let holds_objects = kind == "object" || kind.starts_with("<U");
        match (kind.as_str(), shape.as_slice()) {
            ("uint8", &[height, width] | &[height, width, 1]) => {
                let grey = bytes_of(array)?;
                let pixels = grey.iter().flat_map(|&value| [value; 3]).collect();
                Ok(Self::One(Source::Pixels(pixels_of(width, height, pixels)?)))
            }
            ("uint8", &[height, width, 3]) => {
                let pixels = bytes_of(array)?;
                Ok(Self::One(Source::Pixels(pixels_of(width, height, pixels)?)))
            }
            ("uint8", &[_, _, _, 1 | 3]) => Ok(Self::Several(array.clone())),
            (_, &[_]) if holds_objects => Ok(Self::Several(array.clone())),
            _ => Err(Error::new_err(format!(
                "expected an array of uint8 [height, width, 3] or [height, width], or images of [height, width, 3] \
                 one on another, found {kind} {shape:?}"
            ))),
        }
    }
}

fn has_all<const N: usize>(object: &Bound<'_, PyAny>, names: [&str; N]) -> PyResult<bool> {
    for name in names {
        if !object.hasattr(name)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The bytes in the order of the axes, whatever the strides.
fn bytes_of(object: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let bytes = object.call_method0("tobytes")?;
    Ok(bytes.cast::<PyBytes>()?.as_bytes().to_vec())
}

/// A Pillow image's pixels as they are: an orientation that its file had is Pillow's to apply.
fn pillow(image: &Bound<'_, PyAny>) -> PyResult<RgbImage> {
    let mode: String = image.getattr("mode")?.extract()?;
    if mode.starts_with('I') || mode == "F" {
        return Err(Error::new_err(format!(
            "expected a Pillow image of 8 bits a channel, found mode {mode}; convert it to \"L\" or \"RGB\" as its \
             values need"
        )));
    }
    let (width, height): (usize, usize) = image.getattr("size")?.extract()?;
    let image = match mode.as_str() {
        "RGB" => image.clone(),
        _ => image.call_method1("convert", ("RGB",))?,
    };
    pixels_of(width, height, bytes_of(&image)?)
}

fn pixels_of(width: usize, height: usize, pixels: Vec<u8>) -> PyResult<RgbImage> {
    let empty = || {
        Error::new_err(format!(
            "expected an image with a pixel, found {height}x{width}"
        ))
    };
    if width == 0 || height == 0 {
        return Err(empty());
    }
    let side = |side| u32::try_from(side).map_err(|_| empty());
    RgbImage::from_raw(side(width)?, side(height)?, pixels).ok_or_else(empty)
}

/// An image as a file's bytes: a file's own, or a PNG of pixels.
#[pyfunction]
pub(crate) fn encoded<'py>(
    py: Python<'py>,
    image: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = match Source::of(image)? {
        Source::File(path) => std::fs::read(&path).map_err(|error| {
            crate::error::FileError::new_err(format!("{}: {error}", path.display()))
        })?,
        Source::Bytes(bytes) => bytes,
        Source::Pixels(pixels) => py.detach(|| data::encode_png(&pixels)),
    };
    Ok(PyBytes::new(py, &bytes))
}

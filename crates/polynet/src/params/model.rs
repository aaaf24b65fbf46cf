//! Model folders.

#[cfg(feature = "train")]
use super::writing::Storage;
use super::{Params, Quantization, TensorRef, TensorSource, WeightError, WeightFile};
use crate::arch::{Architecture, Graph};
#[cfg(feature = "train")]
use crate::bytes::hex;
use crate::data::{ClassNames, Preprocessing};
use serde::{Deserialize, Serialize};
#[cfg(feature = "train")]
use sha2::{Digest, Sha256};
use std::path::Path;
#[cfg(feature = "train")]
use std::{fs::File, io};

/// The version of the folder's layout.
const FORMAT: u32 = 1;

/// `config.json`: all that a model is apart from its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Version of the folder's layout.
    pub format: u32,
    /// The network in the algebra's language, every setting spelled out.
    pub architecture: String,
    /// Class names in the order of the logits.
    pub classes: ClassNames,
    /// What is done to an image before the network sees it.
    pub preprocessing: Preprocessing,
    /// Where the weights come from, for the model card.
    pub origin: String,
}

impl ModelConfig {
    /// Reads and checks the `config.json` of a model folder.
    ///
    /// # Errors
    /// If it is missing or broken.
    pub fn read(folder: &Path) -> Result<Self, WeightError> {
        Ok(read_config(folder)?.0)
    }

    /// The config of a model.
    pub fn new(
        architecture: &Architecture,
        classes: ClassNames,
        preprocessing: Preprocessing,
        origin: impl Into<String>,
    ) -> Self {
        Self {
            format: FORMAT,
            architecture: architecture.to_string(),
            classes,
            preprocessing,
            origin: origin.into(),
        }
    }
}

/// A model folder, opened with all of its tensors: to be grown, trained further or written elsewhere.
/// To predict, open a [`Model`](crate::Model).
#[derive(Debug)]
pub struct ModelFolder {
    /// What the folder says.
    pub config: ModelConfig,
    /// The network's structure.
    pub architecture: Architecture,
    /// What the network computes.
    pub graph: Graph,
    /// The network's tensors.
    pub params: Params,
}

impl ModelFolder {
    /// Opens a model folder.
    ///
    /// # Errors
    /// If a file is missing or broken, or the weights do not fit the architecture.
    pub fn open(folder: &Path) -> Result<Self, WeightError> {
        let (config, architecture) = read_config(folder)?;
        let path = folder.join("model.safetensors");
        let graph = architecture
            .graph()
            .map_err(|error| WeightError::invalid(&folder.join("config.json"), error))?;
        let file = WeightFile::open(&path)?;
        if file.quantization().is_some() {
            let message =
                "a quantized model is for prediction alone: take the one that it was made from";
            return Err(WeightError::invalid(&path, message));
        }
        let params = Params::from_source(&graph, &file)
            .map_err(|mismatch| WeightError::mismatch(&path, mismatch))?;
        Ok(Self {
            config,
            architecture,
            graph,
            params,
        })
    }

    #[cfg(feature = "train")]
    /// Writes the folder; a model that is there already is replaced file by file, each in one
    /// piece.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn save(folder: &Path, config: &ModelConfig, params: &Params) -> Result<(), WeightError> {
        crate::files::make_folder(folder).map_err(WeightError::io(folder, "create the folder"))?;
        write(folder, config, &params.refs(), Storage::Full)
    }

    #[cfg(feature = "train")]
    /// Writes the model into a folder that must not exist yet, or be empty, the weights of convolutions
    /// and of the classifier rounded to half precision: half as large, for those who only predict.
    ///
    /// # Errors
    /// If it is not empty or cannot be written, or a weight is too large for half precision.
    pub fn save_half(&self, folder: &Path) -> Result<(), WeightError> {
        let tensors = self.params.refs();
        if let Some(name) = Storage::Half.refuses(&tensors) {
            let message =
                format!("{name} has a number beyond 65504, the largest of half precision");
            return Err(WeightError::invalid(folder, message));
        }
        create_folder(folder)?;
        write(folder, &self.config, &tensors, Storage::Half)
    }

    #[cfg(feature = "train")]
    /// Writes the model into a folder that must not exist yet, or be empty, rounded: for prediction.
    ///
    /// # Errors
    /// If it is not empty or cannot be written.
    pub fn save_quantized(
        &self,
        folder: &Path,
        quantization: &Quantization,
    ) -> Result<(), WeightError> {
        create_folder(folder)?;
        let (tensors, storage) = (self.params.refs(), Storage::Bytes(quantization));
        write(folder, &self.config, &tensors, storage)
    }
}

/// What the logits of a model follow from.
#[cfg(feature = "train")]
pub(crate) const MODEL_FILES: [&str; 2] = ["config.json", "model.safetensors"];

/// SHA-256 of a file.
///
/// # Errors
/// If it can't be read.
#[cfg(feature = "train")]
pub(crate) fn digest_of_file(path: &Path) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hash.finalize().into())
}

/// SHA-256 of what the logits of the model in a folder follow from, in hexadecimal.
///
/// # Errors
/// If a file can't be read.
#[cfg(feature = "train")]
pub(crate) fn digest_of_model(folder: &Path) -> io::Result<String> {
    let digests = MODEL_FILES.map(|name| Ok(hex(&digest_of_file(&folder.join(name))?)));
    digests.into_iter().collect()
}

/// Reads and checks a model folder's `config.json`.
///
/// # Errors
/// If the file is missing or broken.
pub fn read_config(folder: &Path) -> Result<(ModelConfig, Architecture), WeightError> {
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(WeightError::io(
        &path,
        "read it (a model folder holds config.json and model.safetensors)",
    ))?;
    parse_config(&text, &path)
}

/// Checks the text of a `config.json`; `path` is its name in errors.
pub(super) fn parse_config(
    text: &str,
    path: &Path,
) -> Result<(ModelConfig, Architecture), WeightError> {
    let config: ModelConfig =
        serde_json::from_str(text).map_err(|error| WeightError::invalid(path, error))?;
    if config.format != FORMAT {
        let message = format!(
            "layout version {}, this build reads {FORMAT}",
            config.format
        );
        return Err(WeightError::invalid(path, message));
    }
    let architecture: Architecture = config
        .architecture
        .parse()
        .map_err(|error| WeightError::invalid(path, error))?;
    if config.classes.len() != architecture.num_classes {
        let message = format!(
            "{} class names for {} classes",
            config.classes.len(),
            architecture.num_classes
        );
        return Err(WeightError::invalid(path, message));
    }
    config
        .preprocessing
        .validate()
        .map_err(|error| WeightError::invalid(path, error))?;
    Ok((config, architecture))
}

#[cfg(feature = "train")]
/// Writes a model into a folder that must not exist yet, or be empty.
///
/// # Errors
/// If it is not empty, or cannot be written.
pub(crate) fn write_new_model(
    folder: &Path,
    config: &ModelConfig,
    params: &Params,
) -> Result<(), WeightError> {
    create_folder(folder)?;
    ModelFolder::save(folder, config, params)
}

#[cfg(feature = "train")]
/// Makes a folder that must not exist yet, or be empty.
fn create_folder(folder: &Path) -> Result<(), WeightError> {
    crate::files::make_folder(folder).map_err(WeightError::io(folder, "create the folder"))?;
    let mut entries = std::fs::read_dir(folder).map_err(WeightError::io(folder, "read it"))?;
    if entries.next().is_some() {
        let message = "the folder is not empty; choose another, or remove it first";
        return Err(WeightError::invalid(folder, message));
    }
    Ok(())
}

#[cfg(feature = "train")]
/// Writes the three files, the weights last.
fn write(
    folder: &Path,
    config: &ModelConfig,
    tensors: &[TensorRef<'_>],
    storage: Storage<'_>,
) -> Result<(), WeightError> {
    let write_text = |name: &str, text: String| {
        let path = folder.join(name);
        crate::files::write_text(&path, &text)
            .map_err(|error| WeightError::io(&path, "write it")(error.into_source()))
    };
    let json = serde_json::to_string_pretty(config)
        .map_err(|error| WeightError::invalid(&folder.join("config.json"), error))?;
    write_text("config.json", json + "\n")?;
    write_text("README.md", card(config, tensors))?;
    super::writing::write_stored(&folder.join("model.safetensors"), tensors, storage, None)
}

#[cfg(feature = "train")]
/// The model card.
fn card(config: &ModelConfig, tensors: &[TensorRef<'_>]) -> String {
    let elements: usize = tensors.iter().map(|tensor| tensor.values.len()).sum();
    let classes = config.classes.len();
    let size = config.preprocessing.input_size;
    format!(
        "# Image classifier\n\n{}\n\n\
         - Structure: `{}`\n\
         - Input: RGB, {size}×{size} pixels; `config.json` says how an image is prepared\n\
         - Output: logits of {classes} classes\n\
         - Weights: `model.safetensors`, {} tensors, {elements} numbers\n\n\
         Classify a picture: `polynet predict FOLDER IMAGE`\n",
        config.origin,
        config.architecture,
        tensors.len(),
    )
}

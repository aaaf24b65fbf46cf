//! PyTorch: state dicts by the names of public implementations.
//!
//! ```no_run
//! use polynet::export::write_pytorch;
//! use polynet::{ModelFolder, Naming};
//!
//! let model = ModelFolder::open("resnet-50".as_ref())?;
//! write_pytorch("resnet50.pth".as_ref(), &model, Naming::TorchvisionResnet)?;
//! # Ok::<(), polynet::WeightError>(())
//! ```

use super::pickle;
use crate::arch::graph::{TensorKind, TensorSpec};
use crate::bytes::put_f32s;
use crate::files::write_atomically;
use crate::params::{ModelFolder, Naming, TensorRef, WeightError, write_safetensors};
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Where PyTorch lets every storage begin, so that it can be mapped.
const ALIGNMENT: u16 = 64;

/// Writes a model's tensors by an implementation's names, for its `load_state_dict(strict=True)`: as
/// safetensors where the file's name ends so, else as PyTorch's own file, which
/// `torch.load(weights_only=True)` takes. Whole or not at all.
///
/// # Errors
/// If the implementation does not have the model's structure, or the file cannot be written.
pub fn write_pytorch(path: &Path, model: &ModelFolder, naming: Naming) -> Result<(), WeightError> {
    let names = naming.names(&model.architecture, &model.graph)?;
    let tensors: Vec<TensorRef<'_>> = model
        .params
        .iter()
        .zip(&names)
        .map(|((spec, values), name)| TensorRef {
            name: name.into(),
            shape: shape(naming, spec),
            values: values.into(),
        })
        .collect();
    if path
        .extension()
        .is_some_and(|ending| ending == "safetensors")
    {
        return write_safetensors(path, &tensors, None);
    }
    write_atomically(path, |file| write_archive(file, &tensors))
        .map_err(|error| WeightError::io(path, "write the weights")(error.into_source()))
}

/// Where timm's classifier is a 1×1 convolution, its weights have two axes more.
fn shape(naming: Naming, spec: &TensorSpec) -> Cow<'_, [usize]> {
    match (naming, spec.kind) {
        (Naming::TimmResnetV2, TensorKind::LinearWeight) => {
            Cow::Owned([&spec.shape[..], &[1, 1]].concat())
        }
        _ => Cow::Borrowed(&spec.shape),
    }
}

/// `torch.save` of a state dict: an archive with the pickle and a file for every storage.
fn write_archive(file: &mut File, tensors: &[TensorRef<'_>]) -> io::Result<()> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .with_alignment(ALIGNMENT);
    let mut archive = ZipWriter::new(BufWriter::new(file));
    let named = tensors.iter();
    let pickle = pickle::state_dict(named.map(|tensor| (&*tensor.name, &*tensor.shape)));
    for (name, content) in [
        ("data.pkl", &pickle[..]),
        ("byteorder", b"little"),
        ("version", b"3\n"),
    ] {
        archive.start_file(format!("archive/{name}"), options)?;
        archive.write_all(content)?;
    }
    let mut bytes = Vec::new();
    for (index, tensor) in tensors.iter().enumerate() {
        archive.start_file(format!("archive/data/{index}"), options)?;
        bytes.clear();
        put_f32s(&mut bytes, tensor.values.iter());
        archive.write_all(&bytes)?;
    }
    archive.finish()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Architecture;
    use crate::data::Preprocessing;
    use crate::params::{ModelConfig, Params, default_class_names, import_weights};

    /// A model whose tensors all differ.
    fn model(text: &str) -> ModelFolder {
        let architecture: Architecture = text.parse().unwrap();
        let graph = architecture.graph().unwrap();
        let mut params = Params::init(&graph, 1);
        for (index, tensor) in params.tensors_mut().enumerate() {
            for (place, value) in tensor.iter_mut().enumerate() {
                *value = index as f32 + 1.0 / (place + 2) as f32;
            }
        }
        let preprocessing = Preprocessing::imagenet(architecture.input_size);
        let classes = default_class_names(architecture.num_classes);
        ModelFolder {
            config: ModelConfig::new(&architecture, classes, preprocessing, ""),
            architecture,
            graph,
            params,
        }
    }

    #[test]
    fn what_is_written_is_imported_to_the_bit_and_written_again_to_the_byte() {
        let folder = tempfile::tempdir().unwrap();
        let table = [
            ("ir-3-6-3; width = 0.1", Naming::Polynet),
            (
                "A: 2-way; B: poly-3 x2; C: poly-2 -> 3-way; width = 0.1; sharing = release",
                Naming::Polynet,
            ),
            ("inception-v4; width = 0.05", Naming::InceptionV4),
            (
                "inception-resnet-v2; width = 0.05",
                Naming::InceptionResnetV2,
            ),
            (
                "inception-resnet-v2; width = 0.05",
                Naming::PretrainedInceptionResnetV2,
            ),
            ("resnet-50; width = 0.1", Naming::TimmResnetV2),
            ("resnet-v1-50; width = 0.1", Naming::TorchvisionResnet),
        ];
        for (text, naming) in table {
            let mut model = model(&format!("{text}; classes = 3"));
            for ending in ["pth", "safetensors"] {
                let path = folder.path().join(format!("weights.{ending}"));
                write_pytorch(&path, &model, naming).unwrap();
                let imported = import_weights(&path, &model.architecture).unwrap();
                assert_eq!(imported.naming, Some(naming), "{text}, {ending}");
                assert_eq!(imported.params, model.params, "{text}, {ending}");
                let first = std::fs::read(&path).unwrap();
                model.params = imported.params;
                write_pytorch(&path, &model, naming).unwrap();
                assert!(std::fs::read(&path).unwrap() == first, "{text}, {ending}");
            }
        }
    }

    #[test]
    fn a_structure_that_an_implementation_lacks_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.pth");
        let model = model("resnet-50; width = 0.1; 2: 2-way x3");
        let error = write_pytorch(&path, &model, Naming::TimmResnetV2).unwrap_err();
        assert!(error.to_string().contains("module `stage_2.0`"), "{error}");
        assert!(!path.exists());
    }
}

//! Logits of crops, kept in files so that pooling them otherwise takes no forward pass.
//!
//! A file holds the logits of a few images and is named by a hash of everything they follow from: the
//! model's weights and configuration (with its preprocessing), the device, the crops, and the image
//! files themselves. So a file is never stale: what has changed has another name. Files are written
//! whole or not at all, each once its images are done; a run that was killed goes on after them.

use super::crop_logits::ImageLogits;
use super::crops::CropPlan;
use crate::bytes::hex;
use crate::files::{FolderLock, LockError, make_folder};
use crate::params::{
    HostTensor, MODEL_FILES, TensorRef, WeightError, digest_of_file, read_safetensors,
    write_safetensors,
};
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};

/// Counts up when the meaning of a file changes.
const FORMAT: &[u8] = b"polynet crop logits 1";

/// A folder of logits of one model's crops.
#[derive(Debug, Clone)]
pub struct ScoreCache {
    folder: PathBuf,
    key: Sha256,
}

/// The cache can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The operating system refused.
    #[error(
        "{}: can't use it for cached scores: {source}; scores can be kept elsewhere by --scores-cache \
         FOLDER", path.display()
    )]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another evaluation writes there.
    #[error(
        "{}: another evaluation writes its scores there ({owner}): wait for it, or keep these \
         elsewhere by --scores-cache FOLDER", path.display()
    )]
    Owned {
        /// The folder.
        path: PathBuf,
        /// What that process says of itself.
        owner: String,
    },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WeightError),
}

impl ScoreCache {
    /// The cache in `folder` (made where it is not there) for the model in `model`, computed on
    /// `device`, and the crops of `plan`.
    ///
    /// # Errors
    /// If the folder can't be made or the model's files can't be read.
    pub fn open(
        folder: &Path,
        model: &Path,
        device: &str,
        plan: &CropPlan,
    ) -> Result<Self, CacheError> {
        let refused = |path: &Path| {
            let path = path.to_owned();
            move |source| CacheError::Io { path, source }
        };
        make_folder(folder).map_err(refused(folder))?;
        let mut key = Sha256::new();
        add(&mut key, FORMAT);
        add(&mut key, device.as_bytes());
        add(&mut key, format!("{plan:?}").as_bytes());
        for name in MODEL_FILES {
            let path = model.join(name);
            add(&mut key, &digest_of_file(&path).map_err(refused(&path))?);
        }
        Ok(Self {
            folder: folder.to_owned(),
            key,
        })
    }

    /// Takes the folder for the processes of this evaluation.
    ///
    /// # Errors
    /// When another evaluation has it, or nothing can be written there.
    pub fn lock(&self) -> Result<FolderLock, CacheError> {
        let path = self.folder.clone();
        FolderLock::take(&self.folder).map_err(|error| match error {
            LockError::Taken(owner) => CacheError::Owned { path, owner },
            LockError::Io(source) => CacheError::Io { path, source },
        })
    }

    /// Where the logits of images with this content are kept.
    pub(super) fn path<'a>(&self, images: impl IntoIterator<Item = &'a [u8]>) -> PathBuf {
        let mut key = self.key.clone();
        for image in images {
            add(&mut key, image);
        }
        let name = hex(&key.finalize()[..16]);
        self.folder.join(format!("{name}.safetensors"))
    }

    /// The logits in a file, `[crops, classes]` for each of `images` images; none if the file is not
    /// there or damaged.
    pub(super) fn load(
        path: &Path,
        images: usize,
        crops: usize,
        classes: usize,
    ) -> Option<Vec<Vec<f32>>> {
        let HostTensor { shape, values } = read_safetensors(path).ok()?.remove("logits")?;
        let length = crops * classes;
        // No unit with another score is kept: such a file is damaged.
        let is_finite = values.iter().all(|logit| logit.is_finite());
        (is_finite && shape == [images, crops, classes]).then(|| {
            values
                .chunks_exact(length.max(1))
                .map(<[f32]>::to_vec)
                .collect()
        })
    }

    /// Keeps the logits of images, unless one of them has none or one that is not finite.
    pub(super) fn save(
        path: &Path,
        images: &[ImageLogits],
        crops: usize,
        classes: usize,
    ) -> Result<(), CacheError> {
        let mut values = Vec::with_capacity(images.len() * crops * classes);
        for image in images {
            let Ok(logits) = image else { return Ok(()) };
            if !logits.iter().all(|logit| logit.is_finite()) {
                return Ok(());
            }
            values.extend_from_slice(logits);
        }
        let shape = [images.len(), crops, classes];
        let logits = TensorRef::new("logits", &shape, &values);
        Ok(write_safetensors(path, &[logits], None)?)
    }
}

/// Adds a part and its length, so that no two lists of parts are the same bytes.
fn add(hash: &mut Sha256, part: &[u8]) {
    hash.update((part.len() as u64).to_le_bytes());
    hash.update(part);
}

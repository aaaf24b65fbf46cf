//! The door: a model folder opened, photographs classified.
//!
//! ```no_run
//! let mut model = polynet::Model::open("runs/first/model")?;
//! let image = image::open("photo.jpg")?;
//! for class in model.classify(&image, 5)? {
//!     println!("{:5.1} %  {}", 100.0 * class.probability, class.class);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::arch::Architecture;
use crate::arch::graph::{Graph, Op};
use crate::cpu::{CompileOptions, Prediction};
use crate::data::{self, DataError, DataErrorKind};
use crate::engine::{Device, Predictor};
use crate::params::{
    ModelConfig, TensorMismatch, TensorSource, WeightError, WeightFile, pretrained, read_config,
};
use image::{DynamicImage, RgbImage};
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How a model is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelOptions {
    /// Where it computes.
    pub device: Device,
    /// How it is compiled for the processor.
    pub compile: CompileOptions,
    /// Threads of its own that compute; by default those of rayon's global pool.
    pub threads: Option<usize>,
}

/// A model folder, opened for prediction.
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    architecture: Architecture,
    predictor: Predictor,
    pool: Option<ThreadPool>,
    origin: Origin,
}

/// Where a model lies.
#[derive(Clone, Debug)]
enum Origin {
    /// In a folder.
    Folder(PathBuf),
    /// In the program.
    Pretrained,
}

impl Origin {
    fn config(&self) -> Result<(ModelConfig, Architecture), WeightError> {
        match self {
            Self::Folder(folder) => read_config(folder),
            Self::Pretrained => pretrained::config(),
        }
    }

    fn weights(&self) -> Result<WeightFile, WeightError> {
        match self {
            Self::Folder(_) => WeightFile::open(&self.file("model.safetensors")),
            Self::Pretrained => pretrained::weights(),
        }
    }

    fn mismatch(&self, mismatch: TensorMismatch) -> WeightError {
        WeightError::mismatch(&self.file("model.safetensors"), mismatch)
    }

    /// The name of one of its files, for errors.
    fn file(&self, name: &str) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.join(name),
            Self::Pretrained => PathBuf::from(format!("the model in the box: {name}")),
        }
    }
}

/// Which regions of a picture speak for its classes: class activation maps (Zhou et al. 2016).
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The picture as the network sees it.
    pub seen: RgbImage,
    /// Rows and columns of a map; a map covers all that is seen.
    pub size: [usize; 2],
    /// The most probable classes, the best first, each with its map: the logit that the classifier would
    /// give if the whole picture were as this place. Their mean is the class's logit.
    pub classes: Vec<(Ranked, Vec<f32>)>,
}

/// A class and its probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// The class's name.
    pub class: String,
    /// Softmax of its logit.
    pub probability: f64,
}

impl Model {
    /// Opens a model folder for prediction on the processor, in the precision that is fastest there
    /// ([`PrecisionChoice::Auto`](crate::PrecisionChoice)), with all threads.
    ///
    /// # Errors
    /// If a file is missing or broken, or the weights do not fit the architecture.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, WeightError> {
        Self::open_with(folder, ModelOptions::default())
    }

    /// Opens a model folder. On the processor its weights go from the file into the kernels' order
    /// tensor by tensor.
    ///
    /// # Errors
    /// As [`Model::open`], and if the device or the threads cannot be had.
    pub fn open_with(folder: impl AsRef<Path>, options: ModelOptions) -> Result<Self, WeightError> {
        Self::of(Origin::Folder(folder.as_ref().to_owned()), options)
    }

    /// The model that comes with the library: a small PolyNet for the ten classes of CIFAR-10. Its card
    /// says how it was trained and how often it is right.
    ///
    /// ```
    /// let mut model = polynet::Model::pretrained(polynet::ModelOptions::default())?;
    /// let image = image::DynamicImage::new_rgb8(32, 32);
    /// assert_eq!(model.classify(&image, 10)?.len(), model.classes().len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If the device or the threads cannot be had.
    pub fn pretrained(options: ModelOptions) -> Result<Self, WeightError> {
        Self::of(Origin::Pretrained, options)
    }

    fn of(origin: Origin, options: ModelOptions) -> Result<Self, WeightError> {
        let (config, architecture) = origin.config()?;
        let graph = architecture
            .graph()
            .map_err(|error| WeightError::invalid(&origin.file("config.json"), error))?;
        let device = options.device.found();
        let device = device.map_err(|error| WeightError::invalid(&origin.file(""), error))?;
        let predictor = Predictor::new(&graph, &origin.weights()?, device, options.compile)
            .map_err(|mismatch| origin.mismatch(mismatch))?;
        let pool = options
            .threads
            .map(|threads| ThreadPoolBuilder::new().num_threads(threads).build())
            .transpose()
            .map_err(|error| WeightError::invalid(&origin.file(""), error))?;
        Ok(Self {
            config,
            architecture,
            predictor,
            pool,
            origin,
        })
    }

    /// SHA-256 of the files that its logits follow from, in hexadecimal.
    ///
    /// # Errors
    /// If a file can't be read.
    #[cfg(feature = "train")]
    pub fn digest(&self) -> std::io::Result<String> {
        match &self.origin {
            Origin::Folder(folder) => crate::params::digest_of_model(folder),
            Origin::Pretrained => Ok(pretrained::digest()),
        }
    }

    /// Structure, class names, preprocessing and origin.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The network's structure.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Class names in the order of the logits.
    pub fn classes(&self) -> &[String] {
        &self.config.classes
    }

    /// The `top` most probable classes of a picture, the best first.
    ///
    /// # Errors
    /// If the picture has no pixel.
    pub fn classify(&mut self, image: &DynamicImage, top: usize) -> Result<Vec<Ranked>, DataError> {
        let logits = self.logits(std::slice::from_ref(image))?;
        Ok(ranked(&logits, &self.config.classes, top))
    }

    /// As [`Model::classify`], of a file's bytes: JPEG or PNG.
    ///
    /// # Errors
    /// If they are no picture.
    pub fn classify_bytes(&mut self, bytes: &[u8], top: usize) -> Result<Vec<Ranked>, DataError> {
        let logits = self.predict(&[data::decode(bytes)?]).logits;
        Ok(ranked(&logits, &self.config.classes, top))
    }

    /// The logits of pictures, `[images, classes]` in row-major order, computed at once.
    ///
    /// # Errors
    /// As [`Model::classify`].
    pub fn logits(&mut self, images: &[DynamicImage]) -> Result<Vec<f32>, DataError> {
        Ok(self.predict_images(images)?.logits)
    }

    /// The embeddings of pictures, `[images, features]` in row-major order: the means of the last
    /// feature map, which the classifier reads.
    ///
    /// # Errors
    /// As [`Model::classify`].
    pub fn embeddings(&mut self, images: &[DynamicImage]) -> Result<Vec<f32>, DataError> {
        Ok(self.predict_images(images)?.embeddings)
    }

    fn predict_images(&mut self, images: &[DynamicImage]) -> Result<Prediction, DataError> {
        let pictures: Vec<RgbImage> = images.iter().map(DynamicImage::to_rgb8).collect();
        if pictures.iter().any(|picture| picture.is_empty()) {
            let message = "expected a picture with a pixel, found an empty one";
            return Err(DataError::new(DataErrorKind::Decode, message));
        }
        Ok(self.predict(&pictures))
    }

    /// Logits, embeddings and last feature maps of pictures, prepared as the model wants them.
    pub fn predict(&mut self, images: &[RgbImage]) -> Prediction {
        let inputs = self.prepare(images);
        self.predict_inputs(&inputs)
    }

    /// Pictures as the network sees them, `[images, 3, height, width]` in row-major order.
    pub fn prepare(&self, images: &[RgbImage]) -> Vec<f32> {
        let preprocessing = &self.config.preprocessing;
        let inputs = images.iter().flat_map(|image| preprocessing.apply(image));
        inputs.collect()
    }

    /// As [`Model::predict`], of what [`Model::prepare`] gives.
    ///
    /// # Panics
    /// If the length is no multiple of an image's.
    pub fn predict_inputs(&mut self, inputs: &[f32]) -> Prediction {
        let Self {
            predictor, pool, ..
        } = self;
        match pool {
            Some(pool) => pool.install(|| predictor.predict(inputs)),
            None => predictor.predict(inputs),
        }
    }

    /// Which regions of a picture speak for its `top` most probable classes.
    ///
    /// # Errors
    /// If the classifier's weights can't be read again.
    pub fn explain(&mut self, image: &RgbImage, top: usize) -> Result<Explanation, WeightError> {
        let input = self.prepare(std::slice::from_ref(image));
        let Prediction {
            logits, last_maps, ..
        } = self.predict_inputs(&input);
        let invalid = |error| WeightError::invalid(&self.origin.file("config.json"), error);
        let graph = self.architecture.graph().map_err(invalid)?;
        let file = self.origin.weights()?;
        let classifier = |suffix: &str| {
            let values = file.values(&format!("{}.{suffix}", graph.linear.name));
            values.map_err(|mismatch| self.origin.mismatch(mismatch))
        };
        let (weight, bias) = (classifier("weight")?, classifier("bias")?);
        let [features, rows, columns] = last_map(&graph);
        let map_of = |class: usize| {
            let mut map = vec![bias[class]; rows * columns];
            let weights = &weight[class * features..][..features];
            for (weight, feature) in weights.iter().zip(last_maps.chunks_exact(map.len())) {
                for (sum, value) in map.iter_mut().zip(feature) {
                    *sum += weight * value;
                }
            }
            map
        };
        let ranked = ranked_classes(&logits).into_iter().take(top);
        let classes = ranked.map(|(class, probability)| {
            let name = self.config.classes[class].clone();
            let ranked = Ranked {
                class: name,
                probability,
            };
            (ranked, map_of(class))
        });
        Ok(Explanation {
            classes: classes.collect(),
            seen: self.config.preprocessing.picture(&input),
            size: [rows, columns],
        })
    }

    /// What computes, apart from the preprocessing.
    pub fn predictor(&mut self) -> &mut Predictor {
        &mut self.predictor
    }
}

/// The `top` most probable classes of one image, the best first; equal ones in the order of the
/// classes.
///
/// ```
/// let classes = ["cat".to_owned(), "dog".to_owned()];
/// let best = polynet::ranked(&[0.0, 3.0_f32.ln()], &classes, 1);
/// assert_eq!(best[0].class, "dog");
/// assert!((best[0].probability - 0.75).abs() < 1e-6);
/// ```
pub fn ranked(logits: &[f32], classes: &[String], top: usize) -> Vec<Ranked> {
    let ranked = ranked_classes(logits).into_iter().take(top);
    let ranked = ranked.map(|(class, probability)| Ranked {
        class: classes[class].clone(),
        probability,
    });
    ranked.collect()
}

/// All classes with their probabilities, the best first.
fn ranked_classes(logits: &[f32]) -> Vec<(usize, f64)> {
    let mut ranked: Vec<(usize, f64)> = probabilities(logits).into_iter().enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked
}

/// The softmax of one image's logits, in their order.
///
/// ```
/// let probabilities = polynet::probabilities(&[0.0, 3.0_f32.ln()]);
/// assert!((probabilities[1] - 0.75).abs() < 1e-6);
/// ```
pub fn probabilities(logits: &[f32]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits
        .iter()
        .map(|logit| f64::from(logit - highest).exp())
        .collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// Channels, rows and columns of the map that the classifier reads the mean of.
fn last_map(graph: &Graph) -> [usize; 3] {
    let mut nodes = graph.nodes.iter().rev();
    let pool = nodes.find(|node| node.op == Op::AveragePool);
    let pool = pool.expect("a network ends with a pool and a classifier");
    graph.nodes[pool.inputs[0]].shape
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "train")]
    #[test]
    fn a_map_that_explains_a_class_has_its_logit_as_mean() {
        use crate::data::{ClassNames, Preprocessing};
        use crate::params::{ModelFolder, Params};

        let text = "small-ir-1-2-1; width = 0.0625; classes = 3";
        let architecture: Architecture = text.parse().unwrap();
        let params = Params::init(&architecture.graph().unwrap(), 1);
        let classes = ClassNames::new(["a", "b", "c"].map(str::to_owned).to_vec()).unwrap();
        let preprocessing = Preprocessing::small(32);
        let config = ModelConfig::new(&architecture, classes, preprocessing, "a test");
        let folder = tempfile::tempdir().unwrap();
        ModelFolder::save(folder.path(), &config, &params).unwrap();

        let mut model = Model::open(folder.path()).unwrap();
        let image = RgbImage::from_fn(32, 32, |x, y| image::Rgb([x as u8 * 8, y as u8 * 8, 99]));
        let found = model.explain(&image, 2).unwrap();
        assert_eq!(found.seen, image);
        let logits = model.predict(&[image]).logits;
        let best = ranked(&logits, model.classes(), 2);
        assert_eq!(found.classes.len(), 2);
        for ((class, map), expected) in found.classes.iter().zip(best) {
            assert_eq!(*class, expected);
            assert_eq!(map.len(), found.size[0] * found.size[1]);
            let index = model.classes().iter().position(|name| *name == class.class);
            let mean = map.iter().sum::<f32>() / map.len() as f32;
            let logit = logits[index.unwrap()];
            assert!(
                (mean - logit).abs() <= 1e-5 * logit.abs().max(1.0),
                "{mean} {logit}"
            );
        }
    }

    #[test]
    fn probabilities_of_large_logits_are_finite_and_sum_to_one() {
        let classes: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        let ranked = ranked(&[1000.0, 999.0, -1000.0], &classes, 5);
        let sum: f64 = ranked.iter().map(|class| class.probability).sum();
        assert!((sum - 1.0).abs() < 1e-12);
        assert_eq!(ranked[0].class, "a");
    }
}

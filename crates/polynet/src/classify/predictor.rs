//! One way to predict on every device.

use super::{Classifier, CompileOptions};
use crate::nn::{DeviceName, Network};
use crate::weights::{Model, ModelConfig, WeightError, WeightFile, read_config};
use burn::tensor::{Tensor, TensorData};
use std::path::Path;

/// Predicts by a compiled network on the processor, and by the network itself elsewhere.
#[derive(Debug)]
pub enum Predictor {
    /// Compiled for the processor.
    Classifier(Box<Classifier>),
    /// On another device.
    Network(Box<Network>),
}

impl Predictor {
    /// The fastest way to predict with a network where it is.
    pub fn new(network: &Network) -> Self {
        if *network.device() == DeviceName::Cpu.open() {
            Self::Classifier(Box::new(Classifier::new(
                network,
                CompileOptions::default(),
            )))
        } else {
            Self::Network(Box::new(network.clone()))
        }
    }

    /// The logits `[images, classes]` of preprocessed images `[images, 3, height, width]`, both in
    /// row-major order.
    ///
    /// # Panics
    /// If the shape is not that of the images or of the network's input.
    pub fn logits(&mut self, images: Vec<f32>, shape: [usize; 4]) -> Vec<f32> {
        assert_eq!(images.len(), shape.iter().product::<usize>());
        match self {
            Self::Classifier(classifier) => classifier.logits(&images),
            Self::Network(network) => {
                let data = TensorData::new(images, shape);
                network.logits(Tensor::from_data(data, network.device()))
            }
        }
    }
}

/// A model folder, opened for prediction.
#[derive(Debug)]
pub struct ModelPredictor {
    /// What the folder says.
    pub config: ModelConfig,
    /// What predicts.
    pub predictor: Predictor,
}

impl ModelPredictor {
    /// Opens a model folder. On the processor its weights go from the file into the kernels' order
    /// without a copy between; `options` are for the processor alone.
    ///
    /// # Errors
    /// If a file is missing or broken, or the weights do not fit the architecture.
    pub fn open(
        folder: &Path,
        device: DeviceName,
        options: CompileOptions,
    ) -> Result<Self, WeightError> {
        if device != DeviceName::Cpu {
            let Model {
                config, network, ..
            } = Model::open(folder, &device.open())?;
            let predictor = Predictor::Network(Box::new(network));
            return Ok(Self { config, predictor });
        }
        let (config, architecture) = read_config(folder)?;
        let graph = architecture
            .graph()
            .map_err(|error| WeightError::invalid(&folder.join("config.json"), error))?;
        let path = folder.join("model.safetensors");
        let file = WeightFile::open(&path)?;
        let classifier = Classifier::from_file(&graph, &file, options)
            .map_err(|mismatch| WeightError::mismatch(&path, mismatch))?;
        let predictor = Predictor::Classifier(Box::new(classifier));
        Ok(Self { config, predictor })
    }
}

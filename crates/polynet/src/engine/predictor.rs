//! One way to predict on every device.

use super::Device;
use crate::arch::Graph;
use crate::cpu::{Classifier, CompileOptions, Numbers, Prediction};
use crate::params::{TensorMismatch, TensorSource};

/// Predicts on a device.
///
/// ```
/// use polynet::{Architecture, CompileOptions, Device, Params, Predictor};
///
/// let graph = "small-polynet; width = 0.125".parse::<Architecture>()?.graph()?;
/// let params = Params::init(&graph, 1);
/// let options = CompileOptions::default();
/// let mut predictor = Predictor::new(&graph, &params, Device::Cpu, options)?;
/// let logits = predictor.logits(&vec![0.5; 2 * 3 * 32 * 32]);
/// assert_eq!(logits.len(), 2 * 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Predictor(Kind);

#[derive(Debug)]
enum Kind {
    Cpu(Box<Classifier>),
    #[cfg(feature = "gpu")]
    Gpu(Box<crate::gpu::Predictor>),
}

impl Predictor {
    /// Compiles a graph with the tensors of its names. `options` are for the processor alone.
    ///
    /// # Errors
    /// If a name or shape does not fit the graph.
    ///
    /// # Panics
    /// If the machine does not have the device; ask [`Device::found`] first.
    pub fn new(
        graph: &Graph,
        tensors: &dyn TensorSource,
        device: Device,
        options: CompileOptions,
    ) -> Result<Self, TensorMismatch> {
        Ok(Self(match device {
            Device::Cpu => Kind::Cpu(Box::new(Classifier::new(graph, tensors, options)?)),
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => {
                Kind::Gpu(Box::new(crate::gpu::Predictor::new(graph, tensors, gpu)?))
            }
        }))
    }

    /// The numbers that it computes in.
    pub fn numbers(&self) -> Numbers {
        match &self.0 {
            Kind::Cpu(classifier) => classifier.numbers(),
            #[cfg(feature = "gpu")]
            Kind::Gpu(_) => Numbers::F32,
        }
    }

    /// The logits `[images, classes]` of preprocessed images `[images, 3, height, width]`, both in
    /// row-major order.
    ///
    /// # Panics
    /// If the length is no multiple of an image's.
    pub fn logits(&mut self, images: &[f32]) -> Vec<f32> {
        match &mut self.0 {
            Kind::Cpu(classifier) => classifier.logits(images),
            #[cfg(feature = "gpu")]
            Kind::Gpu(predictor) => predictor.logits(images),
        }
    }

    /// As [`Predictor::logits`], with what the logits come from.
    ///
    /// # Panics
    /// As [`Predictor::logits`].
    pub fn predict(&mut self, images: &[f32]) -> Prediction {
        match &mut self.0 {
            Kind::Cpu(classifier) => classifier.predict(images),
            #[cfg(feature = "gpu")]
            Kind::Gpu(predictor) => predictor.predict(images),
        }
    }
}

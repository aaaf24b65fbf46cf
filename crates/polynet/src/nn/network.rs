//! A graph's tensors on a device.

use super::conv_norm::{self, Norm, Window};
use super::init;
use super::interpret::{self, Layers};
use super::processor::Compiled;
use crate::arch::Activation;
use crate::arch::graph::{Graph, TensorSpec};
use burn::tensor::{Device, Tensor, TensorData};
use std::collections::HashMap;
use std::sync::Arc;

/// A tensor in the host's memory, in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements.
    pub values: Vec<f32>,
}

/// Tensors that do not fit a network, each with its name. Nothing is loaded where this is returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TensorMismatch {
    /// Names that the network has and the file lacks.
    pub missing: Vec<String>,
    /// Names that the file has and the network lacks.
    pub extra: Vec<String>,
    /// Names with the expected and the found shape.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl TensorMismatch {
    /// What differs between a network's tensors and those of a file, by name and shape.
    ///
    /// # Errors
    /// If anything does.
    pub fn check<'a>(
        expected: impl IntoIterator<Item = TensorSpec>,
        found: impl IntoIterator<Item = (&'a str, &'a [usize])>,
    ) -> Result<(), Self> {
        let mut found: HashMap<&str, &[usize]> = found.into_iter().collect();
        let mut mismatch = Self::default();
        for spec in expected {
            match found.remove(spec.name.as_str()) {
                None => mismatch.missing.push(spec.name),
                Some(shape) if shape != spec.shape => {
                    let shape = shape.to_vec();
                    mismatch.misshapen.push((spec.name, spec.shape, shape));
                }
                Some(_) => {}
            }
        }
        mismatch.extra = found.into_keys().map(str::to_owned).collect();
        mismatch.extra.sort();
        if mismatch == Self::default() {
            Ok(())
        } else {
            Err(mismatch)
        }
    }
}

impl std::fmt::Display for TensorMismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (missing, extra) = (self.missing.len(), self.extra.len());
        let misshapen = self.misshapen.len();
        write!(
            f,
            "the tensors do not fit the architecture: {missing} missing, {extra} extra, \
             {misshapen} misshapen"
        )?;
        for name in &self.missing {
            write!(f, "\n  missing   {name}")?;
        }
        for name in &self.extra {
            write!(f, "\n  extra     {name}")?;
        }
        for (name, expected, found) in &self.misshapen {
            write!(
                f,
                "\n  misshapen {name}: expected {expected:?}, found {found:?}"
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for TensorMismatch {}

/// A network on a device.
///
/// Every tensor is held flat, in the order of [`Graph::tensors`], and takes its shape where it is
/// used: optimizers and files then treat all of them alike.
#[derive(Clone, Debug)]
pub struct Network {
    pub(super) graph: Arc<Graph>,
    pub(super) specs: Arc<Vec<TensorSpec>>,
    pub(super) tensors: Vec<Tensor<1>>,
    pub(super) device: Device,
    pub(super) compiled: Compiled,
}

impl Network {
    /// A network with He-initialized weights, drawn from `seed`.
    pub fn init(graph: Graph, seed: u64, device: &Device) -> Self {
        let specs: Vec<TensorSpec> = graph.tensors().collect();
        let tensors = specs
            .iter()
            .map(|spec| on_device(init::values(spec, seed), device))
            .collect();
        Self::new(graph, specs, tensors, device)
    }

    /// A network with the given tensors.
    ///
    /// # Errors
    /// If a name or shape does not fit the graph; nothing is loaded then.
    pub fn from_tensors(
        graph: Graph,
        mut tensors: HashMap<String, HostTensor>,
        device: &Device,
    ) -> Result<Self, TensorMismatch> {
        let found = tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor.shape.as_slice()));
        TensorMismatch::check(graph.tensors(), found)?;
        let specs: Vec<TensorSpec> = graph.tensors().collect();
        let tensors = specs
            .iter()
            .map(|spec| {
                let tensor = tensors.remove(&spec.name).expect("names were checked");
                on_device(tensor.values, device)
            })
            .collect();
        Ok(Self::new(graph, specs, tensors, device))
    }

    fn new(graph: Graph, specs: Vec<TensorSpec>, tensors: Vec<Tensor<1>>, device: &Device) -> Self {
        Self {
            graph: Arc::new(graph),
            specs: Arc::new(specs),
            tensors,
            device: device.clone(),
            compiled: Compiled::default(),
        }
    }

    /// What the network computes.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What the network computes, to be shared.
    pub fn shared_graph(&self) -> Arc<Graph> {
        Arc::clone(&self.graph)
    }

    /// Where the tensors are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Names, shapes and kinds, in the order of [`Network::tensors`].
    pub fn specs(&self) -> &[TensorSpec] {
        &self.specs
    }

    /// The tensors, flat, in the order of [`Network::specs`].
    pub fn tensors(&self) -> &[Tensor<1>] {
        &self.tensors
    }

    /// A network that computes `graph` with `tensors`, flat and in the order of this network's, such
    /// as averages of them.
    ///
    /// # Panics
    /// If `graph` does not name the same tensors, or there are not as many.
    #[must_use]
    pub fn with(&self, graph: Arc<Graph>, tensors: &[Tensor<1>]) -> Self {
        assert!(
            graph.tensors().eq(self.specs.iter().cloned()),
            "the graphs name the same tensors"
        );
        assert_eq!(tensors.len(), self.specs.len(), "one tensor for each name");
        Self {
            graph,
            specs: Arc::clone(&self.specs),
            tensors: tensors.to_vec(),
            device: self.device.clone(),
            compiled: Compiled::default(),
        }
    }

    /// Replaces the tensor at `index`, which must have as many elements.
    pub fn set_tensor(&mut self, index: usize, tensor: Tensor<1>) {
        debug_assert_eq!(tensor.dims(), [self.specs[index].num_elements()]);
        self.tensors[index] = tensor;
    }

    /// Takes the tensor at `index` out, so that its memory can be reused; [`Network::set_tensor`]
    /// must put another one in.
    pub fn take_tensor(&mut self, index: usize) -> Tensor<1> {
        let empty = Tensor::empty([0], &self.device);
        std::mem::replace(&mut self.tensors[index], empty)
    }

    /// Every tensor by name, in the host's memory.
    pub fn to_host(&self) -> HashMap<String, HostTensor> {
        self.specs
            .iter()
            .zip(&self.tensors)
            .map(|(spec, tensor)| {
                let values = host_values(tensor.clone());
                let shape = spec.shape.clone();
                (spec.name.clone(), HostTensor { shape, values })
            })
            .collect()
    }

    /// Predicts with the running statistics.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, preprocessed, of the graph's input size
    /// - result, the logits: `[batch, classes]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        interpret::run(&self.graph, images, &mut Predicting(self), |_, _| {})
    }

    /// Predicts as [`Network::forward`], with the logits in the host's memory: `[batch × classes]` in
    /// row-major order.
    pub fn logits(&self, images: Tensor<4>) -> Vec<f32> {
        host_values(self.forward(images))
    }

    /// Predicts as [`Network::forward`] and shows the result of every part (stem, module,
    /// reduction) by its name, `[batch, channels, height, width]`.
    pub fn forward_parts(
        &self,
        images: Tensor<4>,
        mut observe: impl FnMut(&str, &Tensor<4>),
    ) -> Tensor<2> {
        let parts = &self.graph.parts;
        interpret::run(&self.graph, images, &mut Predicting(self), |id, value| {
            for part in parts.iter().filter(|part| part.output == id) {
                observe(&part.name, value);
            }
        })
    }

    fn conv_weight(&self, conv: usize) -> Tensor<4> {
        self.tensors[conv]
            .clone()
            .reshape(self.graph.convs[conv].shape)
    }

    fn norm(&self, norm: usize) -> Norm {
        let tensors = self.graph.norm_tensors(norm);
        let [weight, bias, running_mean, running_var] =
            tensors.map(|index| self.tensors[index].clone());
        Norm {
            weight,
            bias,
            running_mean,
            running_var,
            epsilon: self.graph.norm_epsilon,
        }
    }
}

/// A flat tensor from the host.
pub(crate) fn on_device(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

/// The elements of a tensor.
pub(crate) fn host_values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.into_data_as::<f32>();
    data.try_into_vec().expect("the data was converted to f32")
}

/// Prediction with the running statistics.
struct Predicting<'a>(&'a Network);

impl Layers for Predicting<'_> {
    fn conv(
        &mut self,
        x: Tensor<4>,
        weight: usize,
        window: Window,
        norm: Option<usize>,
        activation: Activation,
    ) -> Tensor<4> {
        let norm = norm.map(|norm| self.0.norm(norm));
        conv_norm::predict(x, self.0.conv_weight(weight), window, norm, activation)
    }

    fn norm(&mut self, x: Tensor<4>, norm: usize, activation: Activation) -> Tensor<4> {
        conv_norm::apply_norm(x, self.0.norm(norm), activation)
    }

    fn bias(&mut self, x: Tensor<4>, bias: usize, activation: Activation) -> Tensor<4> {
        let bias = self.0.tensors[self.0.graph.bias_tensor(bias)].clone();
        conv_norm::add_bias(x, bias, activation)
    }

    fn dropout(&mut self, x: Tensor<4>, _probability: f64) -> Tensor<4> {
        x
    }

    fn linear(&mut self, x: Tensor<2>) -> Tensor<2> {
        let index = self.0.graph.linear_tensor();
        let spec = &self.0.graph.linear;
        let weight = self.0.tensors[index].clone();
        let weight = weight.reshape([spec.out_features, spec.in_features]);
        conv_norm::linear(x, weight, self.0.tensors[index + 1].clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Architecture;
    use crate::nn::{DeviceName, LossOptions};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn network(spec: &str) -> Network {
        let architecture: Architecture = spec.parse().unwrap();
        Network::init(architecture.graph().unwrap(), 7, &DeviceName::Cpu.open())
    }

    /// Images of a fixed pattern, `[count, 3, size, size]`.
    fn images(count: usize, size: usize) -> Tensor<4> {
        let values = (0..count * 3 * size * size)
            .map(|index| ((index * 7919) % 1013) as f32 / 506.0 - 1.0)
            .collect::<Vec<f32>>();
        let data = TensorData::new(values, [count, 3, size, size]);
        Tensor::from_data(data, &DeviceName::Cpu.open())
    }

    #[test]
    fn parts_have_the_shapes_of_the_graph() {
        for spec in ["small-polynet", "resnet-50; width = 0.125; input = 64"] {
            let network = network(spec);
            let size = network.graph().nodes[0].shape[1];
            let mut seen = 0;
            network.forward_parts(images(2, size), |name, value| {
                let part = network
                    .graph()
                    .parts
                    .iter()
                    .find(|p| p.name == name)
                    .unwrap();
                let [channels, height, width] = network.graph().nodes[part.output].shape;
                assert_eq!(value.dims(), [2, channels, height, width], "{spec} {name}");
                seen += 1;
            });
            // The head's result is the logits, which are returned.
            assert_eq!(seen, network.graph().parts.len() - 1, "{spec}");
        }
    }

    #[test]
    fn training_lowers_the_loss() {
        let mut network = network("small-ir-1-2-1; dropout = 0; classes = 4");
        let (images, labels) = (images(8, 32), [0, 1, 2, 3, 0, 1, 2, 3]);
        let options = LossOptions {
            label_smoothing: 0.0,
        };
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut losses = Vec::new();
        for _ in 0..12 {
            let pass = network.training_pass(images.clone(), &mut rng);
            let gradients = pass.backward(&labels, options);
            network.update_statistics(&gradients);
            losses.push(gradients.loss);
            for (index, gradient) in gradients.tensors.into_iter().enumerate() {
                if let Some(gradient) = gradient {
                    let weight = network.take_tensor(index);
                    network.set_tensor(index, weight - gradient * 0.002);
                }
            }
        }
        assert!(losses[11] < 0.8 * losses[0], "{losses:?}");
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let network = network("small-ir-1-2-1; width = 0.0625; dropout = 0; classes = 3");
        let (images, labels) = (images(4, 32), [0, 1, 2, 1]);
        let options = LossOptions {
            label_smoothing: 0.1,
        };
        let loss = |network: &Network| {
            let mut rng = ChaCha8Rng::seed_from_u64(0);
            network
                .training_pass(images.clone(), &mut rng)
                .backward(&labels, options)
        };
        let gradients = loss(&network).tensors;
        let step = 2e-3_f32;
        for (index, spec) in network.specs().iter().enumerate().step_by(9) {
            let Some(gradient) = gradients[index].clone() else {
                continue;
            };
            // Along the gradient's own direction the difference is largest against rounding.
            let norm = host_values(gradient.clone().powf_scalar(2.0).sum())[0].sqrt();
            if norm < 0.05 {
                continue;
            }
            let direction = gradient.clone() * (step / norm);
            let moved = |sign: f32| {
                let mut moved = network.clone();
                let weight = moved.take_tensor(index);
                moved.set_tensor(index, weight + direction.clone() * sign);
                loss(&moved).loss
            };
            let slope = (moved(1.0) - moved(-1.0)) / f64::from(2.0 * step);
            let error = (slope - f64::from(norm)).abs() / f64::from(norm);
            assert!(error < 0.03, "{}: {slope} against {norm}", spec.name);
        }
    }

    #[test]
    fn tensors_that_do_not_fit_are_listed_by_name() {
        let whole = network("small-ir-1-2-1");
        let mut tensors = whole.to_host();
        tensors.remove("head.linear.bias");
        tensors.insert(
            "other".to_owned(),
            HostTensor {
                shape: vec![1],
                values: vec![0.0],
            },
        );
        tensors.get_mut("stem.0.norm.weight").unwrap().shape = vec![4, 8];
        let graph = whole.graph().clone();
        let error = Network::from_tensors(graph, tensors, whole.device()).unwrap_err();
        assert_eq!(error.missing, ["head.linear.bias"]);
        assert_eq!(error.extra, ["other"]);
        assert_eq!(error.misshapen.len(), 1);
    }
}

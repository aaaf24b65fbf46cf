//! The unit of every network here: convolution, batch norm and ReLU as one step.
//!
//! Everything that a network does to feature maps, apart from pools, sums and dropout, is here.

use crate::arch::Activation;
use burn_tensor::Tensor;
use burn_tensor::activation::relu;
use burn_tensor::module::conv2d;
use burn_tensor::ops::ConvOptions;

/// Step and border of a convolution.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub(super) stride: [usize; 2],
    pub(super) padding: [usize; 2],
}

impl Window {
    fn options(self) -> ConvOptions<2> {
        ConvOptions::new(self.stride, self.padding, [1, 1], 1)
    }
}

/// Batch norm's tensors, each `[channels]`.
pub(super) struct Norm {
    weight: Tensor<1>,
    bias: Tensor<1>,
    running_mean: Tensor<1>,
    running_var: Tensor<1>,
    /// Added to the variance.
    epsilon: f64,
}

impl Norm {
    /// Of scale, shift, running mean and running variance.
    pub(super) fn new(tensors: [Tensor<1>; 4], epsilon: f64) -> Self {
        let [weight, bias, running_mean, running_var] = tensors;
        Self {
            weight,
            bias,
            running_mean,
            running_var,
            epsilon,
        }
    }

    /// Scale and shift that apply the running statistics: `y = scale·x + shift`.
    fn affine(self) -> (Tensor<1>, Tensor<1>) {
        let scale = self.weight / (self.running_var + self.epsilon).sqrt();
        let shift = self.bias - self.running_mean * scale.clone();
        (scale, shift)
    }
}

/// Batch norm by the statistics of a batch: its trained tensors, each `[channels]`, tracked for
/// differentiation.
pub(super) struct BatchNorm {
    pub(super) scale: Tensor<1>,
    pub(super) shift: Tensor<1>,
    /// Added to the variance.
    pub(super) epsilon: f64,
}

/// The statistics of a batch, each `[channels]`.
pub(super) struct BatchStatistics {
    pub(super) mean: Tensor<1>,
    /// Over `n − 1`, as running statistics take it.
    pub(super) unbiased_var: Tensor<1>,
}

/// Prediction: batch norm is folded into the convolution.
///
/// # Shapes
/// - `x`: `[batch, in_channels, height, width]`
/// - `weight`: `[out_channels, in_channels, kernel_height, kernel_width]`
/// - result: `[batch, out_channels, out_height, out_width]`
pub(super) fn predict(
    x: Tensor<4>,
    weight: Tensor<4>,
    window: Window,
    norm: Option<Norm>,
    activation: Activation,
) -> Tensor<4> {
    let y = match norm {
        Some(norm) => {
            let (scale, shift) = norm.affine();
            let out_channels = weight.dims()[0];
            let weight = weight * scale.reshape([out_channels, 1, 1, 1]);
            conv2d(x, weight, Some(shift), window.options())
        }
        None => conv2d(x, weight, None, window.options()),
    };
    activate(y, activation)
}

/// Training: batch norm with the statistics of the batch, which are returned. The convolution is
/// computed in the precision of `x`, to which the weight is converted.
///
/// # Shapes
/// As [`predict`].
pub(super) fn train(
    x: Tensor<4>,
    weight: Tensor<4>,
    window: Window,
    norm: Option<BatchNorm>,
    activation: Activation,
) -> (Tensor<4>, Option<BatchStatistics>) {
    let y = convolve(x, weight, window);
    match norm {
        Some(norm) => {
            let (y, statistics) = normalize(y, norm, activation);
            (y, Some(statistics))
        }
        None => (activate(y, activation), None),
    }
}

/// Training of what comes before or after: batch norm with its running statistics, folded into the
/// convolution, in the precision of `x`.
///
/// # Shapes
/// As [`predict`].
pub(super) fn fixed(
    x: Tensor<4>,
    weight: Tensor<4>,
    window: Window,
    norm: Norm,
    activation: Activation,
) -> Tensor<4> {
    let (scale, shift) = norm.affine();
    let channels = weight.dims()[0];
    let weight = weight * scale.reshape([channels, 1, 1, 1]);
    let shift = shift.reshape([1, channels, 1, 1]).cast(x.dtype());
    activate(convolve(x, weight, window) + shift, activation)
}

/// A convolution in the precision of `x`.
///
/// # Shapes
/// As [`predict`].
fn convolve(x: Tensor<4>, weight: Tensor<4>, window: Window) -> Tensor<4> {
    let weight = weight.cast(x.dtype());
    conv2d(x, weight, None, window.options())
}

/// Batch norm with its running statistics, then the activation, in the precision of `x`.
///
/// # Shapes
/// - `x` and result: `[batch, channels, height, width]`
pub(super) fn apply_norm(x: Tensor<4>, norm: Norm, activation: Activation) -> Tensor<4> {
    let (scale, shift) = norm.affine();
    let per_channel = [1, scale.dims()[0], 1, 1];
    let scale = scale.reshape(per_channel).cast(x.dtype());
    let shift = shift.reshape(per_channel).cast(x.dtype());
    activate(x * scale + shift, activation)
}

/// Batch norm with the statistics of the batch, then the activation.
///
/// Written with reductions and differentiated through them, for the statistics are a result, too.
/// Computed in the precision of the scale and the shift; the result has the precision of `x`.
///
/// # Shapes
/// - `x` and result: `[batch, channels, height, width]`
pub(super) fn normalize(
    x: Tensor<4>,
    norm: BatchNorm,
    activation: Activation,
) -> (Tensor<4>, BatchStatistics) {
    let [batch, channels, height, width] = x.dims();
    let count = (batch * height * width) as f64;
    let per_channel = [1, channels, 1];
    let precision = x.dtype();
    let x = x.reshape([batch, channels, height * width]);
    let x = x.cast(norm.scale.dtype());
    let mean = x.clone().mean_dim(2).mean_dim(0);
    let centred = x - mean.clone();
    let var = (centred.clone() * centred.clone()).mean_dim(2).mean_dim(0);
    let statistics = BatchStatistics {
        mean: mean.inner().reshape([channels]),
        unbiased_var: var.clone().inner().reshape([channels]) * (count / (count - 1.0).max(1.0)),
    };
    let scale = norm.scale.reshape(per_channel) / (var + norm.epsilon).sqrt();
    let y = centred * scale + norm.shift.reshape(per_channel);
    let y = y.cast(precision).reshape([batch, channels, height, width]);
    (activate(y, activation), statistics)
}

/// The classifier: `x·Wᵀ + b`, in the precision of the weight, as a 1×1 convolution of a 1×1 map:
/// SwiftShader, the software Vulkan driver, computes products of matrices wrongly.
///
/// # Shapes
/// - `x`: `[batch, features]`; `weight`: `[classes · features]`; `bias`: `[classes]`
/// - result: `[batch, classes]`
pub(super) fn linear(x: Tensor<2>, weight: Tensor<1>, bias: Tensor<1>) -> Tensor<2> {
    let x = x.cast(weight.dtype());
    let ([batch, features], [classes]) = (x.dims(), bias.dims());
    let window = Window {
        stride: [1, 1],
        padding: [0, 0],
    };
    let x = x.reshape([batch, features, 1, 1]);
    let weight = weight.reshape([classes, features, 1, 1]);
    conv2d(x, weight, Some(bias), window.options()).reshape([batch, classes])
}

/// Adds a bias to every channel, then the activation.
///
/// # Shapes
/// - `x` and result: `[batch, channels, height, width]`
/// - `bias`: `[channels]`
pub(super) fn add_bias(x: Tensor<4>, bias: Tensor<1>, activation: Activation) -> Tensor<4> {
    let channels = bias.dims()[0];
    let bias = bias.cast(x.dtype());
    activate(x + bias.reshape([1, channels, 1, 1]), activation)
}

/// Applies an activation.
pub(super) fn activate(x: Tensor<4>, activation: Activation) -> Tensor<4> {
    match activation {
        Activation::Relu => relu(x),
        Activation::Identity => x,
    }
}

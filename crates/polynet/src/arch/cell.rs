//! Cells: series-parallel networks as data.
//!
//! Stem, reductions and Inception blocks are all cells. A cell maps a feature map
//! `[channels, height, width]` to another one:
//!
//! ```text
//! cell := conv | norm | max-pool | average pool | chain of cells | concat of cells | sum of cells
//! ```
//!
//! ```
//! use polynet::arch::Cell;
//! // Block C of Inception-ResNet: 1×1 192 - 1×3 224 - 3×1 256 | 1×1 192; concat 448; 1×1 2048.
//! let block = Cell::chain([
//!     Cell::concat([
//!         Cell::chain([Cell::conv(192, [1, 1]), Cell::conv(224, [1, 3]), Cell::conv(256, [3, 1])]),
//!         Cell::conv(192, [1, 1]),
//!     ]),
//!     Cell::linear_conv(2048, 1),
//! ]);
//! assert_eq!(block.out_channels(2048), 2048);
//! ```

/// How a convolution or a pool treats the border of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Padding {
    /// Zeros of half the kernel on each side: at stride 1 the size is kept (odd kernels only).
    Same,
    /// No padding.
    Valid,
}

impl Padding {
    /// The number of rows and columns added on each side, for an odd kernel.
    pub fn amount(self, kernel_size: [usize; 2]) -> [usize; 2] {
        match self {
            Self::Same => kernel_size.map(|size| size / 2),
            Self::Valid => [0, 0],
        }
    }
}

/// A non-linearity after a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x`.
    Identity,
}

impl Activation {
    /// Whether this is [`Activation::Relu`].
    pub fn is_relu(self) -> bool {
        self == Self::Relu
    }
}

/// What follows a convolution before its activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Normalization {
    /// Batch norm with a learned scale and shift.
    Batch,
    /// A learned shift of each channel alone (the convolution's bias).
    Bias,
    /// None: the next layer normalizes (pre-activation networks).
    None,
}

/// A convolution, then batch norm or a bias or neither, then an activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvLayer {
    /// Output channels.
    pub out_channels: usize,
    /// Rows and columns of the kernel.
    pub kernel_size: [usize; 2],
    /// Step between outputs, the same in both directions.
    pub stride: usize,
    /// Border treatment.
    pub padding: Padding,
    /// What normalizes the result.
    pub normalization: Normalization,
    /// What follows.
    pub activation: Activation,
}

/// A series-parallel network; see the [module documentation](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cell {
    /// One convolution layer.
    Conv(ConvLayer),
    /// Batch norm and ReLU alone, as pre-activation residual units begin.
    Norm,
    /// Max pooling over a square window.
    MaxPool {
        /// Rows and columns of the window.
        kernel_size: usize,
        /// Step between windows.
        stride: usize,
        /// Border treatment.
        padding: Padding,
    },
    /// Mean over a square window with stride 1 that keeps the size; the mean at the border is over
    /// the pixels that are there.
    AveragePool {
        /// Rows and columns of the window, an odd number.
        kernel_size: usize,
    },
    /// One after another.
    Chain(Vec<Cell>),
    /// Side by side on the same input, concatenated along the channels.
    Concat(Vec<Cell>),
    /// Side by side on the same input, added. An empty chain is the identity.
    Sum {
        /// What is added.
        terms: Vec<Cell>,
        /// What follows the sum.
        activation: Activation,
    },
}

impl Cell {
    /// A stride-1 convolution that keeps the size, with batch norm and ReLU.
    pub fn conv(out_channels: usize, kernel_size: [usize; 2]) -> Self {
        Self::Conv(ConvLayer {
            out_channels,
            kernel_size,
            stride: 1,
            padding: Padding::Same,
            normalization: Normalization::Batch,
            activation: Activation::Relu,
        })
    }

    /// A 3×3 convolution without padding, with batch norm and ReLU.
    pub fn conv_valid(out_channels: usize, stride: usize) -> Self {
        Self::Conv(ConvLayer {
            out_channels,
            kernel_size: [3, 3],
            stride,
            padding: Padding::Valid,
            normalization: Normalization::Batch,
            activation: Activation::Relu,
        })
    }

    /// A 1×1 convolution with batch norm and no ReLU, as at the end of a block.
    pub fn linear_conv(out_channels: usize, stride: usize) -> Self {
        Self::Conv(ConvLayer {
            out_channels,
            kernel_size: [1, 1],
            stride,
            padding: Padding::Same,
            normalization: Normalization::Batch,
            activation: Activation::Identity,
        })
    }

    /// A convolution with neither normalization nor activation, which keeps the size at stride 1.
    pub fn bare_conv(out_channels: usize, kernel_size: usize, stride: usize) -> Self {
        Self::Conv(ConvLayer {
            out_channels,
            kernel_size: [kernel_size; 2],
            stride,
            padding: Padding::Same,
            normalization: Normalization::None,
            activation: Activation::Identity,
        })
    }

    /// A square convolution with half its kernel of padding, with batch norm and ReLU.
    pub fn strided_conv(out_channels: usize, kernel_size: usize, stride: usize) -> Self {
        Self::Conv(ConvLayer {
            out_channels,
            kernel_size: [kernel_size; 2],
            stride,
            padding: Padding::Same,
            normalization: Normalization::Batch,
            activation: Activation::Relu,
        })
    }

    /// 3×3 max pooling with stride 2 and no padding.
    pub fn max_pool() -> Self {
        Self::MaxPool {
            kernel_size: 3,
            stride: 2,
            padding: Padding::Valid,
        }
    }

    /// Cells one after another.
    pub fn chain(cells: impl IntoIterator<Item = Cell>) -> Self {
        Self::Chain(cells.into_iter().collect())
    }

    /// Cells side by side, concatenated.
    pub fn concat(cells: impl IntoIterator<Item = Cell>) -> Self {
        Self::Concat(cells.into_iter().collect())
    }

    /// Output channels for an input of `in_channels`.
    pub fn out_channels(&self, in_channels: usize) -> usize {
        match self {
            Self::Conv(conv) => conv.out_channels,
            Self::Norm | Self::MaxPool { .. } | Self::AveragePool { .. } => in_channels,
            Self::Chain(cells) => cells
                .iter()
                .fold(in_channels, |channels, cell| cell.out_channels(channels)),
            Self::Concat(cells) => cells
                .iter()
                .map(|cell| cell.out_channels(in_channels))
                .sum(),
            Self::Sum { terms, .. } => terms
                .first()
                .map_or(in_channels, |cell| cell.out_channels(in_channels)),
        }
    }
}

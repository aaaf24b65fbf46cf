//! The whole network as a list of operations on named tensors, without a tensor.
//!
//! [`Graph`] is what every consumer walks: costs are a fold over it, the trainable network
//! interprets it, weight files are checked against its tensors. Node `i` reads only nodes before
//! it, the first node is the image and the last one gives the logits.
//!
//! Sharing needs no mechanism of its own: a tensor is known by its name, and two nodes that name
//! the same tensor share it.

mod builder;
mod cells;

use super::cell::Activation;
use super::{ArchError, Architecture};
use builder::Builder;
use std::ops::Range;

/// Index of a node in [`Graph::nodes`].
pub type NodeId = usize;

/// One operation and the feature map `[channels, height, width]` it produces.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// The nodes it reads, in order.
    pub inputs: Vec<NodeId>,
    /// `[channels, height, width]` of one image's result.
    pub shape: [usize; 3],
    /// Index of the part of the network it belongs to, in [`Graph::parts`].
    pub part: usize,
}

/// What a pool takes of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// The maximum.
    Max,
    /// The mean of what lies inside the map: the border does not count.
    Mean,
}

/// The window of a pool, rows first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolWindow {
    /// Rows and columns of the window.
    pub kernel_size: [usize; 2],
    /// Step between windows.
    pub stride: [usize; 2],
    /// Rows and columns added on each side.
    pub padding: [usize; 2],
}

/// The operations of a network.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The image.
    Input,
    /// Convolution, then batch norm if `norm` is given, then the activation.
    Conv {
        /// Index in [`Graph::convs`].
        weight: usize,
        /// Step between outputs.
        stride: [usize; 2],
        /// Rows and columns of zeros on each side.
        padding: [usize; 2],
        /// Index in [`Graph::norms`].
        norm: Option<usize>,
        /// What follows.
        activation: Activation,
    },
    /// Batch norm and an activation.
    Norm {
        /// Index in [`Graph::norms`].
        norm: usize,
        /// What follows.
        activation: Activation,
    },
    /// A learned shift of each channel.
    Bias {
        /// Index in [`Graph::biases`].
        bias: usize,
        /// What follows.
        activation: Activation,
    },
    /// `max(x, 0)`.
    Relu,
    /// Maximum or mean over a window.
    Pool {
        /// Which of them.
        pool: Pool,
        /// The window.
        window: PoolWindow,
    },
    /// Concatenation along the channels.
    Concat,
    /// Weighted sum of the inputs, then an activation.
    Sum {
        /// One factor for each input.
        scales: Vec<f32>,
        /// What follows.
        activation: Activation,
    },
    /// Mean over the whole map: `[c, h, w]` to `[c, 1, 1]`.
    AveragePool,
    /// Dropout during training.
    Dropout {
        /// Chance that an element is dropped.
        probability: f64,
    },
    /// The classifier.
    Linear,
}

/// The weight of a convolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvSpec {
    /// Name without the suffix `.weight`.
    pub name: String,
    /// `[out_channels, in_channels, kernel_height, kernel_width]`.
    pub shape: [usize; 4],
}

/// The four tensors of a batch norm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormSpec {
    /// Name of its scale and shift, without the suffixes `.weight` and `.bias`. The evaluations of a
    /// shared block have the same.
    pub name: String,
    /// Name of its running statistics, without the suffixes `.running_mean` and `.running_var`. Every
    /// evaluation has its own: `F` sees other inputs in `F²` than in `F`.
    pub statistics: String,
    /// Channels.
    pub channels: usize,
    /// Its scale among the tensors of all batch norms; the shift follows.
    pub(in crate::arch) parameters: usize,
    /// Its running mean among the tensors of all batch norms; the variance follows.
    pub(in crate::arch) moments: usize,
}

/// The bias of a convolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BiasSpec {
    /// Name without the suffix `.bias`: that of its convolution.
    pub name: String,
    /// Channels.
    pub channels: usize,
}

/// The classifier's tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinearSpec {
    /// Name without the suffixes `.weight` and `.bias`.
    pub name: String,
    /// Features of the pooled map.
    pub in_features: usize,
    /// Classes.
    pub out_features: usize,
}

/// What a tensor of a network is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TensorKind {
    /// `[out_channels, in_channels, kernel_height, kernel_width]`.
    ConvWeight,
    /// A convolution's bias, `[channels]`.
    ConvBias,
    /// Batch norm's scale, `[channels]`.
    NormWeight,
    /// Batch norm's shift, `[channels]`.
    NormBias,
    /// Batch norm's running mean, `[channels]`; not trained.
    RunningMean,
    /// Batch norm's running variance, `[channels]`; not trained.
    RunningVar,
    /// `[classes, features]`.
    LinearWeight,
    /// `[classes]`.
    LinearBias,
}

impl TensorKind {
    /// Whether the optimizer changes it. Running statistics are not parameters.
    pub fn is_parameter(self) -> bool {
        !matches!(self, Self::RunningMean | Self::RunningVar)
    }
}

/// A named tensor of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in a weight file.
    pub name: String,
    /// Its shape in PyTorch's order.
    pub shape: Vec<usize>,
    /// What it is for.
    pub kind: TensorKind,
}

impl TensorSpec {
    /// Number of elements.
    pub fn num_elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A named part of the network: stem, reduction, module, head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name, which begins the names of its tensors.
    pub name: String,
    /// Index of the stage and of the module in it, for a module.
    pub module: Option<(usize, usize)>,
    /// The node that holds its result.
    pub output: NodeId,
}

/// A module's stochastic paths (paper §4, Fig. 10): where its terms are computed and summed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModulePaths {
    /// The nodes that hold the results of its block evaluations, in the plan's order.
    pub evaluations: Vec<NodeId>,
    /// Its sums that contain the identity; what else they sum are paths.
    pub sums: Vec<ResidualSum>,
}

/// A sum of the identity and of paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResidualSum {
    /// The [`Op::Sum`].
    pub node: NodeId,
    /// Positions among the node's inputs that are no identity.
    pub paths: Vec<usize>,
}

/// A network as data; see the [module documentation](self).
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// The operations, in an order of evaluation.
    pub nodes: Vec<Node>,
    /// The convolutions' weights.
    pub convs: Vec<ConvSpec>,
    /// The batch norms.
    pub norms: Vec<NormSpec>,
    /// Batch norm's ε.
    pub norm_epsilon: f64,
    /// The convolutions' biases.
    pub biases: Vec<BiasSpec>,
    /// The classifier.
    pub linear: LinearSpec,
    /// The parts, in order.
    pub parts: Vec<Part>,
    /// The modules' paths, in order, through all stages.
    pub module_paths: Vec<ModulePaths>,
}

impl Graph {
    /// Indices in [`Graph::tensors`] of a batch norm's scale, shift, running mean and running variance.
    pub fn norm_tensors(&self, norm: usize) -> [usize; 4] {
        let first = self.convs.len();
        let NormSpec {
            parameters,
            moments,
            ..
        } = self.norms[norm];
        [parameters, parameters + 1, moments, moments + 1].map(|index| first + index)
    }

    /// Index in [`Graph::tensors`] of a convolution's bias.
    pub fn bias_tensor(&self, bias: usize) -> usize {
        let last = self.norms.last();
        self.convs.len() + last.map_or(0, |norm| norm.moments + 2) + bias
    }

    /// Index in [`Graph::tensors`] of the classifier's weights; its bias follows.
    pub fn linear_tensor(&self) -> usize {
        self.bias_tensor(self.biases.len())
    }

    /// Lays out the network of an architecture.
    ///
    /// # Errors
    /// If the input is too small for the network: some feature map would have no pixel.
    pub fn new(architecture: &Architecture) -> Result<Self, ArchError> {
        let mut builder = Builder::new(architecture);
        builder.network(architecture)?;
        Ok(builder.graph)
    }

    /// The node that holds the logits, shape `[classes, 1, 1]`.
    pub fn output(&self) -> NodeId {
        self.nodes.len() - 1
    }

    /// Every tensor in a fixed order: convolutions, batch norms, biases, classifier.
    pub fn tensors(&self) -> impl Iterator<Item = TensorSpec> + '_ {
        let convs = self.convs.iter().map(|conv| TensorSpec {
            name: format!("{}.weight", conv.name),
            shape: conv.shape.to_vec(),
            kind: TensorKind::ConvWeight,
        });
        let norms = self.norms.iter().flat_map(|norm| {
            let parameters = [
                (&norm.name, "weight", TensorKind::NormWeight),
                (&norm.name, "bias", TensorKind::NormBias),
            ];
            let moments = [
                (&norm.statistics, "running_mean", TensorKind::RunningMean),
                (&norm.statistics, "running_var", TensorKind::RunningVar),
            ];
            // The first that has the parameters.
            let is_first = norm.moments == norm.parameters + 2;
            let parameters = parameters.into_iter().filter(move |_| is_first);
            parameters
                .chain(moments)
                .map(|(name, suffix, kind)| TensorSpec {
                    name: format!("{name}.{suffix}"),
                    shape: vec![norm.channels],
                    kind,
                })
        });
        let biases = self.biases.iter().map(|bias| TensorSpec {
            name: format!("{}.bias", bias.name),
            shape: vec![bias.channels],
            kind: TensorKind::ConvBias,
        });
        let linear = [
            TensorSpec {
                name: format!("{}.weight", self.linear.name),
                shape: vec![self.linear.out_features, self.linear.in_features],
                kind: TensorKind::LinearWeight,
            },
            TensorSpec {
                name: format!("{}.bias", self.linear.name),
                shape: vec![self.linear.out_features],
                kind: TensorKind::LinearBias,
            },
        ];
        convs.chain(norms).chain(biases).chain(linear)
    }

    /// For each node, the last node that reads it (itself if none does). A value may be dropped
    /// after its last reader.
    pub fn last_readers(&self) -> Vec<NodeId> {
        let mut last: Vec<NodeId> = (0..self.nodes.len()).collect();
        for (id, node) in self.nodes.iter().enumerate() {
            for &input in &node.inputs {
                last[input] = id;
            }
        }
        last
    }

    /// The network cut between its parts: each segment is a range of nodes that reads, besides its
    /// own, only the last node before it. The classifier's segment takes the last module in.
    pub fn segments(&self) -> Vec<Range<NodeId>> {
        let last_readers = self.last_readers();
        let mut reach = 0;
        // Nodes after which a single value is read on: nothing before them reaches past them.
        let is_cut: Vec<bool> = (0..self.nodes.len())
            .map(|id| {
                let alone = reach <= id;
                reach = reach.max(last_readers[id]);
                alone
            })
            .collect();
        let mut cuts: Vec<NodeId> = self.parts.iter().map(|part| part.output + 1).collect();
        // The head is cheap: it goes with what stands before it.
        cuts.pop();
        cuts.pop();
        cuts.retain(|&end| end > 1 && is_cut[end - 1]);
        cuts.dedup();
        let starts = std::iter::once(1).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain([self.nodes.len()]);
        starts.zip(ends).map(|(start, end)| start..end).collect()
    }
}

//! The whole network as a list of operations on named tensors, without a tensor.
//!
//! [`Graph`] is what every consumer walks: costs are a fold over it, the trainable network
//! interprets it, weight files are checked against its tensors. Node `i` reads only nodes before
//! it, the first node is the image and the last one gives the logits.
//!
//! Sharing needs no mechanism of its own: a tensor is known by its name, and two nodes that name
//! the same tensor share it.

use super::cell::{Activation, Cell, ConvLayer, Normalization, Padding};
use super::{ArchError, Architecture, Sharing};
use polynet_algebra::Value;
use std::collections::HashMap;
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
    /// `max(x, 0)`.
    Relu,
    /// Maximum over a window.
    MaxPool {
        /// Rows and columns of the window.
        kernel_size: [usize; 2],
        /// Step between windows.
        stride: [usize; 2],
        /// Rows and columns added on each side.
        padding: [usize; 2],
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
    /// Name without the suffixes `.weight`, `.bias`, `.running_mean`, `.running_var`.
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
    /// The classifier.
    pub linear: LinearSpec,
    /// The parts, in order.
    pub parts: Vec<Part>,
    /// The modules' paths, in order, through all stages.
    pub module_paths: Vec<ModulePaths>,
}

impl Graph {
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

    /// Every tensor in a fixed order: convolutions, batch norms, classifier.
    pub fn tensors(&self) -> impl Iterator<Item = TensorSpec> + '_ {
        let convs = self.convs.iter().map(|conv| TensorSpec {
            name: format!("{}.weight", conv.name),
            shape: conv.shape.to_vec(),
            kind: TensorKind::ConvWeight,
        });
        let norms = self.norms.iter().flat_map(|norm| {
            [
                ("weight", TensorKind::NormWeight),
                ("bias", TensorKind::NormBias),
                ("running_mean", TensorKind::RunningMean),
                ("running_var", TensorKind::RunningVar),
            ]
            .map(|(suffix, kind)| TensorSpec {
                name: format!("{}.{suffix}", norm.name),
                shape: vec![norm.channels],
                kind,
            })
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
        convs.chain(norms).chain(linear)
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

struct Builder {
    graph: Graph,
    sharing: Sharing,
    names: HashMap<String, usize>,
    part: usize,
}

/// Which tensors an evaluation of a block uses.
#[derive(Clone, Copy)]
struct Use {
    /// How many evaluations of the block come before this one in the module.
    index: usize,
    /// How many there are in all.
    count: usize,
    sharing: Sharing,
}

impl Use {
    const ONLY: Self = Self {
        index: 0,
        count: 1,
        sharing: Sharing::Full,
    };

    fn is_separate(self) -> bool {
        self.sharing == Sharing::Release && self.count > 1
    }

    /// `base`, with the number of the use where the sharing keeps a tensor for each.
    fn tensor_name(self, base: String) -> String {
        if self.is_separate() {
            format!("{base}.{}", self.index)
        } else {
            base
        }
    }
}

/// Where a cell stands, for names and for the sharing of the release.
#[derive(Clone)]
struct Place {
    path: String,
    /// The last convolution of a block is not shared in the release.
    is_last: bool,
    used: Use,
}

impl Place {
    fn new(path: impl Into<String>, used: Use) -> Self {
        Self {
            path: path.into(),
            is_last: true,
            used,
        }
    }

    fn child(&self, name: impl std::fmt::Display, is_last: bool) -> Self {
        Self {
            path: format!("{}.{name}", self.path),
            is_last: self.is_last && is_last,
            used: self.used,
        }
    }
}

impl Builder {
    fn new(architecture: &Architecture) -> Self {
        let size = architecture.input_size;
        let input = Node {
            op: Op::Input,
            inputs: Vec::new(),
            shape: [3, size, size],
            part: 0,
        };
        Self {
            graph: Graph {
                nodes: vec![input],
                convs: Vec::new(),
                norms: Vec::new(),
                linear: LinearSpec {
                    name: "head.linear".to_owned(),
                    in_features: 0,
                    out_features: architecture.num_classes,
                },
                parts: Vec::new(),
                module_paths: Vec::new(),
            },
            sharing: architecture.sharing,
            names: HashMap::new(),
            part: 0,
        }
    }

    fn network(&mut self, architecture: &Architecture) -> Result<(), ArchError> {
        let family = architecture.family;
        let mut x = self.cell_part("stem", &family.stem(architecture.width), 0)?;
        let mut scales = architecture.residual_scales().into_iter();
        for (index, stage) in architecture.stages.iter().enumerate() {
            if let Some(entry) = &stage.entry {
                x = self.cell_part(&stage.entry_name(), entry, x)?;
            }
            for (position, module) in stage.modules.iter().enumerate() {
                let scale = scales.next().unwrap_or(1.0);
                let name = format!("{}.{position}", stage.name());
                self.begin_part(&name, Some((index, position)));
                let module = Module {
                    name: &name,
                    block: &stage.block,
                    plan: module.polynomial.plan(),
                    scale: scale as f32,
                    activation: family.activation_after_sum(),
                };
                x = self.module(&module, x)?;
                self.end_part(x);
            }
        }
        if let Some(closing) = family.closing() {
            x = self.cell_part("closing", &closing, x)?;
        }
        self.head(architecture, x);
        Ok(())
    }

    fn head(&mut self, architecture: &Architecture, x: NodeId) {
        self.begin_part("head", None);
        let channels = self.graph.nodes[x].shape[0];
        self.graph.linear.in_features = channels;
        let mut x = self.push(Op::AveragePool, vec![x], [channels, 1, 1]);
        if architecture.dropout > 0.0 {
            let probability = architecture.dropout;
            x = self.push(Op::Dropout { probability }, vec![x], [channels, 1, 1]);
        }
        x = self.push(Op::Linear, vec![x], [architecture.num_classes, 1, 1]);
        self.end_part(x);
    }

    fn begin_part(&mut self, name: &str, module: Option<(usize, usize)>) {
        self.part = self.graph.parts.len();
        self.graph.parts.push(Part {
            name: name.to_owned(),
            module,
            output: 0,
        });
    }

    fn end_part(&mut self, output: NodeId) {
        self.graph.parts[self.part].output = output;
    }

    fn cell_part(&mut self, name: &str, cell: &Cell, x: NodeId) -> Result<NodeId, ArchError> {
        self.begin_part(name, None);
        let output = self.cell(cell, x, &Place::new(name, Use::ONLY))?;
        self.end_part(output);
        Ok(output)
    }

    fn module(&mut self, module: &Module<'_>, x: NodeId) -> Result<NodeId, ArchError> {
        let mut values = Vec::with_capacity(module.plan.evaluations.len());
        let mut arguments: HashMap<&[Value], NodeId> = HashMap::new();
        self.graph.module_paths.push(ModulePaths::default());
        for evaluation in &module.plan.evaluations {
            let terms = evaluation.input.values();
            let input = match arguments.get(terms) {
                Some(&input) => input,
                None => self.sum(terms, x, &values, module.scale, self.between_orders(terms)),
            };
            arguments.insert(terms, input);
            let used = Use {
                index: evaluation.use_index,
                count: module.plan.uses(evaluation.block),
                sharing: self.sharing,
            };
            let path = format!("{}.{}", module.name, evaluation.block);
            values.push(self.cell(module.block, input, &Place::new(path, used))?);
        }
        let terms = module.plan.output.values();
        let output = self.sum(terms, x, &values, module.scale, module.activation);
        if let Some(paths) = self.graph.module_paths.last_mut() {
            paths.evaluations = values;
        }
        Ok(output)
    }

    /// What a block's argument passes through. The released model hands `relu(F(x))` to the next
    /// order, while it sums `F(x)` itself; the paper hands on `F(x)`.
    fn between_orders(&self, terms: &[Value]) -> Activation {
        match self.sharing {
            Sharing::Release if terms != [Value::Input] => Activation::Relu,
            _ => Activation::Identity,
        }
    }

    /// The sum of a plan. Where the identity is among its terms it is a residual sum, and the
    /// other terms carry the residual scale (paper §4); a single term stays as it is.
    fn sum(
        &mut self,
        terms: &[Value],
        x: NodeId,
        values: &[NodeId],
        scale: f32,
        activation: Activation,
    ) -> NodeId {
        let inputs: Vec<NodeId> = terms
            .iter()
            .map(|value| match *value {
                Value::Input => x,
                Value::Evaluation(index) => values[index],
            })
            .collect();
        let shape = self.graph.nodes[x].shape;
        if let [only] = inputs[..] {
            return match activation {
                Activation::Relu => self.push(Op::Relu, vec![only], shape),
                Activation::Identity => only,
            };
        }
        let is_residual = terms.contains(&Value::Input);
        if let (true, Some(module)) = (is_residual, self.graph.module_paths.last_mut()) {
            let node = self.graph.nodes.len();
            let is_path = |&position: &usize| terms[position] != Value::Input;
            let paths = (0..terms.len()).filter(is_path).collect();
            module.sums.push(ResidualSum { node, paths });
        }
        let scales = terms
            .iter()
            .map(|value| match value {
                Value::Evaluation(_) if is_residual => scale,
                _ => 1.0,
            })
            .collect();
        self.push(Op::Sum { scales, activation }, inputs, shape)
    }

    fn cell(&mut self, cell: &Cell, x: NodeId, place: &Place) -> Result<NodeId, ArchError> {
        match cell {
            Cell::Conv(conv) => self.conv(conv, x, place),
            Cell::Norm => {
                let shape = self.graph.nodes[x].shape;
                let norm = self.norm(place, shape[0]);
                let activation = Activation::Relu;
                Ok(self.push(Op::Norm { norm, activation }, vec![x], shape))
            }
            &Cell::MaxPool {
                kernel_size,
                stride,
                padding,
            } => {
                let kernel_size = [kernel_size; 2];
                let stride = [stride; 2];
                let [channels, height, width] = self.graph.nodes[x].shape;
                let size =
                    self.output_size([height, width], kernel_size, stride, padding, place)?;
                let padding = padding.amount(kernel_size);
                let op = Op::MaxPool {
                    kernel_size,
                    stride,
                    padding,
                };
                Ok(self.push(op, vec![x], [channels, size[0], size[1]]))
            }
            Cell::Chain(cells) => {
                let last = cells.len().saturating_sub(1);
                cells.iter().enumerate().try_fold(x, |x, (index, cell)| {
                    self.cell(cell, x, &place.child(index, index == last))
                })
            }
            Cell::Concat(cells) => {
                let branches = self.branches(cells, x, place)?;
                let [_, height, width] = self.graph.nodes[branches[0]].shape;
                let channels = branches
                    .iter()
                    .map(|&branch| self.graph.nodes[branch].shape[0])
                    .sum();
                Ok(self.push(Op::Concat, branches, [channels, height, width]))
            }
            Cell::Sum(cells) => {
                let branches = self.branches(cells, x, place)?;
                let shape = self.graph.nodes[branches[0]].shape;
                let op = Op::Sum {
                    scales: vec![1.0; branches.len()],
                    activation: Activation::Identity,
                };
                Ok(self.push(op, branches, shape))
            }
        }
    }

    fn branches(
        &mut self,
        cells: &[Cell],
        x: NodeId,
        place: &Place,
    ) -> Result<Vec<NodeId>, ArchError> {
        cells
            .iter()
            .enumerate()
            .map(|(index, cell)| {
                let place = place.child(format_args!("branch{index}"), false);
                self.cell(cell, x, &place)
            })
            .collect()
    }

    fn conv(&mut self, conv: &ConvLayer, x: NodeId, place: &Place) -> Result<NodeId, ArchError> {
        let [in_channels, height, width] = self.graph.nodes[x].shape;
        let stride = [conv.stride; 2];
        let size = self.output_size(
            [height, width],
            conv.kernel_size,
            stride,
            conv.padding,
            place,
        )?;
        let base = format!("{}.conv", place.path);
        let name = if place.is_last {
            place.used.tensor_name(base)
        } else {
            base
        };
        let [kernel_height, kernel_width] = conv.kernel_size;
        let shape = [conv.out_channels, in_channels, kernel_height, kernel_width];
        let convs = &mut self.graph.convs;
        let weight = *self.names.entry(name.clone()).or_insert_with(|| {
            convs.push(ConvSpec { name, shape });
            convs.len() - 1
        });
        let norm = match conv.normalization {
            Normalization::Batch => Some(self.norm(place, conv.out_channels)),
            Normalization::None => None,
        };
        let op = Op::Conv {
            weight,
            stride,
            padding: conv.padding.amount(conv.kernel_size),
            norm,
            activation: conv.activation,
        };
        Ok(self.push(op, vec![x], [conv.out_channels, size[0], size[1]]))
    }

    fn norm(&mut self, place: &Place, channels: usize) -> usize {
        let name = place.used.tensor_name(format!("{}.norm", place.path));
        let norms = &mut self.graph.norms;
        *self.names.entry(name.clone()).or_insert_with(|| {
            norms.push(NormSpec { name, channels });
            norms.len() - 1
        })
    }

    fn output_size(
        &self,
        size: [usize; 2],
        kernel_size: [usize; 2],
        stride: [usize; 2],
        padding: Padding,
        place: &Place,
    ) -> Result<[usize; 2], ArchError> {
        let padding = padding.amount(kernel_size);
        let mut output = [0; 2];
        for axis in 0..2 {
            let padded = size[axis] + 2 * padding[axis];
            if padded < kernel_size[axis] {
                return Err(ArchError::InputTooSmall {
                    input_size: self.graph.nodes[0].shape[1],
                    place: place.path.clone(),
                    size,
                    kernel_size,
                });
            }
            output[axis] = (padded - kernel_size[axis]) / stride[axis] + 1;
        }
        Ok(output)
    }

    fn push(&mut self, op: Op, inputs: Vec<NodeId>, shape: [usize; 3]) -> NodeId {
        self.graph.nodes.push(Node {
            op,
            inputs,
            shape,
            part: self.part,
        });
        self.graph.nodes.len() - 1
    }
}

/// A PolyInception module to be laid out.
struct Module<'a> {
    name: &'a str,
    block: &'a Cell,
    plan: polynet_algebra::Plan,
    scale: f32,
    activation: Activation,
}

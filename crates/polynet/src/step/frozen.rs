//! Tensors that training leaves alone.

#[cfg(feature = "train")]
use super::Paths;
use crate::arch::graph::{Graph, TensorSpec};
#[cfg(feature = "train")]
use crate::arch::graph::{NodeId, Op};

/// The tensors of a network that training leaves alone: they get no gradients, and a batch norm
/// whose scale is among them normalizes with its running statistics, which stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frozen {
    /// By tensor index of the network; empty where nothing is frozen.
    tensors: Vec<bool>,
}

impl Frozen {
    /// Everything is trained.
    pub const NOTHING: Self = Self {
        tensors: Vec::new(),
    };

    /// The tensors that `is_frozen` names. Gradients need one that it does not name.
    pub fn new(specs: &[TensorSpec], is_frozen: impl Fn(&TensorSpec) -> bool) -> Self {
        let tensors: Vec<bool> = specs.iter().map(is_frozen).collect();
        Self { tensors }
    }

    /// Whether the tensor of that index is frozen.
    pub fn contains(&self, tensor: usize) -> bool {
        self.tensors.get(tensor).copied().unwrap_or_default()
    }

    /// Whether a batch norm of the graph is.
    pub(crate) fn contains_norm(&self, graph: &Graph, norm: usize) -> bool {
        self.contains(graph.norm_tensors(norm)[0])
    }

    /// The first node that has something to train; a backward pass ends there.
    #[cfg(feature = "train")]
    pub(crate) fn first_trained(&self, graph: &Graph, paths: &Paths) -> NodeId {
        let tensors = |id: NodeId| match &graph.nodes[id].op {
            Op::Conv { weight, norm, .. } => {
                let norm = norm.map(|norm| graph.norm_tensors(norm)[0]);
                [Some(*weight), norm]
            }
            Op::Norm { norm, .. } => [Some(graph.norm_tensors(*norm)[0]), None],
            Op::Bias { bias, .. } => [Some(graph.bias_tensor(*bias)), None],
            Op::Linear => [Some(graph.linear_tensor()), None],
            _ => [None, None],
        };
        let is_trained = |tensor: usize| !self.contains(tensor);
        let trains = |id: NodeId| tensors(id).into_iter().flatten().any(is_trained);
        let mut nodes = (0..graph.nodes.len()).filter(|&id| paths.computes(id));
        nodes.find(|&id| trains(id)).unwrap_or(graph.nodes.len())
    }
}

//! Lays out an architecture part by part: stem, reductions, modules, head.

use super::cells::{Place, Use};
use super::{Graph, LinearSpec, ModulePaths, Node, NodeId, Op, Part, ResidualSum};
use crate::arch::cell::{Activation, Cell};
use crate::arch::{ArchError, Architecture, Sharing};
use polynet_algebra::Value;
use std::collections::HashMap;

/// A graph so far.
pub(super) struct Builder {
    pub(super) graph: Graph,
    sharing: Sharing,
    /// Index of a convolution, batch norm or bias by its name.
    pub(super) names: HashMap<String, usize>,
    part: usize,
}

impl Builder {
    pub(super) fn new(architecture: &Architecture) -> Self {
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
                norm_epsilon: architecture.family.norm_epsilon(),
                biases: Vec::new(),
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

    pub(super) fn network(&mut self, architecture: &Architecture) -> Result<(), ArchError> {
        let family = architecture.family;
        let mut x = self.cell_part("stem", &family.stem(architecture.width), 0)?;
        let mut scales = architecture.residual_scales().into_iter();
        let mut modules_left = architecture.num_modules();
        for (index, stage) in architecture.stages.iter().enumerate() {
            if let Some(entry) = &stage.entry {
                x = self.cell_part(&stage.entry_name(), entry, x)?;
            }
            for (position, module) in stage.modules.iter().enumerate() {
                let scale = scales.next().unwrap_or(1.0);
                modules_left -= 1;
                let name = format!("{}.{position}", stage.name());
                self.begin_part(&name, Some((index, position)));
                let module = Module {
                    name: &name,
                    block: &stage.block,
                    plan: module.polynomial.plan(),
                    scale: scale as f32,
                    activation: match modules_left {
                        0 => family.activation_after_last_sum(),
                        _ => family.activation_after_sum(),
                    },
                };
                x = self.module(&module, x)?;
                self.end_part(x);
            }
        }
        if let Some(closing) = family.closing(architecture.width) {
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

    pub(super) fn push(&mut self, op: Op, inputs: Vec<NodeId>, shape: [usize; 3]) -> NodeId {
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

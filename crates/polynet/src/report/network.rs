//! What `polynet inspect` shows of a network, as data and as text.

mod groups;

use crate::arch::cost::{self, Cost, node_macs};
use crate::arch::graph::{Graph, Op, Pool};
use crate::arch::{ArchError, Architecture, claims};
use crate::cpu::Memory;
use crate::step::{Activations, LossOptions, Paths, Precision, StepOptions};
pub(super) use groups::{Group, groups};
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt;

/// Values that the paper's optimizer keeps for each parameter.
const OPTIMIZER_SLOTS: usize = 1;

/// A network's structure and cost. Counts are plain integers; memory is in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct NetworkReport {
    /// The preset's name, or the text it was asked for with.
    pub name: String,
    /// The network, every setting spelled out.
    pub architecture: String,
    /// Pixels of the square input.
    pub input_size: usize,
    /// Classes.
    pub num_classes: usize,
    /// Trained parameters.
    pub parameters: u64,
    /// Trained parameters of the convolutions.
    pub convolution_parameters: u64,
    /// Trained parameters of batch norm.
    pub batch_norm_parameters: u64,
    /// Trained parameters of the classifier.
    pub linear_parameters: u64,
    /// Running means and variances, which are not trained.
    pub running_statistics: u64,
    /// Multiply-accumulates of convolutions and classifier for one image.
    pub macs: u64,
    /// What the memory figures are for.
    pub batch_size: u64,
    /// Peak bytes of prediction in `f32` on the processor, the process included.
    pub prediction_bytes: u64,
    /// Peak bytes of training in `f32` on the processor by the paper's RMSProp, which keeps one value for
    /// each parameter.
    pub training_bytes: u64,
    /// The same where feature maps are computed again in the backward pass.
    pub recomputed_training_bytes: u64,
    /// Stem, reductions and head, and the modules, in order.
    pub parts: Vec<PartReport>,
    /// Published figures beside the computed ones.
    pub claims: Vec<ClaimReport>,
}

/// One part of a network.
#[derive(Clone, Debug, Serialize)]
pub struct PartReport {
    /// Its name, which begins the names of its tensors.
    pub name: String,
    /// `[channels, height, width]` of its result.
    pub output_shape: [usize; 3],
    /// Trained parameters.
    pub parameters: u64,
    /// Multiply-accumulates for one image.
    pub macs: u64,
    /// For a module, its algebra.
    pub module: Option<ModuleReport>,
}

/// The algebra of a module.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModuleReport {
    /// As it was written.
    pub text: String,
    /// Canonical polynomial.
    pub polynomial: String,
    /// Cascaded form.
    pub cascaded: String,
    /// Steps of the plan.
    pub plan: String,
    /// Most blocks along one path.
    pub order: usize,
    /// Number of paths.
    pub paths: u64,
    /// Distinct blocks.
    pub blocks: usize,
    /// Evaluations of blocks by the plan.
    pub evaluations: usize,
    /// Evaluations that the plan saves against term by term.
    pub evaluations_saved: usize,
    /// Factor of the terms beside the identity.
    pub residual_scale: f64,
}

impl ModuleReport {
    /// As it was written, without parentheses around the cascaded form.
    pub(super) fn written(&self) -> &str {
        match self
            .text
            .strip_prefix('(')
            .and_then(|text| text.strip_suffix(')'))
        {
            Some(inner) if inner == self.cascaded => inner,
            _ => &self.text,
        }
    }
}

/// A published figure and its verdict.
#[derive(Clone, Debug, Serialize)]
pub struct ClaimReport {
    /// What was said, with its source.
    pub statement: String,
    /// The figure here, in the statement's unit.
    pub computed: f64,
    /// Whether they agree to the published precision.
    pub matches: bool,
    /// What explains a mismatch.
    pub note: String,
}

impl NetworkReport {
    /// The report of a network asked for as `name`.
    ///
    /// # Errors
    /// If the input is too small for the network.
    pub fn new(
        name: &str,
        architecture: &Architecture,
        batch_size: u64,
    ) -> Result<Self, ArchError> {
        let graph = architecture.graph()?;
        let cost = Cost::of(&graph);
        let batch = batch_size as usize;
        let paths = Paths::all(&graph);
        let training = |activations| {
            let options = StepOptions {
                activations,
                ..StepOptions::new(LossOptions::default(), &paths)
            };
            Memory::of_training(&graph, batch, &options, OPTIMIZER_SLOTS).peak
        };
        Ok(Self {
            name: name.to_owned(),
            architecture: architecture.to_string(),
            input_size: architecture.input_size,
            num_classes: architecture.num_classes,
            parameters: cost.parameters.total(),
            convolution_parameters: cost.parameters.convolution,
            batch_norm_parameters: cost.parameters.batch_norm,
            linear_parameters: cost.parameters.linear,
            running_statistics: cost.statistics,
            macs: cost.macs,
            batch_size,
            prediction_bytes: Memory::of_prediction(&graph, batch, Precision::F32).peak,
            training_bytes: training(Activations::Kept),
            recomputed_training_bytes: training(Activations::Recomputed),
            parts: parts(architecture, &graph),
            claims: claims::about(name, &cost)
                .into_iter()
                .map(|claim| ClaimReport {
                    statement: claim.statement.to_owned(),
                    computed: claim.computed,
                    matches: claim.matches(),
                    note: claim.note.to_owned(),
                })
                .collect(),
        })
    }
}

fn parts(architecture: &Architecture, graph: &Graph) -> Vec<PartReport> {
    let mut macs = vec![0; graph.parts.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        macs[node.part] += node_macs(graph, id);
    }
    let mut parameters = vec![0; graph.parts.len()];
    for tensor in graph.tensors().filter(|tensor| tensor.kind.is_parameter()) {
        let owner = graph.parts.iter().position(|part| {
            let rest = tensor.name.strip_prefix(&part.name);
            rest.is_some_and(|rest| rest.starts_with('.'))
        });
        if let Some(owner) = owner {
            parameters[owner] += tensor.num_elements() as u64;
        }
    }
    let mut scales = architecture.residual_scales().into_iter();
    graph
        .parts
        .iter()
        .enumerate()
        .map(|(index, part)| PartReport {
            name: part.name.clone(),
            output_shape: graph.nodes[part.output].shape,
            parameters: parameters[index],
            macs: macs[index],
            module: part.module.map(|(stage, position)| {
                let module = &architecture.stages[stage].modules[position];
                let plan = module.polynomial.plan();
                ModuleReport {
                    text: module.text.clone(),
                    polynomial: module.polynomial.to_string(),
                    cascaded: module.polynomial.cascaded(),
                    plan: plan.to_string(),
                    order: module.polynomial.order(),
                    paths: module.polynomial.paths(),
                    blocks: module.polynomial.blocks().len(),
                    evaluations: plan.evaluations.len(),
                    evaluations_saved: plan.evaluations_saved(),
                    residual_scale: scales.next().unwrap_or(1.0),
                }
            }),
        })
        .collect()
}

/// The graph as JSON: one object per node, in order, with the names of its tensors.
pub fn graph_json(graph: &Graph) -> Value {
    let nodes: Vec<Value> = graph
        .nodes
        .iter()
        .map(|node| {
            let mut object = op_json(graph, &node.op);
            object["inputs"] = json!(node.inputs);
            object["shape"] = json!(node.shape);
            object["part"] = json!(graph.parts.get(node.part).map(|part| &part.name));
            object
        })
        .collect();
    json!({
        "input": graph.nodes[0].shape,
        "norm_epsilon": graph.norm_epsilon,
        "nodes": nodes,
    })
}

fn op_json(graph: &Graph, op: &Op) -> Value {
    match op {
        Op::Input => json!({ "op": "input" }),
        Op::Conv {
            weight,
            stride,
            padding,
            norm,
            activation,
        } => {
            let conv = &graph.convs[*weight];
            json!({
                "op": "conv",
                "weight": format!("{}.weight", conv.name),
                "kernel": &conv.shape[2..],
                "stride": stride,
                "padding": padding,
                "norm": norm.map(|norm| &graph.norms[norm].name),
                "statistics": norm.map(|norm| &graph.norms[norm].statistics),
                "relu": activation.is_relu(),
            })
        }
        Op::Norm { norm, activation } => {
            let norm = &graph.norms[*norm];
            json!({
                "op": "norm",
                "norm": norm.name,
                "statistics": norm.statistics,
                "relu": activation.is_relu(),
            })
        }
        Op::Bias { bias, activation } => {
            let name = format!("{}.bias", graph.biases[*bias].name);
            json!({ "op": "bias", "bias": name, "relu": activation.is_relu() })
        }
        Op::Relu => json!({ "op": "relu" }),
        Op::Pool { pool, window } => {
            let op = match pool {
                Pool::Max => "max-pool",
                Pool::Mean => "local-average-pool",
            };
            json!({
                "op": op,
                "kernel": window.kernel_size,
                "stride": window.stride,
                "padding": window.padding,
            })
        }
        Op::Concat => json!({ "op": "concat" }),
        Op::Sum { scales, activation } => {
            json!({ "op": "sum", "scales": scales, "relu": activation.is_relu() })
        }
        Op::AveragePool => json!({ "op": "average-pool" }),
        Op::Dropout { probability } => json!({ "op": "dropout", "probability": probability }),
        Op::Linear => {
            let name = &graph.linear.name;
            json!({
                "op": "linear",
                "weight": format!("{name}.weight"),
                "bias": format!("{name}.bias"),
            })
        }
    }
}

impl fmt::Display for NetworkReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.name)?;
        if self.name != self.architecture {
            writeln!(f, "  {}", self.architecture)?;
        }
        writeln!(
            f,
            "\n{:<24} {:>14} {:>12} {:>10}  algebra",
            "part", "output", "parameters", "MMAC"
        )?;
        for group in groups(&self.parts) {
            for part in 0..group.once().len() {
                group.write_row(f, part)?;
            }
        }
        self.write_totals(f)?;
        for claim in &self.claims {
            let verdict = if claim.matches { "match" } else { "mismatch" };
            write!(
                f,
                "\n{verdict}: {}, here {:.3}",
                claim.statement, claim.computed
            )?;
            if !claim.matches && !claim.note.is_empty() {
                write!(f, "; {}", claim.note)?;
            }
        }
        if !self.claims.is_empty() {
            writeln!(f)?;
        }
        Ok(())
    }
}

impl NetworkReport {
    fn write_totals(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(
            f,
            "\nparameters  {} (convolution {}, batch norm {}, linear {})",
            grouped(self.parameters),
            grouped(self.convolution_parameters),
            grouped(self.batch_norm_parameters),
            grouped(self.linear_parameters),
        )?;
        writeln!(
            f,
            "cost        {:.3} GMAC an image at {1}×{1}",
            self.macs as f64 / 1e9,
            self.input_size
        )?;
        writeln!(
            f,
            "memory      {:.0} MiB to predict, {:.0} MiB to train ({:.0} MiB recomputed), at batch {} in f32",
            mib(self.prediction_bytes),
            mib(self.training_bytes),
            mib(self.recomputed_training_bytes),
            self.batch_size
        )
    }
}

fn grouped(number: u64) -> String {
    cost::grouped(number, ',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_whole() {
        for preset in ["very-deep-polynet", "small-polynet", "resnet-50"] {
            let architecture: Architecture = preset.parse().unwrap();
            let report = NetworkReport::new(preset, &architecture, 1).unwrap();
            let parameters: u64 = report.parts.iter().map(|part| part.parameters).sum();
            let macs: u64 = report.parts.iter().map(|part| part.macs).sum();
            assert_eq!(
                (parameters, macs),
                (report.parameters, report.macs),
                "{preset}"
            );
        }
    }

    #[test]
    fn graph_as_json_names_every_tensor() {
        let architecture: Architecture = "small-polynet".parse().unwrap();
        let graph = architecture.graph().unwrap();
        let text = graph_json(&graph).to_string();
        for tensor in graph.tensors() {
            let name = tensor.name.rsplit_once('.').unwrap().0.to_owned();
            assert!(text.contains(&name), "{name}");
        }
    }
}

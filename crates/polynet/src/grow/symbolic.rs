//! What a graph computes, as a value that can be compared.
//!
//! Every node becomes an expression over named tensors, and equal expressions become one number.
//! Zeros are carried through: a layer whose tensors are all zero gives zero, a sum leaves zeros out,
//! a sum of one term is that term, and `relu(x) = x` where `x` can't be negative. So two nodes with
//! one number compute the same, bit for bit: what is left out is exactly zero.

use super::tensors::{Origin, TensorGrowth};
use crate::arch::Activation;
use crate::arch::graph::{Graph, Node, NormSpec, Op};
use std::collections::HashMap;

/// An expression; equal ones have equal numbers.
pub(super) type Expression = usize;

/// The expression that is zero everywhere.
pub(super) const ZERO: Expression = 0;

/// What a layer's tensors are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Values {
    /// All zero.
    Zero,
    /// Of the model, by the name there.
    Model(String),
    /// New, by the name in the larger network.
    New(String),
}

/// Says what a layer's tensors are, by name without the field.
pub(super) trait Naming {
    fn conv(&self, name: &str) -> Values;
    /// Scale and shift, and the running statistics.
    fn norm(&self, norm: &NormSpec) -> [Values; 2];
    fn bias(&self, name: &str) -> Values;
}

/// Every layer by its own name: the model itself.
pub(super) struct Own;

impl Naming for Own {
    fn conv(&self, name: &str) -> Values {
        Values::Model(format!("{name}.weight"))
    }

    fn norm(&self, norm: &NormSpec) -> [Values; 2] {
        let names = [
            format!("{}.weight", norm.name),
            format!("{}.running_mean", norm.statistics),
        ];
        names.map(Values::Model)
    }

    fn bias(&self, name: &str) -> Values {
        Values::Model(format!("{name}.bias"))
    }
}

/// Every layer by where its tensors come from.
pub(super) struct Grown<'a>(HashMap<&'a str, &'a Origin>);

impl<'a> Grown<'a> {
    pub(super) fn new(tensors: &'a [TensorGrowth]) -> Self {
        let origins = tensors
            .iter()
            .map(|tensor| (tensor.name.as_str(), &tensor.origin));
        Self(origins.collect())
    }

    fn values(&self, tensor: String) -> Values {
        match self.0.get(tensor.as_str()) {
            Some(Origin::Copied { from }) => Values::Model(from.clone()),
            Some(Origin::Zero) => Values::Zero,
            _ => Values::New(tensor),
        }
    }
}

impl Naming for Grown<'_> {
    fn conv(&self, name: &str) -> Values {
        self.values(format!("{name}.weight"))
    }

    fn norm(&self, norm: &NormSpec) -> [Values; 2] {
        let names = [
            format!("{}.weight", norm.name),
            format!("{}.running_mean", norm.statistics),
        ];
        names.map(|name| self.values(name))
    }

    fn bias(&self, name: &str) -> Values {
        self.values(format!("{name}.bias"))
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Zero,
    Layer {
        op: String,
        values: Vec<Values>,
        inputs: Vec<Expression>,
    },
    Sum {
        terms: Vec<(u32, Expression)>,
        is_rectified: bool,
    },
}

/// The expressions of one or more graphs.
pub(super) struct Expressions {
    known: HashMap<Key, Expression>,
    /// By expression: whether no element can be negative.
    nonnegative: Vec<bool>,
}

impl Expressions {
    pub(super) fn new() -> Self {
        Self {
            known: HashMap::from([(Key::Zero, ZERO)]),
            nonnegative: vec![true],
        }
    }

    /// The expression of every node.
    pub(super) fn of(&mut self, graph: &Graph, naming: &impl Naming) -> Vec<Expression> {
        let mut found: Vec<Expression> = Vec::with_capacity(graph.nodes.len());
        for node in &graph.nodes {
            let inputs = node.inputs.iter().map(|&input| found[input]).collect();
            let expression = self.node(graph, node, inputs, naming);
            found.push(expression);
        }
        found
    }

    pub(super) fn is_nonnegative(&self, expression: Expression) -> bool {
        self.nonnegative[expression]
    }

    fn node(
        &mut self,
        graph: &Graph,
        node: &Node,
        inputs: Vec<Expression>,
        naming: &impl Naming,
    ) -> Expression {
        match &node.op {
            Op::Conv {
                weight,
                stride,
                padding,
                norm,
                activation,
            } => {
                let weight = naming.conv(&graph.convs[*weight].name);
                let norm = norm.map(|norm| naming.norm(&graph.norms[norm]));
                // Without batch norm the weights make the zero, with it its scale and shift do.
                if *norm.as_ref().map_or(&weight, |[scale, _]| scale) == Values::Zero {
                    return ZERO;
                }
                let op = format!("conv {stride:?} {padding:?} {activation:?}");
                let norm = norm.into_iter().flatten();
                let values = [weight].into_iter().chain(norm).collect();
                self.layer(op, values, inputs, activation.is_relu())
            }
            Op::Norm { norm, activation } => {
                let norm = naming.norm(&graph.norms[*norm]);
                if norm[0] == Values::Zero {
                    return ZERO;
                }
                let op = format!("norm {activation:?}");
                self.layer(op, norm.to_vec(), inputs, activation.is_relu())
            }
            Op::Bias { bias, activation } => {
                let bias = naming.bias(&graph.biases[*bias].name);
                if bias == Values::Zero && inputs == [ZERO] {
                    return ZERO;
                }
                let op = format!("bias {activation:?}");
                self.layer(op, vec![bias], inputs, activation.is_relu())
            }
            Op::Relu => self.sum(&[1.0], &inputs, Activation::Relu),
            Op::Sum { scales, activation } => self.sum(scales, &inputs, *activation),
            Op::Concat | Op::Pool { .. } | Op::AveragePool | Op::Dropout { .. } => {
                let nonnegative = inputs.iter().all(|&input| self.nonnegative[input]);
                self.layer(format!("{:?}", node.op), Vec::new(), inputs, nonnegative)
            }
            Op::Input | Op::Linear => {
                self.layer(format!("{:?}", node.op), Vec::new(), inputs, false)
            }
        }
    }

    fn layer(
        &mut self,
        op: String,
        values: Vec<Values>,
        inputs: Vec<Expression>,
        nonnegative: bool,
    ) -> Expression {
        let key = Key::Layer { op, values, inputs };
        self.number(key, nonnegative)
    }

    fn sum(&mut self, scales: &[f32], inputs: &[Expression], activation: Activation) -> Expression {
        let terms = scales
            .iter()
            .zip(inputs)
            .filter(|(_, input)| **input != ZERO);
        let terms: Vec<(f32, Expression)> = terms.map(|(&scale, &input)| (scale, input)).collect();
        let nonnegative =
            (terms.iter()).all(|&(scale, input)| scale >= 0.0 && self.nonnegative[input]);
        let is_rectified = activation.is_relu() && !nonnegative;
        match terms[..] {
            [] => ZERO,
            [(1.0, only)] if !is_rectified => only,
            _ => {
                let bits = terms
                    .into_iter()
                    .map(|(scale, input)| (scale.to_bits(), input));
                let terms = bits.collect();
                let key = Key::Sum {
                    terms,
                    is_rectified,
                };
                self.number(key, nonnegative || is_rectified)
            }
        }
    }

    fn number(&mut self, key: Key, nonnegative: bool) -> Expression {
        let next = self.nonnegative.len();
        let expression = *self.known.entry(key).or_insert(next);
        if expression == next {
            self.nonnegative.push(nonnegative);
        }
        expression
    }
}

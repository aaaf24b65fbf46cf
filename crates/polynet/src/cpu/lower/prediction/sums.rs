//! Sums of a prediction: which of their terms add themselves as they are stored, and what is added after.

use super::{Compiler, Terms};
use crate::arch::graph::{NodeId, Op};
use crate::cpu::buffers::BufferId;
use crate::cpu::program::{ConvPart, ConvSource, Step, SumStore, ValueStore};
use polynet_kernels::conv::Window;

/// How a sum is made.
pub(super) struct SumPlan {
    /// The term of scale 1 that it begins with, computed before any of the convolutions.
    base: Option<NodeId>,
    /// Convolutions that add their results as they store them, in order, and their scales.
    convs: Vec<(NodeId, f32)>,
    /// Terms that are added at the end.
    rest: Vec<(NodeId, f32)>,
    relu: bool,
    /// The sum so far.
    buffers: Option<Vec<BufferId>>,
    /// Convolutions that are still to come.
    left: usize,
}

impl Compiler<'_> {
    pub(super) fn plan_sum(&mut self, sum: NodeId, scales: &[f32], relu: bool) {
        let inputs = &self.graph.nodes[sum].inputs;
        let is_conv = |input: NodeId| {
            let is_read_once = inputs.iter().filter(|&&other| other == input).count() == 1;
            let conv = self.conv_node(input);
            is_read_once && conv.is_some_and(|conv| !conv.relu) && !self.terms.contains_key(&input)
        };
        let terms = || inputs.iter().copied().zip(scales.iter().copied());
        let first_conv = inputs.iter().copied().filter(|&input| is_conv(input)).min();
        let base = terms()
            .find(|&(input, scale)| {
                let is_early = first_conv.is_none_or(|first| input < first);
                scale == 1.0 && is_early && !is_conv(input)
            })
            .map(|(input, _)| input);
        // Without a base the first convolution makes the sum, so others cannot read its result
        // unless it is not scaled.
        let is_term = |input: NodeId, scale: f32| {
            is_conv(input) && (base.is_some() || scale == 1.0 || self.readers[input].len() == 1)
        };
        let mut convs: Vec<(NodeId, f32)> = terms().filter(|&(i, s)| is_term(i, s)).collect();
        convs.sort_unstable_by_key(|&(input, _)| input);
        let mut base_position = inputs.iter().position(|&input| Some(input) == base);
        let rest = terms()
            .enumerate()
            .filter(|&(position, (input, scale))| {
                !is_term(input, scale)
                    && Some(position) != base_position.take_if(|p| *p == position)
            })
            .map(|(_, term)| term)
            .collect();
        for &(conv, scale) in &convs {
            self.terms.insert(conv, (sum, scale));
        }
        let plan = SumPlan {
            base,
            left: convs.len(),
            convs,
            rest,
            relu,
            buffers: None,
        };
        self.sums.insert(sum, plan);
    }

    /// The terms of a sum that are one convolution with this one, in order: 1×1 and read by nothing
    /// else.
    fn merged_terms(&self, id: NodeId, sum: NodeId) -> Vec<(NodeId, f32)> {
        let can_merge = |other: NodeId| {
            self.conv_of(other).window == Window::POINT && self.readers[other].len() == 1
        };
        let terms = self.sums[&sum].convs.iter().copied();
        if self.merging == Terms::Merged && can_merge(id) {
            terms.filter(|&(other, _)| can_merge(other)).collect()
        } else {
            terms.filter(|&(other, _)| other == id).collect()
        }
    }

    pub(super) fn conv_term(&mut self, id: NodeId, sum: NodeId, scale: f32) {
        let merged = self.merged_terms(id, sum);
        if merged.last().is_none_or(|&(last, _)| last != id) {
            return;
        }
        let plan = &self.sums[&sum];
        let left = plan.left - merged.len();
        let relu = plan.relu && left == 0 && plan.rest.is_empty();
        let base = plan.base.map(|base| self.values[base].clone());
        let addend = plan.buffers.clone().or(base);
        let others: Vec<NodeId> = self.readers[id]
            .iter()
            .copied()
            .filter(|&r| r != sum)
            .collect();
        // A value that others read is stored as it is, so its scale is left to the sum.
        let is_folded = others.is_empty();
        let parts: Vec<ConvPart> = merged
            .iter()
            .map(|&(member, scale)| {
                let factor = if is_folded { scale } else { 1.0 };
                self.conv_of(member).part(factor)
            })
            .collect();
        let inputs = merged
            .iter()
            .flat_map(|&(member, _)| &self.values[self.conv_of(member).input])
            .copied()
            .collect();
        let (value, sum_store, to) = match addend {
            Some(addend) => {
                let to = self.like(&addend);
                let value =
                    (!others.is_empty()).then(|| self.value_beside_sum(id, &others, &addend));
                let store = SumStore {
                    addend,
                    to: to.clone(),
                    scale: if is_folded { 1.0 } else { scale },
                    relu,
                };
                (value, Some(store), to)
            }
            None => {
                let to = vec![self.buffer(self.graph.nodes[id].shape)];
                self.values[id] = to.clone();
                let value = ValueStore {
                    to: to.clone(),
                    relu,
                };
                (Some(value), None, to)
            }
        };
        self.steps.push(Step::FoldedConv {
            source: if parts.len() == 1 {
                ConvSource::SideBySide(parts)
            } else {
                ConvSource::Added(parts)
            },
            window: self.conv_of(id).window,
            inputs,
            value,
            sum: sum_store,
        });
        let plan = self.sums.get_mut(&sum).expect("every sum has a plan");
        plan.buffers = Some(to);
        plan.left = left;
    }

    /// The result of a convolution that others read too. If they all want its ReLU, that is stored.
    fn value_beside_sum(
        &mut self,
        id: NodeId,
        others: &[NodeId],
        parts: &[BufferId],
    ) -> ValueStore {
        let to = self.like(parts);
        let is_relu = |&reader: &NodeId| self.graph.nodes[reader].op == Op::Relu;
        let relu = others.iter().all(is_relu);
        if relu {
            for &reader in others {
                self.values[reader] = to.clone();
            }
        } else {
            self.values[id] = to.clone();
        }
        ValueStore { to, relu }
    }

    /// What no convolution has added.
    pub(super) fn sum(&mut self, id: NodeId) {
        let plan = self.sums.remove(&id).expect("every sum has a plan");
        let base = plan.base.map(|base| self.values[base].clone());
        let mut to = (plan.buffers.or(base)).expect("a sum has an identity or a convolution");
        let count = plan.rest.len();
        for (index, (input, scale)) in plan.rest.into_iter().enumerate() {
            let relu = plan.relu && index + 1 == count;
            let terms = self.regrouped(self.values[input].clone(), &to);
            let results = self.like(&to);
            for ((&term, &addend), &to) in terms.iter().zip(&to).zip(&results) {
                self.steps.push(Step::Add {
                    term,
                    scale,
                    addend,
                    to,
                    relu,
                });
            }
            to = results;
        }
        self.values[id] = to;
    }
}

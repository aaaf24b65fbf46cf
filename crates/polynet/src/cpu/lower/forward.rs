//! The forward half of a training step.

use super::training::{Compiler, Gradient, Part, PartId, Source};
use super::window;
use crate::arch::Activation;
use crate::arch::graph::{NodeId, Op};
use crate::cpu::buffers::{Buffer, BufferId};
use crate::cpu::program::{Slot, Step};
use polynet_kernels::conv::Window;

impl Compiler<'_> {
    pub(super) fn forward(&mut self, id: NodeId) {
        let node = &self.graph.nodes[id];
        let [channels, height, width] = node.shape;
        match &node.op {
            Op::Input => {
                let to = self.buffer(Buffer::map(channels, [height, width]));
                self.steps.push(Step::Input { to });
                self.values[id] = vec![self.kept(to)];
            }
            Op::Conv { .. } => self.conv(id),
            Op::Norm { norm, activation } => {
                let z = self.input(id);
                let z = self.forward_buffers(&z);
                self.values[id] = self.normalized(*norm, &z, activation.is_relu());
            }
            Op::Relu => {
                let input = self.input(id);
                let from = self.forward_buffers(&input);
                self.values[id] = from
                    .into_iter()
                    .map(|from| {
                        let to = self.buffer(self.buffers[from]);
                        self.steps.push(Step::Relu { from, to });
                        self.kept(to)
                    })
                    .collect();
            }
            &Op::Pool { pool, window } => {
                let input = self.input(id);
                for from in self.forward_buffers(&input) {
                    let channels = self.buffers[from].channels;
                    let to = self.buffer(Buffer::map(channels, [height, width]));
                    self.steps.push(Step::Pool {
                        pool: pool.into(),
                        window: window.into(),
                        from,
                        to,
                    });
                    let part = self.kept(to);
                    self.values[id].push(part);
                }
            }
            Op::Bias { bias, activation } => {
                let input = self.input(id);
                let from = self.forward_buffers(&input);
                let mut first_channel = 0;
                for from in from {
                    let to = self.buffer(self.buffers[from]);
                    self.steps.push(Step::Bias {
                        bias: *bias,
                        first_channel,
                        from,
                        to,
                        relu: activation.is_relu(),
                    });
                    first_channel += self.buffers[from].channels;
                    let part = self.kept(to);
                    self.values[id].push(part);
                }
            }
            Op::Concat => {
                let inputs = self.inputs(id);
                let parts = inputs.iter().flat_map(|&(input, _)| &self.values[input]);
                self.values[id] = parts.copied().collect();
            }
            Op::Sum { activation, .. } => self.sum(id, *activation),
            Op::AveragePool => {
                let input = self.input(id);
                let from = self.forward_buffers(&input);
                self.values[id] = from
                    .into_iter()
                    .map(|from| {
                        let channels = self.buffers[from].channels;
                        let to = self.row_of_images(channels);
                        self.steps.push(Step::AveragePool { from, to });
                        self.kept(to)
                    })
                    .collect();
            }
            Op::Dropout { .. } => {
                let parts = self.input(id);
                let buffers = self.forward_buffers(&parts);
                self.steps.push(Step::Dropout {
                    index: self.dropouts,
                    parts: buffers,
                });
                self.dropouts += 1;
                self.values[id] = parts;
            }
            Op::Linear => {
                let inputs = self.input(id);
                let inputs = self.forward_buffers(&inputs);
                let to = self.row_of_images(channels);
                self.steps.push(Step::Linear { inputs, to });
                self.steps.push(Step::Loss { logits: to });
                self.values[id] = vec![self.kept(to)];
            }
        }
        for (input, _) in self.inputs(id) {
            for part in self.values[input].clone() {
                self.parts[part].readers += 1;
            }
        }
    }

    pub(super) fn row_of_images(&mut self, channels: usize) -> BufferId {
        self.buffer(Buffer::row_of_images(channels))
    }

    /// The parts of a batch norm's result, none of them made yet.
    pub(super) fn normalized(&mut self, norm: usize, z: &[BufferId], relu: bool) -> Vec<PartId> {
        let parts: Vec<(BufferId, Slot)> = z
            .iter()
            .enumerate()
            .map(|(index, &z)| (z, self.slots + index))
            .collect();
        self.slots += parts.len();
        self.steps.push(Step::Moments {
            norm,
            parts: parts.clone(),
            relu,
            is_first: self.is_first,
        });
        parts
            .into_iter()
            .map(|(z, slot)| {
                self.parts.push(Part {
                    buffer: self.buffers[z],
                    forward: None,
                    source: Source::Normalized { slot, z, relu },
                    backward: None,
                    gradient: Gradient::None,
                    readers: 0,
                });
                self.parts.len() - 1
            })
            .collect()
    }

    pub(super) fn window(&self, id: NodeId) -> Window {
        let Op::Conv {
            weight,
            stride,
            padding,
            ..
        } = self.graph.nodes[id].op
        else {
            unreachable!("the node is a convolution")
        };
        window(self.graph, weight, stride, padding)
    }

    /// The channels of the parts that a convolution's result must have: those of the map that it is
    /// added to.
    fn result_parts(&self, id: NodeId) -> Vec<usize> {
        let readers = |id: NodeId| self.readers[id].iter().copied();
        let is_bias = |&reader: &NodeId| matches!(self.graph.nodes[reader].op, Op::Bias { .. });
        let biases = readers(id).filter(is_bias).flat_map(readers);
        for sum in readers(id).chain(biases) {
            if !matches!(self.graph.nodes[sum].op, Op::Sum { .. }) {
                continue;
            }
            for (input, _) in self.inputs(sum) {
                if !self.values[input].is_empty() {
                    return self.channels(input);
                }
            }
        }
        vec![self.graph.nodes[id].shape[0]]
    }

    /// The channels of a value's parts.
    pub(super) fn channels(&self, id: NodeId) -> Vec<usize> {
        let parts = self.values[id].iter();
        parts
            .map(|&part| self.parts[part].buffer.channels)
            .collect()
    }

    fn conv(&mut self, id: NodeId) {
        let node = &self.graph.nodes[id];
        let &Op::Conv {
            weight,
            norm,
            activation,
            ..
        } = &node.op
        else {
            unreachable!("the node is a convolution")
        };
        let [_, height, width] = node.shape;
        let inputs = self.input(id);
        let inputs = self.forward_buffers(&inputs);
        let segments = self.result_parts(id);
        let z: Vec<BufferId> = segments
            .into_iter()
            .map(|channels| self.buffer(Buffer::map(channels, [height, width])))
            .collect();
        self.steps.push(Step::Conv {
            weight,
            window: self.window(id),
            inputs,
            to: z.clone(),
        });
        self.products[id].clone_from(&z);
        self.values[id] = match norm {
            Some(norm) => self.normalized(norm, &z, activation.is_relu()),
            None => {
                assert!(
                    !activation.is_relu(),
                    "a convolution with ReLU has batch norm"
                );
                z.into_iter().map(|z| self.kept(z)).collect()
            }
        };
    }

    fn sum(&mut self, id: NodeId, activation: Activation) {
        let inputs = self.inputs(id);
        // The identity first: it is what the others are added to.
        let mut order: Vec<(NodeId, f32)> = inputs;
        let is_base = |&(input, scale): &(NodeId, f32)| scale == 1.0 && self.is_materialized(input);
        if let Some(base) = order.iter().position(is_base) {
            order.swap(0, base);
        }
        let channels = self.channels(order[0].0);
        let terms: Vec<(Vec<PartId>, f32)> = order
            .iter()
            .map(|&(input, scale)| (self.regrouped(input, &channels), scale))
            .collect();
        self.values[id] = (0..channels.len())
            .map(|index| {
                let mut sum: Option<BufferId> = None;
                for (position, (parts, scale)) in terms.iter().enumerate() {
                    let (part, scale) = (parts[index], *scale);
                    let relu = activation.is_relu() && position + 1 == terms.len();
                    let is_first = position == 0 && scale == 1.0 && terms.len() > 1;
                    if is_first && self.parts[part].forward.is_some() {
                        sum = self.parts[part].forward;
                        continue;
                    }
                    sum =
                        Some(self.add_term(part, scale, sum, position == 1 || sum.is_none(), relu));
                }
                let sum = sum.expect("a sum has terms");
                self.kept(sum)
            })
            .collect();
    }

    /// The parts of a value, copied if its channels are to be divided otherwise.
    fn regrouped(&mut self, id: NodeId, channels: &[usize]) -> Vec<PartId> {
        let parts = self.values[id].clone();
        if self.channels(id) == channels {
            return parts;
        }
        let from = self.forward_buffers(&parts);
        let size = self.buffers[from[0]].size;
        let to: Vec<BufferId> = channels
            .iter()
            .map(|&channels| self.buffer(Buffer::map(channels, size)))
            .collect();
        self.steps.push(Step::Regroup {
            from,
            to: to.clone(),
        });
        to.into_iter().map(|to| self.kept(to)).collect()
    }

    /// Whether a value's parts lie in buffers.
    fn is_materialized(&self, node: NodeId) -> bool {
        let parts = &self.values[node];
        parts.iter().all(|&part| self.parts[part].forward.is_some())
    }

    /// Adds a term to a sum, in a new buffer if the sum so far is not its own.
    fn add_term(
        &mut self,
        part: PartId,
        scale: f32,
        sum: Option<BufferId>,
        is_new: bool,
        relu: bool,
    ) -> BufferId {
        let to = match sum {
            Some(sum) if !is_new => sum,
            _ => self.buffer(self.parts[part].buffer),
        };
        match (self.parts[part].source, sum) {
            (
                Source::Normalized {
                    slot,
                    z,
                    relu: false,
                },
                addend,
            ) => {
                self.steps.push(Step::AddNormalized {
                    slot,
                    z,
                    factor: scale,
                    addend,
                    to,
                    relu,
                });
            }
            (_, Some(addend)) => {
                let term = self.forward_buffer(part);
                self.steps.push(Step::Add {
                    term,
                    scale,
                    addend,
                    to,
                    relu,
                });
            }
            (_, None) => {
                let term = self.forward_buffer(part);
                self.steps.push(Step::Clear { to });
                self.steps.push(Step::Add {
                    term,
                    scale,
                    addend: to,
                    to,
                    relu,
                });
            }
        }
        to
    }
}

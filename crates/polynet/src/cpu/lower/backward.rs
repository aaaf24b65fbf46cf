//! The backward half of a training step.

use super::training::{Compiler, Gradient, PartId, Source};
use crate::arch::Activation;
use crate::arch::graph::{NodeId, Op, Pool};
use crate::cpu::buffers::{Buffer, BufferId};
use crate::cpu::program::{NormPart, Step};

impl Compiler<'_> {
    /// The buffer of a part's gradient to add to, and whether it has content.
    fn gradient_buffer(&mut self, part: PartId) -> (BufferId, bool) {
        match self.parts[part].gradient {
            Gradient::Own(buffer) => (buffer, true),
            Gradient::None => {
                let buffer = self.buffer(self.parts[part].buffer);
                self.parts[part].gradient = Gradient::Own(buffer);
                (buffer, false)
            }
            Gradient::Scaled(gradient, scale) => {
                let to = self.buffer(self.parts[part].buffer);
                self.steps.push(Step::Gate {
                    gradient,
                    scale,
                    gate: None,
                    to,
                    add: false,
                });
                self.parts[part].gradient = Gradient::Own(to);
                (to, true)
            }
        }
    }

    /// Buffers of gradients that are all stored or all added to.
    fn gradient_buffers(&mut self, parts: &[PartId]) -> (Vec<BufferId>, bool) {
        let found: Vec<(BufferId, bool)> = parts
            .iter()
            .map(|&part| self.gradient_buffer(part))
            .collect();
        let add = found.iter().any(|&(_, has_content)| has_content);
        for &(to, has_content) in &found {
            if add && !has_content {
                self.steps.push(Step::Clear { to });
            }
        }
        (found.into_iter().map(|(buffer, _)| buffer).collect(), add)
    }

    /// The gradients of a node's result, or nothing if none reached it.
    fn result_gradients(&mut self, id: NodeId) -> Option<Vec<BufferId>> {
        let parts = self.values[id].clone();
        let is_none = |part: &PartId| matches!(self.parts[*part].gradient, Gradient::None);
        if parts.iter().all(is_none) {
            return None;
        }
        let buffers = parts.iter().map(|&part| {
            let (buffer, has_content) = self.gradient_buffer(part);
            if !has_content {
                self.steps.push(Step::Clear { to: buffer });
            }
            buffer
        });
        Some(buffers.collect())
    }

    pub(super) fn backward(&mut self, id: NodeId) {
        let node = &self.graph.nodes[id];
        match &node.op {
            Op::Input | Op::Concat => {}
            Op::Conv { .. } => self.conv_backward(id),
            Op::Norm { norm, .. } => {
                let Some(dy) = self.result_gradients(id) else {
                    return;
                };
                let input = self.input(id);
                let dz = dy.clone();
                self.norm_backward(id, *norm, &dy, &dz, 1.0);
                self.add_gradients(&input, &dz);
            }
            Op::Relu => {
                let Some(gradients) = self.result_gradients(id) else {
                    return;
                };
                let results = self.values[id].clone();
                for ((part, result), gradient) in
                    self.input(id).into_iter().zip(results).zip(gradients)
                {
                    let gate = Some(self.backward_buffer(result));
                    let (to, add) = self.gradient_buffer(part);
                    self.steps.push(Step::Gate {
                        gradient,
                        scale: 1.0,
                        gate,
                        to,
                        add,
                    });
                }
            }
            &Op::Pool { pool, window } => {
                let Some(gradients) = self.result_gradients(id) else {
                    return;
                };
                let window = window.into();
                for (part, gradient) in self.input(id).into_iter().zip(gradients) {
                    let from = (pool == Pool::Max).then(|| self.backward_buffer(part));
                    let (to, has_content) = self.gradient_buffer(part);
                    if !has_content {
                        self.steps.push(Step::Clear { to });
                    }
                    self.steps.push(match from {
                        Some(from) => Step::MaxPoolGradient {
                            window,
                            from,
                            gradient,
                            to,
                        },
                        None => Step::MeanPoolGradient {
                            window,
                            gradient,
                            to,
                        },
                    });
                }
            }
            Op::Bias { bias, activation } => {
                let Some(gradients) = self.result_gradients(id) else {
                    return;
                };
                if activation.is_relu() {
                    self.gate_results(id, &gradients);
                }
                self.steps.push(Step::BiasGradient {
                    bias: *bias,
                    parts: gradients.clone(),
                });
                let input = self.input(id);
                self.add_gradients(&input, &gradients);
            }
            Op::Sum { activation, .. } => self.sum_backward(id, *activation),
            Op::AveragePool => {
                let Some(gradients) = self.result_gradients(id) else {
                    return;
                };
                for (part, gradient) in self.input(id).into_iter().zip(gradients) {
                    let (to, add) = self.gradient_buffer(part);
                    self.steps
                        .push(Step::AveragePoolGradient { gradient, to, add });
                }
            }
            Op::Dropout { .. } => {
                self.dropouts -= 1;
                let Some(parts) = self.result_gradients(id) else {
                    return;
                };
                self.steps.push(Step::Dropout {
                    index: self.dropouts,
                    parts,
                });
            }
            Op::Linear => {
                let gradient = self.parts[self.values[id][0]]
                    .forward
                    .expect("logits are kept");
                let parts = self.input(id);
                let inputs = self.backward_buffers(&parts);
                let (to, _) = self.gradient_buffers(&parts);
                self.steps.push(Step::LinearGradient {
                    inputs,
                    gradient,
                    to,
                });
            }
        }
    }

    /// Adds gradients to those of parts.
    fn add_gradients(&mut self, parts: &[PartId], gradients: &[BufferId]) {
        for (&part, &gradient) in parts.iter().zip(gradients) {
            let (to, add) = self.gradient_buffer(part);
            self.steps.push(Step::Gate {
                gradient,
                scale: 1.0,
                gate: None,
                to,
                add,
            });
        }
    }

    fn norm_backward(
        &mut self,
        id: NodeId,
        norm: usize,
        dy: &[BufferId],
        dz: &[BufferId],
        factor: f32,
    ) {
        let results = self.values[id].clone();
        let parts = results
            .iter()
            .zip(dy.iter().zip(dz))
            .map(|(&part, (&dy, &dz))| match self.parts[part].source {
                Source::Normalized { slot, z, .. } => NormPart { slot, z, dy, dz },
                Source::Kept => unreachable!("the result of a batch norm"),
            })
            .collect();
        self.steps.push(Step::NormGradient {
            norm,
            parts,
            factor,
        });
    }

    fn conv_backward(&mut self, id: NodeId) {
        let &Op::Conv { weight, norm, .. } = &self.graph.nodes[id].op else {
            unreachable!("the node is a convolution")
        };
        let results = self.values[id].clone();
        let scaled: Option<Vec<(BufferId, f32)>> = results
            .iter()
            .map(|&part| match self.parts[part].gradient {
                Gradient::Scaled(buffer, factor) => Some((buffer, factor)),
                _ => None,
            })
            .collect();
        let dz = match (scaled, norm) {
            (Some(scaled), Some(norm)) => {
                let (dy, factor): (Vec<BufferId>, f32) = (
                    scaled.iter().map(|&(buffer, _)| buffer).collect(),
                    scaled[0].1,
                );
                let dz: Vec<BufferId> =
                    dy.iter().map(|&dy| self.buffer(self.buffers[dy])).collect();
                self.norm_backward(id, norm, &dy, &dz, factor);
                dz
            }
            (Some(scaled), None) if scaled.iter().all(|&(_, factor)| factor == 1.0) => {
                scaled.into_iter().map(|(buffer, _)| buffer).collect()
            }
            (_, norm) => {
                let Some(dy) = self.result_gradients(id) else {
                    return;
                };
                if let Some(norm) = norm {
                    let dz = dy.clone();
                    self.norm_backward(id, norm, &dy, &dz, 1.0);
                }
                dy
            }
        };
        let window = self.window(id);
        let input = self.input(id);
        let inputs = self.backward_buffers(&input);
        self.steps.push(Step::WeightGradient {
            weight,
            window,
            inputs,
            outputs: dz.clone(),
        });
        if matches!(self.graph.nodes[self.inputs(id)[0].0].op, Op::Input) {
            return;
        }
        let (to, add) = self.gradient_buffers(&input);
        self.steps.push(Step::InputGradient {
            weight,
            window,
            gradients: dz,
            to,
            add,
        });
    }

    /// Keeps a node's gradients where its result, which ends with ReLU, is positive.
    fn gate_results(&mut self, id: NodeId, gradients: &[BufferId]) {
        for (result, &gradient) in self.values[id].clone().into_iter().zip(gradients) {
            let gate = Some(self.backward_buffer(result));
            self.steps.push(Step::Gate {
                gradient,
                scale: 1.0,
                gate,
                to: gradient,
                add: false,
            });
        }
    }

    /// A gradient with its channels divided as those of a value.
    fn regrouped_gradients(&mut self, id: NodeId, gradients: &[BufferId]) -> Vec<BufferId> {
        let channels = self.channels(id);
        let found = gradients
            .iter()
            .map(|&gradient| self.buffers[gradient].channels);
        if found.eq(channels.iter().copied()) {
            return gradients.to_vec();
        }
        let size = self.buffers[gradients[0]].size;
        let to: Vec<BufferId> = channels
            .iter()
            .map(|&channels| self.buffer(Buffer::map(channels, size)))
            .collect();
        self.steps.push(Step::Regroup {
            from: gradients.to_vec(),
            to: to.clone(),
        });
        to
    }

    fn sum_backward(&mut self, id: NodeId, activation: Activation) {
        let Some(gradients) = self.result_gradients(id) else {
            return;
        };
        if activation.is_relu() {
            self.gate_results(id, &gradients);
        }
        for (input, scale) in self.inputs(id) {
            let gradients = self.regrouped_gradients(input, &gradients);
            let is_conv = matches!(self.graph.nodes[input].op, Op::Conv { .. });
            for (part, &gradient) in self.values[input].clone().into_iter().zip(&gradients) {
                let is_alone = is_conv && self.parts[part].readers == 1;
                if is_alone {
                    self.parts[part].gradient = Gradient::Scaled(gradient, scale);
                    continue;
                }
                let (to, add) = self.gradient_buffer(part);
                self.steps.push(Step::Gate {
                    gradient,
                    scale,
                    gate: None,
                    to,
                    add,
                });
            }
        }
    }
}

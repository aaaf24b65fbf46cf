//! The steps of a program on an arena.

use super::compiled::{Packing, StepInput};
use crate::arch::graph::Graph;
use crate::cpu::program::{Step, Transforms};
use crate::cpu::shared::{self, channels, of};
use crate::step::Gradients;
use polynet_kernels::conv::{Conv, InputGradient, Value, Window, Winograd, weight_gradient};
use polynet_kernels::layout::{Arena, View};
use polynet_kernels::map::{self, Affine};
use polynet_kernels::norm::{Applied, moments};
use polynet_kernels::{Element, Isa, pool};

/// The pixels of a map, of all its images.
fn pixels(views: &[View]) -> usize {
    let [height, width] = views[0].size();
    views[0].images() * height * width
}

/// A program's steps so far.
pub(super) struct Run<'a, E: Element> {
    pub(super) isa: Isa,
    pub(super) images: usize,
    pub(super) views: &'a [View],
    pub(super) maps: &'a mut Arena<E>,
    pub(super) rows: &'a mut Arena,
    pub(super) transforms: Transforms,
    pub(super) packing: &'a mut Packing<E>,
    pub(super) graph: &'a Graph,
    pub(super) input: &'a StepInput<'a>,
    pub(super) applied: Vec<Option<Applied>>,
    pub(super) output: Gradients,
}

impl<E: Element> Run<'_, E> {
    fn views(&self, ids: &[usize]) -> Vec<View> {
        of(self.views, ids)
    }

    pub(super) fn is_frozen_norm(&self, norm: usize) -> bool {
        self.input.frozen.contains_norm(self.graph, norm)
    }

    /// Adds to the gradient of a tensor, which several evaluations may use.
    pub(super) fn add_gradient(&mut self, index: usize, gradient: Vec<f32>) {
        match &mut self.output.tensors[index] {
            Some(sum) => {
                for (sum, value) in sum.iter_mut().zip(gradient) {
                    *sum += value;
                }
            }
            none => *none = Some(gradient),
        }
    }

    /// Makes a step.
    pub(super) fn step(&mut self, step: &Step) {
        let isa = self.isa;
        match step {
            Step::Clear { to } => map::clear(self.maps, &self.views[*to]),
            Step::Conv {
                weight,
                window,
                inputs,
                to,
            } => self.conv(*weight, *window, inputs, to),
            Step::Moments {
                norm, parts, relu, ..
            } if self.is_frozen_norm(*norm) => self.apply_frozen_norm(*norm, parts, *relu),
            Step::Moments {
                norm,
                parts,
                relu,
                is_first,
            } => {
                let moments = self.moments(parts);
                self.apply_norm(*norm, parts, *relu, &moments);
                if *is_first {
                    self.output.statistics.push(moments.statistics(*norm));
                }
            }
            Step::Normalize { slot, z, to } => {
                let (z, to) = (&self.views[*z], &self.views[*to]);
                self.applied[*slot]
                    .as_ref()
                    .expect("the statistics come first")
                    .forward(isa, self.maps, z, to);
            }
            Step::AddNormalized {
                slot,
                z,
                factor,
                addend,
                to,
                relu,
            } => {
                let addend = addend.map(|addend| &self.views[addend]);
                self.applied[*slot]
                    .as_ref()
                    .expect("the statistics come first")
                    .add_forward(
                        isa,
                        self.maps,
                        (*factor, &self.views[*z]),
                        addend,
                        (&self.views[*to], *relu),
                    );
            }
            Step::Relu { from, to } => {
                let [from, to] = [from, to].map(|id| self.views[*id]);
                map::gate(isa, self.maps, (1.0, &from), Some(&from), &to, false);
            }
            Step::Bias {
                bias,
                first_channel,
                from,
                to,
                relu,
            } => {
                let [from, to] = [from, to].map(|id| self.views[*id]);
                let shift = &self.input.params[self.graph.bias_tensor(*bias)];
                let shift = &shift[*first_channel..first_channel + from.channels()];
                let affine = Affine::new(&vec![1.0; shift.len()], shift);
                affine.apply(isa, self.maps, &from, &to, *relu);
            }
            Step::AveragePool { from, to } => {
                let [from, to] = [from, to].map(|id| self.views[*id]);
                pool::average_pool_into(isa, (self.maps, &from), (self.rows, &to));
            }
            Step::Dropout { index, parts } => self.dropout(*index, parts),
            Step::Linear { inputs, to } => self.linear(inputs, *to),
            Step::Loss { logits } => self.loss(*logits),
            step => self.gradient_step(step),
        }
    }

    fn gradient_step(&mut self, step: &Step) {
        let isa = self.isa;
        match step {
            Step::LinearGradient {
                inputs,
                gradient,
                to,
            } => self.linear_gradient(inputs, *gradient, to),
            Step::AveragePoolGradient { gradient, to, add } => {
                let [gradient, to] = [gradient, to].map(|id| self.views[*id]);
                let maps = (&mut *self.maps, &to);
                pool::average_pool_gradient(isa, (self.rows, &gradient), maps, *add);
            }
            Step::MaxPoolGradient {
                window,
                from,
                gradient,
                to,
            } => {
                let [from, gradient, to] = [from, gradient, to].map(|id| self.views[*id]);
                pool::max_pool_gradient(isa, *window, self.maps, (&from, &gradient), &to);
            }
            Step::MeanPoolGradient {
                window,
                gradient,
                to,
            } => {
                let [gradient, to] = [gradient, to].map(|id| self.views[*id]);
                pool::mean_pool_gradient(isa, *window, self.maps, &gradient, &to);
            }
            Step::BiasGradient { bias, .. }
                if self.input.frozen.contains(self.graph.bias_tensor(*bias)) => {}
            Step::BiasGradient { bias, parts } => {
                let mut sums = Vec::new();
                for &part in parts {
                    let view = &self.views[part];
                    let [height, width] = view.size();
                    let count = (view.images() * height * width) as f64;
                    let (mean, _) = moments(isa, self.maps, view);
                    sums.extend(mean.iter().map(|mean| (mean * count) as f32));
                }
                let index = self.graph.bias_tensor(*bias);
                self.add_gradient(index, sums);
            }
            Step::Gate {
                gradient,
                scale,
                gate,
                to,
                add,
            } => {
                let [gradient, to] = [gradient, to].map(|id| self.views[*id]);
                let gate = gate.map(|gate| &self.views[gate]);
                map::gate(isa, self.maps, (*scale, &gradient), gate, &to, *add);
            }
            Step::NormGradient {
                norm,
                parts,
                factor,
            } => self.norm_gradient(*norm, parts, f64::from(*factor)),
            Step::WeightGradient { weight, .. } if self.input.frozen.contains(*weight) => {}
            Step::WeightGradient {
                weight,
                window,
                inputs,
                outputs,
            } => {
                let (inputs, outputs) = (self.views(inputs), self.views(outputs));
                let of_weights = match self.transforms.apply(*window) {
                    true => Winograd::weight_gradient,
                    false => weight_gradient,
                };
                let gradient = of_weights(isa, *window, self.maps, &inputs, &outputs);
                self.add_gradient(*weight, gradient);
            }
            Step::InputGradient {
                weight,
                window,
                gradients,
                to,
                add,
            } => {
                let (gradients, to) = (self.views(gradients), self.views(to));
                let segments = [&channels(&to)[..], &channels(&gradients)[..]];
                let weights = &self.input.params[*weight];
                let memory = std::mem::take(&mut self.packing.input_gradient);
                let conv = if self.transforms.apply(*window) {
                    let layer = (*window, pixels(&to));
                    InputGradient::transformed_in(memory, isa, layer, segments, weights)
                } else {
                    InputGradient::pack_in(memory, isa, *window, segments, weights)
                };
                conv.run(self.maps, &gradients, &to, *add);
                self.packing.input_gradient = conv.into_memory();
            }
            step => shared::run(step, isa, (self.views, self.maps), self.input.images),
        }
    }

    fn conv(&mut self, weight: usize, window: Window, inputs: &[usize], to: &[usize]) {
        let (inputs, to) = (self.views(inputs), self.views(to));
        let segments = [&channels(&inputs)[..], &channels(&to)[..]];
        let zeros = vec![0.0; to.iter().map(View::channels).sum()];
        let weights = &self.input.params[weight];
        let value = Value {
            to: &to,
            relu: false,
        };
        if self.transforms.apply(window) {
            let memory = std::mem::take(&mut self.packing.transformed);
            let layer = (window, pixels(&to));
            let conv = Winograd::pack_in(memory, self.isa, layer, segments, weights, &zeros);
            conv.run(self.maps, &inputs, value.into());
            self.packing.transformed = conv.into_memory();
        } else {
            let memory = std::mem::take(&mut self.packing.conv);
            let conv = Conv::pack_in(memory, self.isa, window, segments, weights, &zeros);
            conv.run(self.maps, &inputs, value.into());
            self.packing.conv = conv.into_memory();
        }
    }

    /// Multiplies the features, in the parts of a row of images, by a mask `[images, features]`.
    fn dropout(&mut self, index: usize, parts: &[usize]) {
        let mask = &self.input.masks[index];
        let features = mask.len() / self.images;
        let mut first = 0;
        for &part in parts {
            let view = &self.views[part];
            let mut values = view.read_nchw(self.rows);
            for (channel, values) in values.chunks_exact_mut(self.images).enumerate() {
                for (image, value) in values.iter_mut().enumerate() {
                    *value *= mask[image * features + first + channel];
                }
            }
            view.write_nchw(self.rows, &values);
            first += view.channels();
        }
    }

    fn linear(&mut self, inputs: &[usize], to: usize) {
        let (inputs, to) = (self.views(inputs), [self.views[to]]);
        let index = self.graph.linear_tensor();
        let conv = Conv::pack(
            self.isa,
            Window::POINT,
            [&channels(&inputs), &channels(&to)],
            &self.input.params[index],
            &self.input.params[index + 1],
        );
        let value = Value {
            to: &to,
            relu: false,
        };
        conv.run(self.rows, &inputs, value.into());
    }

    /// Mean cross-entropy against the targets; `softmax(logits) · Σ target − target`, over the number
    /// of images that the gradient is the mean of, replaces the logits.
    fn loss(&mut self, logits: usize) {
        let view = &self.views[logits];
        let by_class = view.read_nchw(self.rows);
        let (images, classes) = (self.images, view.channels());
        let mut gradient = vec![0.0; by_class.len()];
        let mut logits = Vec::with_capacity(by_class.len());
        let mut loss = 0.0;
        for image in 0..images {
            let row: Vec<f64> = (0..classes)
                .map(|class| f64::from(by_class[class * images + image]))
                .collect();
            logits.extend(row.iter().map(|logit| *logit as f32));
            let highest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|logit| (logit - highest).exp()).sum();
            let log_sum = sum.ln() + highest;
            let targets = &self.input.targets[image * classes..(image + 1) * classes];
            let total: f64 = targets.iter().copied().map(f64::from).sum();
            for (class, (logit, &target)) in row.iter().zip(targets).enumerate() {
                let target = f64::from(target);
                let log_probability = logit - log_sum;
                loss -= target * log_probability;
                let slope = log_probability.exp() * total - target;
                gradient[class * images + image] = (slope / self.input.total as f64) as f32;
            }
        }
        view.write_nchw(self.rows, &gradient);
        self.output.loss = loss / images as f64;
        self.output.logits = logits;
    }

    fn linear_gradient(&mut self, inputs: &[usize], gradient: usize, to: &[usize]) {
        let (inputs, to) = (self.views(inputs), self.views(to));
        let gradients = [self.views[gradient]];
        let index = self.graph.linear_tensor();
        let weights = weight_gradient(self.isa, Window::POINT, self.rows, &inputs, &gradients);
        let bias = gradients[0]
            .read_nchw(self.rows)
            .chunks_exact(self.images)
            .map(|row| row.iter().copied().map(f64::from).sum::<f64>() as f32)
            .collect();
        let segments = [&channels(&to)[..], &channels(&gradients)[..]];
        let classifier = &self.input.params[index];
        let conv = InputGradient::pack(self.isa, Window::POINT, segments, classifier);
        conv.run(self.rows, &gradients, &to, false);
        if !self.input.frozen.contains(index) {
            self.add_gradient(index, weights);
            self.add_gradient(index + 1, bias);
        }
    }
}

//! Batch norm among a program's steps.

use super::run::Run;
use crate::cpu::buffers::BufferId;
use crate::cpu::program::{NormPart, Slot};
use crate::step::NormStatistics;
use polynet_kernels::Element;
use polynet_kernels::norm::{self, Applied, GradientSums};
use std::ops::Range;

/// Of each channel that a batch norm sees, over all images and pixels that it sees.
pub(super) struct Moments {
    pub(super) mean: Vec<f64>,
    /// Over `count`.
    pub(super) var: Vec<f64>,
    /// Values of a channel.
    pub(super) count: f64,
}

impl Moments {
    /// As running statistics take them.
    pub(super) fn statistics(&self, norm: usize) -> NormStatistics {
        let unbiased = self.count / (self.count - 1.0).max(1.0);
        let mean = self.mean.iter().map(|mean| *mean as f32);
        let var = self.var.iter().map(|var| (var * unbiased) as f32);
        NormStatistics {
            norm,
            mean: mean.collect(),
            unbiased_var: var.collect(),
        }
    }
}

impl<E: Element> Run<'_, E> {
    /// The moments of a map.
    pub(super) fn moments(&self, parts: &[(BufferId, Slot)]) -> Moments {
        let (mut means, mut variances) = (Vec::new(), Vec::new());
        let mut count = 0.0;
        for &(z, _) in parts {
            let z = &self.views[z];
            let (mean, var) = norm::moments(self.isa, self.maps, z);
            means.extend(mean);
            variances.extend(var);
            let [height, width] = z.size();
            count = (z.images() * height * width) as f64;
        }
        Moments {
            mean: means,
            var: variances,
            count,
        }
    }

    /// Sets the slots of a batch norm by the moments of its map.
    pub(super) fn apply_norm(
        &mut self,
        norm: usize,
        parts: &[(BufferId, Slot)],
        relu: bool,
        moments: &Moments,
    ) {
        let tensors = self.graph.norm_tensors(norm);
        let [weight, bias, ..] = tensors.map(|index| &self.input.params[index]);
        for (slot, channels) in self.channels_of(parts) {
            let parameters = (&weight[channels.clone()], &bias[channels.clone()]);
            let mean = moments.mean[channels.clone()].to_vec();
            let moments = (mean, &moments.var[channels]);
            let applied = Applied::new(parameters, moments, self.graph.norm_epsilon, relu);
            self.applied[slot] = Some(applied);
        }
    }

    /// Sets the slots of a batch norm by its running statistics.
    pub(super) fn apply_frozen_norm(
        &mut self,
        norm: usize,
        parts: &[(BufferId, Slot)],
        relu: bool,
    ) {
        let running = self.graph.norm_tensors(norm).map(|index| {
            let values = self.input.params[index].iter().copied();
            values.map(f64::from).collect::<Vec<f64>>()
        });
        let [_, _, mean, var] = running;
        let moments = Moments {
            mean,
            var,
            count: 0.0,
        };
        self.apply_norm(norm, parts, relu, &moments);
    }

    /// The slots of a map's parts, each with its channels.
    fn channels_of(&self, parts: &[(BufferId, Slot)]) -> Vec<(Slot, Range<usize>)> {
        let mut start = 0;
        let slots = parts.iter().map(|&(z, slot)| {
            let end = start + self.views[z].channels();
            let channels = start..end;
            start = end;
            (slot, channels)
        });
        slots.collect()
    }

    fn applied(&self, slot: Slot) -> &Applied {
        let applied = self.applied[slot].as_ref();
        applied.expect("the statistics come first")
    }

    /// A batch norm's backward pass by the images of this run alone.
    pub(super) fn norm_gradient(&mut self, norm: usize, parts: &[NormPart], factor: f64) {
        let isa = self.isa;
        if self.is_frozen_norm(norm) {
            for &NormPart { slot, z, dy, dz } in parts {
                let [z, dy, dz] = [z, dy, dz].map(|id| &self.views[id]);
                let applied = self.applied[slot].as_ref();
                let applied = applied.expect("the statistics come first");
                applied.backward_fixed(isa, self.maps, (z, dy, dz), factor);
            }
            return;
        }
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for &NormPart { slot, z, dy, dz } in parts {
            let [z, dy, dz] = [z, dy, dz].map(|id| &self.views[id]);
            let applied = self.applied[slot].as_ref();
            let applied = applied.expect("the statistics come first");
            let gradients = applied.backward(isa, self.maps, (z, dy, dz), factor);
            weight.extend(gradients.weight);
            bias.extend(gradients.bias);
        }
        self.add_norm_gradients(norm, weight, bias);
    }

    fn add_norm_gradients(&mut self, norm: usize, weight: Vec<f32>, bias: Vec<f32>) {
        let [weight_tensor, bias_tensor, ..] = self.graph.norm_tensors(norm);
        self.add_gradient(weight_tensor, weight);
        self.add_gradient(bias_tensor, bias);
    }

    /// The first half of a batch norm's backward pass over several runs: this run's sums.
    pub(super) fn norm_gradient_sums(&self, parts: &[NormPart], factor: f64) -> GradientSums {
        let mut all = GradientSums {
            gradients: Vec::new(),
            products: Vec::new(),
        };
        for &NormPart { slot, z, dy, .. } in parts {
            let views = (&self.views[z], &self.views[dy]);
            let applied = self.applied(slot);
            let sums = applied.gradient_sums(self.isa, self.maps, views, factor);
            all.gradients.extend(sums.gradients);
            all.products.extend(sums.products);
        }
        all
    }

    /// The second half: the gradients of the parameters from this run's sums, and that of `z` from
    /// those of all `count` values of a channel.
    pub(super) fn norm_gradient_from(
        &mut self,
        norm: usize,
        parts: &[NormPart],
        factor: f64,
        (own, all): (&GradientSums, &GradientSums),
        count: f64,
    ) {
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        let slots: Vec<(BufferId, Slot)> = parts.iter().map(|part| (part.z, part.slot)).collect();
        for (&NormPart { z, dy, dz, .. }, (slot, channels)) in
            parts.iter().zip(self.channels_of(&slots))
        {
            let of_part = |sums: &GradientSums| GradientSums {
                gradients: sums.gradients[channels.clone()].to_vec(),
                products: sums.products[channels.clone()].to_vec(),
            };
            let [z, dy, dz] = [z, dy, dz].map(|id| &self.views[id]);
            let applied = self.applied[slot].as_ref();
            let applied = applied.expect("the statistics come first");
            let sums = (&of_part(all), count);
            applied.backward_from(self.isa, self.maps, (z, dy, dz), factor, sums);
            let gradients = applied.parameter_gradients(&of_part(own));
            weight.extend(gradients.weight);
            bias.extend(gradients.bias);
        }
        self.add_norm_gradients(norm, weight, bias);
    }
}

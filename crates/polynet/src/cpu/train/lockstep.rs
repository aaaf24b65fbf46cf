//! Several parts of a batch, step by step, with the statistics of their batch norms in common.
//!
//! Between two batch norms each part makes its steps by itself. At a batch norm a part gives a row of
//! numbers for each channel: mean and variance forward, `Σ g` and `Σ g · (z − mean)` backward. The rows
//! of all parts, here and elsewhere, are merged in the order of the parts.

use super::norm::Moments;
use super::run::Run;
use crate::arch::graph::Graph;
use crate::cpu::lower::Training;
use crate::cpu::program::Step;
use crate::step::{Frozen, Gradients, NormStatistics, SharedStep};
use polynet_kernels::Element;
use polynet_kernels::norm::{GradientSums, merge_moments};
use std::ops::Range;

/// What the parts have computed.
pub(super) struct LockstepOutput {
    /// Of each part.
    pub(super) parts: Vec<Gradients>,
    /// What each batch norm saw of all parts of the step, in the order of evaluation.
    pub(super) statistics: Vec<NormStatistics>,
}

/// Parts of a batch that stand at the same step of a program; there may be none.
pub(super) struct Lockstep<'a, E: Element, S> {
    lowered: &'a Training,
    graph: &'a Graph,
    frozen: &'a Frozen,
    runs: Vec<Run<'a, E>>,
    shared: &'a mut S,
    statistics: Vec<NormStatistics>,
}

impl<'a, E: Element, S: SharedStep> Lockstep<'a, E, S> {
    pub(super) fn new(
        lowered: &'a Training,
        (graph, frozen): (&'a Graph, &'a Frozen),
        runs: Vec<Run<'a, E>>,
        shared: &'a mut S,
    ) -> Self {
        Self {
            lowered,
            graph,
            frozen,
            runs,
            shared,
            statistics: Vec::new(),
        }
    }

    /// Makes all steps.
    pub(super) fn run(mut self) -> Result<LockstepOutput, S::Error> {
        let lowered = self.lowered;
        let program = &lowered.program;
        let mut start = 0;
        loop {
            let rest = program.steps[start..].iter();
            let own = rest.take_while(|step| !self.is_shared(step)).count();
            let end = start + own;
            self.each(|run| {
                for step in &program.steps[start..end] {
                    run.step(step);
                }
            });
            self.show(start..end);
            let Some(step) = program.steps.get(end) else {
                break;
            };
            self.shared_step(step)?;
            self.show(end..end + 1);
            start = end + 1;
        }
        Ok(LockstepOutput {
            parts: self.runs.into_iter().map(|run| run.output).collect(),
            statistics: self.statistics,
        })
    }

    /// Whether a step needs numbers of all parts.
    fn is_shared(&self, step: &Step) -> bool {
        let (Step::Moments { norm, .. } | Step::NormGradient { norm, .. }) = step else {
            return false;
        };
        !self.frozen.contains_norm(self.graph, *norm)
    }

    /// Lets every part do the same, in the thread pool. Nobody waits for another rank there: ranks may
    /// be threads of one process, which has one pool.
    fn each<T: Send>(&mut self, mut work: impl FnMut(&mut Run<'a, E>) -> T + Send) -> Vec<T> {
        let runs = &mut self.runs;
        rayon::scope(|_| runs.iter_mut().map(&mut work).collect())
    }

    /// Shows the gradients that are final after the steps, and drops them.
    fn show(&mut self, steps: Range<usize>) {
        for &tensor in self.lowered.finals[steps].iter().flatten() {
            let gradients = self.runs.iter_mut();
            let gradients = gradients.filter_map(|run| run.output.tensors[tensor].take());
            let gradients: Vec<Vec<f32>> = gradients.collect();
            if !gradients.is_empty() {
                self.shared.observe(tensor, &gradients);
            }
        }
    }

    fn shared_step(&mut self, step: &Step) -> Result<(), S::Error> {
        match step {
            Step::Moments {
                norm,
                parts,
                relu,
                is_first,
            } => {
                let own = self.each(|run| {
                    let moments = run.moments(parts);
                    [moments.mean, moments.var].concat()
                });
                let z: Vec<usize> = parts.iter().map(|part| part.0).collect();
                let channels = self.channels(&z);
                let rows = self.shared.gather(own, 2 * channels)?;
                let images = self.shared.images().iter().copied();
                let rows: Vec<(usize, &[f64], &[f64])> = images
                    .zip(&rows)
                    .map(|(images, row)| (images, &row[..channels], &row[channels..]))
                    .collect();
                let (mean, var) = merge_moments(&rows);
                let count = self.count(&z);
                let moments = Moments { mean, var, count };
                if *is_first {
                    self.statistics.push(moments.statistics(*norm));
                }
                self.each(|run| run.apply_norm(*norm, parts, *relu, &moments));
            }
            Step::NormGradient {
                norm,
                parts,
                factor,
            } => {
                let factor = f64::from(*factor);
                let own = self.each(|run| run.norm_gradient_sums(parts, factor));
                let z: Vec<usize> = parts.iter().map(|part| part.z).collect();
                let channels = self.channels(&z);
                let rows = own
                    .iter()
                    .map(|own| [&own.gradients[..], &own.products].concat());
                let rows = self.shared.gather(rows.collect(), 2 * channels)?;
                let all = summed(&rows, channels);
                let count = self.count(&z);
                let mut own = own.iter();
                self.each(|run| {
                    let own = own.next().expect("each run has its sums");
                    run.norm_gradient_from(*norm, parts, factor, (own, &all), count);
                });
            }
            _ => unreachable!("a step that every part makes by itself"),
        }
        Ok(())
    }

    /// The channels of a map in parts.
    fn channels(&self, map: &[usize]) -> usize {
        let parts = map.iter();
        parts
            .map(|&part| self.lowered.program.buffers[part].channels)
            .sum()
    }

    /// The values of a channel of a map in parts, over all images of the step.
    fn count(&self, map: &[usize]) -> f64 {
        let [height, width] = self.lowered.program.buffers[map[0]].size;
        let images: usize = self.shared.images().iter().sum();
        (images * height * width) as f64
    }
}

/// The sums over all parts, in their order.
fn summed(rows: &[Vec<f64>], channels: usize) -> GradientSums {
    let mut gradients = vec![0.0; 2 * channels];
    for row in rows {
        for (sum, value) in gradients.iter_mut().zip(row) {
            *sum += value;
        }
    }
    let products = gradients.split_off(channels);
    GradientSums {
        gradients,
        products,
    }
}

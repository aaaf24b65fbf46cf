//! What rounding a network's convolutions to bytes needs to know: how large its maps become, and what
//! rounding each convolution alone costs.

mod histogram;

use super::buffers::BufferId;
use super::lower::{self, candidates, parts, unrounded};
use super::predict::{Compiled, Kernel, Memory};
use super::program::{ConvPart, Step};
use super::shared::channels;
use super::weights::Weights;
use crate::arch::graph::Graph;
use crate::params::{Params, Quantization, QuantizedLayer, TensorMismatch};
use histogram::Histogram;
use polynet_kernels::Isa;
use polynet_kernels::conv::{QuantizedStores, QuantizedValue, Stores, Value, Window};
use polynet_kernels::layout::{Arena, View};
use polynet_kernels::map::quantize;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What rounding a convolution alone costs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LayerNoise {
    /// The convolutions that are one step of a prediction.
    pub(crate) layers: Vec<String>,
    /// The mean square of the error that rounding its inputs and weights makes in its result, over that
    /// of the result.
    pub(crate) noise: f64,
}

/// A network in `f32` whose maps are watched.
pub(crate) struct Calibrator<'a> {
    isa: Isa,
    weights: Weights<'a>,
    params: &'a Params,
    lowered: lower::Prediction,
    compiled: Compiled<f32>,
    /// The steps that can be rounded.
    candidates: Vec<usize>,
    histograms: HashMap<BufferId, Histogram>,
}

impl<'a> Calibrator<'a> {
    /// # Errors
    /// If the parameters are not the graph's.
    pub(crate) fn new(graph: &'a Graph, params: &'a Params) -> Result<Self, TensorMismatch> {
        TensorMismatch::of(graph, params)?;
        let isa = Isa::best();
        let weights = Weights::new(graph, params);
        let mut lowered = unrounded(graph);
        lowered.program.set_halos();
        let compiled = Compiled::new(&weights, isa, &lowered)?;
        Ok(Self {
            isa,
            candidates: candidates(&lowered.program),
            weights,
            params,
            lowered,
            compiled,
            histograms: HashMap::new(),
        })
    }

    /// Sees the maps that preprocessed images `[images, 3, height, width]` give.
    pub(crate) fn observe(&mut self, images: &[f32]) {
        let mut histograms = std::mem::take(&mut self.histograms);
        for image in images.chunks_exact(self.image()) {
            let mut seen = HashSet::new();
            self.run(image, |index, memory| {
                for &id in self.inputs(index) {
                    if seen.insert(id) {
                        let values = memory.views()[id].read_nchw(memory.maps());
                        histograms.entry(id).or_default().add(&values);
                    }
                }
            });
        }
        self.histograms = histograms;
    }

    /// Elements of an image.
    fn image(&self) -> usize {
        self.weights.graph.nodes[0].shape.iter().product()
    }

    /// Runs the network on an image, and shows its memory before each step that can be rounded.
    fn run(&self, image: &[f32], mut before: impl FnMut(usize, &Memory<f32>) + Send) {
        let lowered = &self.lowered;
        rayon::scope(|_| {
            let mut memory = Memory::new(&lowered.program, 1);
            memory.begin(&lowered.program, 1);
            let kernels = lowered.program.steps.iter().zip(&self.compiled.kernels);
            for (index, (step, kernel)) in kernels.enumerate() {
                if self.candidates.binary_search(&index).is_ok() {
                    before(index, &memory);
                }
                memory.run(self.isa, (step, &[]), (kernel, None), image);
            }
        });
    }

    fn conv(&self, index: usize) -> (&[ConvPart], Window, &[BufferId]) {
        match &self.lowered.program.steps[index] {
            Step::FoldedConv {
                source,
                window,
                inputs,
                ..
            } => (parts(source), *window, inputs),
            step => unreachable!("a candidate is a convolution: {step:?}"),
        }
    }

    fn inputs(&self, index: usize) -> &[BufferId] {
        self.conv(index).2
    }

    /// The channels of the buffers that a step writes.
    fn outputs(&self, index: usize) -> Vec<usize> {
        let Step::FoldedConv { value, sum, .. } = &self.lowered.program.steps[index] else {
            unreachable!("a candidate is a convolution");
        };
        let value = value.iter().map(|value| &value.to);
        let mut stores = value.chain(sum.iter().map(|sum| &sum.to));
        let outputs = stores.next().expect("a result is stored");
        let buffers = outputs.iter().map(|&id| self.lowered.program.buffers[id]);
        buffers.map(|buffer| buffer.channels).collect()
    }

    /// What one is worth in each map that can be rounded: maps that one convolution reads together have
    /// one step, which makes the least error in what was seen.
    fn steps(&self) -> HashMap<BufferId, f32> {
        let mut groups = Groups::default();
        for &index in &self.candidates {
            let inputs = self.inputs(index);
            inputs.iter().for_each(|&id| groups.join(inputs[0], id));
        }
        let mut members: BTreeMap<BufferId, Vec<BufferId>> = BTreeMap::new();
        for &id in self.histograms.keys() {
            members.entry(groups.first(id)).or_default().push(id);
        }
        let mut steps = HashMap::new();
        for mut ids in members.into_values() {
            // A fixed order of sums.
            ids.sort_unstable();
            let maps: Vec<&Histogram> = ids.iter().map(|id| &self.histograms[id]).collect();
            let step = Histogram::best_step(&maps);
            steps.extend(ids.into_iter().map(|id| (id, step)));
        }
        steps
    }

    /// How the network is rounded by what was seen, apart from the convolutions of some names.
    pub(crate) fn quantization(&self, kept: &HashSet<String>) -> Quantization {
        let steps = self.steps();
        let mut quantization = Quantization::default();
        let graph = self.weights.graph;
        for &index in &self.candidates {
            let (parts, _, inputs) = self.conv(index);
            let Some(&step) = steps.get(&inputs[0]) else {
                continue;
            };
            for part in parts {
                let spec = &graph.convs[part.weight];
                if kept.contains(&spec.name) {
                    continue;
                }
                let evaluations = self.weights.evaluations_of(part.weight);
                let layer = quantization
                    .layers
                    .entry(spec.name.clone())
                    .or_insert_with(|| {
                        let weights = self.params.get(&format!("{}.weight", spec.name));
                        let weights = weights.expect("every convolution has weights");
                        QuantizedLayer {
                            weight_scales: QuantizedLayer::scales_of(weights, spec.shape[0]),
                            // Of evaluations that can't be rounded it is not read.
                            input_scales: vec![step; evaluations],
                        }
                    });
                layer.input_scales[self.weights.evaluation(part)] = step;
            }
        }
        quantization
    }

    /// What rounding each convolution alone costs, by how it is rounded if all are, on preprocessed
    /// images; those that cost most first.
    pub(crate) fn noise(&self, images: &[f32]) -> Vec<LayerNoise> {
        let quantization = self.quantization(&HashSet::new());
        let steps = self.steps();
        let mut squares: BTreeMap<usize, [f64; 2]> = BTreeMap::new();
        for image in images.chunks_exact(self.image()) {
            self.run(image, |index, memory| {
                let Some(&step) = steps.get(&self.inputs(index)[0]) else {
                    return;
                };
                let [exact, rounded] = self.both(index, memory, step, &quantization);
                let sum = squares.entry(index).or_default();
                for (exact, rounded) in exact.iter().zip(&rounded) {
                    sum[0] += f64::from(rounded - exact).powi(2);
                    sum[1] += f64::from(*exact).powi(2);
                }
            });
        }
        let name = |part: &ConvPart| self.weights.graph.convs[part.weight].name.clone();
        let mut noise: Vec<LayerNoise> = squares
            .into_iter()
            .map(|(index, [noise, signal])| LayerNoise {
                layers: self.conv(index).0.iter().map(name).collect(),
                noise: if signal > 0.0 { noise / signal } else { 0.0 },
            })
            .collect();
        noise.sort_by(|a, b| b.noise.total_cmp(&a.noise));
        noise
    }

    /// A convolution's result as it is, and rounded, of the maps that it is about to read.
    fn both(
        &self,
        index: usize,
        memory: &Memory<f32>,
        step: f32,
        quantization: &Quantization,
    ) -> [Vec<f32>; 2] {
        let (parts, window, inputs) = self.conv(index);
        let from: Vec<View> = inputs.iter().map(|&id| memory.views()[id]).collect();
        let size = window.output_size(from[0].size());
        let outputs = self.outputs(index);
        // The inputs again, one behind the other, and the result behind them.
        let mut end = 0;
        let mut place = |channels: usize, size: [usize; 2], halo: usize| {
            let view = View::new(end, 1, channels, size, halo);
            end = view.end();
            view
        };
        let halo = window.padding[1].max(from[0].halo());
        let copies: Vec<View> = from
            .iter()
            .map(|view| place(view.channels(), view.size(), halo))
            .collect();
        let results: Vec<View> = outputs.iter().map(|&out| place(out, size, 0)).collect();
        let (mut floats, mut bytes) = (Arena::<f32>::new(end), Arena::<u8>::new(end));
        for (view, copy) in from.iter().zip(&copies) {
            copy.write_nchw(&mut floats, &view.read_nchw(memory.maps()));
            quantize(self.isa, (&floats, copy), (&mut bytes, copy), step);
        }
        let read = |floats: &Arena| {
            let parts = results.iter().map(|view| view.read_nchw(floats));
            parts.collect::<Vec<_>>().concat()
        };
        let stores: Stores<'_> = Value {
            to: &results,
            relu: false,
        }
        .into();
        match &self.compiled.kernels[index] {
            Kernel::Conv(conv) => conv.run(&mut floats, &copies, stores),
            Kernel::Winograd(conv) => conv.run(&mut floats, &copies, stores),
            kernel => unreachable!("a candidate is a convolution: {kernel:?}"),
        }
        let exact = read(&floats);
        let segments = [&channels(&copies)[..], &outputs];
        let conv =
            self.weights
                .quantized_conv((self.isa, quantization), (parts, window), segments, step);
        let conv = conv.expect("parameters in memory can be read");
        let value = QuantizedValue {
            floats: Some(&results),
            bytes: None,
            relu: false,
        };
        let stores = QuantizedStores {
            value: Some(value),
            sum: None,
        };
        conv.run_ahead((&mut bytes, &mut floats), &copies, stores, None);
        [exact, read(&floats)]
    }
}

/// Sets of buffers that are joined.
#[derive(Default)]
struct Groups(HashMap<BufferId, BufferId>);

impl Groups {
    /// The first of the buffers that one is joined with.
    fn first(&self, mut id: BufferId) -> BufferId {
        while let Some(&other) = self.0.get(&id) {
            id = other;
        }
        id
    }

    fn join(&mut self, a: BufferId, b: BufferId) {
        let (a, b) = (self.first(a), self.first(b));
        if a != b {
            self.0.insert(a.max(b), a.min(b));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Architecture;

    #[test]
    fn joined_buffers_have_one_first() {
        let mut groups = Groups::default();
        for (a, b) in [(5, 3), (7, 5), (9, 8), (8, 7), (2, 4), (3, 9)] {
            groups.join(a, b);
        }
        let firsts: Vec<usize> = (2..10).map(|id| groups.first(id)).collect();
        assert_eq!(firsts, [2, 3, 2, 3, 6, 3, 3, 3]);
    }

    #[test]
    fn rounding_alone_costs_what_eight_bits_cost() {
        let spec = "small-polynet; width = 0.25; B: mpoly-3 x2";
        let graph = spec.parse::<Architecture>().unwrap().graph().unwrap();
        let params = Params::init(&graph, 3);
        let mut calibrator = Calibrator::new(&graph, &params).unwrap();
        let images: Vec<f32> = (0..2 * 3 * 32 * 32)
            .map(|index| ((index * 7919) % 1013) as f32 / 506.0 - 1.0)
            .collect();
        calibrator.observe(&images);
        let noise = calibrator.noise(&images);
        assert!(noise.len() > 20, "{}", noise.len());
        assert!(noise.is_sorted_by(|a, b| a.noise >= b.noise));
        // Steps of 1/255 of a range that maps fill to a fifth or so give about this.
        for LayerNoise { layers, noise } in &noise {
            assert!((1e-6..1e-2).contains(noise), "{layers:?}: {noise}");
        }
        let quantization = calibrator.quantization(&HashSet::new());
        let kept: HashSet<String> = noise[0].layers.iter().cloned().collect();
        let fewer = calibrator.quantization(&kept);
        let names = |quantization: &Quantization| -> HashSet<String> {
            quantization
                .layers()
                .map(|(name, _)| name.to_owned())
                .collect()
        };
        assert_eq!(&names(&quantization) - &names(&fewer), kept);
        assert!(
            !names(&quantization).contains("stem.0.conv"),
            "it reads the image"
        );
    }
}

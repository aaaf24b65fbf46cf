//! Convolutions of bytes.
//!
//! A quantized map holds whole numbers `q` of 0…255 that stand for `step · q`, so it holds what a ReLU
//! gives, and its zeros are zeros. Weights are whole numbers of −127…127 that stand for
//! `scale[output channel] · q`. Sums of products are exact; a sum becomes `f32` once, is scaled and
//! biased there, and is stored as `f32`, as bf16 or rounded to bytes again.

pub(super) mod end;
pub(super) mod stores;
mod tile;

#[cfg(test)]
pub(super) mod tests;

pub use stores::{QuantizedStores, QuantizedSum, QuantizedValue, Rounded};

use super::ahead::NextWeights;
use super::division::{Division, Run, TASK_MACS, panels_in_group};
use super::pack::{Panel, block_channels, pack_bias};
use super::places::{Reach, Source, Tap};
use super::stores::check_inputs_of;
use crate::element::Element;
use crate::layout::{Arena, BLOCK, Pixel, Shared, View, blocks_of, clear_halo};
use crate::simd::{BYTES_DEPTH, ByteProducts, Isa};
use crate::window::Window;
use end::{Outputs, Target, end};
use stores::block_of;
use tile::{Tile, kernel};

/// The weights of a quantized convolution.
#[derive(Clone, Copy, Debug)]
pub struct QuantizedWeights<'a> {
    /// `[out_channels, in_channels, kernel_height, kernel_width]` of −127…127.
    pub values: &'a [i8],
    /// What one is worth in the sum of each output channel: the scale of its weights times the step of
    /// the inputs.
    pub scales: &'a [f32],
    /// `[out_channels]`.
    pub bias: &'a [f32],
}

impl QuantizedWeights<'_> {
    /// # Panics
    /// If the lengths do not fit maps whose channels lie in the given segments, or the window has numbers that
    /// kernels do not take.
    pub(super) fn check(&self, window: Window, segments: [&[usize]; 2]) {
        window.check();
        let [in_channels, out_channels] = segments.map(|of| of.iter().sum::<usize>());
        let of_output = in_channels * window.taps();
        let expected = of_output.checked_mul(out_channels);
        assert_eq!(Some(self.values.len()), expected, "weights");
        assert_eq!(self.scales.len(), out_channels, "scales");
        assert_eq!(self.bias.len(), out_channels, "bias");
    }
}

/// A convolution of bytes with packed weights.
#[derive(Debug)]
pub struct QuantizedConv {
    products: ByteProducts,
    window: Window,
    segments: [Vec<usize>; 2],
    panels: Vec<Panel>,
    /// `[panel][input block][tap][four input channels][output lane][4]`.
    weights: Arena<i8>,
    scales: Arena,
    bias: Arena,
}

impl QuantizedConv {
    /// Packs weights for maps whose channels lie in the given segments.
    ///
    /// # Panics
    /// If the lengths do not fit, or the window has numbers that kernels do not take.
    pub fn pack(
        isa: Isa,
        window: Window,
        [inputs, outputs]: [&[usize]; 2],
        weights: QuantizedWeights<'_>,
    ) -> Self {
        Self::pack_for(ByteProducts::of(isa), window, [inputs, outputs], weights)
    }

    fn pack_for(
        products: ByteProducts,
        window: Window,
        [inputs, outputs]: [&[usize]; 2],
        weights: QuantizedWeights<'_>,
    ) -> Self {
        weights.check(window, [inputs, outputs]);
        let of_output = inputs.iter().sum::<usize>() * window.taps();
        let (sources, targets) = (block_channels(inputs), block_channels(outputs));
        let [blocks, _] = products.geometry();
        let rows = Self::packed_bytes(window, [inputs, outputs]) / (targets.len() * BLOCK).max(1);
        let mut packed = Arena::<i8>::new(rows * targets.len() * BLOCK);
        let mut panels = Vec::new();
        let mut first = 0;
        for (index, targets) in targets.chunks(blocks).enumerate() {
            let panel = Panel {
                first_block: index * blocks,
                blocks: targets.len(),
                weights: first,
            };
            let lanes = targets.len() * BLOCK;
            first += rows * lanes;
            let to = &mut packed.as_mut_slice()[panel.weights..first];
            let from = Unpacked {
                values: weights.values,
                of_output,
                taps: window.taps(),
            };
            from.pack(to, &sources, targets);
            panels.push(panel);
        }
        Self {
            products,
            window,
            segments: [inputs.to_vec(), outputs.to_vec()],
            panels,
            weights: packed,
            scales: pack_bias(outputs, weights.scales),
            bias: pack_bias(outputs, weights.bias),
        }
    }

    /// Bytes of the packed weights of a convolution; see [`QuantizedConv::pack`].
    pub fn packed_bytes(window: Window, [inputs, outputs]: [&[usize]; 2]) -> usize {
        let sources = block_channels(inputs);
        let steps = sources.iter().map(|&(_, used)| used.div_ceil(BYTES_DEPTH));
        let blocks: usize = outputs.iter().map(|&channels| blocks_of(channels)).sum();
        blocks * BLOCK * steps.sum::<usize>() * window.taps() * BYTES_DEPTH
    }

    /// Bytes of the packed weights.
    pub fn weight_bytes(&self) -> usize {
        self.weights.len()
    }

    /// Convolves `inputs`, read as one concatenated map of bytes, and stores the result in the arena of
    /// bytes or in that of floating-point numbers; asks the memory for the weights of the convolution that comes next.
    ///
    /// # Panics
    /// If a view leaves its arena, sizes or channels do not fit, a row's halo is narrower than what the
    /// kernel reaches beyond the map, or a map that is written overlaps another one (but a sum may replace
    /// its addend).
    pub fn run_ahead<E: Element>(
        &self,
        (bytes, floats): (&mut Arena<u8>, &mut Arena<E>),
        inputs: &[View],
        stores: QuantizedStores<'_>,
        next: Option<NextWeights<'_>>,
    ) {
        let size = self.check_inputs(bytes, inputs);
        let outputs = (&self.segments[1][..], size);
        stores.check(Pixel::Block, (bytes, floats), inputs, outputs);
        for view in stores.bytes() {
            clear_halo(view, bytes);
        }
        for view in stores.floats() {
            clear_halo(view, floats);
        }
        let job = Job {
            conv: self,
            bytes: Shared::of(bytes),
            floats: Shared::of(floats),
            inputs,
            stores,
            taps: Tap::all(self.window, &inputs[0]),
        };
        job.run(size, next);
    }

    /// The weights, for those who ask the memory for them ahead.
    pub fn weights(&self) -> NextWeights<'_> {
        let groups = self.panels.len().div_ceil(self.panels_in_group());
        NextWeights::new(&self.weights, groups >= rayon::current_num_threads())
    }

    fn panels_in_group(&self) -> usize {
        panels_in_group(self.panels.len(), self.panel_macs())
    }

    /// Multiply-accumulates of a panel for a pixel; as many bytes are its weights.
    fn panel_macs(&self) -> usize {
        let in_channels: usize = self.segments[0].iter().sum();
        in_channels * self.window.taps() * self.panels[0].blocks * BLOCK
    }

    /// Rows and columns of the result.
    fn check_inputs(&self, arena: &Arena<u8>, inputs: &[View]) -> [usize; 2] {
        let first = check_inputs_of(Pixel::Block, arena, inputs, &self.segments[0]);
        assert!(
            first.halo >= self.window.padding[1],
            "a halo of the padding"
        );
        self.window.output_size(first.size())
    }
}

/// Weights as they lie in a row-major array.
struct Unpacked<'a> {
    values: &'a [i8],
    /// Weights of an output channel.
    of_output: usize,
    taps: usize,
}

impl Unpacked<'_> {
    /// Packs a panel: `[input block][tap][four input channels][output lane][4]`, with zeros where there is
    /// no channel.
    fn pack(&self, to: &mut [i8], sources: &[(usize, usize)], targets: &[(usize, usize)]) {
        let lanes = targets.len() * BLOCK;
        let mut rest = to;
        for &(in_first, in_used) in sources {
            let row = in_used.div_ceil(BYTES_DEPTH) * lanes * BYTES_DEPTH;
            let (part, after) = rest.split_at_mut(self.taps * row);
            rest = after;
            for (block, &(out_first, out_used)) in targets.iter().enumerate() {
                for lane in 0..out_used {
                    let first = (out_first + lane) * self.of_output + in_first * self.taps;
                    let from = &self.values[first..][..in_used * self.taps];
                    for (input, from) in from.chunks_exact(self.taps).enumerate() {
                        let step = input / BYTES_DEPTH * lanes + block * BLOCK + lane;
                        let place = step * BYTES_DEPTH + input % BYTES_DEPTH;
                        for (tap, &weight) in from.iter().enumerate() {
                            part[tap * row + place] = weight;
                        }
                    }
                }
            }
        }
    }
}

/// A convolution on given memory, which was checked.
struct Job<'a, E> {
    conv: &'a QuantizedConv,
    bytes: Shared<'a, u8>,
    floats: Shared<'a, E>,
    inputs: &'a [View],
    stores: QuantizedStores<'a>,
    taps: Vec<Tap>,
}

impl<E: Element> Job<'_, E> {
    fn run(&self, [mut rows, mut columns]: [usize; 2], next: Option<NextWeights<'_>>) {
        let conv = self.conv;
        let views = self.inputs.iter().chain(self.stores.all());
        if conv.window == Window::POINT && views.into_iter().all(|view| view.halo == 0) {
            (rows, columns) = (1, rows * columns);
        }
        let in_blocks: usize = self.inputs.iter().map(View::blocks).sum();
        let [_, tile_pixels] = conv.products.geometry();
        let division = Division {
            panels: conv.panels.len(),
            panels_in_group: conv.panels_in_group(),
            panel_macs: conv.panel_macs(),
            rows,
            columns,
            images: self.inputs[0].images,
            tile_pixels,
            pixel_bytes: in_blocks * BLOCK * conv.window.taps(),
            task_macs: TASK_MACS,
        };
        let share = |task, tasks| NextWeights::share_of(next, task, tasks);
        division.for_runs(
            share,
            || (None, Vec::new()),
            |(image, sources), run| {
                if *image != Some(run.image) {
                    *image = Some(run.image);
                    Source::all(sources, (self.bytes, self.inputs), run.image, BYTES_DEPTH);
                }
                self.run_tiles(sources, &run);
            },
        );
    }

    fn run_tiles(&self, sources: &[Source<u8>], run: &Run) {
        let Self { conv, stores, .. } = self;
        let panel = &conv.panels[run.panel];
        let place = [run.image, run.row, run.tiles.first_pixel];
        let border = conv.window.padding.map(|padding| padding as isize);
        let reach = Reach::of((conv.window, border), &self.inputs[0], [place[1], place[2]]);
        let mut targets = [Target::NONE; 2];
        for (block, target) in targets.iter_mut().take(panel.blocks).enumerate() {
            let block = block_of(&conv.segments[1], panel.first_block + block);
            *target = stores.target((self.bytes, self.floats), block, place);
        }
        let first_lane = panel.first_block * BLOCK;
        let tile = Tile {
            sources,
            origin: reach.origin,
            taps: &self.taps[reach.taps],
            all_taps: self.taps.len(),
            pixel_stride: conv.window.stride[1] * BLOCK,
            weights: conv.weights.as_slice()[panel.weights..].as_ptr(),
            outputs: Outputs {
                scales: conv.scales.as_slice()[first_lane..].as_ptr(),
                bias: conv.bias.as_slice()[first_lane..].as_ptr(),
                targets: &targets[..panel.blocks],
                byte_stride: BLOCK,
                epilogue: stores.epilogue(),
            },
            count: run.tiles.count,
            end: end::<E>(conv.products),
            ahead: run.ahead,
        };
        let kernel = kernel(conv.products, panel.blocks, run.tiles.pixels);
        debug_assert!(tile.lies_in((self.bytes, self.floats), &conv.weights, run.tiles.pixels));
        // SAFETY: every view was found inside its arena and of the right size, and the halo as wide as the
        // padding; rows outside the map are left out of the taps.
        unsafe { kernel(&tile) }
    }
}

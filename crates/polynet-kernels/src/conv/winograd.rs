//! Convolution of stride 1 by Toom-Cook transforms (Winograd's algorithm): fewer multiplications, as
//! many bytes.
//!
//! A task takes some tiles of the result through three steps in memory of its own: transform their
//! inputs, multiply the channels for each point by the pointwise microkernel, transform back.

mod axis;
mod filters;
pub(super) mod gradient;
mod lift;
mod results;
mod shape;
mod transforms;

use super::ahead::{NextWeights, Share};
use super::pack::{Filters, Panel, block_channels, check_weights, pack_bias};
use super::places::{Source, Tap, Tiles};
use super::stores::{Stores, check_stores, check_views};
use super::tile::{Geometry, Target, Tile, TileShape};
use crate::element::Element;
use crate::layout::{Arena, BLOCK, Shared, View, blocks_of, clear_halo};
use crate::simd::Isa;
use crate::window::Window;
use lift::Lifting;
use rayon::prelude::*;
use results::Results;
use shape::{Shape, TileGrid};
use std::cell::RefCell;
use transforms::transforms;

/// Bytes of transformed inputs and products of a task, to stay in its cache.
const SCRATCH_BYTES: usize = 512 << 10;

/// A convolution with transformed and packed weights.
#[derive(Debug)]
pub struct Winograd {
    isa: Isa,
    window: Window,
    shape: Shape,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    /// Of each panel a pointwise convolution's weights for every point, one point after the other.
    weights: Arena,
    panels: Vec<Panel>,
    bias: Arena,
}

impl Winograd {
    /// Whether a window has a transform.
    pub fn has(window: Window) -> bool {
        Shape::of(window, 0).is_some()
    }

    /// As [`Conv::pack`](super::Conv::pack), for results of so many pixels of all images together: with few of them
    /// reading the weights takes longer than multiplying, so that few weights are better than the fewest
    /// products. Results of other sizes are right, too.
    ///
    /// # Panics
    /// As [`Conv::pack`](super::Conv::pack), and if the window has no transform.
    pub fn pack(
        isa: Isa,
        (window, pixels): (Window, usize),
        [inputs, outputs]: [&[usize]; 2],
        weights: &[f32],
        bias: &[f32],
    ) -> Self {
        let memory = Arena::default();
        Self::pack_in(
            memory,
            isa,
            (window, pixels),
            [inputs, outputs],
            weights,
            bias,
        )
    }

    /// As [`Winograd::pack`], in memory that is used again: that of [`Winograd::into_memory`].
    ///
    /// # Panics
    /// As [`Winograd::pack`].
    pub fn pack_in(
        memory: Arena,
        isa: Isa,
        (window, pixels): (Window, usize),
        [inputs, outputs]: [&[usize]; 2],
        weights: &[f32],
        bias: &[f32],
    ) -> Self {
        let [per_output, _] = check_weights(window, [inputs, outputs], weights);
        let taps = window.taps();
        let filters = Filters {
            values: weights,
            strides: [per_output, taps],
            taps: &(0..taps).collect::<Vec<_>>(),
        };
        Self::of_filters(
            memory,
            isa,
            (window, pixels),
            [inputs, outputs],
            &filters,
            bias,
        )
    }

    pub(super) fn of_filters(
        memory: Arena,
        isa: Isa,
        (window, pixels): (Window, usize),
        [inputs, outputs]: [&[usize]; 2],
        filters: &Filters<'_>,
        bias: &[f32],
    ) -> Self {
        let shape = Shape::of(window, pixels).expect("the window has a transform");
        let points = shape.factors(window.kernel);
        let (weights, panels) =
            filters::transform(isa, filters, [inputs, outputs], &points, memory);
        Self {
            isa,
            window,
            shape,
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
            weights,
            panels,
            bias: pack_bias(outputs, bias),
        }
    }

    /// Elements of the packed weights of a convolution; see [`Winograd::pack`].
    ///
    /// # Panics
    /// If the window has no transform.
    pub fn packed_elements((window, pixels): (Window, usize), segments: [&[usize]; 2]) -> usize {
        let shape = Shape::of(window, pixels).expect("the window has a transform");
        filters::elements(shape.points(), segments)
    }

    /// The memory of the weights, for the next convolution.
    pub fn into_memory(self) -> Arena {
        self.weights
    }

    /// As [`Conv::weights`](super::Conv::weights).
    pub fn weights(&self) -> NextWeights<'_> {
        NextWeights::new(&self.weights, false)
    }

    /// As [`Conv::run`](super::Conv::run); inputs need no halo.
    ///
    /// # Panics
    /// As [`Conv::run`](super::Conv::run).
    pub fn run<E: Element>(&self, arena: &mut Arena<E>, inputs: &[View], stores: Stores<'_>) {
        self.run_ahead(arena, inputs, stores, None);
    }

    /// As [`Conv::run_ahead`](super::Conv::run_ahead); inputs need no halo.
    ///
    /// # Panics
    /// As [`Conv::run`](super::Conv::run).
    pub fn run_ahead<E: Element>(
        &self,
        arena: &mut Arena<E>,
        inputs: &[View],
        stores: Stores<'_>,
        next: Option<NextWeights<'_>>,
    ) {
        self.check(arena, inputs, &stores);
        for view in stores.maps() {
            clear_halo(view, arena);
        }
        let input = inputs[0];
        let size = self.window.output_size(input.size());
        let grid = self.shape.grid(size);
        let channels: usize = self.inputs.iter().chain(&self.outputs).sum();
        let tile_bytes = 4 * self.shape.points() * channels;
        let total = input.images * grid.count();
        let most = (SCRATCH_BYTES / tile_bytes).clamp(4, 128);
        let threads = rayon::current_num_threads();
        let tasks = total.div_ceil(most).next_multiple_of(threads).min(total);
        let job = Job {
            winograd: self,
            memory: Shared::of(arena),
            inputs,
            stores,
            size,
            grid,
        };
        let run = |task: usize| {
            let share = NextWeights::share_of(next, task, tasks);
            job.run(task * total / tasks, (task + 1) * total / tasks, share);
        };
        (0..tasks).into_par_iter().for_each(run);
    }

    /// As [`weight_gradient`](super::weight_gradient), of a window that has a transform; no map needs a
    /// halo.
    ///
    /// # Panics
    /// If a view leaves the arena, sizes do not fit, or the window has no transform.
    pub fn weight_gradient<E: Element>(
        isa: Isa,
        window: Window,
        arena: &Arena<E>,
        inputs: &[View],
        outputs: &[View],
    ) -> Vec<f32> {
        gradient::weight_gradient(isa, window, arena, [inputs, outputs], gradient::CHUNK_BYTES)
    }

    fn check<E: Element>(&self, arena: &Arena<E>, inputs: &[View], stores: &Stores<'_>) {
        check_views(arena, inputs, &self.inputs);
        let input = inputs[0];
        let alike = |view: &View| view.size() == input.size() && view.images == input.images;
        assert!(inputs.iter().all(alike), "inputs of one size");
        let size = self.window.output_size(input.size());
        check_stores(arena, inputs, stores, (&self.outputs, size));
    }
}

/// The bias is added after the transform.
static NO_BIAS: [f32; 2 * BLOCK] = [0.0; 2 * BLOCK];

thread_local! {
    static SCRATCH: RefCell<Arena> = RefCell::new(Arena::new(0));
}

/// A convolution on given memory.
struct Job<'a, E> {
    winograd: &'a Winograd,
    memory: Shared<'a, E>,
    inputs: &'a [View],
    stores: Stores<'a>,
    /// Rows and columns of the result.
    size: [usize; 2],
    grid: TileGrid,
}

/// Tiles of a task and its scratch memory: `[point][block][tile][16]` of inputs, then of products.
struct Scratch<'a> {
    count: usize,
    memory: Shared<'a, f32>,
    /// Where the products begin.
    products: usize,
}

impl<E: Element> Job<'_, E> {
    fn run(&self, first: usize, end: usize, share: Share) {
        let winograd = self.winograd;
        let [in_blocks, out_blocks] = [&winograd.inputs, &winograd.outputs].map(|segments| {
            segments
                .iter()
                .map(|&channels| blocks_of(channels))
                .sum::<usize>()
        });
        let points = winograd.shape.points();
        let count = end - first;
        let in_elements = points * in_blocks * count * BLOCK;
        let out_elements = points * out_blocks * count * BLOCK;
        let transforms = transforms::<E>(winograd.shape, winograd.isa);
        SCRATCH.with_borrow_mut(|scratch| {
            if scratch.len() < in_elements + out_elements {
                *scratch = Arena::new(in_elements + out_elements);
            }
            let scratch = Scratch {
                count,
                memory: Shared::of(scratch),
                products: in_elements,
            };
            let lifting = Lifting {
                memory: self.memory,
                views: self.inputs,
                padding: winograd.window.padding,
                grid: self.grid,
                first,
                count,
                // SAFETY: the arena holds the inputs.
                to: unsafe { scratch.memory.at(0, in_elements) },
                room: count,
            };
            // SAFETY: `Winograd::check` has found every view inside the arena and of the right size;
            // the scratch memory holds what the tiles need; the instruction set is available.
            unsafe { (transforms.inputs)(&lifting) }
            self.multiply(&scratch, [in_blocks, out_blocks], share);
            let results = Results {
                memory: self.memory,
                stores: self.stores,
                bias: &winograd.bias,
                size: self.size,
                grid: self.grid,
                first,
                count,
                // SAFETY: the arena holds the products.
                products: unsafe { scratch.memory.at(in_elements, out_elements) },
            };
            // SAFETY: as above; tasks write other tiles, and `Winograd::check` keeps what is written
            // apart from what is read.
            unsafe { (transforms.outputs)(&results) }
        });
    }

    /// The product of the channels for every point.
    fn multiply(&self, scratch: &Scratch<'_>, [in_blocks, out_blocks]: [usize; 2], share: Share) {
        let geometry = Geometry::of(self.winograd.isa);
        let used = block_channels(&self.winograd.inputs);
        let count = scratch.count;
        let runs = count.div_ceil(geometry.pixels);
        let taps = [Tap { input: 0, index: 0 }];
        let mut sources = Vec::with_capacity(in_blocks);
        let Winograd {
            isa,
            ref weights,
            ref panels,
            shape,
            ..
        } = *self.winograd;
        let points = shape.points();
        let in_channels: usize = self.winograd.inputs.iter().sum();
        let all = points * runs * panels.len();
        let mut asked = 0;
        for point in 0..points {
            sources.clear();
            for (block, &(first_channel, channels)) in used.iter().enumerate() {
                let at = (point * in_blocks + block) * count * BLOCK;
                sources.push(Source {
                    // SAFETY: inside the scratch memory.
                    pixels: unsafe { scratch.memory.at(at, count * BLOCK) },
                    steps: channels,
                    first_step: first_channel,
                });
            }
            for panel in panels {
                for tiles in Tiles::of(count, runs, [0, runs]) {
                    let (first, pixels) = (tiles.first_pixel, tiles.all_pixels());
                    let mut targets = [Target::NONE; 2];
                    for (block, target) in targets.iter_mut().take(panel.blocks).enumerate() {
                        let block = point * out_blocks + panel.first_block + block;
                        let at = scratch.products + (block * count + first) * BLOCK;
                        // SAFETY: inside the scratch memory.
                        target.value = unsafe { scratch.memory.at(at, pixels * BLOCK) };
                    }
                    let elements = in_channels * panel.blocks * BLOCK;
                    let tile = Tile {
                        sources: &sources,
                        origin: (first * BLOCK) as isize,
                        taps: &taps,
                        all_taps: 1,
                        pixel_stride: BLOCK,
                        out_stride: BLOCK,
                        weights: weights.as_slice()[panel.weights + point * elements..].as_ptr(),
                        bias: NO_BIAS.as_ptr(),
                        targets: &targets[..panel.blocks],
                        count: tiles.count,
                        scale: 0.0,
                        ahead: share.of_tiles([asked, asked + tiles.count], all),
                        value_relu: false,
                        sum_relu: false,
                    };
                    let shape = TileShape {
                        isa,
                        blocks: panel.blocks,
                        pixels: tiles.pixels,
                        stride: BLOCK,
                    };
                    let kernel = shape.kernel();
                    debug_assert!(tile.lies_in(
                        [scratch.memory; 2],
                        weights.as_slice(),
                        tiles.pixels
                    ));
                    // SAFETY: sources and targets hold the pixels of the tiles.
                    unsafe { kernel(&tile) }
                    asked += tiles.count;
                }
            }
        }
    }
}

//! The gradient of the weights of a transformed convolution.
//!
//! The result is linear in the weights of each point, so their gradient is a product of the
//! transformed inputs with the transposed transform of the result's gradient, summed over the tiles:
//! as many products as the convolution itself. A last transform makes taps of points.

use super::filters::Product;
use super::lift::Lifting;
use super::shape::{Shape, TileGrid};
use super::transforms::transforms;
use crate::conv::gradient::{
    Gradient, IN_BLOCKS, Row, SUMS, check_maps, gradient_elements, group_of, output_parts,
    row_kernel,
};
use crate::conv::pack::block_channels;
use crate::element::Element;
use crate::layout::{Arena, BLOCK, Shared, View};
use crate::simd::Isa;
use crate::window::Window;
use rayon::prelude::*;
use std::cell::{Cell, RefCell};

/// Bytes of transformed tiles, to stay in a cache that threads share.
pub(super) const CHUNK_BYTES: usize = 4 << 20;

/// Tiles of a chunk at least: its products are added to sums that come from memory.
const MIN_TILES: usize = 8;

thread_local! {
    /// Memory of the transformed tiles and of the points' gradients. It is taken out while it is used: a
    /// thread that waits may begin another gradient.
    static MEMORY: Cell<[Arena; 2]> = Cell::default();
    /// The gradients of a task's taps.
    static TAPS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// The gradient by chunks of so many bytes, or of the fewest tiles.
pub(in crate::conv) fn weight_gradient<E: Element>(
    isa: Isa,
    window: Window,
    arena: &Arena<E>,
    views: [&[View]; 2],
    chunk_bytes: usize,
) -> Vec<f32> {
    let segments = check_maps(window, arena, views);
    let elements = gradient_elements(&segments, window.taps());
    let output = views[1][0];
    let [rows, columns] = output.size();
    let pixels = output.images * rows * columns;
    let shape = Shape::of(window, pixels).expect("the window has a transform");
    let mut memory = MEMORY.take();
    let job = Job {
        isa,
        window,
        shape,
        grid: shape.grid(output.size()),
        maps: Shared::read_only(arena),
        views,
        channels: segments.each_ref().map(|segments| block_channels(segments)),
        elements,
    };
    let gradient = job.run(&mut memory, chunk_bytes);
    MEMORY.set(memory);
    gradient
}

struct Job<'a, E> {
    isa: Isa,
    window: Window,
    shape: Shape,
    grid: TileGrid,
    maps: Shared<'a, E>,
    /// The inputs, and the gradients of the outputs.
    views: [&'a [View]; 2],
    /// Of each block of those maps the first channel and the channels in use.
    channels: [Vec<(usize, usize)>; 2],
    /// Input channels, and elements of the gradient.
    elements: [usize; 2],
}

/// Transformed tiles of a chunk: `[point][block][tile][16]` of the inputs, then of the gradients. Tasks
/// write other tiles, and read them when all are there.
struct Chunk<'a> {
    first: usize,
    count: usize,
    memory: Shared<'a, f32>,
    /// Where the two begin.
    starts: [usize; 2],
}

impl<E: Element> Job<'_, E> {
    fn blocks(&self) -> [usize; 2] {
        self.channels.each_ref().map(Vec::len)
    }

    /// Groups of input blocks.
    fn groups(&self) -> usize {
        self.channels[0].len().div_ceil(IN_BLOCKS)
    }

    fn run(&self, [tiles, sums]: &mut [Arena; 2], chunk_bytes: usize) -> Vec<f32> {
        let [in_blocks, out_blocks] = self.blocks();
        let points = self.shape.points();
        let total = self.views[0][0].images * self.grid.count();
        // Chunks are the same for any number of threads, and so is the order of every sum.
        let elements = points * (in_blocks + out_blocks) * BLOCK;
        let most = (chunk_bytes / (size_of::<f32>() * elements)).max(MIN_TILES);
        let chunks = total.div_ceil(most);
        let room = elements * total.div_ceil(chunks);
        if tiles.len() < room {
            *tiles = Arena::new(room);
        }
        let in_point = self.groups() * out_blocks * SUMS;
        if sums.len() < points * in_point {
            *sums = Arena::new(points * in_point);
        }
        let sums = &mut sums.as_mut_slice()[..points * in_point];
        for chunk in 0..chunks {
            let [first, end] = [chunk, chunk + 1].map(|chunk| chunk * total / chunks);
            let count = end - first;
            let tiles = Chunk {
                first,
                count,
                memory: Shared::of(tiles),
                starts: [0, points * in_blocks * count * BLOCK],
            };
            self.lift(&tiles);
            self.multiply(&tiles, sums, chunk == 0);
        }
        self.taps(sums)
    }

    /// Transforms the tiles of a chunk.
    fn lift(&self, chunk: &Chunk<'_>) {
        let functions = [
            transforms::<E>(self.shape, self.isa).inputs,
            transforms::<E>(self.shape, self.isa).output_gradients,
        ];
        let points = self.shape.points();
        let tasks = (4 * rayon::current_num_threads()).min(chunk.count);
        (0..2 * tasks).into_par_iter().for_each(|task| {
            let (map, task) = (task / tasks, task % tasks);
            let [first, end] = [task, task + 1].map(|task| task * chunk.count / tasks);
            let lifting = Lifting {
                memory: self.maps,
                views: self.views[map],
                padding: [self.window.padding, [0, 0]][map],
                grid: self.grid,
                first: chunk.first + first,
                count: end - first,
                // SAFETY: the chunk holds the tiles, of every point and block.
                to: unsafe {
                    let last = points * self.blocks()[map] - 1;
                    let elements = last * chunk.count * BLOCK + (end - first) * BLOCK;
                    chunk.memory.at(chunk.starts[map] + first * BLOCK, elements)
                },
                room: chunk.count,
            };
            // SAFETY: the views lie in the arena and have the right sizes; the chunk has room for the
            // points of its tiles; the instruction set is available.
            unsafe { functions[map](&lifting) }
        });
    }

    /// Adds a chunk's products to the sums `[point][group][output block][SUMS]`.
    fn multiply(&self, chunk: &Chunk<'_>, sums: &mut [f32], is_first: bool) {
        let blocks = self.blocks();
        let tasks = sums.par_chunks_mut(SUMS).with_min_len(8).enumerate();
        tasks.for_each(|(index, sums)| {
            let (rest, target) = (index / blocks[1], index % blocks[1]);
            let (point, group) = (rest / self.groups(), rest % self.groups());
            if is_first {
                sums.fill(0.0);
            }
            let place = |map: usize, block: usize| {
                let tile = (point * blocks[map] + block) * chunk.count;
                let first = chunk.starts[map] + tile * BLOCK;
                // SAFETY: the chunk holds the block.
                unsafe { chunk.memory.at(first, chunk.count * BLOCK).cast_const() }
            };
            // A last group may have one block, which the kernel alone reads.
            let first = group * IN_BLOCKS;
            let inputs = std::array::from_fn(|block| place(0, (first + block).min(blocks[0] - 1)));
            let sources = group_of(&self.channels[0], group);
            let kernel = row_kernel::<f32>(self.isa, sources, BLOCK);
            for part in output_parts(self.channels[1][target].1) {
                let row = Row {
                    inputs,
                    input_stride: BLOCK,
                    outputs: place(1, target).wrapping_add(part),
                    pixels: chunk.count,
                    sums: sums[part * IN_BLOCKS * BLOCK..].as_mut_ptr(),
                };
                // SAFETY: the chunk holds the tiles of every block.
                unsafe { kernel(&[row]) }
            }
        });
    }

    /// The gradients of the taps from those of the points.
    fn taps(&self, sums: &[f32]) -> Vec<f32> {
        let [sources, targets] = &self.channels;
        let [in_channels, elements] = self.elements;
        let taps = self.window.taps();
        let mut gradient = Vec::with_capacity(elements);
        let to = Gradient {
            values: gradient.as_mut_ptr(),
            in_channels,
            taps,
        };
        let points = self.shape.factors(self.window.kernel);
        // The transpose: for each tap the factor of each point.
        let of_tap = |tap: usize| points.iter().map(|factors| factors[tap]).collect();
        let factors: Vec<Vec<f32>> = (0..taps).map(of_tap).collect();
        let pairs = self.groups() * targets.len();
        (0..pairs).into_par_iter().for_each(|pair| {
            let (group, target) = (pair / targets.len(), pair % targets.len());
            TAPS.with_borrow_mut(|of_taps| {
                of_taps.resize(to.sums(), 0.0);
                let product = Product {
                    from: &sums[pair * SUMS..],
                    from_stride: pairs * SUMS,
                    factors: &factors,
                    to: of_taps,
                    to_stride: SUMS,
                    elements: SUMS,
                };
                product.compute(self.isa);
                // SAFETY: the vector has room for every channel and tap, and the blocks are this task's
                // alone.
                unsafe { to.store(self.isa, of_taps, group_of(sources, group), targets[target]) }
            });
        });
        // SAFETY: every pair of an input and an output block has been stored.
        unsafe { gradient.set_len(elements) }
        gradient
    }
}

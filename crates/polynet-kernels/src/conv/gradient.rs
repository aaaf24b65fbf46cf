//! The gradient of a convolution's weights.
//!
//! `dW[out, in, tap] = Σ_pixels dY[pixel, out] · X[pixel + tap, in]`. A microkernel keeps the sums of
//! `OUTPUTS` output channels times `NV` vectors of input channels in registers while it walks a row
//! of pixels. Every element is summed in `f32` and in one order, whatever the number of threads.
//!
//! Products of bf16 take two pixels together. The inputs of both are put side by side as they are read, for `OUTPUTS`
//! products; the gradients once for all input channels.

mod lines;
mod rows;
mod store;
mod zip;

use super::pack::{block_channels, steps};
use super::places::block_in;
use super::stores::check_views;
use crate::element::Element;
use crate::layout::{Arena, BLOCK, Shared, View};
use crate::simd::Isa;
use crate::window::Window;
use lines::{Line, chunks, lines};
use rayon::prelude::*;
use std::cell::RefCell;
use zip::zip;

pub(super) use rows::{IN_BLOCKS, OUTPUTS, Row, SUMS, output_parts, row_kernel};
pub(super) use store::Gradient;

/// Tasks that are enough for all threads.
const TASKS: usize = 32;
/// Multiply-accumulates that are worth a task of their own.
const TASK_MACS: usize = 2_000_000;

/// The gradient of the weights, `[out_channels, in_channels, kernel_height, kernel_width]` in
/// row-major order, of a convolution that read `inputs` and whose result has the gradient `outputs`.
///
/// # Panics
/// If a view leaves the arena, sizes do not fit, the halo of the inputs is narrower than the padding, or
/// the window has numbers that [`Conv::pack`](super::Conv::pack) does not take.
pub fn weight_gradient<E: Element>(
    isa: Isa,
    window: Window,
    arena: &Arena<E>,
    inputs: &[View],
    outputs: &[View],
) -> Vec<f32> {
    let segments = check_maps(window, arena, [inputs, outputs]);
    let taps = window.taps();
    let [in_channels, elements] = gradient_elements(&segments, taps);
    let (input, output) = (inputs[0], outputs[0]);
    let halo = |view: &View| view.halo >= window.padding[1] && view.halo == input.halo;
    assert!(
        inputs.iter().all(halo),
        "a halo as wide as the padding, the same in every view"
    );
    assert!(
        outputs.iter().all(|view| view.halo == output.halo),
        "gradients of one halo"
    );
    let mut zipped = Arena::default();
    let job = Job::new(isa, window, (arena, &mut zipped), [inputs, outputs]);
    let [sources, targets] = &job.channels;
    let mut gradient = Vec::with_capacity(elements);
    let to = Gradient {
        values: gradient.as_mut_ptr(),
        in_channels,
        taps,
    };
    let pairs = sources.len().div_ceil(IN_BLOCKS) * targets.len();
    // Few pairs of blocks are divided by images, the same for any number of threads.
    let macs = output.images * output.height * output.width * taps * SUMS;
    let parts = TASKS.div_ceil(pairs).min(macs / TASK_MACS);
    // SAFETY: the vector has room for every channel and tap, and every pair is there once.
    unsafe {
        match parts.clamp(1, output.images) {
            1 => job.store_pairs(pairs, &to),
            parts => job.store_divided(pairs, parts, &to),
        }
        gradient.set_len(elements);
    }
    gradient
}

/// Checks the maps of a gradient: the inputs of a convolution and the gradients of its result. Returns
/// the channels of each.
///
/// # Panics
/// If a view leaves the arena, or sizes do not fit.
pub(super) fn check_maps<E: Element>(
    window: Window,
    arena: &Arena<E>,
    maps @ [inputs, outputs]: [&[View]; 2],
) -> [Vec<usize>; 2] {
    window.check();
    let segments = maps.map(|views| views.iter().map(View::channels).collect::<Vec<_>>());
    for (views, segments) in maps.iter().zip(&segments) {
        check_views(arena, views, segments);
    }
    let input = inputs.first().expect("a convolution has an input");
    let size = window.output_size(input.size());
    let alike = |view: &View| view.size() == input.size() && view.images == input.images;
    assert!(inputs.iter().all(alike), "inputs of one size");
    let fits = |view: &View| view.size() == size && view.images == input.images;
    assert!(
        !outputs.is_empty() && outputs.iter().all(fits),
        "gradients of {size:?}"
    );
    segments
}

/// The input channels, and the elements of a gradient of so many taps.
pub(super) fn gradient_elements(segments: &[Vec<usize>; 2], taps: usize) -> [usize; 2] {
    // Maps may be read more than once: their channels are not bounded by the memory.
    let [inputs, outputs] = segments.each_ref().map(|segments| {
        let add = |sum: usize, channels: &usize| sum.checked_add(*channels);
        segments.iter().try_fold(0, add)
    });
    let of_input = outputs.and_then(|outputs| outputs.checked_mul(taps));
    let elements = inputs.zip(of_input).and_then(|(a, b)| a.checked_mul(b));
    let elements = elements.expect("a gradient that fits an address space");
    [inputs.unwrap_or_default(), elements]
}

thread_local! {
    static TASK_SUMS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// The input blocks of a group.
pub(super) fn group_of(sources: &[(usize, usize)], group: usize) -> &[(usize, usize)] {
    let end = sources.len().min((group + 1) * IN_BLOCKS);
    &sources[group * IN_BLOCKS..end]
}

struct Job<'a, E> {
    isa: Isa,
    window: Window,
    memory: Shared<'a, E>,
    /// The gradients as the microkernel reads them, `[image][block][row][step][16 outputs][DEPTH pixels]`; nothing
    /// where that is how they lie.
    zipped: Shared<'a, E>,
    inputs: &'a [View],
    outputs: &'a [View],
    /// Of each block of those maps the first channel and the channels in use.
    channels: [Vec<(usize, usize)>; 2],
    /// Rows and columns of the result; one long row where no halo is between the rows.
    size: [usize; 2],
    lines: Vec<Line>,
}

impl<'a, E: Element> Job<'a, E> {
    /// `zipped` is memory for gradients of pixels side by side.
    fn new(
        isa: Isa,
        window: Window,
        (arena, zipped): (&'a Arena<E>, &'a mut Arena<E>),
        [inputs, outputs]: [&'a [View]; 2],
    ) -> Self {
        let (input, output) = (inputs[0], outputs[0]);
        let is_flat = window == Window::POINT && input.halo == 0 && output.halo == 0;
        let size = match (is_flat, output.size()) {
            (true, [rows, columns]) => [1, rows * columns],
            (false, size) => size,
        };
        let channels = [inputs, outputs].map(|views| {
            let segments: Vec<usize> = views.iter().map(View::channels).collect();
            block_channels(&segments)
        });
        let memory = Shared::read_only(arena);
        if E::DEPTH > 1 {
            *zipped = zip(isa, memory, outputs, size);
        }
        Self {
            isa,
            window,
            memory,
            zipped: Shared::read_only(zipped),
            inputs,
            outputs,
            channels,
            size,
            lines: lines::<E>(output.images, size),
        }
    }

    /// Computes every pair of a group of input blocks and an output block by a task.
    ///
    /// # Safety
    /// As [`Gradient::store`], of every pair.
    unsafe fn store_pairs(&self, pairs: usize, to: &Gradient) {
        let images = [0, self.outputs[0].images];
        (0..pairs).into_par_iter().for_each(|pair| {
            TASK_SUMS.with_borrow_mut(|sums| {
                self.add(pair, images, to, sums);
                // SAFETY: by the contract; the pair is this task's alone.
                unsafe { self.store(pair, sums, to) }
            });
        });
    }

    /// The same by so many tasks a pair, each for some of the images.
    ///
    /// # Safety
    /// As [`Job::store_pairs`].
    unsafe fn store_divided(&self, pairs: usize, parts: usize, to: &Gradient) {
        let images = self.outputs[0].images;
        let of_part = |task: usize| {
            let (pair, part) = (task / parts, task % parts);
            let images = [part, part + 1].map(|part| part * images / parts);
            let mut sums = Vec::new();
            self.add(pair, images, to, &mut sums);
            sums
        };
        let mut sums: Vec<Vec<f32>> = (0..pairs * parts).into_par_iter().map(of_part).collect();
        for (pair, sums) in sums.chunks_exact_mut(parts).enumerate() {
            let (all, others) = sums.split_first_mut().expect("a pair has a part");
            for part in others {
                for (sum, value) in all.iter_mut().zip(part) {
                    *sum += *value;
                }
            }
            // SAFETY: by the contract.
            unsafe { self.store(pair, all, to) }
        }
    }

    /// The group of input blocks and the output block of a pair.
    fn pair(&self, pair: usize) -> [usize; 2] {
        let targets = self.channels[1].len();
        [pair / targets, pair % targets]
    }

    /// Makes the sums of a pair over some of the images.
    fn add(&self, pair: usize, images: [usize; 2], to: &Gradient, sums: &mut Vec<f32>) {
        sums.resize(to.sums(), 0.0);
        sums[..to.taps * SUMS].fill(0.0);
        self.run(self.pair(pair), images, sums);
    }

    /// # Safety
    /// As [`Gradient::store`].
    unsafe fn store(&self, pair: usize, sums: &[f32], to: &Gradient) {
        let [group, target] = self.pair(pair);
        let [sources, targets] = &self.channels;
        // SAFETY: by the contract.
        unsafe { to.store(self.isa, sums, group_of(sources, group), targets[target]) }
    }

    /// Adds the sums `[tap][16 outputs][IN_BLOCKS · 16]` of a group of input blocks and an output block, over
    /// some of the images.
    fn run(&self, [group, target]: [usize; 2], images: [usize; 2], sums: &mut [f32]) {
        let taps = self.window.taps();
        let [sources, targets] = &self.channels;
        let in_blocks = sources.len();
        let stride = self.window.stride[1] * BLOCK;
        let kernel = row_kernel(self.isa, group_of(sources, group), stride);
        let (_, used) = targets[target];
        // A last group may have one block, which the kernel alone reads.
        let sources: [(View, usize); IN_BLOCKS] = std::array::from_fn(|block| {
            let block = (group * IN_BLOCKS + block).min(in_blocks - 1);
            block_in(self.inputs, block)
        });
        let in_image = self.lines.len() / self.outputs[0].images;
        let lines = &self.lines[images[0] * in_image..images[1] * in_image];
        let kernel_columns = self.window.kernel[1];
        let row_stride = sources[0].0.row_stride() as isize;
        let (mut starts, mut list) = (Vec::new(), Vec::new());
        for chunk in chunks(lines) {
            starts.clear();
            starts.extend(chunk.iter().map(|line| self.start(line, &sources, target)));
            for tap in 0..taps {
                let (row, column) = (tap / kernel_columns, tap % kernel_columns);
                let offset = row as isize * row_stride + (column * BLOCK) as isize;
                let sums = sums[tap * SUMS..(tap + 1) * SUMS].as_mut_ptr();
                list.clear();
                list.extend(chunk.iter().zip(&starts).filter_map(|(line, start)| {
                    let inside = start.top + row as isize;
                    (0..sources[0].0.height as isize)
                        .contains(&inside)
                        .then(|| {
                            let inputs = start.inputs.map(|from| from.wrapping_offset(offset));
                            debug_assert!(inputs.iter().all(|&from| {
                                let elements = (line.pixels - 1) * stride + BLOCK;
                                self.memory.holds(from, elements)
                            }));
                            Row {
                                inputs,
                                input_stride: stride,
                                outputs: start.outputs,
                                pixels: line.pixels,
                                sums,
                            }
                        })
                }));
                for part in output_parts(used) {
                    for row in list.iter_mut().filter(|_| part > 0) {
                        row.outputs = row.outputs.wrapping_add(OUTPUTS * E::DEPTH);
                        row.sums = row.sums.wrapping_add(OUTPUTS * IN_BLOCKS * BLOCK);
                    }
                    // SAFETY: the views lie in the arena, have the right sizes, and the halo is as
                    // wide as the padding; rows outside the map are left out.
                    unsafe { kernel(&list) }
                }
            }
        }
    }

    /// Where a line begins.
    fn start(&self, line: &Line, sources: &[(View, usize); IN_BLOCKS], target: usize) -> Start<E> {
        let Window {
            stride, padding, ..
        } = self.window;
        let top = (line.row * stride[0]) as isize - padding[0] as isize;
        let left = (line.first_pixel * stride[1]) as isize - padding[1] as isize;
        let inputs = sources.map(|(view, block)| {
            // SAFETY: the plane lies in the arena.
            let plane = unsafe { self.memory.plane(&view, line.image, block).cast_const() };
            plane.wrapping_offset(top * view.row_stride() as isize + left * BLOCK as isize)
        });
        let [rows, columns] = self.size;
        let outputs = if E::DEPTH == 1 {
            let (view, block) = block_in(self.outputs, target);
            let place = view.at(line.image, block, line.row, 0) + line.first_pixel * BLOCK;
            // SAFETY: inside the view.
            unsafe { self.memory.at(place, line.pixels * BLOCK) }
        } else {
            let row = (line.image * self.channels[1].len() + target) * rows + line.row;
            let place = row * steps::<E>(columns) * E::DEPTH + line.first_pixel;
            // SAFETY: every row of every block is there.
            unsafe { self.zipped.at(place * BLOCK, line.pixels * BLOCK) }
        };
        Start {
            top,
            inputs,
            outputs,
        }
    }
}

/// Where a line begins: the first tap's row, which may be outside the map, the inputs there, and the gradients.
struct Start<E> {
    top: isize,
    inputs: [*const E; IN_BLOCKS],
    outputs: *const E,
}

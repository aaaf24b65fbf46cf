//! The gradient of a convolution's weights.
//!
//! `dW[out, in, tap] = Σ_pixels dY[pixel, out] · X[pixel + tap, in]`. A microkernel keeps the sums of
//! `OUTPUTS` output channels times `NV` vectors of input channels in registers while it walks a row
//! of pixels. Every element is summed in one order, whatever the number of threads.

mod rows;

use super::pack::block_channels;
use super::stores::check_views;
use crate::dispatch::dispatch;
use crate::layout::{Arena, BLOCK, Shared, View};
use crate::simd::{Isa, Simd};
use crate::window::Window;
use rayon::prelude::*;
use std::cell::RefCell;

pub(super) use rows::{IN_BLOCKS, OUTPUTS, Row, SUMS, output_parts, row_kernel};

/// Pixels whose maps a task goes through before the next tap.
const CHUNK_PIXELS: usize = 256;
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
pub fn weight_gradient(
    isa: Isa,
    window: Window,
    arena: &Arena,
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
    let job = Job {
        isa,
        window,
        memory: Shared::read_only(arena),
        inputs,
        outputs,
        channels: segments.each_ref().map(|segments| block_channels(segments)),
        size: output.size(),
        is_flat: window == Window::POINT && input.halo == 0 && output.halo == 0,
    };
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
pub(super) fn check_maps(
    window: Window,
    arena: &Arena,
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

/// The gradient in row-major order, for tasks that write blocks of their own.
pub(super) struct Gradient {
    pub(super) values: *mut f32,
    pub(super) in_channels: usize,
    pub(super) taps: usize,
}

// SAFETY: every task writes other elements.
unsafe impl Sync for Gradient {}

impl Gradient {
    /// Elements of the sums of a task: those of the taps, and as many after them as [`Gradient::store`] may
    /// read.
    pub(super) fn sums(&self) -> usize {
        self.taps.next_multiple_of(BLOCK) * SUMS
    }

    /// Stores sums `[tap][16 outputs][IN_BLOCKS · 16]` of the input blocks `sources` and the output block
    /// `target`, each a first channel and the channels in use.
    ///
    /// # Safety
    /// The values have room for every channel and tap, and nothing else reads or writes those of these
    /// blocks.
    pub(super) unsafe fn store(
        &self,
        isa: Isa,
        sums: &[f32],
        sources: &[(usize, usize)],
        (out_first, out_used): (usize, usize),
    ) {
        assert_eq!(sums.len(), self.sums(), "sums of a task");
        let mut row = vec![0.0; (self.taps + 1) * BLOCK];
        for lane in 0..out_used {
            for (block, &(in_first, in_used)) in sources.iter().enumerate() {
                let sums = &sums[(lane * IN_BLOCKS + block) * BLOCK..];
                let interleaved: &[f32] = if self.taps == 1 {
                    sums
                } else {
                    let interleaved = &mut Interleaved {
                        sums,
                        taps: self.taps,
                        to: &mut row,
                    };
                    // SAFETY: the sums, and with them those from a lane on, hold a multiple of 16
                    // taps.
                    unsafe { dispatch!(isa, interleave(interleaved: &mut Interleaved<'_>)) }
                    &row
                };
                let first = ((out_first + lane) * self.in_channels + in_first) * self.taps;
                let from = interleaved.as_ptr();
                // SAFETY: by the contract.
                unsafe {
                    let to = self.values.add(first);
                    match in_used * self.taps {
                        // No call of a function.
                        BLOCK => to.copy_from_nonoverlapping(from, BLOCK),
                        count => to.copy_from_nonoverlapping(from, count),
                    }
                }
            }
        }
    }
}

/// Vectors of 16 inputs, `SUMS` apart, that become `[input][tap]`.
struct Interleaved<'a> {
    sums: &'a [f32],
    taps: usize,
    /// With room for 16 more.
    to: &'a mut [f32],
}

/// # Safety
/// The processor has the instruction set; the sums hold a multiple of 16 taps.
#[inline(always)]
unsafe fn interleave<S: Simd>(interleaved: &mut Interleaved<'_>) {
    let taps = interleaved.taps;
    assert!(interleaved.to.len() >= (taps + 1) * BLOCK);
    // The last first: it may write beyond its input's taps, where the first are written after it.
    for first in (0..taps).step_by(BLOCK).rev() {
        // SAFETY: by the contract, and there is room for 16 more.
        unsafe {
            let from = interleaved.sums.as_ptr().add(first * SUMS);
            S::transpose(from, SUMS, interleaved.to.as_mut_ptr().add(first), taps);
        }
    }
}

struct Job<'a> {
    isa: Isa,
    window: Window,
    memory: Shared<'a, f32>,
    inputs: &'a [View],
    outputs: &'a [View],
    /// Of each block of those maps the first channel and the channels in use.
    channels: [Vec<(usize, usize)>; 2],
    /// Rows and columns of the result.
    size: [usize; 2],
    /// Whether neighbouring rows are one long row.
    is_flat: bool,
}

/// A block of a list of views: the view and the block in it.
fn find(views: &[View], mut block: usize) -> (View, usize) {
    for view in views {
        if block < view.blocks() {
            return (*view, block);
        }
        block -= view.blocks();
    }
    unreachable!("the views hold the block")
}

impl Job<'_> {
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
        let kernel = row_kernel(self.isa, group_of(sources, group));
        let (_, used) = targets[target];
        // A last group may have one block, which the kernel alone reads.
        let sources: [(View, usize); IN_BLOCKS] = std::array::from_fn(|block| {
            let block = (group * IN_BLOCKS + block).min(in_blocks - 1);
            find(self.inputs, block)
        });
        let target = find(self.outputs, target);
        let mut list = Vec::new();
        for [image, first, last] in self.chunks(images) {
            let joined = if self.is_flat { last - first } else { 1 };
            for tap in 0..taps {
                for part in output_parts(used) {
                    list.clear();
                    let to = tap * SUMS + part * IN_BLOCKS * BLOCK;
                    let to = sums[to..to + OUTPUTS * IN_BLOCKS * BLOCK].as_mut_ptr();
                    for row in (first..last).step_by(joined) {
                        let places = [image, row, tap];
                        let row = self.row(&sources, &target, places, (part, joined));
                        list.extend(row.map(|(inputs, outputs)| Row {
                            inputs,
                            input_stride: self.window.stride[1] * BLOCK,
                            outputs,
                            pixels: joined * self.size[1],
                            sums: to,
                        }));
                    }
                    // SAFETY: the views lie in the arena, have the right sizes, and the halo is as
                    // wide as the padding; rows outside the map are left out.
                    unsafe { kernel(&list) }
                }
            }
        }
    }

    /// Ranges of rows of each image, of about `CHUNK_PIXELS` pixels.
    fn chunks(&self, [first, end]: [usize; 2]) -> impl Iterator<Item = [usize; 3]> {
        let [height, width] = self.size;
        let rows = (CHUNK_PIXELS / width).clamp(1, height);
        (first..end).flat_map(move |image| {
            (0..height)
                .step_by(rows)
                .map(move |first| [image, first, (first + rows).min(height)])
        })
    }

    /// Where the inputs and the gradients of some rows in one begin; `None` where the tap is outside the map.
    fn row(
        &self,
        sources: &[(View, usize); IN_BLOCKS],
        (target, target_block): &(View, usize),
        [image, row, tap]: [usize; 3],
        (part, joined): (usize, usize),
    ) -> Option<([*const f32; IN_BLOCKS], *const f32)> {
        let Window {
            kernel,
            stride,
            padding,
        } = self.window;
        let y = (row * stride[0] + tap / kernel[1]).checked_sub(padding[0])?;
        if y >= sources[0].0.height {
            return None;
        }
        let left = (tap % kernel[1]) as isize - padding[1] as isize;
        let last = joined * self.size[1] - 1;
        let inputs = sources.map(|(view, block)| {
            let place = view.at(image, block, y, 0) as isize + left * BLOCK as isize;
            let elements = (last * stride[1] + 1) * BLOCK;
            // SAFETY: inside the view, its halo included.
            unsafe { self.memory.at(place as usize, elements).cast_const() }
        });
        let place = target.at(image, *target_block, row, 0) + part;
        let elements = last * BLOCK + OUTPUTS;
        // SAFETY: inside the view.
        Some((inputs, unsafe {
            self.memory.at(place, elements).cast_const()
        }))
    }
}

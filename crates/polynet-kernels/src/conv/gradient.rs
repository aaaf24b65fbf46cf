//! The gradient of a convolution's weights.
//!
//! `dW[out, in, tap] = Σ_pixels dY[pixel, out] · X[pixel + tap, in]`. A microkernel keeps the sums of
//! `INPUTS` input channels times `NV` vectors of output channels in registers while it walks a row
//! of pixels. Every element is summed in one order, whatever the number of threads.

use super::pack::block_channels;
use super::{Window, check_views};
use crate::layout::{Arena, BLOCK, View};
use crate::simd::{Isa, Simd};
use rayon::prelude::*;
use std::cell::RefCell;

/// Input channels of a microkernel; divides 16.
const INPUTS: usize = 8;
/// Output blocks of a task.
const OUT_BLOCKS: usize = 2;
/// Pixels whose maps a task goes through before the next input block.
const CHUNK_PIXELS: usize = 256;

/// A row of pixels for the microkernel.
struct Row {
    /// The first pixel's inputs at the tap, at the first of `INPUTS` channels.
    inputs: *const f32,
    /// Elements between the inputs of neighbouring pixels.
    input_stride: usize,
    /// The gradient of each output block at the first pixel.
    outputs: [*const f32; OUT_BLOCKS],
    pixels: usize,
    /// `[INPUTS][OUT_BLOCKS · 16]`, added to.
    sums: *mut f32,
}

type RowKernel = unsafe fn(&[Row]);

/// # Safety
/// The processor has the instruction set, and the pointers of the rows are valid for what the kernel
/// touches. All rows have the sums of the first.
#[inline(always)]
unsafe fn rows<S: Simd, const NV: usize, const IN: usize>(rows: &[Row]) {
    let Some(first) = rows.first() else { return };
    // SAFETY: by the contract.
    unsafe {
        for part in (0..INPUTS).step_by(IN) {
            for vectors in (0..OUT_BLOCKS * BLOCK / S::LANES).step_by(NV) {
                let mut sums = [[S::splat(0.0); NV]; IN];
                for row in rows {
                    let x = row.inputs.add(part);
                    for pixel in 0..row.pixels {
                        let mut gradients = [S::splat(0.0); NV];
                        for (v, gradient) in gradients.iter_mut().enumerate() {
                            let lane = (vectors + v) * S::LANES;
                            let block = row.outputs.get_unchecked(lane / BLOCK);
                            *gradient = S::load(block.add(pixel * BLOCK + lane % BLOCK));
                        }
                        for i in 0..IN {
                            let input = S::splat(*x.add(pixel * row.input_stride + i));
                            for v in 0..NV {
                                sums[i][v] = S::fma(input, gradients[v], sums[i][v]);
                            }
                        }
                    }
                }
                for i in 0..IN {
                    for v in 0..NV {
                        let lane = (vectors + v) * S::LANES;
                        let to = first.sums.add((part + i) * OUT_BLOCKS * BLOCK + lane);
                        S::store(to, S::add(S::load(to), sums[i][v]));
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn rows_avx512(r: &[Row]) {
    // SAFETY: the caller's contract is the same.
    unsafe { rows::<crate::simd::Avx512, 2, 8>(r) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn rows_avx2(r: &[Row]) {
    // SAFETY: the caller's contract is the same.
    unsafe { rows::<crate::simd::Avx2, 2, 4>(r) }
}

fn row_kernel(isa: Isa) -> RowKernel {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16 | Isa::Avx512 => rows_avx512,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => rows_avx2,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => rows::<crate::simd::Neon, 4, 4>,
        _ => rows::<crate::simd::Portable, 4, 2>,
    }
}

/// The gradient of the weights, `[out_channels, in_channels, kernel_height, kernel_width]` in
/// row-major order, of a convolution that read `inputs` and whose result has the gradient `outputs`.
///
/// # Panics
/// If a view leaves the arena, sizes do not fit, or the halo of the inputs is narrower than the
/// padding.
pub fn weight_gradient(
    isa: Isa,
    window: Window,
    arena: &Arena,
    inputs: &[View],
    outputs: &[View],
) -> Vec<f32> {
    let channels = |views: &[View]| views.iter().map(View::channels).collect::<Vec<_>>();
    let (in_segments, out_segments) = (channels(inputs), channels(outputs));
    check_views(arena, inputs, &in_segments);
    check_views(arena, outputs, &out_segments);
    let (input, output) = (inputs[0], outputs[0]);
    let size = window.output_size(input.size());
    assert!(
        inputs
            .iter()
            .all(|view| view.halo >= window.padding[1] && view.halo == input.halo),
        "a halo as wide as the padding, the same in every view"
    );
    let fits = |view: &View| {
        view.size() == size && view.images == input.images && view.halo == output.halo
    };
    assert!(outputs.iter().all(fits), "gradients of {size:?}");
    let job = Job {
        isa,
        window,
        memory: arena.as_slice().as_ptr(),
        inputs,
        outputs,
        size,
    };
    let sources = block_channels(&in_segments);
    let targets = block_channels(&out_segments);
    let in_channels: usize = in_segments.iter().sum();
    let out_channels: usize = out_segments.iter().sum();
    let taps = window.taps();
    let pairs = targets.len().div_ceil(OUT_BLOCKS);
    let elements = out_channels * in_channels * taps;
    let mut gradient = Vec::with_capacity(elements);
    let to = Gradient(gradient.as_mut_ptr());
    (0..pairs * sources.len()).into_par_iter().for_each(|task| {
        let (source, pair) = (task % sources.len(), task / sources.len());
        SUMS.with_borrow_mut(|sums| {
            sums.clear();
            sums.resize(taps * BLOCK * OUT_BLOCKS * BLOCK, 0.0);
            job.run(source, pair, sums);
            let targets = targets.iter().skip(pair * OUT_BLOCKS).take(OUT_BLOCKS);
            for (block, &target) in targets.enumerate() {
                let place = Place {
                    source: sources[source],
                    target,
                    in_channels,
                    taps,
                };
                // SAFETY: the vector has room for every channel and tap, and the blocks are this
                // task's alone.
                unsafe { to.store(&sums[block * BLOCK..], &place) }
            }
        });
    });
    // SAFETY: every pair of an input and an output block has been stored.
    unsafe { gradient.set_len(elements) }
    gradient
}

thread_local! {
    static SUMS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Where the weights of an input and an output block lie.
struct Place {
    /// First channel and channels in use.
    source: (usize, usize),
    target: (usize, usize),
    in_channels: usize,
    taps: usize,
}

/// The gradient in row-major order, for tasks that write blocks of their own.
struct Gradient(*mut f32);

// SAFETY: every task writes other elements.
unsafe impl Sync for Gradient {}

impl Gradient {
    /// Stores sums `[tap][16 inputs][OUT_BLOCKS · 16]`.
    ///
    /// # Safety
    /// The place lies in the gradient.
    unsafe fn store(&self, sums: &[f32], place: &Place) {
        let ((in_first, in_used), (out_first, out_used)) = (place.source, place.target);
        for lane in 0..out_used {
            let row = ((out_first + lane) * place.in_channels + in_first) * place.taps;
            for tap in 0..place.taps {
                let sums = sums[tap * BLOCK * OUT_BLOCKS * BLOCK + lane..].iter();
                let sums = sums.step_by(OUT_BLOCKS * BLOCK).take(in_used);
                for (input, sum) in sums.enumerate() {
                    // SAFETY: by the contract.
                    unsafe { self.0.add(row + input * place.taps + tap).write(*sum) }
                }
            }
        }
    }
}

struct Job<'a> {
    isa: Isa,
    window: Window,
    memory: *const f32,
    inputs: &'a [View],
    outputs: &'a [View],
    size: [usize; 2],
}

// SAFETY: a job only reads its maps.
unsafe impl Sync for Job<'_> {}

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
    /// Adds the sums `[tap][16 inputs][OUT_BLOCKS · 16]` of an input block and a group of output
    /// blocks.
    fn run(&self, in_block: usize, pair: usize, sums: &mut [f32]) {
        let taps = self.window.taps();
        let kernel = row_kernel(self.isa);
        let (x, x_block) = find(self.inputs, in_block);
        let out_blocks: usize = self.outputs.iter().map(View::blocks).sum();
        // A last group may have one block: its place is taken twice, and the second left out.
        let targets: [(View, usize); OUT_BLOCKS] = std::array::from_fn(|block| {
            let block = (pair * OUT_BLOCKS + block).min(out_blocks - 1);
            find(self.outputs, block)
        });
        let mut list = Vec::new();
        for [image, first, last] in self.chunks() {
            for tap in 0..taps {
                for part in (0..BLOCK).step_by(INPUTS) {
                    list.clear();
                    let to = (tap * BLOCK + part) * OUT_BLOCKS * BLOCK;
                    // SAFETY: inside the sums.
                    let to = unsafe { sums.as_mut_ptr().add(to) };
                    for row in first..last {
                        let row = self.row(&x, x_block, &targets, [image, row, tap], part, to);
                        list.extend(row);
                    }
                    // SAFETY: the views lie in the arena, have the right sizes, and the halo is as
                    // wide as the padding; rows outside the map are left out.
                    unsafe { kernel(&list) }
                }
            }
        }
    }

    /// Ranges of rows of an image, each of about `CHUNK_PIXELS` pixels.
    fn chunks(&self) -> impl Iterator<Item = [usize; 3]> {
        let [height, width] = self.size;
        let rows = (CHUNK_PIXELS / width).clamp(1, height);
        let images = self.inputs[0].images;
        (0..images).flat_map(move |image| {
            (0..height)
                .step_by(rows)
                .map(move |first| [image, first, (first + rows).min(height)])
        })
    }

    fn row(
        &self,
        x: &View,
        x_block: usize,
        targets: &[(View, usize); OUT_BLOCKS],
        [image, row, tap]: [usize; 3],
        part: usize,
        sums: *mut f32,
    ) -> Option<Row> {
        let Window {
            kernel,
            stride,
            padding,
        } = self.window;
        let y = (row * stride[0] + tap / kernel[1]).checked_sub(padding[0])?;
        if y >= x.height {
            return None;
        }
        let left = (tap % kernel[1]) as isize - padding[1] as isize;
        let place = x.at(image, x_block, y, 0) as isize + left * BLOCK as isize + part as isize;
        Some(Row {
            // SAFETY: inside the view, its halo included.
            inputs: unsafe { self.memory.offset(place) },
            input_stride: stride[1] * BLOCK,
            outputs: targets.map(|(view, block)| {
                // SAFETY: inside the view.
                unsafe { self.memory.add(view.at(image, block, row, 0)) }
            }),
            pixels: self.size[1],
            sums,
        })
    }
}

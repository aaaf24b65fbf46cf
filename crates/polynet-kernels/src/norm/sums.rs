//! Sums over the images and pixels of a map: of some pixels in `f32`, of these in `f64`.

use crate::layout::View;
use crate::simd::{BLOCK, Simd};
use rayon::prelude::*;

/// A number for every channel.
pub(crate) type Channels = Vec<f64>;

/// Two sums for each channel of a block.
pub(super) type Sums = [[f64; BLOCK]; 2];

/// Pixels whose sum is made in `f32`.
const RUN: usize = 128;

/// Pixels that are added at the same time, each to a sum of its own.
const WAYS: usize = 4;

/// Elements of a task: whole planes of a block.
const TASK_ELEMENTS: usize = 1 << 15;

/// Two numbers for every channel out of those of every block.
pub(super) fn channels(blocks: &[Sums], count: usize) -> [Channels; 2] {
    [0, 1].map(|part| {
        let all = blocks.iter().flat_map(|block| block[part]);
        all.take(count).collect()
    })
}

/// The sums of every block, to which `add(image, block, sums)` adds those of a plane. The order follows from
/// the map alone.
pub(super) fn over_images(map: &View, add: impl Fn(usize, usize, &mut Sums) + Sync) -> Vec<Sums> {
    let in_task = (TASK_ELEMENTS / map.plane_stride()).clamp(1, map.images);
    let tasks = map.images.div_ceil(in_task);
    let parts: Vec<Sums> = (0..map.blocks() * tasks)
        .into_par_iter()
        .map(|index| {
            let (block, task) = (index / tasks, index % tasks);
            let images = task * in_task..map.images.min((task + 1) * in_task);
            let mut sums = [[0.0; BLOCK]; 2];
            for image in images {
                add(image, block, &mut sums);
            }
            sums
        })
        .collect();
    let added = |sums: Sums, part: &Sums| {
        [0, 1].map(|which| std::array::from_fn(|c| sums[which][c] + part[which][c]))
    };
    let blocks = parts.chunks_exact(tasks);
    blocks
        .map(|parts| parts.iter().fold([[0.0; BLOCK]; 2], added))
        .collect()
}

/// The terms of two sums, `Σ a` and `Σ a · b`.
pub(super) trait Terms {
    /// `a` and `b` of a pixel, of the channels from `lane` on.
    ///
    /// # Safety
    /// The processor has the instruction set, and the plane has the pixel.
    unsafe fn at<S: Simd>(&self, row: usize, column: usize, lane: usize) -> [S::V; 2];
}

/// Adds the sums of a plane of so many rows and columns.
///
/// # Safety
/// As [`Terms::at`], for every pixel.
#[inline(always)]
pub(super) unsafe fn add_plane<S: Simd, T: Terms>(
    [rows, columns]: [usize; 2],
    terms: &T,
    sums: &mut Sums,
) {
    for row in 0..rows {
        for first in (0..columns).step_by(RUN) {
            let end = columns.min(first + RUN);
            for lane in (0..BLOCK).step_by(S::LANES) {
                // SAFETY: by the contract.
                unsafe {
                    let mut totals = [[S::splat(0.0); 2]; WAYS];
                    let mut column = first;
                    while column + WAYS <= end {
                        for (way, totals) in totals.iter_mut().enumerate() {
                            let [a, b] = terms.at::<S>(row, column + way, lane);
                            *totals = [S::add(totals[0], a), S::fma(a, b, totals[1])];
                        }
                        column += WAYS;
                    }
                    while column < end {
                        let [a, b] = terms.at::<S>(row, column, lane);
                        totals[0] = [S::add(totals[0][0], a), S::fma(a, b, totals[0][1])];
                        column += 1;
                    }
                    for (which, sums) in sums.iter_mut().enumerate() {
                        let [a, b, c, d] = totals.map(|totals| totals[which]);
                        add_lanes::<S>(sums, lane, S::add(S::add(a, b), S::add(c, d)));
                    }
                }
            }
        }
    }
}

/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn add_lanes<S: Simd>(sums: &mut [f64; BLOCK], first: usize, v: S::V) {
    let mut lanes = [0.0_f32; BLOCK];
    // SAFETY: 16 lanes hold a vector.
    unsafe { S::store(lanes.as_mut_ptr(), v) };
    for (sum, lane) in sums[first..].iter_mut().zip(&lanes[..S::LANES]) {
        *sum += f64::from(*lane);
    }
}

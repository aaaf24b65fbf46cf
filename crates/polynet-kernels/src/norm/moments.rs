//! The moments of a map, and of several maps together.

use super::sums::{Channels, add_lanes, channels};
use crate::dispatch::dispatch;
use crate::layout::{Arena, BLOCK, Shared, View};
use crate::simd::{Isa, Simd};
use rayon::prelude::*;

/// Mean and variance of every channel of a map `z` over its images and pixels; the variance over
/// `n`.
///
/// # Panics
/// If the view leaves the arena.
pub fn moments(isa: Isa, arena: &Arena, z: &View) -> (Channels, Channels) {
    assert!(z.end() <= arena.len(), "the map lies in the arena");
    let count = (z.images * z.height * z.width) as f64;
    let memory = Shared::read_only(arena);
    let blocks: Vec<[[f64; BLOCK]; 2]> = (0..z.blocks())
        .into_par_iter()
        .map(|block| {
            let mut sums = [[0.0; BLOCK]; 2];
            // The first pixel is near the mean, so that the squares do not cancel.
            // SAFETY: the view lies in the arena.
            let around = unsafe { memory.plane(z, 0, block).cast_const() };
            for image in 0..z.images {
                let plane = SumPlane {
                    // SAFETY: as above.
                    z: unsafe { memory.plane(z, image, block) },
                    z_row: z.row_stride(),
                    size: z.size(),
                    around,
                };
                let (plane, sums) = (&plane, &mut sums);
                // SAFETY: the plane lies in the arena, and nothing is written.
                unsafe {
                    dispatch!(isa, square_sums(plane: &SumPlane, sums: &mut [[f64; BLOCK]; 2]));
                }
            }
            // SAFETY: a pixel has 16 channels.
            let around = unsafe { around.cast::<[f32; BLOCK]>().read_unaligned() };
            let mean = sums[0].map(|sum| sum / count);
            let var = std::array::from_fn(|c| (sums[1][c] / count - mean[c] * mean[c]).max(0.0));
            [std::array::from_fn(|c| mean[c] + f64::from(around[c])), var]
        })
        .collect();
    let [mean, var] = channels(&blocks, z.channels);
    (mean, var)
}

/// The moments of several maps together: images, means and variances of each, as [`moments`] gives
/// them of maps with as many pixels an image.
///
/// ```text
/// mean = Σ nᵢ · meanᵢ / n        var = Σ nᵢ · (varᵢ + (meanᵢ − mean)²) / n
/// ```
///
/// The sums are in the order of the maps.
///
/// # Panics
/// If there is no map, or the maps differ in channels.
pub fn merge_moments(maps: &[(usize, &[f64], &[f64])]) -> (Channels, Channels) {
    let images: usize = maps.iter().map(|(images, ..)| images).sum();
    let shares = maps.iter().map(|(count, ..)| *count as f64 / images as f64);
    let shares: Vec<f64> = shares.collect();
    let channels = maps[0].1.len();
    let weighted = |of_map: &dyn Fn(usize) -> f64| -> f64 {
        let shares = shares.iter().enumerate();
        shares.map(|(map, share)| share * of_map(map)).sum()
    };
    (0..channels)
        .map(|channel| {
            let mean = weighted(&|map| maps[map].1[channel]);
            let var = weighted(&|map| {
                let apart = maps[map].1[channel] - mean;
                maps[map].2[channel] + apart * apart
            });
            (mean, var)
        })
        .unzip()
}

/// A plane whose sums are wanted.
struct SumPlane {
    z: *const f32,
    z_row: usize,
    size: [usize; 2],
    /// What is taken off every pixel.
    around: *const f32,
}

/// Adds the sums of `z − around` and of its squares.
///
/// # Safety
/// The processor has the instruction set and the plane is valid.
#[inline(always)]
unsafe fn square_sums<S: Simd>(plane: &SumPlane, sums: &mut [[f64; BLOCK]; 2]) {
    for row in 0..plane.size[0] {
        for lane in (0..BLOCK).step_by(S::LANES) {
            // SAFETY: by the contract.
            unsafe {
                let minus = S::splat(-1.0);
                let around = S::load(plane.around.add(lane));
                let from = plane.z.add(row * plane.z_row + lane);
                let (mut sum, mut squares) = (S::splat(0.0), S::splat(0.0));
                for column in 0..plane.size[1] {
                    let x = S::fma(minus, around, S::load(from.add(column * BLOCK)));
                    sum = S::add(sum, x);
                    squares = S::fma(x, x, squares);
                }
                add_lanes::<S>(&mut sums[0], lane, sum);
                add_lanes::<S>(&mut sums[1], lane, squares);
            }
        }
    }
}

//! The moments of a map, and of several maps together.

use super::sums::{Channels, Sums, Terms, add_plane, channels, over_images};
use crate::dispatch::dispatch;
use crate::element::Element;
use crate::layout::{Arena, BLOCK, Shared, View, flat};
use crate::planes::check_single_blocks;
use crate::simd::{Isa, Simd};

/// Mean and variance of every channel of a map `z` over its images and pixels; the variance over
/// `n`.
///
/// # Panics
/// If the view leaves the arena.
pub fn moments<E: Element>(isa: Isa, arena: &Arena<E>, z: &View) -> (Channels, Channels) {
    assert!(z.end() <= arena.len(), "the map lies in the arena");
    check_single_blocks(&[z]);
    let count = (z.images * z.height * z.width) as f64;
    let memory = Shared::read_only(arena);
    // The first pixel is near the mean, so that the squares do not cancel.
    // SAFETY: the view lies in the arena.
    let around = |block: usize| unsafe { memory.plane(z, 0, block).cast_const() };
    let sums = over_images(z, |image, block, sums| {
        let plane = SumPlane {
            // SAFETY: as above.
            z: unsafe { memory.plane(z, image, block) },
            z_row: z.row_stride(),
            around: around(block),
        };
        let (size, plane) = (flat([z]), &plane);
        // SAFETY: the plane lies in the arena, and nothing is written.
        unsafe {
            dispatch!(
                isa,
                square_sums<E: Element>(size: [usize; 2], plane: &SumPlane<E>, sums: &mut Sums)
            );
        }
    });
    let blocks = sums.iter().enumerate().map(|(block, sums)| {
        // SAFETY: a pixel has 16 channels.
        let around = unsafe { around(block).cast::<[E; BLOCK]>().read_unaligned() };
        let mean = sums[0].map(|sum| sum / count);
        let var = std::array::from_fn(|c| (sums[1][c] / count - mean[c] * mean[c]).max(0.0));
        [
            std::array::from_fn(|c| mean[c] + f64::from(around[c].to_f32())),
            var,
        ]
    });
    let blocks: Vec<Sums> = blocks.collect();
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
struct SumPlane<E> {
    z: *const E,
    z_row: usize,
    /// What is taken off every pixel.
    around: *const E,
}

impl<E: Element> Terms for SumPlane<E> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, row: usize, column: usize, lane: usize) -> [S::V; 2] {
        // SAFETY: by the contract.
        unsafe {
            let z = E::load::<S>(self.z.add(row * self.z_row + column * BLOCK + lane));
            let x = S::fma(S::splat(-1.0), E::load::<S>(self.around.add(lane)), z);
            [x, x]
        }
    }
}

/// Adds the sums of `z − around` and of its squares.
///
/// # Safety
/// The processor has the instruction set and the plane is valid.
#[inline(always)]
unsafe fn square_sums<S: Simd, E: Element>(size: [usize; 2], plane: &SumPlane<E>, sums: &mut Sums) {
    // SAFETY: by the contract.
    unsafe { add_plane::<S, _>(size, plane, sums) }
}

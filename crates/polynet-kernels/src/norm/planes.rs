//! What batch norm does with the planes of maps.

use super::sums::add_lanes;
use crate::simd::{BLOCK, Simd};

/// Numbers for the 16 channels of a block.
pub(super) struct Factors {
    pub(super) scale: *const f32,
    pub(super) shift: *const f32,
    pub(super) terms: [*const f32; 3],
    pub(super) relu: bool,
}

/// A plane of `z`, of `dy` and of a result.
pub(super) struct MapPlane {
    pub(super) z: *const f32,
    pub(super) z_row: usize,
    pub(super) dy: *const f32,
    pub(super) dy_row: usize,
    pub(super) to: *mut f32,
    pub(super) to_row: usize,
    pub(super) size: [usize; 2],
    pub(super) factors: Factors,
}

/// # Safety
/// The processor has the instruction set and the planes are valid.
#[inline(always)]
pub(super) unsafe fn apply_plane<S: Simd>(plane: &MapPlane) {
    for lane in (0..BLOCK).step_by(S::LANES) {
        // SAFETY: by the contract.
        unsafe {
            let scale = S::load(plane.factors.scale.add(lane));
            let shift = S::load(plane.factors.shift.add(lane));
            for row in 0..plane.size[0] {
                let z = plane.z.add(row * plane.z_row + lane);
                let to = plane.to.add(row * plane.to_row + lane);
                for column in 0..plane.size[1] {
                    let mut y = S::fma(scale, S::load(z.add(column * BLOCK)), shift);
                    if !plane.dy.is_null() {
                        let addend = plane.dy.add(row * plane.dy_row + lane);
                        y = S::add(y, S::load(addend.add(column * BLOCK)));
                    }
                    if plane.factors.relu {
                        y = S::max(S::splat(0.0), y);
                    }
                    S::store(to.add(column * BLOCK), y);
                }
            }
        }
    }
}

/// `dy` where the ReLU let through.
///
/// # Safety
/// As [`apply_plane`].
#[inline(always)]
unsafe fn passed<S: Simd>(relu: bool, scale: S::V, shift: S::V, z: S::V, dy: S::V) -> S::V {
    if relu {
        // SAFETY: by the contract.
        unsafe { S::where_positive(S::fma(scale, z, shift), dy) }
    } else {
        dy
    }
}

/// # Safety
/// As [`apply_plane`].
#[inline(always)]
pub(super) unsafe fn gradient_sums<S: Simd>(plane: &MapPlane, sums: &mut [[f64; BLOCK]; 2]) {
    for lane in (0..BLOCK).step_by(S::LANES) {
        // SAFETY: by the contract.
        unsafe {
            let scale = S::load(plane.factors.scale.add(lane));
            let shift = S::load(plane.factors.shift.add(lane));
            let mean = S::load(plane.factors.terms[0].add(lane));
            let minus = S::splat(-1.0);
            for row in 0..plane.size[0] {
                let from = plane.z.add(row * plane.z_row + lane);
                let dy = plane.dy.add(row * plane.dy_row + lane);
                let (mut sum, mut products) = (S::splat(0.0), S::splat(0.0));
                for column in 0..plane.size[1] {
                    let z = S::load(from.add(column * BLOCK));
                    let g = S::load(dy.add(column * BLOCK));
                    let g = passed::<S>(plane.factors.relu, scale, shift, z, g);
                    sum = S::add(sum, g);
                    products = S::fma(g, S::fma(minus, mean, z), products);
                }
                add_lanes::<S>(&mut sums[0], lane, sum);
                add_lanes::<S>(&mut sums[1], lane, products);
            }
        }
    }
}

/// # Safety
/// As [`apply_plane`].
#[inline(always)]
pub(super) unsafe fn gradient_plane<S: Simd>(plane: &MapPlane) {
    for lane in (0..BLOCK).step_by(S::LANES) {
        // SAFETY: by the contract.
        unsafe {
            let scale = S::load(plane.factors.scale.add(lane));
            let shift = S::load(plane.factors.shift.add(lane));
            let [of_g, of_z, constant] = plane.factors.terms.map(|term| S::load(term.add(lane)));
            for row in 0..plane.size[0] {
                let from = plane.z.add(row * plane.z_row + lane);
                let dy = plane.dy.add(row * plane.dy_row + lane);
                let to = plane.to.add(row * plane.to_row + lane);
                for column in 0..plane.size[1] {
                    let z = S::load(from.add(column * BLOCK));
                    let g = S::load(dy.add(column * BLOCK));
                    let g = passed::<S>(plane.factors.relu, scale, shift, z, g);
                    let dz = S::fma(of_g, g, S::fma(of_z, z, constant));
                    S::store(to.add(column * BLOCK), dz);
                }
            }
        }
    }
}

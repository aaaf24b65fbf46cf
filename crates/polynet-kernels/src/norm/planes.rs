//! What batch norm does with the planes of maps on the way back.

use super::sums::{Sums, Terms, add_plane};
use crate::element::Element;
use crate::simd::{BLOCK, Simd, block_vectors};

/// Numbers for the 16 channels of a block.
pub(super) struct Factors {
    pub(super) scale: *const f32,
    pub(super) shift: *const f32,
    pub(super) terms: [*const f32; 3],
    pub(super) relu: bool,
}

/// A plane of `z`, of `dy` and of a result.
pub(super) struct MapPlane<E> {
    pub(super) z: *const E,
    pub(super) z_row: usize,
    pub(super) dy: *const E,
    pub(super) dy_row: usize,
    pub(super) to: *mut E,
    pub(super) to_row: usize,
    pub(super) size: [usize; 2],
    pub(super) factors: Factors,
}

/// `dy` where the ReLU let through.
///
/// # Safety
/// The processor has the instruction set and the planes are valid.
#[inline(always)]
unsafe fn passed<S: Simd>(relu: bool, scale: S::V, shift: S::V, z: S::V, dy: S::V) -> S::V {
    if relu {
        // SAFETY: by the contract.
        unsafe { S::where_positive(S::fma(scale, z, shift), dy) }
    } else {
        dy
    }
}

impl<E: Element> Terms for MapPlane<E> {
    /// `g` and `z − mean`.
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, row: usize, column: usize, lane: usize) -> [S::V; 2] {
        // SAFETY: by the contract.
        unsafe {
            let [scale, shift, mean] = [
                self.factors.scale,
                self.factors.shift,
                self.factors.terms[0],
            ]
            .map(|numbers| S::load(numbers.add(lane)));
            let z = E::load::<S>(self.z.add(row * self.z_row + column * BLOCK + lane));
            let g = E::load::<S>(self.dy.add(row * self.dy_row + column * BLOCK + lane));
            let g = passed::<S>(self.factors.relu, scale, shift, z, g);
            [g, S::fma(S::splat(-1.0), mean, z)]
        }
    }
}

/// # Safety
/// As [`passed`].
#[inline(always)]
pub(super) unsafe fn gradient_sums<S: Simd, E: Element>(plane: &MapPlane<E>, sums: &mut Sums) {
    // SAFETY: by the contract.
    unsafe { add_plane::<S, _>(plane.size, plane, sums) }
}

/// # Safety
/// As [`passed`].
#[inline(always)]
pub(super) unsafe fn gradient_plane<S: Simd, E: Element>(plane: &MapPlane<E>) {
    // SAFETY: by the contract.
    unsafe {
        match plane.factors.relu {
            true => gradient::<S, E, true>(plane),
            false => gradient::<S, E, false>(plane),
        }
    }
}

/// # Safety
/// As [`passed`].
#[inline(always)]
unsafe fn gradient<S: Simd, E: Element, const RELU: bool>(plane: &MapPlane<E>) {
    let &MapPlane {
        z, dy, to, size, ..
    } = plane;
    let [z_row, dy_row, to_row] = [plane.z_row, plane.dy_row, plane.to_row];
    // SAFETY: by the contract.
    unsafe {
        let scale = block_vectors::<S>(plane.factors.scale);
        let shift = block_vectors::<S>(plane.factors.shift);
        let [of_g, of_z, constant] = plane.factors.terms.map(|term| block_vectors::<S>(term));
        for row in 0..size[0] {
            let (z, to) = (z.add(row * z_row), to.add(row * to_row));
            let dy = dy.add(row * dy_row);
            for column in 0..size[1] {
                for v in 0..BLOCK / S::LANES {
                    let at = column * BLOCK + v * S::LANES;
                    let z = E::load::<S>(z.add(at));
                    let g = E::load::<S>(dy.add(at));
                    let g = passed::<S>(RELU, scale[v], shift[v], z, g);
                    let dz = S::fma(of_g[v], g, S::fma(of_z[v], z, constant[v]));
                    E::store::<S>(to.add(at), dz);
                }
            }
        }
    }
}

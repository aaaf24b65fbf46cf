//! What becomes of the sums of some pixels and a panel's channels: ReLU, a scaled sum with another map, rounding.

use crate::conv::tile::Target;
use crate::element::Element;
use crate::layout::{BLOCK, Pixel};
use crate::simd::Simd;

/// Neighbouring pixels of a row on their way from sums to maps.
pub(super) struct Run<E> {
    /// `[pixel][32]`.
    pub(super) sums: *const f32,
    pub(super) count: usize,
    /// Blocks with channels; the other one of a pixel is zeros.
    pub(super) blocks: usize,
    /// At the first pixel.
    pub(super) target: Target<E>,
    pub(super) scale: f32,
    pub(super) value_relu: bool,
    pub(super) sum_relu: bool,
}

/// # Safety
/// The processor has the instruction set, and pointers are valid for the pixels or null.
#[inline(always)]
pub(super) unsafe fn store<S: Simd, E: Element>(run: &Run<E>) {
    let Target { value, sum, .. } = run.target;
    // SAFETY: by the contract.
    unsafe {
        match (value.is_null(), sum.is_null(), run.blocks) {
            (false, true, 1) => pixels::<S, E, true, false, 1>(run),
            (false, true, _) => pixels::<S, E, true, false, 2>(run),
            (true, _, 1) => pixels::<S, E, false, true, 1>(run),
            (true, ..) => pixels::<S, E, false, true, 2>(run),
            (false, false, 1) => pixels::<S, E, true, true, 1>(run),
            (false, false, _) => pixels::<S, E, true, true, 2>(run),
        }
    }
}

/// # Safety
/// As [`store`]; there are the maps that `VALUE` and `SUM` speak of.
#[inline(always)]
unsafe fn pixels<S: Simd, E: Element, const VALUE: bool, const SUM: bool, const BLOCKS: usize>(
    run: &Run<E>,
) {
    const PIXEL: usize = Pixel::TwoBlocks.channels();
    let Target { value, addend, sum } = run.target;
    // SAFETY: by the contract.
    unsafe {
        // What is no ReLU has a floor that nothing lies below.
        let floor = |relu: bool| S::splat(if relu { 0.0 } else { f32::NEG_INFINITY });
        let [value_floor, sum_floor] = [floor(run.value_relu), floor(run.sum_relu)];
        let scale = S::splat(run.scale);
        for pixel in 0..run.count {
            for lane in (0..PIXEL).step_by(2 * S::LANES) {
                let lanes = [lane, lane + S::LANES];
                let sums = lanes.map(|lane| match lane < BLOCKS * BLOCK {
                    true => S::load(run.sums.add(pixel * PIXEL + lane)),
                    false => S::splat(0.0),
                });
                let at = pixel * PIXEL + lane;
                if VALUE {
                    E::store_two::<S>(value.add(at), sums.map(|x| S::max(value_floor, x)));
                }
                if SUM {
                    let addends = [at, at + S::LANES].map(|at| E::load::<S>(addend.add(at)));
                    let total = |index: usize| {
                        S::max(sum_floor, S::fma(scale, sums[index], addends[index]))
                    };
                    E::store_two::<S>(sum.add(at), [total(0), total(1)]);
                }
            }
        }
    }
}

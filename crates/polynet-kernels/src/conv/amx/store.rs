//! What becomes of the sums of some pixels and a panel's channels: ReLU, a scaled sum with another map, rounding.

use crate::conv::tile::{Target, rectified};
use crate::element::Element;
use crate::layout::{BLOCK, Pixel};
use crate::simd::{Simd, block_vectors};

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
    const PIXEL: usize = Pixel::TwoBlocks.channels();
    let Target { value, addend, sum } = run.target;
    // SAFETY: by the contract.
    unsafe {
        let scale = S::splat(run.scale);
        for at in (0..run.count * PIXEL).step_by(BLOCK) {
            let has_channels = at % PIXEL < run.blocks * BLOCK;
            let mut sums = block_vectors::<S>(run.sums.add(at));
            if !has_channels {
                sums = sums.map(|_| S::splat(0.0));
            }
            for (index, &x) in sums.iter().enumerate().take(BLOCK / S::LANES) {
                let at = at + index * S::LANES;
                if !value.is_null() {
                    E::store::<S>(value.add(at), rectified::<S>(x, run.value_relu));
                }
                if !sum.is_null() {
                    let total = S::fma(scale, x, E::load::<S>(addend.add(at)));
                    E::store::<S>(sum.add(at), rectified::<S>(total, run.sum_relu));
                }
            }
        }
    }
}

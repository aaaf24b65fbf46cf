//! Sums of blocks, in `f64`.

use crate::simd::{BLOCK, Simd};

/// A number for every channel.
pub(crate) type Channels = Vec<f64>;

/// Two numbers for every channel out of those of every block.
pub(super) fn channels(blocks: &[[[f64; BLOCK]; 2]], count: usize) -> [Channels; 2] {
    [0, 1].map(|part| {
        let all = blocks.iter().flat_map(|block| block[part]);
        all.take(count).collect()
    })
}

/// # Safety
/// The processor has the instruction set.
#[inline(always)]
pub(super) unsafe fn add_lanes<S: Simd>(sums: &mut [f64; BLOCK], first: usize, v: S::V) {
    let mut lanes = [0.0_f32; BLOCK];
    // SAFETY: 16 lanes hold a vector.
    unsafe { S::store(lanes.as_mut_ptr(), v) };
    for (sum, lane) in sums[first..].iter_mut().zip(&lanes[..S::LANES]) {
        *sum += f64::from(*lane);
    }
}

//! Sums of blocks on their way to their places in a gradient.

use super::rows::{IN_BLOCKS, SUMS};
use crate::dispatch::dispatch;
use crate::layout::BLOCK;
use crate::simd::{Isa, Simd};

/// The gradient in row-major order, for tasks that write blocks of their own.
pub(in crate::conv) struct Gradient {
    pub(in crate::conv) values: *mut f32,
    pub(in crate::conv) in_channels: usize,
    pub(in crate::conv) taps: usize,
}

// SAFETY: every task writes other elements.
unsafe impl Sync for Gradient {}

impl Gradient {
    /// Elements of the sums of a task: those of the taps, and as many after them as [`Gradient::store`] may
    /// read.
    pub(in crate::conv) fn sums(&self) -> usize {
        self.taps.next_multiple_of(BLOCK) * SUMS
    }

    /// Stores sums `[tap][16 outputs][IN_BLOCKS · 16]` of the input blocks `sources` and the output block
    /// `target`, each a first channel and the channels in use.
    ///
    /// # Safety
    /// The values have room for every channel and tap, and nothing else reads or writes those of these
    /// blocks.
    pub(in crate::conv) unsafe fn store(
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

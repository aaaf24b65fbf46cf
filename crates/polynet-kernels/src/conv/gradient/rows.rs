//! The microkernel of weight gradients: rows of pixels into the sums of some channels.

use crate::layout::BLOCK;
use crate::simd::{InstructionSet, Isa, Simd};

/// Output channels of a microkernel; divides 16.
pub(in crate::conv) const OUTPUTS: usize = 8;
/// Input blocks of a task.
pub(in crate::conv) const IN_BLOCKS: usize = 2;
/// Sums of an output block and a group of input blocks at a tap: `[16 outputs][IN_BLOCKS · 16]`.
pub(in crate::conv) const SUMS: usize = BLOCK * IN_BLOCKS * BLOCK;

/// A row of pixels for the microkernel.
pub(in crate::conv) struct Row {
    /// The inputs of each block at the first pixel and the tap; a kernel of up to 16 lanes reads the first.
    pub(in crate::conv) inputs: [*const f32; IN_BLOCKS],
    /// Elements between the inputs of neighbouring pixels.
    pub(in crate::conv) input_stride: usize,
    /// The gradients at the first pixel, of the first of `OUTPUTS` channels.
    pub(in crate::conv) outputs: *const f32,
    pub(in crate::conv) pixels: usize,
    /// `[OUTPUTS][IN_BLOCKS · 16]`, added to.
    pub(in crate::conv) sums: *mut f32,
}

pub(in crate::conv) type RowKernel = unsafe fn(&[Row]);

/// The sums of the first `LANES` input channels, `NV` vectors of them and `OUT` output channels at a time.
///
/// # Safety
/// The processor has the instruction set, and the pointers of the rows are valid for what the kernel
/// touches. All rows have the sums of the first.
#[inline(always)]
unsafe fn rows<S: Simd, const LANES: usize, const NV: usize, const OUT: usize>(rows: &[Row]) {
    let Some(first) = rows.first() else { return };
    // SAFETY: by the contract.
    unsafe {
        for part in (0..OUTPUTS).step_by(OUT) {
            for vectors in (0..LANES / S::LANES).step_by(NV) {
                let mut sums = [[S::splat(0.0); NV]; OUT];
                for row in rows {
                    let gradients = row.outputs.add(part);
                    for pixel in 0..row.pixels {
                        let mut inputs = [S::splat(0.0); NV];
                        for (v, input) in inputs.iter_mut().enumerate() {
                            let lane = (vectors + v) * S::LANES;
                            let block = row.inputs.get_unchecked(lane / BLOCK);
                            *input = S::load(block.add(pixel * row.input_stride + lane % BLOCK));
                        }
                        for o in 0..OUT {
                            let gradient = S::splat(*gradients.add(pixel * BLOCK + o));
                            for v in 0..NV {
                                sums[o][v] = S::fma(gradient, inputs[v], sums[o][v]);
                            }
                        }
                    }
                }
                for o in 0..OUT {
                    for v in 0..NV {
                        let lane = (vectors + v) * S::LANES;
                        let to = first.sums.add((part + o) * IN_BLOCKS * BLOCK + lane);
                        S::store(to, S::add(S::load(to), sums[o][v]));
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn rows_avx512<const LANES: usize, const NV: usize>(r: &[Row]) {
    // SAFETY: the caller's contract is the same.
    unsafe { rows::<crate::simd::Avx512, LANES, NV, 8>(r) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn rows_avx2<const LANES: usize, const NV: usize, const OUT: usize>(r: &[Row]) {
    // SAFETY: the caller's contract is the same.
    unsafe { rows::<crate::simd::Avx2, LANES, NV, OUT>(r) }
}

/// The microkernel for the input channels of a group, and for more where that costs nothing.
pub(in crate::conv) fn row_kernel(isa: Isa, group: &[(usize, usize)]) -> RowKernel {
    let lanes = match group {
        [(_, used)] => *used,
        [.., (_, used)] => BLOCK + used,
        [] => unreachable!("a group has a block"),
    };
    match (isa.set(), lanes.div_ceil(BLOCK / 2)) {
        #[cfg(target_arch = "x86_64")]
        (InstructionSet::Avx512Bf16 | InstructionSet::Avx512, 1 | 2) => rows_avx512::<16, 1>,
        #[cfg(target_arch = "x86_64")]
        (InstructionSet::Avx512Bf16 | InstructionSet::Avx512, _) => rows_avx512::<32, 2>,
        #[cfg(target_arch = "x86_64")]
        (InstructionSet::Avx2, 1) => rows_avx2::<8, 1, 8>,
        #[cfg(target_arch = "x86_64")]
        (InstructionSet::Avx2, 2) => rows_avx2::<16, 2, 4>,
        #[cfg(target_arch = "x86_64")]
        (InstructionSet::Avx2, 3) => rows_avx2::<24, 3, 4>,
        #[cfg(target_arch = "x86_64")]
        (InstructionSet::Avx2, _) => rows_avx2::<32, 2, 4>,
        #[cfg(target_arch = "aarch64")]
        (InstructionSet::Neon, 1 | 2) => rows::<crate::simd::Neon, 16, 4, 4>,
        #[cfg(target_arch = "aarch64")]
        (InstructionSet::Neon, _) => rows::<crate::simd::Neon, 32, 4, 4>,
        (_, 1 | 2) => rows::<crate::simd::Portable, 16, 4, 2>,
        _ => rows::<crate::simd::Portable, 32, 4, 2>,
    }
}

/// The output channels of a block that are computed, `OUTPUTS` at a time.
pub(in crate::conv) fn output_parts(used: usize) -> impl Iterator<Item = usize> {
    (0..used).step_by(OUTPUTS)
}

//! The microkernel of weight gradients: rows of pixels into the sums of some channels.

use crate::element::{Element, PerElement};
use crate::layout::BLOCK;
use crate::simd::{InstructionSet, Isa, Simd};
use half::bf16;

/// Output channels of a microkernel; divides 16.
pub(in crate::conv) const OUTPUTS: usize = 8;
/// Input blocks of a task.
pub(in crate::conv) const IN_BLOCKS: usize = 2;
/// Sums of an output block and a group of input blocks at a tap: `[16 outputs][IN_BLOCKS · 16]`.
pub(in crate::conv) const SUMS: usize = BLOCK * IN_BLOCKS * BLOCK;

/// A row of pixels for the microkernel.
pub(in crate::conv) struct Row<E> {
    /// The inputs of each block at the first pixel and the tap; a kernel of up to 16 lanes reads the first.
    pub(in crate::conv) inputs: [*const E; IN_BLOCKS],
    /// Elements between the inputs of neighbouring pixels.
    pub(in crate::conv) input_stride: usize,
    /// The gradients at the first pixel, of the first of `OUTPUTS` channels: `[step][16 outputs][DEPTH pixels]`.
    pub(in crate::conv) outputs: *const E,
    pub(in crate::conv) pixels: usize,
    /// `[OUTPUTS][IN_BLOCKS · 16]`, added to.
    pub(in crate::conv) sums: *mut f32,
}

pub(in crate::conv) type RowKernel<E> = unsafe fn(&[Row<E>]);

/// The sums of the first `LANES` input channels, `NV` vectors of them and `OUT` output channels at a time. Pixels whose
/// distance is known as `STRIDE` are read faster; it is 0 where it is not.
///
/// # Safety
/// The processor has the instruction set, and the pointers of the rows are valid for what the kernel
/// touches. All rows have the sums of the first.
#[inline(always)]
unsafe fn rows<
    S: Simd,
    E: Element,
    const LANES: usize,
    const NV: usize,
    const OUT: usize,
    const STRIDE: usize,
>(
    rows: &[Row<E>],
) {
    let Some(first) = rows.first() else { return };
    // SAFETY: by the contract.
    unsafe {
        for part in (0..OUTPUTS).step_by(OUT) {
            for vectors in (0..LANES / S::LANES).step_by(NV) {
                let mut sums = [[S::splat(0.0); NV]; OUT];
                for row in rows {
                    let stride = match STRIDE {
                        0 => row.input_stride,
                        stride => stride,
                    };
                    let mut gradients = row.outputs.add(part * E::DEPTH);
                    let place = |pixel: usize, v: usize| {
                        let lane = (vectors + v) * S::LANES;
                        let block = row.inputs.get_unchecked(lane / BLOCK);
                        block.add(pixel * stride + lane % BLOCK)
                    };
                    let whole = row.pixels - row.pixels % E::DEPTH;
                    for pixel in (0..whole).step_by(E::DEPTH) {
                        let mut inputs = [E::pixels::<S>(place(pixel, 0), stride); NV];
                        for (v, input) in inputs.iter_mut().enumerate().skip(1) {
                            *input = E::pixels::<S>(place(pixel, v), stride);
                        }
                        add_products::<S, E, NV, OUT>(inputs, gradients, &mut sums);
                        gradients = gradients.add(BLOCK * E::DEPTH);
                    }
                    if whole < row.pixels {
                        let mut inputs = [E::last_pixel::<S>(place(whole, 0)); NV];
                        for (v, input) in inputs.iter_mut().enumerate().skip(1) {
                            *input = E::last_pixel::<S>(place(whole, v));
                        }
                        add_products::<S, E, NV, OUT>(inputs, gradients, &mut sums);
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

/// Adds the products of the inputs and the gradients of a step.
///
/// # Safety
/// As [`rows`].
#[inline(always)]
unsafe fn add_products<S: Simd, E: Element, const NV: usize, const OUT: usize>(
    inputs: [E::Operand<S>; NV],
    gradients: *const E,
    sums: &mut [[S::V; NV]; OUT],
) {
    for (o, sums) in sums.iter_mut().enumerate() {
        // SAFETY: by the contract.
        unsafe {
            let gradient = E::inputs::<S>(gradients.add(o * E::DEPTH));
            for (sum, input) in sums.iter_mut().zip(inputs) {
                *sum = E::multiply_add::<S>(input, gradient, *sum);
            }
        }
    }
}

/// Compiles [`rows`] for an instruction set, with so many output channels at a time.
macro_rules! rows_on {
    ($name:ident, $simd:ty, $feature:literal) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $feature)]
        unsafe fn $name<
            E: Element,
            const LANES: usize,
            const NV: usize,
            const OUT: usize,
            const STRIDE: usize,
        >(
            r: &[Row<E>],
        ) {
            // SAFETY: the caller's contract is the same.
            unsafe { rows::<$simd, E, LANES, NV, OUT, STRIDE>(r) }
        }
    };
}

rows_on!(
    rows_avx512_bf16,
    crate::simd::Avx512Bf16,
    "avx512f,avx512bw,avx512bf16"
);
rows_on!(rows_avx512, crate::simd::Avx512, "avx512f");
rows_on!(rows_avx2, crate::simd::Avx2, "avx2,fma");

/// The microkernel for the input channels of a group, and for more where that costs nothing; pixels of the inputs lie
/// `stride` elements apart.
pub(in crate::conv) fn row_kernel<E: Element>(
    isa: Isa,
    group: &[(usize, usize)],
    stride: usize,
) -> RowKernel<E> {
    let lanes = match group {
        [(_, used)] => *used,
        [.., (_, used)] => BLOCK + used,
        [] => unreachable!("a group has a block"),
    };
    let halves = lanes.div_ceil(BLOCK / 2);
    E::choose(Rows {
        isa,
        halves,
        stride,
    })
}

/// Names the elements here, so that this crate compiles the microkernels and not each that uses it.
struct Rows {
    isa: Isa,
    /// Input channels, in half blocks.
    halves: usize,
    /// Elements between neighbouring pixels of the inputs.
    stride: usize,
}

impl Rows {
    /// The microkernel that no instruction set of its own has.
    fn widened<E: Element>(self) -> RowKernel<E> {
        match (self.isa.set(), self.halves) {
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512Bf16 | InstructionSet::Avx512, 1 | 2) => {
                rows_avx512::<E, 16, 1, 8, 0>
            }
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512Bf16 | InstructionSet::Avx512, _) => {
                rows_avx512::<E, 32, 2, 8, 0>
            }
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, 1) => rows_avx2::<E, 8, 1, 8, 0>,
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, 2) => rows_avx2::<E, 16, 2, 4, 0>,
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, 3) => rows_avx2::<E, 24, 3, 4, 0>,
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, _) => rows_avx2::<E, 32, 2, 4, 0>,
            #[cfg(target_arch = "aarch64")]
            (InstructionSet::Neon, 1 | 2) => rows::<crate::simd::Neon, E, 16, 4, 4, 0>,
            #[cfg(target_arch = "aarch64")]
            (InstructionSet::Neon, _) => rows::<crate::simd::Neon, E, 32, 4, 4, 0>,
            (_, 1 | 2) => rows::<crate::simd::Portable, E, 16, 4, 2, 0>,
            _ => rows::<crate::simd::Portable, E, 32, 4, 2, 0>,
        }
    }
}

impl PerElement for Rows {
    type Of<E: 'static> = RowKernel<E>;

    fn of_f32(self) -> RowKernel<f32> {
        self.widened()
    }

    fn of_bf16(self) -> RowKernel<bf16> {
        match (self.isa.set(), self.halves, self.stride) {
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512Bf16, 1 | 2, BLOCK) => rows_avx512_bf16::<bf16, 16, 1, 8, BLOCK>,
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512Bf16, 1 | 2, _) => rows_avx512_bf16::<bf16, 16, 1, 8, 0>,
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512Bf16, _, BLOCK) => rows_avx512_bf16::<bf16, 32, 2, 8, BLOCK>,
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512Bf16, ..) => rows_avx512_bf16::<bf16, 32, 2, 8, 0>,
            _ => self.widened(),
        }
    }
}

/// The output channels of a block that are computed, `OUTPUTS` at a time.
pub(in crate::conv) fn output_parts(used: usize) -> impl Iterator<Item = usize> {
    (0..used).step_by(OUTPUTS)
}

//! What a core can do at most: products in registers, without memory.

use crate::dispatch::dispatch;
use crate::element::Element;
use crate::simd::{BLOCK, BYTES_DEPTH, ByteProducts, Bytes, InstructionSet, Isa, Simd};
use std::hint::black_box;

/// Sums that grow side by side, so that no product waits for another.
const SUMS: usize = 14;

/// Products of numbers in registers, for measuring.
///
/// Returns the floating-point operations that were done: two for every product.
pub fn multiply_add<E: Element>(isa: Isa, rounds: usize) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if E::DEPTH > 1 && isa.multiplies_tiles() {
        // A round takes a processor about eight times as long as one of vectors.
        let rounds = rounds / 8;
        // SAFETY: the instruction set has tiles.
        unsafe { crate::amx::multiply_zeros(rounds) }
        return (4 * crate::amx::TILE_OPERATIONS) as u64 * rounds as u64;
    }
    let operands = [E::from_f32(black_box(1e-9)); 2 * BLOCK];
    let mut result = [0.0_f32; BLOCK];
    let (operands, to) = (&operands[..], &mut result);
    let lanes = match isa.set() {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512Bf16 if E::DEPTH > 1 => {
            // SAFETY: the processor has the instruction set; the operands are a vector of pairs.
            unsafe { grow_bf16(operands, rounds, to) }
            16
        }
        set => {
            // SAFETY: the operands are a vector of pairs.
            unsafe {
                dispatch!(isa, grow<E: Element>(operands: &[E], rounds: usize, to: &mut [f32; BLOCK]));
            }
            lanes(set)
        }
    };
    black_box(result);
    (2 * E::DEPTH * lanes * SUMS) as u64 * rounds as u64
}

/// Products of bytes in registers, for measuring; see [`multiply_add`].
///
/// Returns the operations that were done: two for every product.
pub fn multiply_add_bytes(isa: Isa, rounds: usize) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if isa.multiplies_tiles() {
        // As above.
        let rounds = rounds / 8;
        // SAFETY: the instruction set has tiles.
        unsafe { crate::amx::multiply_zeros_of_bytes(rounds) }
        return (8 * crate::amx::TILE_OPERATIONS) as u64 * rounds as u64;
    }
    let operands = [black_box(1_u8); 4 * BLOCK];
    let mut result = [0.0_f32; BLOCK];
    let to = &mut result;
    let products = ByteProducts::of(isa);
    // SAFETY: the processor has the instruction set.
    let lanes = unsafe {
        match products {
            #[cfg(target_arch = "x86_64")]
            ByteProducts::Avx512VnniBf16 | ByteProducts::Avx512Vnni => {
                grow_avx512_vnni(&operands, rounds, to)
            }
            #[cfg(target_arch = "x86_64")]
            ByteProducts::Avx512 => grow_avx512(&operands, rounds, to),
            #[cfg(target_arch = "x86_64")]
            ByteProducts::AvxVnni => grow_avx_vnni(&operands, rounds, to),
            #[cfg(target_arch = "x86_64")]
            ByteProducts::Avx2 => grow_avx2(&operands, rounds, to),
            ByteProducts::Portable => grow_bytes::<crate::simd::Portable>(&operands, rounds, to),
        }
    };
    black_box(result);
    (2 * BYTES_DEPTH * lanes * SUMS) as u64 * rounds as u64
}

macro_rules! grow_bytes_by {
    ($($name:ident $set:ident $feature:literal),*) => {$(
        /// # Safety
        /// The processor has the instruction set.
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $feature)]
        unsafe fn $name(operands: &[u8; 4 * BLOCK], rounds: usize, to: &mut [f32; BLOCK]) -> usize {
            // SAFETY: the caller's contract is the same.
            unsafe { grow_bytes::<crate::simd::$set>(operands, rounds, to) }
        }
    )*};
}

grow_bytes_by!(
    grow_avx512_vnni Avx512Vnni "avx512f,avx512bw,avx512vnni",
    grow_avx512 Avx512 "avx512f,avx512bw",
    grow_avx_vnni AvxVnni "avx2,fma,avxvnni",
    grow_avx2 Avx2 "avx2,fma"
);

/// Returns the lanes.
///
/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn grow_bytes<S: Bytes>(
    operands: &[u8; 4 * BLOCK],
    rounds: usize,
    to: &mut [f32; BLOCK],
) -> usize {
    // SAFETY: by the contract; the operands are a vector of fours.
    unsafe {
        let weights = S::byte_weights(operands.as_ptr().cast());
        let mut sums = [S::no_sums(); SUMS];
        for _ in 0..rounds {
            // Read again, or products of words would be made once for all rounds.
            let inputs = S::byte_inputs(black_box(operands).as_ptr());
            for sum in &mut sums {
                *sum = S::add_products(weights, inputs, *sum);
            }
        }
        let sums = sums.map(|sum| S::to_f32(sum));
        let total = sums.into_iter().reduce(|a, b| S::add(a, b));
        S::store(to.as_mut_ptr(), total.unwrap_or(S::splat(0.0)));
    }
    S::LANES
}

fn lanes(set: InstructionSet) -> usize {
    match set {
        InstructionSet::Avx512Bf16 | InstructionSet::Avx512 => 16,
        InstructionSet::Avx2 => 8,
        InstructionSet::Neon | InstructionSet::Portable => 4,
    }
}

/// # Safety
/// As [`grow`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn grow_bf16<E: Element>(operands: &[E], rounds: usize, to: &mut [f32; BLOCK]) {
    // SAFETY: the caller's contract is the same.
    unsafe { grow::<crate::simd::Avx512Bf16, E>(operands, rounds, to) }
}

/// # Safety
/// The processor has the instruction set; there are operands for a vector.
#[inline(always)]
unsafe fn grow<S: Simd, E: Element>(operands: &[E], rounds: usize, to: &mut [f32; BLOCK]) {
    // SAFETY: by the contract.
    unsafe {
        let weights = E::weights::<S>(operands.as_ptr());
        let inputs = E::inputs::<S>(operands.as_ptr());
        let mut sums = [S::splat(0.0); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = E::multiply_add::<S>(weights, inputs, *sum);
            }
        }
        let total = sums.into_iter().reduce(|a, b| S::add(a, b));
        S::store(to.as_mut_ptr(), total.unwrap_or(S::splat(0.0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator;
    use half::bf16;

    #[test]
    fn operations_of_tiles_are_those_of_their_products() {
        if let Some(isa) = emulator::tiles() {
            // 16 rows of 32 numbers times 32 rows of 16, four times a round.
            assert_eq!(multiply_add::<bf16>(isa, 16), 2 * 4 * 2 * 8192);
            assert_eq!(multiply_add::<f32>(isa, 1), 2 * 16 * 14);
            // Rows of 64 bytes.
            assert_eq!(multiply_add_bytes(isa, 16), 2 * 4 * 2 * 16384);
        }
    }
}

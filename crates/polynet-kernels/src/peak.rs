//! What a core can do at most: products in registers, without memory.

use crate::element::Element;
use crate::layout::BLOCK;
use crate::simd::{Isa, Simd, dispatch};
use half::bf16;
use std::hint::black_box;

/// Sums that grow side by side, so that no product waits for another.
const SUMS: usize = 14;

/// Products of numbers in registers, for measuring.
///
/// Returns the floating-point operations that were done: two for every product.
pub fn multiply_add<E: Element>(isa: Isa, rounds: usize) -> u64 {
    let operands = [E::from_f32(black_box(1e-9)); 2 * BLOCK];
    let mut result = [0.0_f32; BLOCK];
    let (operands, to) = (&operands[..], &mut result);
    let native = E::DEPTH > 1 && isa == Isa::Avx512Bf16;
    let lanes = if native {
        multiply_add_bf16(rounds, to)
    } else {
        dispatch!(isa, grow<E>(operands: &[E], rounds: usize, to: &mut [f32; BLOCK]));
        lanes(isa)
    };
    black_box(result);
    (2 * E::DEPTH * lanes * SUMS * rounds) as u64
}

fn lanes(isa: Isa) -> usize {
    match isa {
        Isa::Avx512Bf16 | Isa::Avx512 => 16,
        Isa::Avx2 => 8,
        Isa::Neon | Isa::Portable => 4,
    }
}

#[cfg(target_arch = "x86_64")]
fn multiply_add_bf16(rounds: usize, to: &mut [f32; BLOCK]) -> usize {
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn run(operands: &[bf16], rounds: usize, to: &mut [f32; BLOCK]) {
        // SAFETY: the caller's contract is the same.
        unsafe { grow::<crate::simd::Avx512Bf16, bf16>(operands, rounds, to) }
    }
    let operands = [bf16::from_f32(black_box(1e-9)); 2 * BLOCK];
    assert!(Isa::Avx512Bf16.is_available(), "this processor has no bf16");
    // SAFETY: the processor has the instruction set, and the operands are a vector of pairs.
    unsafe { run(&operands, rounds, to) }
    16
}

#[cfg(not(target_arch = "x86_64"))]
fn multiply_add_bf16(_: usize, _: &mut [f32; BLOCK]) -> usize {
    unreachable!("no other processor has this instruction set")
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

//! AVX2 with FMA: 8 lanes.

use super::vector::{Simd, widened_pairs};
use std::arch::x86_64::*;

/// AVX2 with FMA: 8 lanes.
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

/// AVX2 with FMA and VNNI.
#[derive(Clone, Copy)]
pub(crate) struct AvxVnni;

/// What both have.
macro_rules! common {
    () => {
        const LANES: usize = 8;
        type V = __m256;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self::V {
            // SAFETY: the caller vouches for the instruction set and the pointer.
            unsafe { _mm256_set1_ps(x) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self::V {
            // SAFETY: the caller vouches for the instruction set and the pointer.
            unsafe { _mm256_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(to: *mut f32, v: Self::V) {
            // SAFETY: the caller vouches for the instruction set and the pointer.
            unsafe { _mm256_storeu_ps(to, v) }
        }

        #[inline(always)]
        unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
            // SAFETY: the caller vouches for the instruction set and the pointer.
            unsafe { _mm256_add_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
            // SAFETY: the caller vouches for the instruction set and the pointer.
            unsafe { _mm256_mul_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn where_positive(condition: Self::V, x: Self::V) -> Self::V {
            // SAFETY: the caller vouches for the instruction set.
            unsafe {
                _mm256_and_ps(
                    _mm256_cmp_ps::<_CMP_GT_OQ>(condition, _mm256_setzero_ps()),
                    x,
                )
            }
        }

        #[inline(always)]
        unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
            // SAFETY: the caller vouches for the instruction set and the pointer.
            unsafe { _mm256_max_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            // SAFETY: the caller vouches for the instruction set and the pointer.
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        unsafe fn prefetch(line: *const u8) {
            // SAFETY: a hint touches nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
        }

        widened_pairs!();
    };
}

impl Simd for Avx2 {
    common!();
}

impl Simd for AvxVnni {
    common!();
}

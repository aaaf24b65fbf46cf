//! NEON: 4 lanes.

use super::vector::{Simd, widened_pairs};
use std::arch::aarch64::*;

/// NEON: 4 lanes.
#[derive(Clone, Copy)]
pub(crate) struct Neon;

impl Simd for Neon {
    const LANES: usize = 4;
    type V = float32x4_t;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        // SAFETY: the caller vouches for the instruction set and the pointer.
        unsafe { vdupq_n_f32(x) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        // SAFETY: the caller vouches for the instruction set and the pointer.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        // SAFETY: the caller vouches for the instruction set and the pointer.
        unsafe { vst1q_f32(to, v) }
    }

    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: the caller vouches for the instruction set and the pointer.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: the caller vouches for the instruction set and the pointer.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    unsafe fn where_positive(condition: Self::V, x: Self::V) -> Self::V {
        // SAFETY: the caller vouches for the instruction set.
        unsafe {
            let mask = vcgtq_f32(condition, vdupq_n_f32(0.0));
            vreinterpretq_f32_u32(vandq_u32(mask, vreinterpretq_u32_f32(x)))
        }
    }

    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: the caller vouches for the instruction set and the pointer.
        unsafe { vmaxq_f32(a, b) }
    }

    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: the caller vouches for the instruction set and the pointer.
        unsafe { vfmaq_f32(c, a, b) }
    }

    widened_pairs!();
}

//! Products of bytes by AVX-512 and AVX2.

use super::Bytes;
use crate::simd::avx2::{Avx2, AvxVnni};
use crate::simd::avx512::{Avx512, Avx512Bf16, Avx512Vnni};
use std::arch::x86_64::*;

/// What both kinds of 16 lanes have.
macro_rules! common_512 {
    () => {
        type Sums = __m512i;

        #[inline(always)]
        unsafe fn no_sums() -> __m512i {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm512_setzero_si512() }
        }

        #[inline(always)]
        unsafe fn load_sums(from: *const i32) -> __m512i {
            // SAFETY: the caller vouches for the instruction set and the pointer.
            unsafe { _mm512_loadu_si512(from.cast()) }
        }

        #[inline(always)]
        unsafe fn store_sums(to: *mut i32, sums: __m512i) {
            // SAFETY: the caller vouches for the instruction set and the pointer.
            unsafe { _mm512_storeu_si512(to.cast(), sums) }
        }

        #[inline(always)]
        unsafe fn to_f32(sums: __m512i) -> __m512 {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm512_cvtepi32_ps(sums) }
        }

        #[inline(always)]
        unsafe fn store_bytes(to: *mut u8, v: __m512) {
            // SAFETY: the caller vouches for the instruction set and the pointer.
            unsafe {
                // Of a pair with what is no number the second is taken. What is too large for a whole
                // number becomes its highest bit alone, which is more than a byte holds, too.
                let positive = _mm512_max_ps(v, _mm512_setzero_ps());
                let bytes = _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(positive));
                _mm_storeu_si128(to.cast(), bytes);
            }
        }
    };
}

macro_rules! vnni_512 {
    () => {
        type Weights = __m512i;
        type Inputs = __m512i;
        common_512!();

        #[inline(always)]
        unsafe fn byte_weights(from: *const i8) -> __m512i {
            // SAFETY: the caller vouches for the instruction set and the pointer.
            unsafe { _mm512_loadu_si512(from.cast()) }
        }

        #[inline(always)]
        unsafe fn byte_inputs(from: *const u8) -> __m512i {
            // SAFETY: the caller vouches for the instruction set and the pointer.
            unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
        }

        #[inline(always)]
        unsafe fn add_products(w: __m512i, x: __m512i, sums: __m512i) -> __m512i {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm512_dpbusd_epi32(sums, x, w) }
        }
    };
}

impl Bytes for Avx512Vnni {
    vnni_512!();
}

impl Bytes for Avx512Bf16 {
    vnni_512!();
}

/// The words of the even and of the odd bytes.
impl Bytes for Avx512 {
    type Weights = [__m512i; 2];
    type Inputs = [__m512i; 2];
    common_512!();

    #[inline(always)]
    unsafe fn byte_weights(from: *const i8) -> [__m512i; 2] {
        // SAFETY: the caller vouches for the instruction set and the pointer.
        unsafe {
            let bytes = _mm512_loadu_si512(from.cast());
            let even = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(bytes));
            [even, _mm512_srai_epi16::<8>(bytes)]
        }
    }

    #[inline(always)]
    unsafe fn byte_inputs(from: *const u8) -> [__m512i; 2] {
        // SAFETY: the caller vouches for the instruction set and the pointer.
        unsafe {
            let bytes = _mm512_set1_epi32(from.cast::<i32>().read_unaligned());
            let even = _mm512_and_si512(bytes, _mm512_set1_epi16(0xff));
            [even, _mm512_srli_epi16::<8>(bytes)]
        }
    }

    #[inline(always)]
    unsafe fn add_products(w: [__m512i; 2], x: [__m512i; 2], sums: __m512i) -> __m512i {
        // SAFETY: the caller vouches for the instruction set.
        unsafe {
            let sums = _mm512_add_epi32(sums, _mm512_madd_epi16(w[0], x[0]));
            _mm512_add_epi32(sums, _mm512_madd_epi16(w[1], x[1]))
        }
    }
}

/// What both kinds of 8 lanes have.
macro_rules! common_256 {
    () => {
        type Sums = __m256i;

        #[inline(always)]
        unsafe fn no_sums() -> __m256i {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm256_setzero_si256() }
        }

        #[inline(always)]
        unsafe fn load_sums(from: *const i32) -> __m256i {
            // SAFETY: the caller vouches for the instruction set and the pointer.
            unsafe { _mm256_loadu_si256(from.cast()) }
        }

        #[inline(always)]
        unsafe fn store_sums(to: *mut i32, sums: __m256i) {
            // SAFETY: the caller vouches for the instruction set and the pointer.
            unsafe { _mm256_storeu_si256(to.cast(), sums) }
        }

        #[inline(always)]
        unsafe fn to_f32(sums: __m256i) -> __m256 {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm256_cvtepi32_ps(sums) }
        }

        #[inline(always)]
        unsafe fn store_bytes(to: *mut u8, v: __m256) {
            // SAFETY: the caller vouches for the instruction set and the pointer.
            unsafe {
                // Of a pair with what is no number the second is taken, which becomes the lowest whole
                // number; packing to words and to bytes bounds all from below.
                let bounded = _mm256_min_ps(_mm256_set1_ps(255.0), v);
                let whole = _mm256_cvtps_epi32(bounded);
                let (low, high) = (
                    _mm256_castsi256_si128(whole),
                    _mm256_extracti128_si256::<1>(whole),
                );
                let words = _mm_packs_epi32(low, high);
                _mm_storel_epi64(to.cast(), _mm_packus_epi16(words, words));
            }
        }
    };
}

impl Bytes for AvxVnni {
    type Weights = __m256i;
    type Inputs = __m256i;
    common_256!();

    #[inline(always)]
    unsafe fn byte_weights(from: *const i8) -> __m256i {
        // SAFETY: the caller vouches for the instruction set and the pointer.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn byte_inputs(from: *const u8) -> __m256i {
        // SAFETY: the caller vouches for the instruction set and the pointer.
        unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn add_products(w: __m256i, x: __m256i, sums: __m256i) -> __m256i {
        // SAFETY: the caller vouches for the instruction set.
        unsafe { _mm256_dpbusd_avx_epi32(sums, x, w) }
    }
}

/// The words of the even and of the odd bytes.
impl Bytes for Avx2 {
    type Weights = [__m256i; 2];
    type Inputs = [__m256i; 2];
    common_256!();

    #[inline(always)]
    unsafe fn byte_weights(from: *const i8) -> [__m256i; 2] {
        // SAFETY: the caller vouches for the instruction set and the pointer.
        unsafe {
            let bytes = _mm256_loadu_si256(from.cast());
            let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes));
            [even, _mm256_srai_epi16::<8>(bytes)]
        }
    }

    #[inline(always)]
    unsafe fn byte_inputs(from: *const u8) -> [__m256i; 2] {
        // SAFETY: the caller vouches for the instruction set and the pointer.
        unsafe {
            let bytes = _mm256_set1_epi32(from.cast::<i32>().read_unaligned());
            let even = _mm256_and_si256(bytes, _mm256_set1_epi16(0xff));
            [even, _mm256_srli_epi16::<8>(bytes)]
        }
    }

    #[inline(always)]
    unsafe fn add_products(w: [__m256i; 2], x: [__m256i; 2], sums: __m256i) -> __m256i {
        // SAFETY: the caller vouches for the instruction set.
        unsafe {
            let sums = _mm256_add_epi32(sums, _mm256_madd_epi16(w[0], x[0]));
            _mm256_add_epi32(sums, _mm256_madd_epi16(w[1], x[1]))
        }
    }
}

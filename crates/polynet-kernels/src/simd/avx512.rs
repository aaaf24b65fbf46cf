//! AVX-512: 16 lanes.

use super::vector::{Simd, widened_pairs};
use half::bf16;
use std::arch::x86_64::*;

/// AVX-512 F.
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

/// AVX-512 F, BW and BF16.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Bf16;

/// AVX-512 F, BW and VNNI.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Vnni;

/// Where the elements of 16 pairs come from: one of the first 16 and one of the last.
static ZIPPED: [u16; 32] = {
    let mut order = [0; 32];
    let mut lane = 0;
    while lane < 16 {
        order[2 * lane] = lane as u16;
        order[2 * lane + 1] = 16 + lane as u16;
        lane += 1;
    }
    order
};

/// [`ZIPPED`] in a register.
///
/// # Safety
/// The processor has AVX-512 F.
#[inline(always)]
unsafe fn zip_order() -> __m512i {
    // SAFETY: by the contract; the order is 64 bytes.
    unsafe { _mm512_loadu_si512(ZIPPED.as_ptr().cast()) }
}

/// What all have.
macro_rules! common {
    () => {
        const LANES: usize = 16;
        type V = __m512;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self::V {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm512_set1_ps(x) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self::V {
            // SAFETY: the caller vouches for the instruction set and the pointer.
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(to: *mut f32, v: Self::V) {
            // SAFETY: the caller vouches for the instruction set and the pointer.
            unsafe { _mm512_storeu_ps(to, v) }
        }

        #[inline(always)]
        unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm512_add_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm512_mul_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn where_positive(condition: Self::V, x: Self::V) -> Self::V {
            // SAFETY: the caller vouches for the instruction set.
            unsafe {
                let mask = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(condition, _mm512_setzero_ps());
                _mm512_maskz_mov_ps(mask, x)
            }
        }

        #[inline(always)]
        unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm512_max_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
            // SAFETY: the caller vouches for the instruction set and the pointers.
            unsafe {
                // No closures: they would be compiled without the instruction set.
                let zero = _mm512_setzero_ps();
                // Of every four rows: column `4 · quarter + c` of the rows, in quarter `quarter` of `c`.
                let mut fours = [[zero; 4]; 4];
                for (four, columns) in fours.iter_mut().enumerate() {
                    let from = from.add(4 * four * stride);
                    let (a, b) = (Self::load(from), Self::load(from.add(stride)));
                    let c = Self::load(from.add(2 * stride));
                    let d = Self::load(from.add(3 * stride));
                    let (ab, cd) = (_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d));
                    let (ab_high, cd_high) = (_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d));
                    *columns = [
                        _mm512_shuffle_ps::<0x44>(ab, cd),
                        _mm512_shuffle_ps::<0xee>(ab, cd),
                        _mm512_shuffle_ps::<0x44>(ab_high, cd_high),
                        _mm512_shuffle_ps::<0xee>(ab_high, cd_high),
                    ];
                }
                let mut columns = [zero; 16];
                for c in 0..4 {
                    // Quarters 0 and 2, and 1 and 3, of the first and of the last eight rows.
                    let even = _mm512_shuffle_f32x4::<0x88>(fours[0][c], fours[1][c]);
                    let odd = _mm512_shuffle_f32x4::<0xdd>(fours[0][c], fours[1][c]);
                    let even_last = _mm512_shuffle_f32x4::<0x88>(fours[2][c], fours[3][c]);
                    let odd_last = _mm512_shuffle_f32x4::<0xdd>(fours[2][c], fours[3][c]);
                    columns[c] = _mm512_shuffle_f32x4::<0x88>(even, even_last);
                    columns[8 + c] = _mm512_shuffle_f32x4::<0xdd>(even, even_last);
                    columns[4 + c] = _mm512_shuffle_f32x4::<0x88>(odd, odd_last);
                    columns[12 + c] = _mm512_shuffle_f32x4::<0xdd>(odd, odd_last);
                }
                for (index, column) in columns.into_iter().enumerate() {
                    Self::store(to.add(index * to_stride), column);
                }
            }
        }

        #[inline(always)]
        unsafe fn prefetch(line: *const u8) {
            // SAFETY: a hint touches nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
        }
    };
}

impl Simd for Avx512 {
    common!();
    widened_pairs!();
}

impl Simd for Avx512Vnni {
    common!();
    widened_pairs!();
}

impl Simd for Avx512Bf16 {
    common!();
    type Pairs = __m512bh;

    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> Self::V {
        // SAFETY: the caller vouches for the instruction set and the pointer.
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(to: *mut bf16, v: Self::V) {
        // SAFETY: the caller vouches for the instruction set and the pointer; the two types are the
        // same 32 bytes.
        unsafe {
            let rounded: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(v));
            _mm256_storeu_si256(to.cast(), rounded);
        }
    }

    #[inline(always)]
    unsafe fn store_two_bf16(to: *mut bf16, [first, second]: [Self::V; 2]) {
        // SAFETY: as above, of 64 bytes.
        unsafe {
            let rounded: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(second, first));
            _mm512_storeu_si512(to.cast(), rounded);
        }
    }

    #[inline(always)]
    unsafe fn load_pairs(from: *const bf16) -> Self::Pairs {
        // SAFETY: the caller vouches for the instruction set and the pointer; the two types are the
        // same 64 bytes.
        unsafe { std::mem::transmute(_mm512_loadu_si512(from.cast())) }
    }

    #[inline(always)]
    unsafe fn splat_pair(from: *const bf16) -> Self::Pairs {
        // SAFETY: as above.
        unsafe { std::mem::transmute(_mm512_set1_epi32(from.cast::<i32>().read_unaligned())) }
    }

    #[inline(always)]
    unsafe fn zip_pairs(first: *const bf16, second: *const bf16) -> Self::Pairs {
        // SAFETY: the caller vouches for the instruction set and the pointers; the types are the same
        // 64 bytes.
        unsafe {
            let first = _mm512_castsi256_si512(_mm256_loadu_si256(first.cast()));
            let both = _mm512_inserti64x4::<1>(first, _mm256_loadu_si256(second.cast()));
            std::mem::transmute(_mm512_permutexvar_epi16(zip_order(), both))
        }
    }

    #[inline(always)]
    unsafe fn zip_zeros(first: *const bf16) -> Self::Pairs {
        // SAFETY: as above; the upper half of a pair is its second.
        unsafe { std::mem::transmute(_mm512_cvtepu16_epi32(_mm256_loadu_si256(first.cast()))) }
    }

    #[inline(always)]
    unsafe fn write_pairs(to: *mut bf16, pairs: Self::Pairs) {
        // SAFETY: as above.
        unsafe { _mm512_storeu_si512(to.cast(), std::mem::transmute::<__m512bh, __m512i>(pairs)) }
    }

    #[inline(always)]
    unsafe fn store_pairs(to: *mut bf16, first: Self::V, second: Self::V) {
        // SAFETY: as above.
        unsafe {
            let both: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(second, first));
            _mm512_storeu_si512(to.cast(), _mm512_permutexvar_epi16(zip_order(), both));
        }
    }

    #[inline(always)]
    unsafe fn dot_pairs(a: Self::Pairs, b: Self::Pairs, c: Self::V) -> Self::V {
        // SAFETY: the caller vouches for the instruction set.
        unsafe { _mm512_dpbf16_ps(c, a, b) }
    }
}

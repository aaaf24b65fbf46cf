//! Products of bytes: what quantized convolutions do with vectors.
//!
//! Every lane has a sum of whole numbers, and a product takes four inputs of 0…255 and four weights of
//! −127…127 to it. Sums are exact, so whatever multiplies gives the same bits.

use super::portable::Portable;
use super::{InstructionSet, Isa, Simd};

/// Inputs that one product takes together.
pub(crate) const BYTES_DEPTH: usize = 4;

/// How a processor multiplies bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByteProducts {
    /// 16 lanes, four products an instruction: AVX-512 VNNI, with BF16 for what is stored.
    #[cfg(target_arch = "x86_64")]
    Avx512VnniBf16,
    /// 16 lanes, four products an instruction: AVX-512 VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// 16 lanes, by 16-bit words: AVX-512 BW.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 8 lanes, four products an instruction: AVX-VNNI.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// 8 lanes, by 16-bit words: AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 4 lanes: whatever the compiler makes of plain Rust.
    Portable,
}

impl ByteProducts {
    /// All that an instruction set of this processor comes with, the fastest first.
    pub(crate) fn available(isa: Isa) -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let of_x86 = {
            let set = isa.set();
            let is_wide = matches!(set, InstructionSet::Avx512Bf16 | InstructionSet::Avx512);
            let has_words = is_wide && is_x86_feature_detected!("avx512bw");
            let is_avx2 = set == InstructionSet::Avx2;
            let has_vnni = has_words && is_x86_feature_detected!("avx512vnni");
            let has_bf16 = set == InstructionSet::Avx512Bf16;
            [
                (has_vnni && has_bf16).then_some(Self::Avx512VnniBf16),
                has_vnni.then_some(Self::Avx512Vnni),
                has_words.then_some(Self::Avx512),
                (is_avx2 && is_x86_feature_detected!("avxvnni")).then_some(Self::AvxVnni),
                is_avx2.then_some(Self::Avx2),
            ]
        };
        #[cfg(not(target_arch = "x86_64"))]
        let of_x86: [Option<Self>; 0] = {
            let _: InstructionSet = isa.set();
            []
        };
        of_x86.into_iter().flatten().chain([Self::Portable])
    }

    /// The fastest that an instruction set comes with.
    pub(crate) fn of(isa: Isa) -> Self {
        Self::available(isa).next().unwrap_or(Self::Portable)
    }

    /// The largest tile: output blocks of a panel, and pixels.
    pub(crate) fn geometry(self) -> [usize; 2] {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512VnniBf16 | Self::Avx512Vnni => [2, 14],
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => [2, 12],
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => [1, 6],
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => [1, 4],
            Self::Portable => [1, 2],
        }
    }
}

/// Vectors of sums, and products of bytes added to them.
///
/// # Safety
/// As [`Simd`]'s.
pub(crate) trait Bytes: Simd {
    /// `LANES` sums.
    type Sums: Copy;
    /// Four weights in every lane.
    type Weights: Copy;
    /// Four inputs, the same in every lane.
    type Inputs: Copy;

    /// Zeros.
    unsafe fn no_sums() -> Self::Sums;
    /// Reads `LANES` sums.
    unsafe fn load_sums(from: *const i32) -> Self::Sums;
    /// Writes `LANES` sums.
    unsafe fn store_sums(to: *mut i32, sums: Self::Sums);
    /// Reads `4 · LANES` weights.
    unsafe fn byte_weights(from: *const i8) -> Self::Weights;
    /// Reads 4 inputs.
    unsafe fn byte_inputs(from: *const u8) -> Self::Inputs;
    /// Adds the four products of every lane.
    unsafe fn add_products(w: Self::Weights, x: Self::Inputs, sums: Self::Sums) -> Self::Sums;
    /// The sums as the nearest `f32`.
    unsafe fn to_f32(sums: Self::Sums) -> Self::V;
    /// Writes `LANES` bytes: the nearest whole numbers, ties to even, no less than 0 and no more than 255.
    unsafe fn store_bytes(to: *mut u8, v: Self::V);
}

impl Bytes for Portable {
    type Sums = [i32; 4];
    type Weights = [[i8; 4]; 4];
    type Inputs = [u8; 4];

    #[inline(always)]
    unsafe fn no_sums() -> Self::Sums {
        [0; 4]
    }

    #[inline(always)]
    unsafe fn load_sums(from: *const i32) -> Self::Sums {
        // SAFETY: the caller vouches for the pointer.
        unsafe { from.cast::<Self::Sums>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store_sums(to: *mut i32, sums: Self::Sums) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { to.cast::<Self::Sums>().write_unaligned(sums) }
    }

    #[inline(always)]
    unsafe fn byte_weights(from: *const i8) -> Self::Weights {
        // SAFETY: the caller vouches for the pointer.
        unsafe { from.cast::<Self::Weights>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn byte_inputs(from: *const u8) -> Self::Inputs {
        // SAFETY: the caller vouches for the pointer.
        unsafe { from.cast::<Self::Inputs>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn add_products(w: Self::Weights, x: Self::Inputs, mut sums: Self::Sums) -> Self::Sums {
        for lane in 0..4 {
            for product in 0..4 {
                sums[lane] += i32::from(w[lane][product]) * i32::from(x[product]);
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn to_f32(sums: Self::Sums) -> Self::V {
        [
            sums[0] as f32,
            sums[1] as f32,
            sums[2] as f32,
            sums[3] as f32,
        ]
    }

    #[inline(always)]
    unsafe fn store_bytes(to: *mut u8, v: Self::V) {
        for (lane, value) in v.into_iter().enumerate() {
            // SAFETY: the caller vouches for the pointer. What is no number becomes 0.
            unsafe {
                to.add(lane)
                    .write(value.clamp(0.0, 255.0).round_ties_even() as u8)
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Bytes;
    use crate::simd::{Avx2, Avx512, Avx512Bf16, Avx512Vnni, AvxVnni};
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
}

//! Vectors of `f32` on every instruction set, chosen at run time.
//!
//! A kernel is written once, generic over [`Simd`], and always inlined into a function that is
//! compiled for one instruction set.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::{Avx512, Avx512Bf16};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use portable::Portable;

use half::bf16;
use std::fmt;
use std::str::FromStr;

/// Channels of a block of a feature map: as many numbers as the largest vector has.
pub const BLOCK: usize = 16;

/// The instruction sets that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum InstructionSet {
    /// 16 lanes, and products of bf16: AVX-512 F and BF16. For f32 the same as [`Self::Avx512`].
    Avx512Bf16,
    /// 16 lanes: AVX-512 F.
    Avx512,
    /// 8 lanes: AVX2 and FMA.
    Avx2,
    /// 4 lanes: NEON.
    Neon,
    /// 4 lanes: whatever the compiler makes of plain Rust.
    Portable,
}

impl InstructionSet {
    /// All of them, the fastest first.
    const ALL: [Self; 5] = [
        Self::Avx512Bf16,
        Self::Avx512,
        Self::Avx2,
        Self::Neon,
        Self::Portable,
    ];

    /// Whether this processor has it.
    fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => {
                Self::Avx512.is_available() && is_x86_feature_detected!("avx512bf16")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            Self::Portable => true,
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }
}

/// An instruction set that this processor has: `avx512bf16`, `avx512`, `avx2`, `neon` or `portable`.
///
/// It is a witness: [`Isa::best`], [`Isa::available`] and parsing ask the processor, and nothing else
/// makes one, so whoever has one may run the code that is compiled for it.
///
/// ```
/// use polynet_kernels::Isa;
///
/// let isa: Isa = "portable".parse()?;
/// assert!(Isa::available().any(|other| other == isa));
/// assert!("sse9".parse::<Isa>().is_err());
/// # Ok::<(), polynet_kernels::UnknownIsa>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Isa(InstructionSet);

impl Isa {
    /// The fastest that this processor has.
    pub fn best() -> Self {
        Self::available()
            .next()
            .unwrap_or(Self(InstructionSet::Portable))
    }

    /// Those that this processor has, the fastest first.
    pub fn available() -> impl Iterator<Item = Self> {
        let all = InstructionSet::ALL.into_iter();
        all.filter(|set| set.is_available()).map(Self)
    }

    /// Whether it has products of bf16. For f32 such a set is the same as the next one without.
    pub fn multiplies_bf16(self) -> bool {
        self.0 == InstructionSet::Avx512Bf16
    }

    pub(crate) fn set(self) -> InstructionSet {
        self.0
    }
}

impl fmt::Debug for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            InstructionSet::Avx512Bf16 => "avx512bf16",
            InstructionSet::Avx512 => "avx512",
            InstructionSet::Avx2 => "avx2",
            InstructionSet::Neon => "neon",
            InstructionSet::Portable => "portable",
        })
    }
}

/// A name that is no instruction set, or one that this processor lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownIsa(String);

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let available: Vec<String> = Isa::available().map(|isa| isa.to_string()).collect();
        let (name, available) = (&self.0, available.join(", "));
        write!(
            f,
            "`{name}` is no instruction set of this processor: it has {available}"
        )
    }
}

impl std::error::Error for UnknownIsa {}

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(text: &str) -> Result<Self, UnknownIsa> {
        Self::available()
            .find(|isa| isa.to_string() == text)
            .ok_or_else(|| UnknownIsa(text.to_owned()))
    }
}

/// Compiles a function that is generic over [`Simd`], and perhaps over an [`Element`], for an
/// instruction set and calls it. The call is unsafe: the [`Isa`] vouches for the instruction set, the
/// caller for the rest of the function's contract.
///
/// [`Element`]: crate::element::Element
macro_rules! dispatch {
    ($isa:expr, $function:ident($($argument:ident: $type:ty),*)) => {
        crate::simd::dispatch!(@ $isa, $function [] [] ($($argument: $type),*))
    };
    ($isa:expr, $function:ident<$element:ident>($($argument:ident: $type:ty),*)) => {
        crate::simd::dispatch!(
            @ $isa, $function [<$element: crate::element::Element>] [, $element] ($($argument: $type),*)
        )
    };
    (
        @ $isa:expr, $function:ident [$($generics:tt)*] [$($types:tt)*]
        ($($argument:ident: $type:ty),*)
    ) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f")]
        unsafe fn avx512$($generics)*($($argument: $type),*) {
            // SAFETY: the caller's contract is the same.
            unsafe { $function::<crate::simd::Avx512 $($types)*>($($argument),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2$($generics)*($($argument: $type),*) {
            // SAFETY: the caller's contract is the same.
            unsafe { $function::<crate::simd::Avx2 $($types)*>($($argument),*) }
        }
        match crate::simd::Isa::set($isa) {
            #[cfg(target_arch = "x86_64")]
            crate::simd::InstructionSet::Avx512Bf16 | crate::simd::InstructionSet::Avx512 => {
                avx512($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            crate::simd::InstructionSet::Avx2 => avx2($($argument),*),
            #[cfg(target_arch = "aarch64")]
            crate::simd::InstructionSet::Neon => {
                $function::<crate::simd::Neon $($types)*>($($argument),*)
            }
            _ => $function::<crate::simd::Portable $($types)*>($($argument),*),
        }
    }};
}

pub(crate) use dispatch;

/// A vector of `f32` and what kernels do with it.
///
/// # Safety
/// Every function needs the processor to have the instruction set; pointers must be valid for
/// `LANES` elements and may have any alignment of `f32`.
pub trait Simd: Copy + 'static {
    /// Elements of a vector; divides 16.
    const LANES: usize;
    /// A vector.
    type V: Copy;
    /// A pair of bf16 in every lane.
    type Pairs: Copy;

    /// `x` in every lane.
    unsafe fn splat(x: f32) -> Self::V;
    /// Reads `LANES` elements.
    unsafe fn load(from: *const f32) -> Self::V;
    /// Writes `LANES` elements.
    unsafe fn store(to: *mut f32, v: Self::V);
    /// `a + b`.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a · b`.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `x` where `condition > 0`, else 0.
    unsafe fn where_positive(condition: Self::V, x: Self::V) -> Self::V;
    /// The larger of each pair.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`, rounded once where the processor can.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Reads `LANES` bf16.
    unsafe fn load_bf16(from: *const bf16) -> Self::V;
    /// Writes `LANES` bf16, rounded to the nearest, ties to even.
    unsafe fn store_bf16(to: *mut bf16, v: Self::V);
    /// Reads `2 · LANES` bf16.
    unsafe fn load_pairs(from: *const bf16) -> Self::Pairs;
    /// Reads 2 bf16 for all lanes.
    unsafe fn splat_pair(from: *const bf16) -> Self::Pairs;
    /// Asks for a cache line that is needed soon; it need not exist.
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
    /// Makes columns of 16 rows of 16 elements that lie `stride` apart. Columns are written in order,
    /// `to_stride` apart: where they overlap, the later ones stay.
    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        for column in 0..BLOCK {
            for row in 0..BLOCK {
                // SAFETY: the caller vouches for the pointers.
                unsafe {
                    let value = *from.add(row * stride + column);
                    to.add(column * to_stride + row).write(value);
                }
            }
        }
    }
    /// `c + a₀ · b₀ + a₁ · b₁` of the pairs.
    unsafe fn dot_pairs(a: Self::Pairs, b: Self::Pairs, c: Self::V) -> Self::V;
}

/// The operations on bf16 where the processor has none: pairs are two vectors, the first and the
/// second of each.
macro_rules! widened_pairs {
    () => {
        type Pairs = [Self::V; 2];

        #[inline(always)]
        unsafe fn load_bf16(from: *const half::bf16) -> Self::V {
            let mut lanes = [0.0_f32; crate::simd::BLOCK];
            for (lane, value) in lanes.iter_mut().take(Self::LANES).enumerate() {
                // SAFETY: the caller vouches for the pointer.
                let bits = unsafe { (*from.add(lane)).to_bits() };
                *value = f32::from_bits(u32::from(bits) << 16);
            }
            // SAFETY: 16 lanes hold a vector.
            unsafe { Self::load(lanes.as_ptr()) }
        }

        #[inline(always)]
        unsafe fn store_bf16(to: *mut half::bf16, v: Self::V) {
            let mut lanes = [0.0_f32; crate::simd::BLOCK];
            // SAFETY: 16 lanes hold a vector; the caller vouches for the pointer.
            unsafe {
                Self::store(lanes.as_mut_ptr(), v);
                for (lane, value) in lanes.iter().take(Self::LANES).enumerate() {
                    to.add(lane).write(half::bf16::from_f32(*value));
                }
            }
        }

        #[inline(always)]
        unsafe fn load_pairs(from: *const half::bf16) -> Self::Pairs {
            let mut lanes = [[0.0_f32; crate::simd::BLOCK]; 2];
            for lane in 0..Self::LANES {
                // SAFETY: the caller vouches for the pointer.
                let bits = unsafe { from.add(2 * lane).cast::<[u16; 2]>().read_unaligned() };
                lanes[0][lane] = f32::from_bits(u32::from(bits[0]) << 16);
                lanes[1][lane] = f32::from_bits(u32::from(bits[1]) << 16);
            }
            // SAFETY: 16 lanes hold a vector.
            unsafe { [Self::load(lanes[0].as_ptr()), Self::load(lanes[1].as_ptr())] }
        }

        #[inline(always)]
        unsafe fn splat_pair(from: *const half::bf16) -> Self::Pairs {
            // SAFETY: the caller vouches for the pointer.
            unsafe { [0, 1].map(|index| Self::splat((*from.add(index)).to_f32())) }
        }

        #[inline(always)]
        unsafe fn dot_pairs(a: Self::Pairs, b: Self::Pairs, c: Self::V) -> Self::V {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { Self::fma(a[1], b[1], Self::fma(a[0], b[0], c)) }
        }
    };
}

pub(crate) use widened_pairs;

#[cfg(test)]
mod tests {
    use super::*;

    /// # Safety
    /// The processor has the instruction set.
    unsafe fn transpose<S: Simd>(from: &[f32], to: &mut [f32], strides: [usize; 2]) {
        assert!(from.len() >= 15 * strides[0] + BLOCK && to.len() >= 15 * strides[1] + BLOCK);
        // SAFETY: both hold 16 rows.
        unsafe { S::transpose(from.as_ptr(), strides[0], to.as_mut_ptr(), strides[1]) }
    }

    #[test]
    fn rows_become_columns() {
        for isa in Isa::available() {
            for strides @ [stride, to_stride] in [[16, 16], [40, 16], [7, 33], [64, 5]] {
                let from: Vec<f32> = (0..15 * stride + BLOCK).map(|i| i as f32).collect();
                let mut to = vec![-1.0; 15 * to_stride + BLOCK];
                let (values, columns) = (&from[..], &mut to[..]);
                // SAFETY: the function checks its memory.
                unsafe {
                    dispatch!(
                        isa,
                        transpose(values: &[f32], columns: &mut [f32], strides: [usize; 2])
                    );
                }
                let mut expected = vec![-1.0; to.len()];
                for column in 0..BLOCK {
                    for row in 0..BLOCK {
                        expected[column * to_stride + row] = from[row * stride + column];
                    }
                }
                assert_eq!(to, expected, "{isa} {strides:?}");
            }
        }
    }

    #[test]
    fn names_are_read_back() {
        for isa in Isa::available() {
            assert_eq!(isa.to_string().parse(), Ok(isa));
        }
        let error = "sse9".parse::<Isa>().expect_err("no such set");
        assert!(error.to_string().contains("portable"), "{error}");
    }
}

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
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use portable::Portable;

use std::fmt;
use std::str::FromStr;

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// 16 lanes: AVX-512 F.
    Avx512,
    /// 8 lanes: AVX2 and FMA.
    Avx2,
    /// 4 lanes: NEON.
    Neon,
    /// Whatever the compiler makes of plain Rust.
    Portable,
}

impl Isa {
    /// All of them, the fastest first.
    pub const ALL: [Self; 4] = [Self::Avx512, Self::Avx2, Self::Neon, Self::Portable];

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        match self {
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

    /// The fastest that this processor has.
    pub fn best() -> Self {
        Self::available().next().unwrap_or(Self::Portable)
    }

    /// Those that this processor has, the fastest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Portable => "portable",
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

/// Compiles a function that is generic over [`Simd`] for an instruction set and calls it.
macro_rules! dispatch {
    ($isa:expr, $function:ident($($argument:ident: $type:ty),*)) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f")]
        unsafe fn avx512($($argument: $type),*) {
            // SAFETY: the caller's contract is the same.
            unsafe { $function::<crate::simd::Avx512>($($argument),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2($($argument: $type),*) {
            // SAFETY: the caller's contract is the same.
            unsafe { $function::<crate::simd::Avx2>($($argument),*) }
        }
        // SAFETY: an `Isa` that runs is available, and the caller vouches for the pointers.
        unsafe {
            match $isa {
                #[cfg(target_arch = "x86_64")]
                crate::simd::Isa::Avx512 => avx512($($argument),*),
                #[cfg(target_arch = "x86_64")]
                crate::simd::Isa::Avx2 => avx2($($argument),*),
                #[cfg(target_arch = "aarch64")]
                crate::simd::Isa::Neon => $function::<crate::simd::Neon>($($argument),*),
                _ => $function::<crate::simd::Portable>($($argument),*),
            }
        }
    }};
}

pub(crate) use dispatch;

/// A vector of `f32` and what kernels do with it.
///
/// # Safety
/// Every function needs the processor to have the instruction set; pointers must be valid for
/// `LANES` elements and may have any alignment of `f32`.
pub(crate) trait Simd: Copy + 'static {
    /// Elements of a vector; divides 16.
    const LANES: usize;
    /// A vector.
    type V: Copy;

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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for isa in Isa::available() {
            assert_eq!(isa.to_string().parse(), Ok(isa));
        }
        let error = "sse9".parse::<Isa>().expect_err("no such set");
        assert!(error.to_string().contains("portable"), "{error}");
    }
}

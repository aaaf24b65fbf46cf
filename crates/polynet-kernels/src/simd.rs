//! Vectors of `f32` on every instruction set, chosen at run time.
//!
//! A kernel is written once, generic over [`Simd`], and always inlined into a function that is
//! compiled for one instruction set.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod bytes;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod tiles;
mod vector;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::{Avx2, AvxVnni};
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::{Avx512, Avx512Bf16, Avx512Vnni};
pub(crate) use bytes::{BYTES_DEPTH, Bytes};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use portable::Portable;
pub use vector::BLOCK;
pub(crate) use vector::{Simd, block_vectors};

use std::fmt;
use std::str::FromStr;

/// The instruction sets that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum InstructionSet {
    /// 16 lanes, and products of bf16: AVX-512 F, BW and BF16. For f32 the same as [`Self::Avx512`].
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
                Self::Avx512.is_available()
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512bf16")
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

#[cfg(target_arch = "x86_64")]
fn is_made_by_amd() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
    name.as_flattened() == b"AuthenticAMD"
}

#[cfg(not(target_arch = "x86_64"))]
fn is_made_by_amd() -> bool {
    false
}

/// Whether an instruction set comes with products of tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Tiles {
    /// Of bf16 and of bytes, by AMX.
    OfBf16AndBytes,
    None,
}

/// An instruction set that this processor has: `amx`, `avx512bf16`, `avx512`, `avx2`, `neon` or `portable`.
/// By `amx` tiles of bf16 and of bytes are multiplied; whatever has no tiles is computed as by `avx512bf16`.
///
/// It is a witness: [`Isa::best`], [`Isa::available`] and parsing ask the processor, and nothing else
/// makes one but the emulator of tiles in tests, so whoever has one may run the code that is compiled for it.
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
pub struct Isa {
    set: InstructionSet,
    tiles: Tiles,
}

impl Isa {
    /// The fastest that this processor has.
    pub fn best() -> Self {
        Self::available()
            .next()
            .unwrap_or(Self::without_tiles(InstructionSet::Portable))
    }

    fn without_tiles(set: InstructionSet) -> Self {
        let tiles = Tiles::None;
        Self { set, tiles }
    }

    /// With tiles; whoever asks knows that the processor has the rest, and has them or an emulator.
    pub(crate) fn with_tiles() -> Self {
        Self {
            set: InstructionSet::Avx512Bf16,
            tiles: Tiles::OfBf16AndBytes,
        }
    }

    /// Those that this processor has, the fastest first.
    pub fn available() -> impl Iterator<Item = Self> {
        let all = InstructionSet::ALL.into_iter();
        let sets = all.filter(|set| set.is_available());
        let has_tiles = InstructionSet::Avx512Bf16.is_available() && tiles::are_available();
        let with_tiles = has_tiles.then(Self::with_tiles);
        with_tiles.into_iter().chain(sets.map(Self::without_tiles))
    }

    /// Whether it has products of bf16. For f32 such a set is the same as the next one without.
    pub fn multiplies_bf16(self) -> bool {
        self.set == InstructionSet::Avx512Bf16
    }

    /// Whether it multiplies tiles of bf16 and of bytes.
    pub fn multiplies_tiles(self) -> bool {
        self.tiles == Tiles::OfBf16AndBytes
    }

    /// Whether maps of bf16 make a network faster than maps of `f32`, with this set on this processor.
    ///
    /// AMD's products of bf16 are twice as fast as those of `f32`: Very Deep PolyNet takes 0.55 of the
    /// time on Zen 5. Of Intel's, on Sapphire Rapids, a core makes half as many as of `f32` by vectors, and
    /// 14 times as many by tiles.
    pub fn is_faster_in_bf16(self) -> bool {
        self.multiplies_tiles() || self.multiplies_bf16() && is_made_by_amd()
    }

    pub(crate) fn set(self) -> InstructionSet {
        self.set
    }
}

impl fmt::Debug for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tiles {
            Tiles::OfBf16AndBytes => f.write_str("Amx"),
            Tiles::None => self.set.fmt(f),
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.set {
            _ if self.multiplies_tiles() => "amx",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::dispatch;

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
    fn only_products_of_bf16_make_it_faster() {
        for isa in Isa::available() {
            assert!(isa.multiplies_bf16() || !isa.is_faster_in_bf16(), "{isa}");
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

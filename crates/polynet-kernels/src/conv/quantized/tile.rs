//! The microkernel of quantized convolutions: some pixels of a row times some output channels, as that of
//! the others, with four input channels a product.

use super::end::{End, Outputs, Sums};
use crate::conv::ahead::Ahead;
use crate::conv::places::{Source, Tap};
use crate::element::Element;
use crate::layout::{Arena, BLOCK, Shared};
use crate::simd::{BYTES_DEPTH, ByteProducts, Bytes};

/// The arguments of the microkernel: some tiles of a row.
pub(super) struct Tile<'a> {
    pub(super) sources: &'a [Source<u8>],
    /// Elements from (0, 0) to the place of the first output pixel.
    pub(super) origin: isize,
    pub(super) taps: &'a [Tap],
    /// Taps of the whole kernel.
    pub(super) all_taps: usize,
    /// Elements between the places of neighbouring output pixels in the input.
    pub(super) pixel_stride: usize,
    /// The panel: `[input block][tap][step][lane][4]`.
    pub(super) weights: *const i8,
    /// Of the panel, at the first pixel.
    pub(super) outputs: Outputs<'a>,
    /// Tiles, one beside the other.
    pub(super) count: usize,
    /// For the instruction set and the elements of the maps that are no bytes.
    pub(super) end: End,
    /// Memory to ask for on the way.
    pub(super) ahead: Ahead,
}

impl Tile<'_> {
    /// Whether all that the microkernel of `pixels` pixels touches lies in the memory of the maps and of
    /// the packed weights.
    pub(super) fn lies_in<E: Element>(
        &self,
        (bytes, floats): (Shared<'_, u8>, Shared<'_, E>),
        weights: &Arena<i8>,
        pixels: usize,
    ) -> bool {
        let last = self.count * pixels - 1;
        let is_read = |source: &Source<u8>| {
            self.taps.iter().all(|tap| {
                let first = source.pixels.wrapping_offset(self.origin + tap.input);
                bytes.holds(first, last * self.pixel_stride + source.steps * BYTES_DEPTH)
            })
        };
        let steps: usize = self.sources.iter().map(|source| source.steps).sum();
        let panel = steps * self.all_taps * BYTES_DEPTH * self.outputs.targets.len() * BLOCK;
        let weights = weights.as_slice().as_ptr_range();
        self.sources.iter().all(is_read)
            && self.outputs.lie_in((bytes, floats), last + 1)
            && weights.start <= self.weights
            && self.weights.wrapping_add(panel) <= weights.end
    }
}

/// A microkernel for a number of vectors and pixels.
pub(super) type TileKernel = unsafe fn(&Tile<'_>);

/// # Safety
/// All pointers of the tile must be valid for what the kernel reads and writes: `PX` pixels of each of its
/// tiles, all taps, `NV` vectors.
#[inline(always)]
unsafe fn tile<S: Bytes, const NV: usize, const PX: usize>(tile: &Tile<'_>) {
    let stride = tile.pixel_stride;
    // SAFETY: by the contract above; places inside a block follow from its layout.
    unsafe {
        let Ahead { first, lines } = tile.ahead;
        let mut asked = 0;
        let times = tile.count * tile.sources.len() * tile.taps.len();
        let lines_at_once = lines.div_ceil(times.max(1));
        for index in 0..tile.count {
            let first_pixel = index * PX;
            let origin = tile.origin + (first_pixel * stride) as isize;
            let mut sums = [[S::no_sums(); PX]; NV];
            for source in tile.sources {
                for tap in tile.taps {
                    for _ in 0..lines_at_once {
                        S::prefetch(first.wrapping_add(asked * 64));
                        asked += 1;
                    }
                    let mut x = source.pixels.offset(origin + tap.input);
                    let row = source.first_step * tile.all_taps + tap.index * source.steps;
                    let mut w = tile.weights.add(row * NV * S::LANES * BYTES_DEPTH);
                    for _ in 0..source.steps {
                        let mut weights = [S::byte_weights(w); NV];
                        for (v, weight) in weights.iter_mut().enumerate().skip(1) {
                            *weight = S::byte_weights(w.add(v * S::LANES * BYTES_DEPTH));
                        }
                        for px in 0..PX {
                            let input = S::byte_inputs(x.add(px * stride));
                            for v in 0..NV {
                                sums[v][px] = S::add_products(weights[v], input, sums[v][px]);
                            }
                        }
                        w = w.add(NV * S::LANES * BYTES_DEPTH);
                        x = x.add(BYTES_DEPTH);
                    }
                }
            }
            // The sums leave the registers here: an epilogue that indexed them would keep them in
            // memory all the time.
            let mut results = std::mem::MaybeUninit::<[[Line; PX]; NV]>::uninit();
            let to = results.as_mut_ptr().cast::<i32>();
            for v in 0..NV {
                for px in 0..PX {
                    S::store_sums(to.add((v * PX + px) * S::LANES), sums[v][px]);
                }
            }
            let sums = Sums {
                first: to,
                of_lane: PX,
                of_pixel: S::LANES,
                lanes: NV * S::LANES,
                first_pixel,
                pixels: PX,
            };
            (tile.end)(&tile.outputs, &sums);
        }
    }
}

/// As many elements as the largest vector has.
#[repr(align(64))]
struct Line(#[allow(dead_code)] [i32; BLOCK]);

macro_rules! kernels {
    ($name:ident, $simd:ty, $feature:literal, $vectors:tt, $pixels:tt) => {
        #[cfg(target_arch = "x86_64")]
        mod $name {
            use super::*;

            /// # Safety
            /// As [`tile`](super::tile), on a processor with the instruction set.
            #[target_feature(enable = $feature)]
            unsafe fn run<const NV: usize, const PX: usize>(t: &Tile<'_>) {
                // SAFETY: the caller's contract is the same.
                unsafe { tile::<$simd, NV, PX>(t) }
            }

            kernels!(@table $vectors $pixels);
        }
    };
    (@table [$($nv:literal)*] $pixels:tt) => {
        /// The microkernel of `vectors` vectors and `pixels` pixels.
        pub(super) fn kernel(vectors: usize, pixels: usize) -> TileKernel {
            match vectors {
                $($nv => kernels!(@pixels $nv pixels $pixels),)*
                _ => unreachable!("panels have {:?} vectors", [$($nv),*]),
            }
        }
    };
    (@pixels $nv:literal $px:ident [$($n:literal)*]) => {
        match $px {
            $($n => run::<$nv, $n> as TileKernel,)*
            _ => unreachable!("tiles have {:?} pixels", [$($n),*]),
        }
    };
}

kernels!(
    avx512_vnni, crate::simd::Avx512Vnni, "avx512f,avx512bw,avx512vnni", [1 2],
    [1 2 3 4 5 6 7 8 9 10 11 12 13 14]
);
kernels!(
    avx512, crate::simd::Avx512, "avx512f,avx512bw", [1 2], [1 2 3 4 5 6 7 8 9 10 11 12]
);
kernels!(avx_vnni, crate::simd::AvxVnni, "avx2,fma,avxvnni", [2], [1 2 3 4 5 6]);
kernels!(avx2, crate::simd::Avx2, "avx2,fma", [2], [1 2 3 4]);

/// # Safety
/// As [`tile`].
unsafe fn run_portable<const PX: usize>(t: &Tile<'_>) {
    // SAFETY: the caller's contract is the same.
    unsafe { tile::<crate::simd::Portable, 4, PX>(t) }
}

/// The microkernel for a panel of `blocks` output blocks and a tile of `pixels` pixels.
pub(super) fn kernel(products: ByteProducts, blocks: usize, pixels: usize) -> TileKernel {
    debug_assert!((1..=2).contains(&blocks), "a panel of one block or two");
    match products {
        #[cfg(target_arch = "x86_64")]
        ByteProducts::Avx512VnniBf16 | ByteProducts::Avx512Vnni => {
            avx512_vnni::kernel(blocks, pixels)
        }
        #[cfg(target_arch = "x86_64")]
        ByteProducts::Avx512 => avx512::kernel(blocks, pixels),
        #[cfg(target_arch = "x86_64")]
        ByteProducts::AvxVnni => avx_vnni::kernel(2 * blocks, pixels),
        #[cfg(target_arch = "x86_64")]
        ByteProducts::Avx2 => avx2::kernel(2 * blocks, pixels),
        ByteProducts::Portable if pixels == 1 => run_portable::<1>,
        ByteProducts::Portable => run_portable::<2>,
    }
}

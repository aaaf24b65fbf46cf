//! The microkernel of quantized convolutions: some pixels of a row times some output channels, as that of
//! the others, with four input channels a product.

use crate::conv::ahead::Ahead;
use crate::conv::places::{Source, Tap};
use crate::conv::tile::rectified;
use crate::element::{Element, PerElement};
use crate::layout::{Arena, BLOCK, Shared};
use crate::simd::{BYTES_DEPTH, ByteProducts, Bytes};
use half::bf16;

/// What becomes of the sums of an output block. Null pointers are skipped. Those of no type point to the
/// elements that the tile's end is compiled for, so that the tile itself is compiled once for all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) value: *mut (),
    pub(super) value_bytes: *mut u8,
    /// What is added to `scale ·` the result.
    pub(super) addend: *const (),
    pub(super) sum: *mut (),
    pub(super) sum_bytes: *mut u8,
    /// What value and sum are multiplied with before they are rounded to bytes.
    pub(super) per_step: [f32; 2],
}

impl Target {
    pub(super) const NONE: Self = Self {
        value: std::ptr::null_mut(),
        value_bytes: std::ptr::null_mut(),
        addend: std::ptr::null(),
        sum: std::ptr::null_mut(),
        sum_bytes: std::ptr::null_mut(),
        per_step: [0.0; 2],
    };
}

/// How results are made of sums; the first of a pair is the value's, the second the sum's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epilogue {
    /// The factor of the result in the sum.
    pub(super) scale: f32,
    pub(super) relu: [bool; 2],
}

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
    /// A lane each, for the panel's.
    pub(super) scales: *const f32,
    pub(super) bias: *const f32,
    /// One for each output block of the panel, at the first pixel.
    pub(super) targets: &'a [Target],
    /// Tiles, one beside the other.
    pub(super) count: usize,
    pub(super) epilogue: Epilogue,
    /// [`store`] for the instruction set and the elements of the maps that are no bytes.
    pub(super) end: TileEnd,
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
        let is_written = |target: &Target| {
            let count = (last + 1) * BLOCK;
            let in_floats = [target.value.cast_const(), target.addend, target.sum];
            let in_bytes = [target.value_bytes, target.sum_bytes];
            in_floats
                .iter()
                .all(|at| at.is_null() || floats.holds(at.cast(), count))
                && in_bytes
                    .iter()
                    .all(|at| at.is_null() || bytes.holds(*at, count))
        };
        let steps: usize = self.sources.iter().map(|source| source.steps).sum();
        let panel = steps * self.all_taps * BYTES_DEPTH * self.targets.len() * BLOCK;
        let weights = weights.as_slice().as_ptr_range();
        self.sources.iter().all(is_read)
            && self.targets.iter().all(is_written)
            && weights.start <= self.weights
            && self.weights.wrapping_add(panel) <= weights.end
    }
}

/// A microkernel for a number of vectors and pixels.
pub(super) type TileKernel = unsafe fn(&Tile<'_>);

/// What stores the sums `[vectors][pixels]` of a tile from its first pixel on.
pub(super) type TileEnd = unsafe fn(&Tile<'_>, *const i32, [usize; 3]);

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
            (tile.end)(tile, to, [NV, PX, first_pixel]);
        }
    }
}

/// As many elements as the largest vector has.
#[repr(align(64))]
struct Line(#[allow(dead_code)] [i32; BLOCK]);

/// Stores what the sums `[vectors][pixels]` of a tile give, from its first pixel on.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn store<S: Bytes, E: Element>(
    tile: &Tile<'_>,
    sums: *const i32,
    [vectors, pixels, first_pixel]: [usize; 3],
) {
    let Epilogue { scale, relu } = tile.epilogue;
    // SAFETY: by the contract of `tile`.
    unsafe {
        let factor = S::splat(scale);
        for v in 0..vectors {
            let target = tile.targets.get_unchecked(v * S::LANES / BLOCK);
            let sums = sums.add(v * pixels * S::LANES);
            let scale = S::load(tile.scales.add(v * S::LANES));
            let bias = S::load(tile.bias.add(v * S::LANES));
            let first = first_pixel * BLOCK + v * S::LANES % BLOCK;
            if !target.value_bytes.is_null() {
                // What is negative becomes 0 by itself, and the step is a part of scale and bias.
                let per_step = S::splat(target.per_step[0]);
                let (scale, bias) = (S::mul(scale, per_step), S::mul(bias, per_step));
                for px in 0..pixels {
                    let sum = S::to_f32(S::load_sums(sums.add(px * S::LANES)));
                    let to = target.value_bytes.add(first + px * BLOCK);
                    S::store_bytes(to, S::fma(sum, scale, bias));
                }
            }
            if !target.value.is_null() {
                let to = target.value.cast::<E>();
                for px in 0..pixels {
                    let sum = S::to_f32(S::load_sums(sums.add(px * S::LANES)));
                    let value = rectified::<S>(S::fma(sum, scale, bias), relu[0]);
                    E::store::<S>(to.add(first + px * BLOCK), value);
                }
            }
            if target.addend.is_null() {
                continue;
            }
            let (scale, bias) = (S::mul(scale, factor), S::mul(bias, factor));
            let per_step = S::splat(target.per_step[1]);
            let (addend, to) = (target.addend.cast::<E>(), target.sum.cast::<E>());
            for px in 0..pixels {
                let place = first + px * BLOCK;
                let sum = S::to_f32(S::load_sums(sums.add(px * S::LANES)));
                let base = S::add(bias, E::load::<S>(addend.add(place)));
                let total = rectified::<S>(S::fma(sum, scale, base), relu[1]);
                if !to.is_null() {
                    E::store::<S>(to.add(place), total);
                }
                if !target.sum_bytes.is_null() {
                    S::store_bytes(target.sum_bytes.add(place), S::mul(total, per_step));
                }
            }
        }
    }
}

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

macro_rules! ends {
    ($($name:ident $set:ident $feature:literal),*) => {$(
        /// # Safety
        /// As [`store`], on a processor with the instruction set.
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $feature)]
        unsafe fn $name<E: Element>(t: &Tile<'_>, sums: *const i32, of: [usize; 3]) {
            // SAFETY: the caller's contract is the same.
            unsafe { store::<crate::simd::$set, E>(t, sums, of) }
        }
    )*};
}

ends!(
    end_avx512_bf16 Avx512Bf16 "avx512f,avx512bw,avx512bf16",
    end_avx512 Avx512 "avx512f,avx512bw",
    end_avx2 Avx2 "avx2,fma"
);

/// The elements that a tile's end is compiled for.
struct EndOf(ByteProducts);

impl EndOf {
    fn end<E: Element>(self) -> TileEnd {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            ByteProducts::Avx512VnniBf16 => end_avx512_bf16::<E>,
            #[cfg(target_arch = "x86_64")]
            ByteProducts::Avx512Vnni | ByteProducts::Avx512 => end_avx512::<E>,
            #[cfg(target_arch = "x86_64")]
            ByteProducts::AvxVnni | ByteProducts::Avx2 => end_avx2::<E>,
            ByteProducts::Portable => store::<crate::simd::Portable, E>,
        }
    }
}

/// Elements are named here, so that this crate compiles the ends and not each that uses them.
impl PerElement for EndOf {
    type Of<E: 'static> = TileEnd;

    fn of_f32(self) -> TileEnd {
        self.end::<f32>()
    }

    fn of_bf16(self) -> TileEnd {
        self.end::<bf16>()
    }
}

/// What stores the sums of tiles, beside maps of `E`.
pub(super) fn end<E: Element>(products: ByteProducts) -> TileEnd {
    E::choose(EndOf(products))
}

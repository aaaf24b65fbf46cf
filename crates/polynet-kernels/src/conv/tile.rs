//! The microkernel of convolutions: some pixels of a row times some output channels.
//!
//! For every input block, tap and input channel (pair of channels for bf16) it loads the weights of
//! `NV` vectors of output channels once and multiplies them with one input for each of `PX` pixels.
//! All `NV · PX` sums stay in registers from the first input channel to the last.

use super::ahead::Ahead;
use super::places::{Source, Tap};
use crate::element::{Element, PerElement};
use crate::layout::{BLOCK, Shared};
use crate::simd::{InstructionSet, Isa, Simd};
use half::bf16;

/// What becomes of the sums of an output block. Null pointers are skipped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<E> {
    /// Where the result is stored.
    pub(super) value: *mut E,
    /// What is added to `scale ·` the result.
    pub(super) addend: *const E,
    /// Where that sum is stored.
    pub(super) sum: *mut E,
}

impl<E> Target<E> {
    pub(super) const NONE: Self = Self {
        value: std::ptr::null_mut(),
        addend: std::ptr::null(),
        sum: std::ptr::null_mut(),
    };
}

/// The arguments of the microkernel: some tiles of a row.
pub(super) struct Tile<'a, E> {
    pub(super) sources: &'a [Source<E>],
    /// Elements from (0, 0) to the place of the first output pixel.
    pub(super) origin: isize,
    pub(super) taps: &'a [Tap],
    /// Taps of the whole kernel.
    pub(super) all_taps: usize,
    /// Elements between the places of neighbouring output pixels in the input.
    pub(super) pixel_stride: usize,
    /// Elements between neighbouring output pixels.
    pub(super) out_stride: usize,
    /// The panel: `[input block][tap][step][NV · LANES]`, of pairs for bf16.
    pub(super) weights: *const E,
    /// `NV · LANES` elements.
    pub(super) bias: *const f32,
    /// One for each output block of the panel, at the first pixel.
    pub(super) targets: &'a [Target<E>],
    /// Tiles, one beside the other.
    pub(super) count: usize,
    pub(super) scale: f32,
    /// Memory to ask for on the way.
    pub(super) ahead: Ahead,
    pub(super) value_relu: bool,
    pub(super) sum_relu: bool,
}

impl<E: Element> Tile<'_, E> {
    /// Whether all that the microkernel of `pixels` pixels touches lies in the memory of the maps that
    /// are read, of those that are written, and of the packed weights.
    pub(super) fn lies_in(
        &self,
        [from, to]: [Shared<'_, E>; 2],
        weights: &[E],
        pixels: usize,
    ) -> bool {
        let last = self.count * pixels - 1;
        let is_read = |source: &Source<E>| {
            self.taps.iter().all(|tap| {
                let first = source.pixels.wrapping_offset(self.origin + tap.input);
                from.holds(first, last * self.pixel_stride + source.steps * E::DEPTH)
            })
        };
        let is_written = |target: &Target<E>| {
            let places = [target.value.cast_const(), target.addend, target.sum];
            let mut places = places.into_iter().filter(|place| !place.is_null());
            places.all(|place| to.holds(place, last * self.out_stride + BLOCK))
        };
        let steps: usize = self.sources.iter().map(|source| source.steps).sum();
        let panel = steps * self.all_taps * E::DEPTH * self.targets.len() * BLOCK;
        self.sources.iter().all(is_read)
            && self.targets.iter().all(is_written)
            && weights.as_ptr() <= self.weights
            && self.weights.wrapping_add(panel) <= weights.as_ptr_range().end
    }
}

/// A microkernel for a number of vectors and pixels.
pub(super) type TileKernel<E> = unsafe fn(&Tile<'_, E>);

/// # Safety
/// All pointers of the tile must be valid for what the kernel reads and writes: `PX` pixels of each of its
/// tiles, all taps, `NV` vectors. `store` is [`store`] for the same instruction set.
#[inline(always)]
unsafe fn tile<S: Simd, E: Element, const NV: usize, const PX: usize, const STRIDE: usize>(
    tile: &Tile<'_, E>,
    store: unsafe fn(&Tile<'_, E>, *const f32, [usize; 3]),
) {
    let stride = if STRIDE == 0 {
        tile.pixel_stride
    } else {
        STRIDE
    };
    // SAFETY: by the contract above; places inside a block follow from its layout.
    unsafe {
        let mut bias = [S::splat(0.0); NV];
        for (v, bias) in bias.iter_mut().enumerate() {
            *bias = S::load(tile.bias.add(v * S::LANES));
        }
        let Ahead { first, lines } = tile.ahead;
        let mut asked = 0;
        let times = tile.count * tile.sources.len() * tile.taps.len();
        let lines_at_once = lines.div_ceil(times.max(1));
        for index in 0..tile.count {
            let first_pixel = index * PX;
            let origin = tile.origin + (first_pixel * stride) as isize;
            let mut sums = [[S::splat(0.0); PX]; NV];
            for (sums, bias) in sums.iter_mut().zip(bias) {
                *sums = [bias; PX];
            }
            for source in tile.sources {
                for tap in tile.taps {
                    for _ in 0..lines_at_once {
                        S::prefetch(first.wrapping_add(asked * 64));
                        asked += 1;
                    }
                    let mut x = source.pixels.offset(origin + tap.input);
                    let row = source.first_step * tile.all_taps + tap.index * source.steps;
                    let mut w = tile.weights.add(row * NV * S::LANES * E::DEPTH);
                    for _ in 0..source.steps {
                        let mut weights = [E::weights::<S>(w); NV];
                        for (v, weight) in weights.iter_mut().enumerate().skip(1) {
                            *weight = E::weights::<S>(w.add(v * S::LANES * E::DEPTH));
                        }
                        for px in 0..PX {
                            let input = E::inputs::<S>(x.add(px * stride));
                            for v in 0..NV {
                                sums[v][px] = E::multiply_add::<S>(weights[v], input, sums[v][px]);
                            }
                        }
                        w = w.add(NV * S::LANES * E::DEPTH);
                        x = x.add(E::DEPTH);
                    }
                }
            }
            // The sums leave the registers here: an epilogue that indexed them would keep them in
            // memory all the time.
            let mut results = Results::<NV, PX>::uninit();
            let to = results.as_mut_ptr().cast::<f32>();
            for v in 0..NV {
                for px in 0..PX {
                    S::store(to.add((v * PX + px) * S::LANES), sums[v][px]);
                }
            }
            store(tile, to, [NV, PX, first_pixel]);
        }
    }
}

/// Room for the results of a tile, whatever the lanes.
type Results<const NV: usize, const PX: usize> = std::mem::MaybeUninit<[[Line; PX]; NV]>;

/// As many elements as the largest vector has.
#[repr(align(64))]
struct Line(#[allow(dead_code)] [f32; BLOCK]);

/// Stores the sums `[vectors][pixels]` of a tile from its first pixel on. It is one function for all tiles of an instruction set:
/// a part of each, it would be a quarter of this crate's code.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn store<S: Simd, E: Element>(
    tile: &Tile<'_, E>,
    sums: *const f32,
    [vectors, pixels, first_pixel]: [usize; 3],
) {
    // SAFETY: by the contract of `tile`.
    unsafe {
        let scale = S::splat(tile.scale);
        for v in 0..vectors {
            let target = tile.targets.get_unchecked(v * S::LANES / BLOCK);
            let first = first_pixel * tile.out_stride + v * S::LANES % BLOCK;
            let sums = sums.add(v * pixels * S::LANES);
            if !target.value.is_null() {
                for px in 0..pixels {
                    let value = S::load(sums.add(px * S::LANES));
                    let value = rectified::<S>(value, tile.value_relu);
                    E::store::<S>(target.value.add(first + px * tile.out_stride), value);
                }
            }
            if !target.sum.is_null() {
                for px in 0..pixels {
                    let place = first + px * tile.out_stride;
                    let sum = S::load(sums.add(px * S::LANES));
                    let total = S::fma(scale, sum, E::load::<S>(target.addend.add(place)));
                    let total = rectified::<S>(total, tile.sum_relu);
                    E::store::<S>(target.sum.add(place), total);
                }
            }
        }
    }
}

/// `max(x, 0)` or `x`.
///
/// # Safety
/// On a processor with the instruction set.
#[inline(always)]
pub(super) unsafe fn rectified<S: Simd>(x: S::V, relu: bool) -> S::V {
    // SAFETY: by the contract above.
    unsafe { if relu { S::max(S::splat(0.0), x) } else { x } }
}

macro_rules! kernels {
    ($name:ident, $simd:ty, $element:ty, $feature:literal, $vectors:tt, $pixels:tt) => {
        mod $name {
            use super::*;

            /// # Safety
            /// As [`tile`](super::tile), on a processor with the instruction set.
            #[target_feature(enable = $feature)]
            unsafe fn run<const NV: usize, const PX: usize, const STRIDE: usize>(
                t: &Tile<'_, $element>,
            ) {
                // SAFETY: the caller's contract is the same.
                unsafe { tile::<$simd, $element, NV, PX, STRIDE>(t, finish) }
            }

            /// # Safety
            /// As [`store`](super::store), on a processor with the instruction set.
            #[target_feature(enable = $feature)]
            #[inline(never)]
            unsafe fn finish(t: &Tile<'_, $element>, sums: *const f32, of: [usize; 3]) {
                // SAFETY: the caller's contract is the same.
                unsafe { store::<$simd, $element>(t, sums, of) }
            }

            kernels!(@table $element, $vectors $pixels);
        }
    };
    (@table $element:ty, [$($nv:literal)*] $pixels:tt) => {
        /// The microkernel of `vectors` vectors and `pixels` pixels; `stride` in elements.
        pub(super) fn kernel(vectors: usize, pixels: usize, stride: usize) -> TileKernel<$element> {
            match vectors {
                $($nv => kernels!(@pixels $element, $nv pixels stride $pixels),)*
                _ => unreachable!("panels have {:?} vectors", [$($nv),*]),
            }
        }
    };
    (@pixels $element:ty, $nv:literal $px:ident $stride:ident [$($n:literal)*]) => {
        match ($px, $stride) {
            $(($n, BLOCK) => run::<$nv, $n, BLOCK> as TileKernel<$element>,)*
            $(($n, _) => run::<$nv, $n, 0> as TileKernel<$element>,)*
            _ => unreachable!("tiles have {:?} pixels", [$($n),*]),
        }
    };
}

#[cfg(target_arch = "x86_64")]
kernels!(avx512, crate::simd::Avx512, f32, "avx512f", [1 2], [1 2 3 4 5 6 7 8 9 10 11 12 13 14]);
#[cfg(target_arch = "x86_64")]
kernels!(
    avx512_bf16, crate::simd::Avx512Bf16, bf16, "avx512f,avx512bf16", [1 2],
    [1 2 3 4 5 6 7 8 9 10 11 12 13 14]
);
#[cfg(target_arch = "x86_64")]
kernels!(
    avx512_widened, crate::simd::Avx512, bf16, "avx512f", [1 2],
    [1 2 3 4 5 6 7 8 9 10 11 12 13 14]
);
#[cfg(target_arch = "x86_64")]
kernels!(avx2, crate::simd::Avx2, f32, "avx2,fma", [2], [1 2 3 4 5 6]);
#[cfg(target_arch = "x86_64")]
kernels!(avx2_widened, crate::simd::Avx2, bf16, "avx2,fma", [2], [1 2 3 4 5 6]);
#[cfg(target_arch = "aarch64")]
kernels!(neon, crate::simd::Neon, f32, "neon", [4], [1 2 3 4 5 6]);
#[cfg(target_arch = "aarch64")]
kernels!(neon_widened, crate::simd::Neon, bf16, "neon", [4], [1 2 3 4 5 6]);

/// # Safety
/// As [`tile`].
unsafe fn run_portable<E: Element, const PX: usize>(t: &Tile<'_, E>) {
    // SAFETY: the caller's contract is the same.
    unsafe { tile::<crate::simd::Portable, E, 4, PX, 0>(t, store::<crate::simd::Portable, E>) }
}

/// The microkernel of plain Rust for `pixels` pixels.
fn portable<E: Element>(pixels: usize) -> TileKernel<E> {
    match pixels {
        1 => run_portable::<E, 1>,
        2 => run_portable::<E, 2>,
        _ => unreachable!("tiles have 1 or 2 pixels"),
    }
}

/// The largest tile of an instruction set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    /// Output blocks of a panel.
    pub(super) blocks: usize,
    /// Pixels.
    pub(super) pixels: usize,
}

impl Geometry {
    pub(super) fn of(isa: Isa) -> Self {
        let (blocks, pixels) = match isa.set() {
            InstructionSet::Avx512Bf16 | InstructionSet::Avx512 => (2, 14),
            InstructionSet::Avx2 | InstructionSet::Neon => (1, 6),
            InstructionSet::Portable => (1, 2),
        };
        Self { blocks, pixels }
    }
}

/// The microkernel for a panel of `blocks` output blocks and a tile of `pixels` pixels, whose inputs lie
/// `stride` elements apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct TileShape {
    pub(super) isa: Isa,
    pub(super) blocks: usize,
    pub(super) pixels: usize,
    pub(super) stride: usize,
}

impl TileShape {
    pub(super) fn kernel<E: Element>(self) -> TileKernel<E> {
        E::choose(self)
    }
}

impl PerElement for TileShape {
    type Of<E: 'static> = TileKernel<E>;

    fn of_f32(self) -> TileKernel<f32> {
        let Self {
            isa,
            blocks,
            pixels,
            stride,
        } = self;
        match isa.set() {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Bf16 | InstructionSet::Avx512 => {
                avx512::kernel(blocks, pixels, stride)
            }
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => avx2::kernel(2 * blocks, pixels, stride),
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon => neon::kernel(4 * blocks, pixels, stride),
            _ => portable(pixels),
        }
    }

    fn of_bf16(self) -> TileKernel<bf16> {
        let Self {
            isa,
            blocks,
            pixels,
            stride,
        } = self;
        match isa.set() {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Bf16 => avx512_bf16::kernel(blocks, pixels, stride),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => avx512_widened::kernel(blocks, pixels, stride),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => avx2_widened::kernel(2 * blocks, pixels, stride),
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon => neon_widened::kernel(4 * blocks, pixels, stride),
            _ => portable(pixels),
        }
    }
}

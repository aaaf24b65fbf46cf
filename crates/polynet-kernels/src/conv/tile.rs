//! The microkernel of convolutions: some pixels of a row times some output channels.
//!
//! For every input block, tap and input channel it loads the weights of `NV` vectors of output
//! channels once and multiplies them with one input element for each of `PX` pixels. All
//! `NV · PX` sums stay in registers from the first input channel to the last.

use crate::layout::BLOCK;
use crate::simd::{Isa, Simd};

/// A tap of the kernel that lies inside the map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tap {
    /// Elements from an output pixel's place in the input to the tap.
    pub(crate) input: isize,
    /// Its number among all taps.
    pub(crate) index: usize,
}

/// An input block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    /// Element (0, 0) of the block in the image at hand.
    pub(crate) pixels: *const f32,
    /// Channels in use, 1 to 16.
    pub(crate) channels: usize,
    /// Channels of the blocks before.
    pub(crate) first_channel: usize,
}

/// What becomes of the sums of an output block. Null pointers are skipped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// Where the result is stored.
    pub(crate) value: *mut f32,
    /// What is added to `scale ·` the result.
    pub(crate) addend: *const f32,
    /// Where that sum is stored.
    pub(crate) sum: *mut f32,
}

impl Target {
    pub(crate) const NONE: Self = Self {
        value: std::ptr::null_mut(),
        addend: std::ptr::null(),
        sum: std::ptr::null_mut(),
    };
}

/// The arguments of the microkernel.
pub(crate) struct Tile<'a> {
    pub(crate) sources: &'a [Source],
    /// Elements from (0, 0) to the place of the first output pixel.
    pub(crate) origin: isize,
    pub(crate) taps: &'a [Tap],
    /// Taps of the whole kernel.
    pub(crate) all_taps: usize,
    /// Elements between the places of neighbouring output pixels in the input.
    pub(crate) pixel_stride: usize,
    /// Elements between neighbouring output pixels.
    pub(crate) out_stride: usize,
    /// The panel: `[input block][tap][channel][NV · LANES]`.
    pub(crate) weights: *const f32,
    /// `NV · LANES` elements.
    pub(crate) bias: *const f32,
    /// One for each output block of the panel, at the tile's first pixel.
    pub(crate) targets: &'a [Target],
    pub(crate) scale: f32,
    pub(crate) value_relu: bool,
    pub(crate) sum_relu: bool,
}

/// A microkernel for a number of vectors and pixels.
pub(crate) type TileKernel = unsafe fn(&Tile<'_>);

/// # Safety
/// All pointers of the tile must be valid for what the kernel reads and writes: `PX` pixels, all
/// taps, `NV` vectors.
#[inline(always)]
unsafe fn tile<S: Simd, const NV: usize, const PX: usize, const STRIDE: usize>(tile: &Tile<'_>) {
    let stride = if STRIDE == 0 {
        tile.pixel_stride
    } else {
        STRIDE
    };
    // SAFETY: by the contract above; places inside a block follow from its layout.
    unsafe {
        let mut sums = [[S::splat(0.0); PX]; NV];
        for (v, sums) in sums.iter_mut().enumerate() {
            let bias = S::load(tile.bias.add(v * S::LANES));
            *sums = [bias; PX];
        }
        for source in tile.sources {
            let pixels = source.pixels.offset(tile.origin);
            for tap in tile.taps {
                let mut x = pixels.offset(tap.input);
                let row = source.first_channel * tile.all_taps + tap.index * source.channels;
                let mut w = tile.weights.add(row * NV * S::LANES);
                for _ in 0..source.channels {
                    let mut weights = [S::splat(0.0); NV];
                    for (v, weight) in weights.iter_mut().enumerate() {
                        *weight = S::load(w.add(v * S::LANES));
                    }
                    for px in 0..PX {
                        let input = S::splat(*x.add(px * stride));
                        for v in 0..NV {
                            sums[v][px] = S::fma(weights[v], input, sums[v][px]);
                        }
                    }
                    w = w.add(NV * S::LANES);
                    x = x.add(1);
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
        store::<S, NV, PX>(tile, to);
    }
}

/// Room for the results of a tile, whatever the lanes.
type Results<const NV: usize, const PX: usize> = std::mem::MaybeUninit<[[Line; PX]; NV]>;

/// As many elements as the largest vector has.
#[repr(align(64))]
struct Line(#[allow(dead_code)] [f32; BLOCK]);

/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn store<S: Simd, const NV: usize, const PX: usize>(tile: &Tile<'_>, sums: *const f32) {
    // SAFETY: by the contract of `tile`.
    unsafe {
        let zero = S::splat(0.0);
        let scale = S::splat(tile.scale);
        for v in 0..NV {
            let target = tile.targets.get_unchecked(v * S::LANES / BLOCK);
            let lane = v * S::LANES % BLOCK;
            for px in 0..PX {
                let sum = S::load(sums.add((v * PX + px) * S::LANES));
                let place = px * tile.out_stride + lane;
                if !target.value.is_null() {
                    let value = if tile.value_relu {
                        S::max(zero, sum)
                    } else {
                        sum
                    };
                    S::store(target.value.add(place), value);
                }
                if !target.sum.is_null() {
                    let total = S::fma(scale, sum, S::load(target.addend.add(place)));
                    let total = if tile.sum_relu {
                        S::max(zero, total)
                    } else {
                        total
                    };
                    S::store(target.sum.add(place), total);
                }
            }
        }
    }
}

macro_rules! kernels {
    ($name:ident, $simd:ty, $feature:literal, $vectors:tt, $pixels:tt) => {
        pub(super) mod $name {
            use super::*;

            /// # Safety
            /// As [`tile`](super::tile), on a processor with the instruction set.
            #[cfg_attr(not(any()), target_feature(enable = $feature))]
            unsafe fn run<const NV: usize, const PX: usize, const STRIDE: usize>(t: &Tile<'_>) {
                // SAFETY: the caller's contract is the same.
                unsafe { tile::<$simd, NV, PX, STRIDE>(t) }
            }

            kernels!(@table $vectors $pixels);
        }
    };
    (@table [$($nv:literal)*] $pixels:tt) => {
        /// The microkernel of `vectors` vectors and `pixels` pixels; `stride` in elements.
        pub(super) fn kernel(vectors: usize, pixels: usize, stride: usize) -> TileKernel {
            match vectors {
                $($nv => kernels!(@pixels $nv pixels stride $pixels),)*
                _ => unreachable!("panels have {:?} vectors", [$($nv),*]),
            }
        }
    };
    (@pixels $nv:literal $px:ident $stride:ident [$($n:literal)*]) => {
        match ($px, $stride) {
            $(($n, BLOCK) => run::<$nv, $n, BLOCK> as TileKernel,)*
            $(($n, _) => run::<$nv, $n, 0> as TileKernel,)*
            _ => unreachable!("tiles have {:?} pixels", [$($n),*]),
        }
    };
}

#[cfg(target_arch = "x86_64")]
kernels!(avx512, crate::simd::Avx512, "avx512f", [1 2], [1 2 3 4 5 6 7 8 9 10 11 12 13 14]);
#[cfg(target_arch = "x86_64")]
kernels!(avx2, crate::simd::Avx2, "avx2,fma", [2], [1 2 3 4 5 6]);
#[cfg(target_arch = "aarch64")]
kernels!(neon, crate::simd::Neon, "neon", [4], [1 2 3 4 5 6]);

pub(super) mod portable {
    use super::*;

    /// The microkernel of `pixels` pixels.
    pub(super) fn kernel(pixels: usize) -> TileKernel {
        match pixels {
            1 => tile::<crate::simd::Portable, 4, 1, 0>,
            2 => tile::<crate::simd::Portable, 4, 2, 0>,
            _ => unreachable!("tiles have 1 or 2 pixels"),
        }
    }
}

/// The largest tile of an instruction set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    /// Output blocks of a panel.
    pub(crate) blocks: usize,
    /// Pixels.
    pub(crate) pixels: usize,
}

impl Geometry {
    pub(crate) fn of(isa: Isa) -> Self {
        let (blocks, pixels) = match isa {
            Isa::Avx512 => (2, 14),
            Isa::Avx2 | Isa::Neon => (1, 6),
            Isa::Portable => (1, 2),
        };
        Self { blocks, pixels }
    }
}

/// The microkernel for a panel of `blocks` output blocks and a tile of `pixels` pixels.
pub(crate) fn kernel(isa: Isa, blocks: usize, pixels: usize, stride: usize) -> TileKernel {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => avx512::kernel(blocks, pixels, stride),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::kernel(2 * blocks, pixels, stride),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => neon::kernel(4 * blocks, pixels, stride),
        _ => portable::kernel(pixels),
    }
}

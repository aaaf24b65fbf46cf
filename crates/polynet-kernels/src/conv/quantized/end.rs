//! What becomes of sums of products of bytes: scales, biases, sums with another map, roundings.

use crate::conv::tile::rectified;
use crate::element::{Element, PerElement};
use crate::layout::{BLOCK, Shared};
use crate::simd::{ByteProducts, Bytes};
use half::bf16;

/// What becomes of the sums of an output block. Null pointers are skipped. Those of no type point to the
/// elements that the tile's end is compiled for, so that what makes the sums is compiled once for all.
#[derive(Clone, Copy, Debug)]
pub(in crate::conv) struct Target {
    pub(in crate::conv) value: *mut (),
    pub(in crate::conv) value_bytes: *mut u8,
    /// What is added to `scale ·` the result.
    pub(in crate::conv) addend: *const (),
    pub(in crate::conv) sum: *mut (),
    pub(in crate::conv) sum_bytes: *mut u8,
    /// What value and sum are multiplied with before they are rounded to bytes.
    pub(in crate::conv) per_step: [f32; 2],
}

impl Target {
    pub(in crate::conv) const NONE: Self = Self {
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
pub(in crate::conv) struct Epilogue {
    /// The factor of the result in the sum.
    pub(in crate::conv) scale: f32,
    pub(in crate::conv) relu: [bool; 2],
}

/// Some output blocks of neighbouring pixels.
pub(in crate::conv) struct Outputs<'a> {
    /// A lane each.
    pub(in crate::conv) scales: *const f32,
    pub(in crate::conv) bias: *const f32,
    /// One for each block, at the first pixel.
    pub(in crate::conv) targets: &'a [Target],
    /// Bytes between neighbouring pixels of the maps of bytes; the others have a block.
    pub(in crate::conv) byte_stride: usize,
    pub(in crate::conv) epilogue: Epilogue,
}

impl Outputs<'_> {
    /// Whether `count` pixels of all maps lie in the memory.
    pub(in crate::conv) fn lie_in<E: Element>(
        &self,
        (bytes, floats): (Shared<'_, u8>, Shared<'_, E>),
        count: usize,
    ) -> bool {
        let is_written = |target: &Target| {
            let in_floats = [target.value.cast_const(), target.addend, target.sum];
            let in_bytes = [target.value_bytes, target.sum_bytes];
            let last_byte = (count - 1) * self.byte_stride + BLOCK;
            in_floats
                .iter()
                .all(|at| at.is_null() || floats.holds(at.cast(), count * BLOCK))
                && in_bytes
                    .iter()
                    .all(|at| at.is_null() || bytes.holds(*at, last_byte))
        };
        self.targets.iter().all(is_written)
    }
}

/// Sums of some lanes and pixels.
pub(in crate::conv) struct Sums {
    pub(in crate::conv) first: *const i32,
    /// From lane to lane, where vectors begin; those of a vector lie side by side.
    pub(in crate::conv) of_lane: usize,
    /// From pixel to pixel.
    pub(in crate::conv) of_pixel: usize,
    pub(in crate::conv) lanes: usize,
    /// Which of the outputs' the first one is.
    pub(in crate::conv) first_pixel: usize,
    pub(in crate::conv) pixels: usize,
}

/// What stores the outputs of some sums.
///
/// # Safety
/// The processor has the instruction set, and pointers are valid for the lanes and pixels, or null where they may be.
pub(in crate::conv) type End = unsafe fn(&Outputs<'_>, &Sums);

/// # Safety
/// As [`End`].
#[inline(always)]
unsafe fn store<S: Bytes, E: Element>(outputs: &Outputs<'_>, sums: &Sums) {
    let Epilogue { scale, relu } = outputs.epilogue;
    let (pixels, of_pixel, byte_stride) = (sums.pixels, sums.of_pixel, outputs.byte_stride);
    // SAFETY: by the contract.
    unsafe {
        let factor = S::splat(scale);
        for lane in (0..sums.lanes).step_by(S::LANES) {
            let target = outputs.targets.get_unchecked(lane / BLOCK);
            let scale = S::load(outputs.scales.add(lane));
            let bias = S::load(outputs.bias.add(lane));
            let first = sums.first_pixel * BLOCK + lane % BLOCK;
            let first_byte = sums.first_pixel * byte_stride + lane % BLOCK;
            let sums = sums.first.add(lane * sums.of_lane);
            if !target.value_bytes.is_null() {
                // What is negative becomes 0 by itself, and the step is a part of scale and bias.
                let per_step = S::splat(target.per_step[0]);
                let (scale, bias) = (S::mul(scale, per_step), S::mul(bias, per_step));
                for px in 0..pixels {
                    let sum = S::to_f32(S::load_sums(sums.add(px * of_pixel)));
                    let to = target.value_bytes.add(first_byte + px * byte_stride);
                    S::store_bytes(to, S::fma(sum, scale, bias));
                }
            }
            if !target.value.is_null() {
                let to = target.value.cast::<E>();
                for px in 0..pixels {
                    let sum = S::to_f32(S::load_sums(sums.add(px * of_pixel)));
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
                let sum = S::to_f32(S::load_sums(sums.add(px * of_pixel)));
                let base = S::add(bias, E::load::<S>(addend.add(place)));
                let total = rectified::<S>(S::fma(sum, scale, base), relu[1]);
                if !to.is_null() {
                    E::store::<S>(to.add(place), total);
                }
                if !target.sum_bytes.is_null() {
                    let to = target.sum_bytes.add(first_byte + px * byte_stride);
                    S::store_bytes(to, S::mul(total, per_step));
                }
            }
        }
    }
}

macro_rules! ends {
    ($($name:ident $set:ident $feature:literal),*) => {$(
        /// # Safety
        /// As [`End`].
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $feature)]
        unsafe fn $name<E: Element>(outputs: &Outputs<'_>, sums: &Sums) {
            // SAFETY: the caller's contract is the same.
            unsafe { store::<crate::simd::$set, E>(outputs, sums) }
        }
    )*};
}

ends!(
    end_avx512_bf16 Avx512Bf16 "avx512f,avx512bw,avx512bf16",
    end_avx512 Avx512 "avx512f,avx512bw",
    end_avx2 Avx2 "avx2,fma"
);

/// The elements that an end is compiled for.
struct EndOf(ByteProducts);

impl EndOf {
    fn end<E: Element>(self) -> End {
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
    type Of<E: 'static> = End;

    fn of_f32(self) -> End {
        self.end::<f32>()
    }

    fn of_bf16(self) -> End {
        self.end::<bf16>()
    }
}

/// What stores the outputs of sums, beside maps of `E`.
pub(in crate::conv) fn end<E: Element>(products: ByteProducts) -> End {
    E::choose(EndOf(products))
}

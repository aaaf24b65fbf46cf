//! Products of bytes: what quantized convolutions do with vectors.
//!
//! Every lane has a sum of whole numbers, and a product takes four inputs of 0…255 and four weights of
//! −127…127 to it. Sums are exact, so whatever multiplies gives the same bits.

#[cfg(target_arch = "x86_64")]
mod x86;

use super::portable::Portable;
use super::vector::Simd;

/// Inputs that one product takes together.
pub(crate) const BYTES_DEPTH: usize = 4;

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

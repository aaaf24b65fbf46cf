//! What kernels do with a vector, whatever its instruction set.

use half::bf16;

/// Channels of a block of a feature map: as many numbers as the largest vector has.
pub const BLOCK: usize = 16;

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
    /// Writes `2 · LANES` bf16 of two vectors, one behind the other, rounded as by [`Simd::store_bf16`].
    #[inline(always)]
    unsafe fn store_two_bf16(to: *mut bf16, [first, second]: [Self::V; 2]) {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            Self::store_bf16(to, first);
            Self::store_bf16(to.add(Self::LANES), second);
        }
    }
    /// Reads `2 · LANES` bf16.
    unsafe fn load_pairs(from: *const bf16) -> Self::Pairs;
    /// Reads 2 bf16 for all lanes.
    unsafe fn splat_pair(from: *const bf16) -> Self::Pairs;
    /// Reads `LANES` bf16 from each of two places: the pair of a lane has one of either.
    unsafe fn zip_pairs(first: *const bf16, second: *const bf16) -> Self::Pairs;
    /// Reads `LANES` bf16; the second of each pair is 0.
    unsafe fn zip_zeros(first: *const bf16) -> Self::Pairs;
    /// Writes `2 · LANES` bf16 as [`Simd::load_pairs`] reads them.
    unsafe fn write_pairs(to: *mut bf16, pairs: Self::Pairs);
    /// Writes `2 · LANES` bf16, rounded as by [`Simd::store_bf16`]: the pair of a lane has one of either vector.
    unsafe fn store_pairs(to: *mut bf16, first: Self::V, second: Self::V);
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

/// The most vectors of a block.
const MAX_VECTORS: usize = 4;

/// The vectors of a block; those that it has not are zeros.
///
/// # Safety
/// The processor has the instruction set, and the pointer is valid for a block.
#[inline(always)]
pub(crate) unsafe fn block_vectors<S: Simd>(from: *const f32) -> [S::V; MAX_VECTORS] {
    // SAFETY: by the contract.
    unsafe {
        let mut vectors = [S::splat(0.0); MAX_VECTORS];
        for (v, vector) in vectors.iter_mut().take(BLOCK / S::LANES).enumerate() {
            *vector = S::load(from.add(v * S::LANES));
        }
        vectors
    }
}

/// The operations on bf16 where the processor has none: pairs are two vectors, the first and the
/// second of each.
macro_rules! widened_pairs {
    () => {
        type Pairs = [Self::V; 2];

        #[inline(always)]
        unsafe fn load_bf16(from: *const half::bf16) -> Self::V {
            let mut lanes = [0.0_f32; crate::simd::vector::BLOCK];
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
            let mut lanes = [0.0_f32; crate::simd::vector::BLOCK];
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
            let mut lanes = [[0.0_f32; crate::simd::vector::BLOCK]; 2];
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
        unsafe fn zip_pairs(first: *const half::bf16, second: *const half::bf16) -> Self::Pairs {
            // SAFETY: the caller vouches for the pointers.
            unsafe { [Self::load_bf16(first), Self::load_bf16(second)] }
        }

        #[inline(always)]
        unsafe fn zip_zeros(first: *const half::bf16) -> Self::Pairs {
            // SAFETY: the caller vouches for the pointer.
            unsafe { [Self::load_bf16(first), Self::splat(0.0)] }
        }

        #[inline(always)]
        unsafe fn write_pairs(to: *mut half::bf16, [first, second]: Self::Pairs) {
            // SAFETY: the caller vouches for the pointer.
            unsafe { Self::store_pairs(to, first, second) }
        }

        #[inline(always)]
        unsafe fn store_pairs(to: *mut half::bf16, first: Self::V, second: Self::V) {
            for (index, v) in [first, second].into_iter().enumerate() {
                let mut lanes = [half::bf16::ZERO; crate::simd::vector::BLOCK];
                // SAFETY: 16 lanes hold a vector; the caller vouches for the pointer.
                unsafe {
                    Self::store_bf16(lanes.as_mut_ptr(), v);
                    for (lane, value) in lanes.iter().take(Self::LANES).enumerate() {
                        to.add(2 * lane + index).write(*value);
                    }
                }
            }
        }

        #[inline(always)]
        unsafe fn dot_pairs(a: Self::Pairs, b: Self::Pairs, c: Self::V) -> Self::V {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { Self::fma(a[1], b[1], Self::fma(a[0], b[0], c)) }
        }
    };
}

pub(crate) use widened_pairs;

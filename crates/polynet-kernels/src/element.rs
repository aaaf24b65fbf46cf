//! The numbers that feature maps are made of.

use crate::simd::Simd;
use half::bf16;

/// What an arena is made of: plain bytes of which all zeros are the number zero. Nobody else can
/// implement it.
pub trait Number: Sealed + Copy + Default + Send + Sync + std::fmt::Debug + 'static {}

/// Keeps [`Number`] to the types of this module.
pub trait Sealed {}

macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl Sealed for $number {}
        impl Number for $number {})*
    };
}

numbers!(f32, bf16, u8, i8);

/// A number of a feature map: `f32`, or [`bf16`] with half the bytes and twice the products.
///
/// Whatever the element, sums are made in `f32`.
pub trait Element: Lanes + Number {
    /// The nearest element.
    fn from_f32(value: f32) -> Self;
    /// The same number.
    fn to_f32(self) -> f32;
}

impl Element for f32 {
    fn from_f32(value: f32) -> Self {
        value
    }

    fn to_f32(self) -> f32 {
        self
    }
}

impl Element for bf16 {
    fn from_f32(value: f32) -> Self {
        Self::from_f32(value)
    }

    fn to_f32(self) -> f32 {
        self.to_f32()
    }
}

/// What kernels do with an element. Nobody else can implement it.
///
/// # Safety
/// Of its functions: the processor has the instruction set, and pointers are valid for what is read
/// or written.
pub trait Lanes: Number {
    /// Channels of a sum that one product takes together.
    const DEPTH: usize;
    /// `LANES` times `DEPTH` elements.
    type Operand<S: Simd>: Copy;

    /// Reads `LANES` elements.
    unsafe fn load<S: Simd>(from: *const Self) -> S::V;
    /// Writes `LANES` elements.
    unsafe fn store<S: Simd>(to: *mut Self, v: S::V);
    /// Writes `2 · LANES` elements of two vectors, one behind the other.
    unsafe fn store_two<S: Simd>(to: *mut Self, vectors: [S::V; 2]);
    /// Reads `LANES · DEPTH` weights.
    unsafe fn weights<S: Simd>(from: *const Self) -> Self::Operand<S>;
    /// Reads `DEPTH` inputs, the same for every lane.
    unsafe fn inputs<S: Simd>(from: *const Self) -> Self::Operand<S>;
    /// Reads `LANES` elements of each of `DEPTH` pixels that lie `stride` apart.
    unsafe fn pixels<S: Simd>(from: *const Self, stride: usize) -> Self::Operand<S>;
    /// Reads `LANES` elements of one pixel, with zeros for the pixels after it.
    unsafe fn last_pixel<S: Simd>(from: *const Self) -> Self::Operand<S>;
    /// Writes `LANES · DEPTH` elements as [`Lanes::weights`] reads them.
    unsafe fn write<S: Simd>(to: *mut Self, operand: Self::Operand<S>);
    /// Writes `LANES · DEPTH` weights: in every lane an element of each of the first `DEPTH` vectors.
    unsafe fn store_weights<S: Simd>(to: *mut Self, channels: [S::V; 2]);
    /// Adds the products of weights and inputs to the sum of every lane.
    unsafe fn multiply_add<S: Simd>(
        weights: Self::Operand<S>,
        inputs: Self::Operand<S>,
        sums: S::V,
    ) -> S::V;
    /// What a choice gives for this element.
    fn choose<C: PerElement>(choice: C) -> C::Of<Self>;
}

/// What is made otherwise for each element, by modules above this one.
pub trait PerElement {
    /// What is made.
    type Of<E: 'static>;

    /// Makes it for `f32`.
    fn of_f32(self) -> Self::Of<f32>;
    /// Makes it for [`bf16`].
    fn of_bf16(self) -> Self::Of<bf16>;
}

impl Lanes for f32 {
    const DEPTH: usize = 1;
    type Operand<S: Simd> = S::V;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> S::V {
        // SAFETY: by the contract.
        unsafe { S::load(from) }
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(to: *mut Self, v: S::V) {
        // SAFETY: by the contract.
        unsafe { S::store(to, v) }
    }

    #[inline(always)]
    unsafe fn store_two<S: Simd>(to: *mut Self, [first, second]: [S::V; 2]) {
        // SAFETY: by the contract.
        unsafe {
            S::store(to, first);
            S::store(to.add(S::LANES), second);
        }
    }

    #[inline(always)]
    unsafe fn weights<S: Simd>(from: *const Self) -> S::V {
        // SAFETY: by the contract.
        unsafe { S::load(from) }
    }

    #[inline(always)]
    unsafe fn inputs<S: Simd>(from: *const Self) -> S::V {
        // SAFETY: by the contract.
        unsafe { S::splat(*from) }
    }

    #[inline(always)]
    unsafe fn pixels<S: Simd>(from: *const Self, _: usize) -> S::V {
        // SAFETY: by the contract.
        unsafe { S::load(from) }
    }

    #[inline(always)]
    unsafe fn last_pixel<S: Simd>(from: *const Self) -> S::V {
        // SAFETY: by the contract.
        unsafe { S::load(from) }
    }

    #[inline(always)]
    unsafe fn write<S: Simd>(to: *mut Self, operand: S::V) {
        // SAFETY: by the contract.
        unsafe { S::store(to, operand) }
    }

    #[inline(always)]
    unsafe fn store_weights<S: Simd>(to: *mut Self, [channel, _]: [S::V; 2]) {
        // SAFETY: by the contract.
        unsafe { S::store(to, channel) }
    }

    #[inline(always)]
    unsafe fn multiply_add<S: Simd>(weights: S::V, inputs: S::V, sums: S::V) -> S::V {
        // SAFETY: by the contract.
        unsafe { S::fma(weights, inputs, sums) }
    }

    fn choose<C: PerElement>(choice: C) -> C::Of<Self> {
        choice.of_f32()
    }
}

impl Lanes for bf16 {
    const DEPTH: usize = 2;
    type Operand<S: Simd> = S::Pairs;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> S::V {
        // SAFETY: by the contract.
        unsafe { S::load_bf16(from) }
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(to: *mut Self, v: S::V) {
        // SAFETY: by the contract.
        unsafe { S::store_bf16(to, v) }
    }

    #[inline(always)]
    unsafe fn store_two<S: Simd>(to: *mut Self, vectors: [S::V; 2]) {
        // SAFETY: by the contract.
        unsafe { S::store_two_bf16(to, vectors) }
    }

    #[inline(always)]
    unsafe fn weights<S: Simd>(from: *const Self) -> S::Pairs {
        // SAFETY: by the contract.
        unsafe { S::load_pairs(from) }
    }

    #[inline(always)]
    unsafe fn inputs<S: Simd>(from: *const Self) -> S::Pairs {
        // SAFETY: by the contract.
        unsafe { S::splat_pair(from) }
    }

    #[inline(always)]
    unsafe fn pixels<S: Simd>(from: *const Self, stride: usize) -> S::Pairs {
        // SAFETY: by the contract.
        unsafe { S::zip_pairs(from, from.add(stride)) }
    }

    #[inline(always)]
    unsafe fn last_pixel<S: Simd>(from: *const Self) -> S::Pairs {
        // SAFETY: by the contract.
        unsafe { S::zip_zeros(from) }
    }

    #[inline(always)]
    unsafe fn write<S: Simd>(to: *mut Self, operand: S::Pairs) {
        // SAFETY: by the contract.
        unsafe { S::write_pairs(to, operand) }
    }

    #[inline(always)]
    unsafe fn store_weights<S: Simd>(to: *mut Self, [first, second]: [S::V; 2]) {
        // SAFETY: by the contract.
        unsafe { S::store_pairs(to, first, second) }
    }

    #[inline(always)]
    unsafe fn multiply_add<S: Simd>(weights: S::Pairs, inputs: S::Pairs, sums: S::V) -> S::V {
        // SAFETY: by the contract.
        unsafe { S::dot_pairs(weights, inputs, sums) }
    }

    fn choose<C: PerElement>(choice: C) -> C::Of<Self> {
        choice.of_bf16()
    }
}

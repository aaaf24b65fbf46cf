//! The transforms along one axis of a tile.

use crate::conv::toom::Toom;
use crate::element::Element;
use crate::layout::BLOCK;
use crate::simd::Simd;

/// A transform along one axis.
pub(super) trait Transform: Copy + Sync {
    /// Products of a tile.
    const POINTS: usize;
    /// Outputs of a tile.
    const OUTPUTS: usize;

    fn new() -> Self;

    /// # Safety
    /// As [`Toom::input`].
    unsafe fn input<S: Simd, E: Element>(
        &self,
        d: *const E,
        stride: usize,
        to: *mut f32,
        to_stride: usize,
    );

    /// # Safety
    /// As [`Toom::output`].
    unsafe fn output<S: Simd>(&self, m: *const f32, stride: usize, to: *mut f32, to_stride: usize);

    /// # Safety
    /// As [`Toom::output_gradient`].
    unsafe fn output_gradient<S: Simd, E: Element>(
        &self,
        y: *const E,
        stride: usize,
        to: *mut f32,
        to_stride: usize,
    );
}

/// No transform, for an axis along which the kernel has one tap.
#[derive(Clone, Copy)]
pub(super) struct Identity;

impl Transform for Identity {
    const POINTS: usize = 1;
    const OUTPUTS: usize = 1;

    fn new() -> Self {
        Self
    }

    #[inline(always)]
    unsafe fn input<S: Simd, E: Element>(&self, d: *const E, _: usize, to: *mut f32, _: usize) {
        // SAFETY: by the contract.
        unsafe { S::store(to, E::load::<S>(d)) }
    }

    #[inline(always)]
    unsafe fn output<S: Simd>(&self, m: *const f32, _: usize, to: *mut f32, _: usize) {
        // SAFETY: by the contract.
        unsafe { S::store(to, S::load(m)) }
    }

    #[inline(always)]
    unsafe fn output_gradient<S: Simd, E: Element>(
        &self,
        y: *const E,
        _: usize,
        to: *mut f32,
        _: usize,
    ) {
        // SAFETY: by the contract.
        unsafe { S::store(to, E::load::<S>(y)) }
    }
}

/// `M` outputs from `2K + 2` points.
#[derive(Clone, Copy)]
pub(super) struct Outputs<const K: usize, const M: usize>(Toom<K>);

impl<const K: usize, const M: usize> Transform for Outputs<K, M> {
    const POINTS: usize = 2 * K + 2;
    const OUTPUTS: usize = M;

    fn new() -> Self {
        Self(Toom::new())
    }

    #[inline(always)]
    unsafe fn input<S: Simd, E: Element>(
        &self,
        d: *const E,
        stride: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        // SAFETY: by the contract.
        unsafe { self.0.input::<S, E>(d, stride, to, to_stride) }
    }

    #[inline(always)]
    unsafe fn output<S: Simd>(&self, m: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: by the contract.
        unsafe { self.0.output::<S, M>(m, stride, to, to_stride) }
    }

    #[inline(always)]
    unsafe fn output_gradient<S: Simd, E: Element>(
        &self,
        y: *const E,
        stride: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        // SAFETY: by the contract.
        unsafe {
            self.0.output_gradient::<S, E, M>(y, stride, to, to_stride);
        }
    }
}

pub(super) type SmallThree = Outputs<1, 2>;
pub(super) type Three = Outputs<2, 4>;
pub(super) type Seven = Outputs<4, 4>;

/// The most points of a tile.
pub(super) const MAX_POINTS: usize = 36;

/// Room for the vectors of a tile.
#[repr(align(64))]
pub(super) struct Vectors(pub(super) [f32; MAX_POINTS * BLOCK]);

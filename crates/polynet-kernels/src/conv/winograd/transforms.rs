//! The transforms along an axis, products on the way to the result, and both compiled for every shape and
//! instruction set.

use super::super::Stores;
use super::super::toom::Toom;
use super::lift::{Inputs, Lift, Lifting, OutputGradients};
use super::shape::Shape;
use super::{Job, Scratch};
use crate::element::Element;
use crate::layout::{BLOCK, View};
use crate::simd::{Isa, Simd};

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
struct Identity;

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
struct Outputs<const K: usize, const M: usize>(Toom<K>);

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

type SmallThree = Outputs<1, 2>;
type Three = Outputs<2, 4>;
type Seven = Outputs<4, 4>;

/// The most points of a tile.
pub(super) const MAX_POINTS: usize = 36;

/// Room for the vectors of a tile.
#[repr(align(64))]
pub(super) struct Vectors(pub(super) [f32; MAX_POINTS * BLOCK]);

/// # Safety
/// The processor has the instruction set; the views lie in the arena, and the scratch memory holds
/// what its tiles need.
#[inline(always)]
unsafe fn transform_outputs<S: Simd, E: Element, R: Transform, C: Transform>(
    job: &Job<'_, E>,
    s: &Scratch,
) {
    let (by_row, by_column) = (R::new(), C::new());
    let Stores { value, sum } = job.stores;
    let segments = value.map_or_else(|| sum.map_or(&[][..], |sum| sum.to), |value| value.to);
    let blocks: usize = segments.iter().map(View::blocks).sum();
    let point_stride = blocks * s.count * BLOCK;
    let bias = job.winograd.bias.as_slice().as_ptr();
    let mut rows = Vectors([0.0; MAX_POINTS * BLOCK]);
    let mut results = Vectors([0.0; MAX_POINTS * BLOCK]);
    let mut first_block = 0;
    for (segment, view) in segments.iter().enumerate() {
        for tile in 0..s.count {
            let outputs = [R::OUTPUTS, C::OUTPUTS];
            let [image, row, column] = job.grid.place(s.first + tile, outputs);
            for block in 0..view.blocks() {
                let out_block = first_block + block;
                for lane in (0..BLOCK).step_by(S::LANES) {
                    // SAFETY: by the contract; places outside the map are not written.
                    unsafe {
                        let from = s.products.add((out_block * s.count + tile) * BLOCK + lane);
                        let middle = rows.0.as_mut_ptr();
                        let to = results.0.as_mut_ptr();
                        for r in 0..R::POINTS {
                            let from = from.add(r * C::POINTS * point_stride);
                            let to = middle.add(r * C::OUTPUTS * BLOCK);
                            by_column.output::<S>(from, point_stride, to, BLOCK);
                        }
                        for c in 0..C::OUTPUTS {
                            let stride = C::OUTPUTS * BLOCK;
                            by_row.output::<S>(
                                middle.add(c * BLOCK),
                                stride,
                                to.add(c * BLOCK),
                                stride,
                            );
                        }
                        let bias = S::load(bias.add(out_block * BLOCK + lane));
                        for r in 0..R::OUTPUTS.min(job.size[0] - row) {
                            for c in 0..C::OUTPUTS.min(job.size[1] - column) {
                                let result = S::load(to.add((r * C::OUTPUTS + c) * BLOCK));
                                let result = S::add(result, bias);
                                let at = |view: &View| {
                                    job.memory
                                        .add(view.at(image, block, row + r, column + c) + lane)
                                };
                                if let Some(value) = value {
                                    let value_at = at(&value.to[segment]);
                                    E::store::<S>(value_at, rectified::<S>(result, value.relu));
                                }
                                if let Some(sum) = sum {
                                    let addend = E::load::<S>(at(&sum.addend[segment]));
                                    let total = S::fma(S::splat(sum.scale), result, addend);
                                    let sum_at = at(&sum.to[segment]);
                                    E::store::<S>(sum_at, rectified::<S>(total, sum.relu));
                                }
                            }
                        }
                    }
                }
            }
        }
        first_block += view.blocks();
    }
}

/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn rectified<S: Simd>(value: S::V, relu: bool) -> S::V {
    if relu {
        // SAFETY: by the contract.
        unsafe { S::max(S::splat(0.0), value) }
    } else {
        value
    }
}

/// What lifts some tiles of a map.
pub(super) type LiftFn<E> = unsafe fn(&Lifting<'_, E>);
/// What makes results of products.
pub(super) type OutputFn<E> = unsafe fn(&Job<'_, E>, &Scratch);

/// The functions for a shape, on an instruction set.
pub(super) struct Transforms<E: Element> {
    pub(super) inputs: LiftFn<E>,
    pub(super) output_gradients: LiftFn<E>,
    pub(super) outputs: OutputFn<E>,
}

/// Compiles the transforms of every shape for an instruction set.
macro_rules! transforms {
    ($name:ident, $simd:ty, $feature:meta) => {
        mod $name {
            use super::*;

            /// # Safety
            /// As [`lift`](super::super::lift::lift).
            #[$feature]
            unsafe fn lift<E: Element, R: Lift, C: Lift>(job: &Lifting<'_, E>) {
                // SAFETY: the caller's contract is the same.
                unsafe { super::super::lift::lift::<$simd, E, R, C>(job) }
            }

            /// # Safety
            /// As [`transform_outputs`].
            #[$feature]
            unsafe fn outputs<E: Element, R: Transform, C: Transform>(
                job: &Job<'_, E>,
                scratch: &Scratch,
            ) {
                // SAFETY: the caller's contract is the same.
                unsafe { transform_outputs::<$simd, E, R, C>(job, scratch) }
            }

            fn by<E: Element, R: Transform, C: Transform>() -> Transforms<E> {
                Transforms {
                    inputs: lift::<E, Inputs<R>, Inputs<C>>,
                    output_gradients: lift::<E, OutputGradients<R>, OutputGradients<C>>,
                    outputs: outputs::<E, R, C>,
                }
            }

            pub(super) fn of<E: Element>(shape: Shape) -> Transforms<E> {
                match shape {
                    Shape::Row3 => by::<E, Identity, Three>(),
                    Shape::Column3 => by::<E, Three, Identity>(),
                    Shape::Square3 => by::<E, Three, Three>(),
                    Shape::SmallSquare3 => by::<E, SmallThree, SmallThree>(),
                    Shape::Row7 => by::<E, Identity, Seven>(),
                    Shape::Column7 => by::<E, Seven, Identity>(),
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
transforms!(
    avx512,
    crate::simd::Avx512,
    target_feature(enable = "avx512f")
);
#[cfg(target_arch = "x86_64")]
transforms!(avx2, crate::simd::Avx2, target_feature(enable = "avx2,fma"));
#[cfg(target_arch = "aarch64")]
transforms!(neon, crate::simd::Neon, inline);
transforms!(portable, crate::simd::Portable, inline);

/// The transforms of a shape on an instruction set.
pub(super) fn transforms<E: Element>(shape: Shape, isa: Isa) -> Transforms<E> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16 | Isa::Avx512 => avx512::of(shape),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::of(shape),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => neon::of(shape),
        _ => portable::of(shape),
    }
}

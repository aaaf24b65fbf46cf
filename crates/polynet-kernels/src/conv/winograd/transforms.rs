//! The transforms of tiles: their inputs on the way to the products, the products on the way to the
//! result.

use super::super::toom::Toom;
use super::{Job, Scratch, Shape};
use crate::element::Element;
use crate::layout::{BLOCK, View};
use crate::simd::{Isa, Simd};

/// A transform along one axis.
trait Transform: Copy + Sync {
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
}

type SmallThree = Outputs<1, 2>;
type Three = Outputs<2, 4>;
type Seven = Outputs<4, 4>;

/// The most points of a tile.
const MAX_POINTS: usize = 36;

/// Room for the vectors of a tile.
#[repr(align(64))]
struct Vectors([f32; MAX_POINTS * BLOCK]);

/// # Safety
/// The processor has the instruction set; the views lie in the arena, and the scratch memory holds
/// what its tiles need.
#[inline(always)]
unsafe fn transform_inputs<S: Simd, E: Element, R: Transform, C: Transform>(
    job: &Job<'_, E>,
    s: &Scratch,
) {
    let (by_row, by_column) = (R::new(), C::new());
    let padding = job.winograd.window.padding;
    let blocks: usize = job.inputs.iter().map(View::blocks).sum();
    let point_stride = blocks * s.count * BLOCK;
    let mut gathered = Vectors([0.0; MAX_POINTS * BLOCK]);
    let mut rows = Vectors([0.0; MAX_POINTS * BLOCK]);
    let mut first_block = 0;
    for view in job.inputs {
        for tile in 0..s.count {
            let [image, row, column] = job.place(s.first + tile, [R::OUTPUTS, C::OUTPUTS]);
            let top = row as isize - padding[0] as isize;
            let left = column as isize - padding[1] as isize;
            let is_inside = top >= 0
                && left >= 0
                && top as usize + R::POINTS <= view.height
                && left as usize + C::POINTS <= view.width;
            for block in 0..view.blocks() {
                // SAFETY: by the contract; places outside the map are not read.
                unsafe {
                    let plane = job.memory.add(view.at(image, block, 0, 0)).cast_const();
                    for lane in (0..BLOCK).step_by(S::LANES) {
                        let to = s
                            .inputs
                            .add(((first_block + block) * s.count + tile) * BLOCK + lane);
                        let middle = rows.0.as_mut_ptr();
                        let place = |r: usize| {
                            if R::POINTS == 1 {
                                (to, point_stride)
                            } else {
                                (middle.add(r * C::POINTS * BLOCK), BLOCK)
                            }
                        };
                        if is_inside {
                            let first = top as usize * view.row_stride() + left as usize * BLOCK;
                            let d = plane.add(first + lane);
                            for r in 0..R::POINTS {
                                let (to, stride) = place(r);
                                let d = d.add(r * view.row_stride());
                                by_column.input::<S, E>(d, BLOCK, to, stride);
                            }
                        } else {
                            let d = gathered.0.as_mut_ptr();
                            let size = [R::POINTS, C::POINTS];
                            gather::<S, E>(view, plane.add(lane), [top, left], size, d);
                            for r in 0..R::POINTS {
                                let (to, stride) = place(r);
                                let d = d.add(r * C::POINTS * BLOCK).cast_const();
                                by_column.input::<S, f32>(d, BLOCK, to, stride);
                            }
                        }
                        if R::POINTS > 1 {
                            for c in 0..C::POINTS {
                                let from = middle.add(c * BLOCK);
                                let to = to.add(c * point_stride);
                                let strides = [C::POINTS * BLOCK, C::POINTS * point_stride];
                                by_row.input::<S, f32>(
                                    from.cast_const(),
                                    strides[0],
                                    to,
                                    strides[1],
                                );
                            }
                        }
                    }
                }
            }
        }
        first_block += view.blocks();
    }
}

/// Copies a tile's vectors, with zeros for what lies outside the map.
///
/// # Safety
/// As [`transform_inputs`]; `to` holds `rows · columns` vectors, 16 elements apart.
#[inline(always)]
unsafe fn gather<S: Simd, E: Element>(
    view: &View,
    plane: *const E,
    [top, left]: [isize; 2],
    [rows, columns]: [usize; 2],
    to: *mut f32,
) {
    for r in 0..rows {
        let y = top + r as isize;
        for c in 0..columns {
            let x = left + c as isize;
            let inside =
                (0..view.height as isize).contains(&y) && (0..view.width as isize).contains(&x);
            // SAFETY: by the contract; the place was checked.
            unsafe {
                let value = if inside {
                    E::load::<S>(plane.add(y as usize * view.row_stride() + x as usize * BLOCK))
                } else {
                    S::splat(0.0)
                };
                S::store(to.add((r * columns + c) * BLOCK), value);
            }
        }
    }
}

/// # Safety
/// As [`transform_inputs`].
#[inline(always)]
unsafe fn transform_outputs<S: Simd, E: Element, R: Transform, C: Transform>(
    job: &Job<'_, E>,
    s: &Scratch,
) {
    let (by_row, by_column) = (R::new(), C::new());
    let blocks: usize = job.value.to.iter().map(View::blocks).sum();
    let point_stride = blocks * s.count * BLOCK;
    let mut rows = Vectors([0.0; MAX_POINTS * BLOCK]);
    let mut results = Vectors([0.0; MAX_POINTS * BLOCK]);
    let mut first_block = 0;
    for view in job.value.to {
        for tile in 0..s.count {
            let [image, row, column] = job.place(s.first + tile, [R::OUTPUTS, C::OUTPUTS]);
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
                        let bias = S::load(
                            job.winograd
                                .bias
                                .as_slice()
                                .as_ptr()
                                .add(out_block * BLOCK + lane),
                        );
                        for r in 0..R::OUTPUTS.min(job.size[0] - row) {
                            for c in 0..C::OUTPUTS.min(job.size[1] - column) {
                                let value = S::load(to.add((r * C::OUTPUTS + c) * BLOCK));
                                let mut value = S::add(value, bias);
                                if job.value.relu {
                                    value = S::max(S::splat(0.0), value);
                                }
                                let place = view.at(image, block, row + r, column + c) + lane;
                                E::store::<S>(job.memory.add(place), value);
                            }
                        }
                    }
                }
            }
        }
        first_block += view.blocks();
    }
}

pub(super) type TransformFn<E> = unsafe fn(&Job<'_, E>, &Scratch);

/// Compiles a transform for every shape of an instruction set.
macro_rules! transforms {
    ($name:ident, $simd:ty, $feature:meta) => {
        mod $name {
            use super::*;

            /// # Safety
            /// As [`transform_inputs`].
            #[$feature]
            unsafe fn inputs<E: Element, R: Transform, C: Transform>(
                job: &Job<'_, E>,
                scratch: &Scratch,
            ) {
                // SAFETY: the caller's contract is the same.
                unsafe { transform_inputs::<$simd, E, R, C>(job, scratch) }
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

            pub(super) fn inputs_of<E: Element>(shape: Shape) -> TransformFn<E> {
                match shape {
                    Shape::Row3 => inputs::<E, Identity, Three>,
                    Shape::Column3 => inputs::<E, Three, Identity>,
                    Shape::Square3 => inputs::<E, Three, Three>,
                    Shape::SmallSquare3 => inputs::<E, SmallThree, SmallThree>,
                    Shape::Row7 => inputs::<E, Identity, Seven>,
                    Shape::Column7 => inputs::<E, Seven, Identity>,
                }
            }

            pub(super) fn outputs_of<E: Element>(shape: Shape) -> TransformFn<E> {
                match shape {
                    Shape::Row3 => outputs::<E, Identity, Three>,
                    Shape::Column3 => outputs::<E, Three, Identity>,
                    Shape::Square3 => outputs::<E, Three, Three>,
                    Shape::SmallSquare3 => outputs::<E, SmallThree, SmallThree>,
                    Shape::Row7 => outputs::<E, Identity, Seven>,
                    Shape::Column7 => outputs::<E, Seven, Identity>,
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

pub(super) fn transform_inputs_of<E: Element>(shape: Shape, isa: Isa) -> TransformFn<E> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16 | Isa::Avx512 => avx512::inputs_of(shape),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::inputs_of(shape),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => neon::inputs_of(shape),
        _ => portable::inputs_of(shape),
    }
}

pub(super) fn transform_outputs_of<E: Element>(shape: Shape, isa: Isa) -> TransformFn<E> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16 | Isa::Avx512 => avx512::outputs_of(shape),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::outputs_of(shape),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => neon::outputs_of(shape),
        _ => portable::outputs_of(shape),
    }
}

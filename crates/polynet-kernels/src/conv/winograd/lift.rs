//! Tiles of a map on the way to the points: those of the inputs, and of the result's gradients.

use super::axis::{MAX_POINTS, Transform, Vectors};
use super::shape::TileGrid;
use crate::element::Element;
use crate::layout::{BLOCK, Shared, View};
use crate::simd::Simd;

/// What becomes the points of a tile, along one axis.
pub(super) trait Lift: Copy {
    /// Vectors of a map.
    const FROM: usize;
    const POINTS: usize;
    /// Outputs of a tile.
    const OUTPUTS: usize;

    fn new() -> Self;

    /// # Safety
    /// As [`Transform::input`].
    unsafe fn lift<S: Simd, E: Element>(
        &self,
        from: *const E,
        stride: usize,
        to: *mut f32,
        to_stride: usize,
    );
}

/// The inputs of a tile, which reach beyond it.
#[derive(Clone, Copy)]
pub(super) struct Inputs<T>(T);

impl<T: Transform> Lift for Inputs<T> {
    const FROM: usize = T::POINTS;
    const POINTS: usize = T::POINTS;
    const OUTPUTS: usize = T::OUTPUTS;

    fn new() -> Self {
        Self(T::new())
    }

    #[inline(always)]
    unsafe fn lift<S: Simd, E: Element>(
        &self,
        from: *const E,
        stride: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        // SAFETY: by the contract.
        unsafe { self.0.input::<S, E>(from, stride, to, to_stride) }
    }
}

/// The gradients of a tile's outputs.
#[derive(Clone, Copy)]
pub(super) struct OutputGradients<T>(T);

impl<T: Transform> Lift for OutputGradients<T> {
    const FROM: usize = T::OUTPUTS;
    const POINTS: usize = T::POINTS;
    const OUTPUTS: usize = T::OUTPUTS;

    fn new() -> Self {
        Self(T::new())
    }

    #[inline(always)]
    unsafe fn lift<S: Simd, E: Element>(
        &self,
        from: *const E,
        stride: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        // SAFETY: by the contract.
        unsafe {
            self.0.output_gradient::<S, E>(from, stride, to, to_stride);
        }
    }
}

/// Some tiles of a map, and the memory for their points: `[point][block][tile][16]`.
pub(super) struct Lifting<'a, E> {
    pub(super) memory: Shared<'a, E>,
    pub(super) views: &'a [View],
    /// Rows and columns of a tile's first vector before its first output.
    pub(super) padding: [usize; 2],
    pub(super) grid: TileGrid,
    /// The first tile, and how many.
    pub(super) first: usize,
    pub(super) count: usize,
    /// For the first tile.
    pub(super) to: *mut f32,
    /// Tiles of a block in that memory.
    pub(super) room: usize,
}

/// # Safety
/// The processor has the instruction set; the views lie in the memory, and there is room for the points.
#[inline(always)]
pub(super) unsafe fn lift<S: Simd, E: Element, R: Lift, C: Lift>(job: &Lifting<'_, E>) {
    let (by_row, by_column) = (R::new(), C::new());
    let blocks: usize = job.views.iter().map(View::blocks).sum();
    let point_stride = blocks * job.room * BLOCK;
    let mut gathered = Vectors([0.0; MAX_POINTS * BLOCK]);
    let mut rows = Vectors([0.0; MAX_POINTS * BLOCK]);
    let mut first_block = 0;
    for view in job.views {
        for tile in 0..job.count {
            let [image, row, column] = job.grid.place(job.first + tile, [R::OUTPUTS, C::OUTPUTS]);
            let top = row as isize - job.padding[0] as isize;
            let left = column as isize - job.padding[1] as isize;
            let is_inside = top >= 0
                && left >= 0
                && top as usize + R::FROM <= view.height
                && left as usize + C::FROM <= view.width;
            for block in 0..view.blocks() {
                // SAFETY: by the contract; places outside the map are not read.
                unsafe {
                    let plane = job.memory.plane(view, image, block).cast_const();
                    for lane in (0..BLOCK).step_by(S::LANES) {
                        let at = ((first_block + block) * job.room + tile) * BLOCK + lane;
                        let to = job.to.add(at);
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
                            for r in 0..R::FROM {
                                let (to, stride) = place(r);
                                let d = d.add(r * view.row_stride());
                                by_column.lift::<S, E>(d, BLOCK, to, stride);
                            }
                        } else {
                            let d = gathered.0.as_mut_ptr();
                            let size = [R::FROM, C::FROM];
                            gather::<S, E>(view, plane.add(lane), [top, left], size, d);
                            for r in 0..R::FROM {
                                let (to, stride) = place(r);
                                let d = d.add(r * C::FROM * BLOCK).cast_const();
                                by_column.lift::<S, f32>(d, BLOCK, to, stride);
                            }
                        }
                        if R::POINTS > 1 {
                            for c in 0..C::POINTS {
                                let from = middle.add(c * BLOCK).cast_const();
                                let to = to.add(c * point_stride);
                                let strides = [C::POINTS * BLOCK, C::POINTS * point_stride];
                                by_row.lift::<S, f32>(from, strides[0], to, strides[1]);
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
/// As [`lift`]; `to` holds `rows · columns` vectors, 16 elements apart.
#[inline(always)]
unsafe fn gather<S: Simd, E: Element>(
    view: &View,
    plane: *const E,
    [top, left]: [isize; 2],
    [rows, columns]: [usize; 2],
    to: *mut f32,
) {
    let zero = |from: usize, to_end: usize, r: usize| {
        for c in from..to_end {
            // SAFETY: by the contract.
            unsafe { S::store(to.add((r * columns + c) * BLOCK), S::splat(0.0)) }
        }
    };
    let inside = |first: isize, count: usize, of: usize| {
        [-first, of as isize - first].map(|place| place.clamp(0, count as isize) as usize)
    };
    let [first_row, last_row] = inside(top, rows, view.height);
    let [first_column, last_column] = inside(left, columns, view.width);
    for r in 0..rows {
        if !(first_row..last_row).contains(&r) {
            zero(0, columns, r);
            continue;
        }
        zero(0, first_column, r);
        let y = (top + r as isize) as usize * view.row_stride();
        for c in first_column..last_column {
            let x = (left + c as isize) as usize * BLOCK;
            // SAFETY: by the contract; the place lies in the map.
            unsafe {
                let value = E::load::<S>(plane.add(y + x));
                S::store(to.add((r * columns + c) * BLOCK), value);
            }
        }
        zero(last_column, columns, r);
    }
}

//! The gradients of pools.

use super::plane::{Plane, check_window, inside};
use crate::dispatch::dispatch;
use crate::element::Element;
use crate::layout::{Arena, BLOCK, Shared, View, clear_halo};
use crate::planes::{check_apart, check_single_blocks, for_planes};
use crate::simd::{Isa, Simd};
use crate::window::Window;
use std::cell::RefCell;

/// Adds the gradient of the input of a [`pool`](super::pool()) of means to `to`.
///
/// # Panics
/// As [`pool`](super::pool()).
pub fn mean_pool_gradient<E: Element>(
    isa: Isa,
    window: Window,
    arena: &mut Arena<E>,
    gradient: &View,
    to: &View,
) {
    check_apart(arena, &[gradient], to);
    check_single_blocks(&[to]);
    check_window(window, to, gradient);
    let memory = Shared::of(arena);
    for_planes(to, |image, block| {
        let plane = Plane {
            window,
            from: *gradient,
            // SAFETY: both views lie in the arena.
            source: unsafe { memory.plane(gradient, image, block) },
            to: *to,
            // SAFETY: as above.
            target: unsafe { memory.plane(to, image, block) },
        };
        let plane = &plane;
        // SAFETY: the planes lie in their arenas; what is written is one task's alone.
        unsafe { dispatch!(isa, gather_windows<E: Element>(plane: &Plane<E>)) }
    });
}

/// The windows along an axis that hold a place of a map.
fn windows_at(place: usize, axis: usize, window: &Window, count: usize) -> std::ops::Range<usize> {
    let (padded, stride) = (place + window.padding[axis], window.stride[axis]);
    let first = (padded + 1).saturating_sub(window.kernel[axis]);
    first.div_ceil(stride)..count.min(padded / stride + 1)
}

/// Every place is summed in `f32` and rounded once, however many windows hold it.
///
/// # Safety
/// As [`max_plane`](super::max_plane).
#[inline(always)]
unsafe fn gather_windows<S: Simd, E: Element>(plane: &Plane<E>) {
    let (gradient, to, window) = (plane.from, plane.to, &plane.window);
    for y in 0..to.height {
        let rows = windows_at(y, 0, window, gradient.height);
        for x in 0..to.width {
            let columns = windows_at(x, 1, window, gradient.width);
            for lane in (0..BLOCK).step_by(S::LANES) {
                // SAFETY: by the contract; rows and columns are those of windows.
                unsafe {
                    let place = plane.target.add(y * to.row_stride() + x * BLOCK + lane);
                    let mut sum = E::load::<S>(place);
                    for row in rows.clone() {
                        let height = inside(row, 0, window, to.height).len();
                        for column in columns.clone() {
                            let width = inside(column, 1, window, to.width).len();
                            let factor = S::splat(1.0 / (height * width) as f32);
                            let from = row * gradient.row_stride() + column * BLOCK + lane;
                            let g = E::load::<S>(plane.source.add(from));
                            sum = S::add(sum, S::mul(g, factor));
                        }
                    }
                    E::store::<S>(place, sum);
                }
            }
        }
    }
}

/// Adds the gradient of the input of a [`pool`](super::pool()) of maxima to `to`: that of a window goes to its largest element,
/// the first of equals in row-major order.
///
/// # Panics
/// As [`pool`](super::pool()).
pub fn max_pool_gradient<E: Element>(
    isa: Isa,
    window: Window,
    arena: &mut Arena<E>,
    (from, gradient): (&View, &View),
    to: &View,
) {
    check_apart(arena, &[from], to);
    check_apart(arena, &[gradient], to);
    check_single_blocks(&[to]);
    check_window(window, from, gradient);
    assert_eq!(from.size(), to.size(), "size");
    let memory = Shared::of(arena);
    for_planes(to, |image, block| {
        // SAFETY: the views lie in the arena.
        let [source, gradient_plane, target] =
            [from, gradient, to].map(|view| unsafe { memory.plane(view, image, block) });
        let plane = MaxPlane {
            window,
            views: [*from, *gradient, *to],
            source,
            gradient: gradient_plane,
            target,
        };
        let plane = &plane;
        // SAFETY: the planes lie in the arena; what is written is one task's alone.
        unsafe { dispatch!(isa, spread_to_maxima<E: Element>(plane: &MaxPlane<E>)) }
    });
}

/// A block of one image in the input of a pool of maxima, the gradient of its result and that of its input.
struct MaxPlane<E> {
    window: Window,
    /// In the order of the planes.
    views: [View; 3],
    source: *const E,
    gradient: *const E,
    target: *mut E,
}

thread_local! {
    /// The sums of a plane.
    static SUMS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Every place is summed in `f32` and rounded once, however many windows have it as their largest.
///
/// The sums are taken out of their cell: what a closure given to it does would be compiled for the least
/// of all processors.
///
/// # Safety
/// As [`max_plane`](super::max_plane).
#[inline(always)]
unsafe fn spread_to_maxima<S: Simd, E: Element>(plane: &MaxPlane<E>) {
    let [from, gradient, to] = plane.views;
    let mut sums = SUMS.take();
    sums.resize(to.height * to.width * BLOCK, 0.0);
    let sum_of = sums.as_mut_ptr();
    // SAFETY: by the contract; the sums are those of every place, and a window's pixels are inside the map.
    unsafe {
        for y in 0..to.height {
            for at in (0..to.width * BLOCK).step_by(S::LANES) {
                let before = E::load::<S>(plane.target.add(y * to.row_stride() + at));
                S::store(sum_of.add(y * to.width * BLOCK + at), before);
            }
        }
        for row in 0..gradient.height {
            let rows = inside(row, 0, &plane.window, from.height);
            for column in 0..gradient.width {
                let columns = inside(column, 1, &plane.window, from.width);
                let mut best = [f32::NEG_INFINITY; BLOCK];
                let mut place = [0_u32; BLOCK];
                for y in rows.clone() {
                    for x in columns.clone() {
                        let pixel = plane.source.add(y * from.row_stride() + x * BLOCK);
                        let values = widened::<S, E>(pixel);
                        let at = ((y * to.width + x) * BLOCK) as u32;
                        for lane in 0..BLOCK {
                            let is_larger = values[lane] > best[lane];
                            best[lane] = if is_larger { values[lane] } else { best[lane] };
                            place[lane] = if is_larger { at } else { place[lane] };
                        }
                    }
                }
                let pixel = plane
                    .gradient
                    .add(row * gradient.row_stride() + column * BLOCK);
                let g = widened::<S, E>(pixel);
                for lane in 0..BLOCK {
                    *sum_of.add(place[lane] as usize + lane) += g[lane];
                }
            }
        }
        for y in 0..to.height {
            for at in (0..to.width * BLOCK).step_by(S::LANES) {
                let sum = S::load(sum_of.add(y * to.width * BLOCK + at));
                E::store::<S>(plane.target.add(y * to.row_stride() + at), sum);
            }
        }
    }
    SUMS.set(sums);
}

/// A block of a pixel.
///
/// # Safety
/// The processor has the instruction set and the pointer is valid for a block.
#[inline(always)]
unsafe fn widened<S: Simd, E: Element>(pixel: *const E) -> [f32; BLOCK] {
    let mut values = [0.0; BLOCK];
    for lane in (0..BLOCK).step_by(S::LANES) {
        // SAFETY: by the contract.
        unsafe { S::store(values.as_mut_ptr().add(lane), E::load::<S>(pixel.add(lane))) };
    }
    values
}

/// The gradient of [`average_pool_into`](super::average_pool_into)'s input, written to `to`, or added to what is there if `add`.
///
/// # Panics
/// As [`average_pool_into`](super::average_pool_into).
pub fn average_pool_gradient<E: Element>(
    isa: Isa,
    (rows, gradient): (&Arena, &View),
    (arena, to): (&mut Arena<E>, &View),
    add: bool,
) {
    assert!(to.end() <= arena.len(), "the map lies in its arena");
    assert!(gradient.end() <= rows.len(), "the row lies in its arena");
    check_single_blocks(&[to, gradient]);
    assert_eq!(to.channels, gradient.channels, "channels");
    assert_eq!(
        (gradient.images, gradient.size()),
        (1, [1, to.images]),
        "size"
    );
    clear_halo(to, arena);
    let (rows, memory) = (Shared::read_only(rows), Shared::of(arena));
    for_planes(to, |image, block| {
        let spread = Spread {
            // SAFETY: the views lie in their arenas.
            source: unsafe { rows.at(gradient.at(0, block, 0, image), BLOCK) },
            factor: 1.0 / (to.height * to.width) as f32,
            to: *to,
            // SAFETY: as above.
            target: unsafe { memory.plane(to, image, block) },
            add,
        };
        let spread = &spread;
        // SAFETY: the planes lie in their arenas; what is written is one task's alone.
        unsafe { dispatch!(isa, spread_plane<E: Element>(spread: &Spread<E>)) }
    });
}

/// A mean's gradient on the way to the pixels of a plane.
struct Spread<E> {
    source: *const f32,
    factor: f32,
    to: View,
    target: *mut E,
    add: bool,
}

/// # Safety
/// As [`max_plane`](super::max_plane).
#[inline(always)]
unsafe fn spread_plane<S: Simd, E: Element>(spread: &Spread<E>) {
    let to = spread.to;
    for lane in (0..BLOCK).step_by(S::LANES) {
        // SAFETY: by the contract.
        unsafe {
            let value = S::mul(S::load(spread.source.add(lane)), S::splat(spread.factor));
            for row in 0..to.height {
                for column in 0..to.width {
                    let place = row * to.row_stride() + column * BLOCK + lane;
                    let place = spread.target.add(place);
                    let sum = match spread.add {
                        true => S::add(E::load::<S>(place), value),
                        false => value,
                    };
                    E::store::<S>(place, sum);
                }
            }
        }
    }
}

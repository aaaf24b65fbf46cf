//! Pools and their gradients.

mod gradient;
mod plane;

use crate::dispatch::dispatch;
use crate::element::Element;
use crate::layout::{Arena, BLOCK, Shared, View, clear_halo};
use crate::planes::{check_apart, for_planes};
use crate::simd::{Isa, Simd};
use crate::window::Window;
use plane::{Plane, check_window, inside};

pub use gradient::{average_pool_gradient, max_pool_gradient, mean_pool_gradient};

/// What a pool takes of a window; places outside the map are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// The largest element.
    Max,
    /// The mean: the border does not count.
    Mean,
}

/// The largest element or the mean of every window.
///
/// # Panics
/// If a view leaves the arena, channels or sizes do not fit, or a window holds no pixel.
pub fn pool<E: Element>(
    isa: Isa,
    pool: Pool,
    window: Window,
    arena: &mut Arena<E>,
    from: &View,
    to: &View,
) {
    check_apart(arena, &[from], to);
    check_window(window, from, to);
    clear_halo(to, arena);
    let memory = Shared::of(arena);
    for_planes(to, |image, block| {
        let plane = Plane {
            window,
            from: *from,
            // SAFETY: both views lie in the arena.
            source: unsafe { memory.plane(from, image, block) },
            to: *to,
            // SAFETY: as above.
            target: unsafe { memory.plane(to, image, block) },
        };
        let plane = &plane;
        // SAFETY: the planes lie in the arena; what is written is one task's alone.
        unsafe {
            match pool {
                Pool::Max => dispatch!(isa, max_plane<E: Element>(plane: &Plane<E>)),
                Pool::Mean => dispatch!(isa, window_means<E: Element>(plane: &Plane<E>)),
            }
        }
    });
}

/// # Safety
/// The processor has the instruction set and both planes lie in memory.
#[inline(always)]
unsafe fn max_plane<S: Simd, E: Element>(plane: &Plane<E>) {
    let (from, to) = (plane.from, plane.to);
    for row in 0..to.height {
        let rows = inside(row, 0, &plane.window, from.height);
        for column in 0..to.width {
            let columns = inside(column, 1, &plane.window, from.width);
            for lane in (0..BLOCK).step_by(S::LANES) {
                // SAFETY: by the contract; rows and columns are inside the map.
                unsafe {
                    let mut largest = S::splat(f32::NEG_INFINITY);
                    for y in rows.clone() {
                        for x in columns.clone() {
                            let place = y * from.row_stride() + x * from.pixel_stride() + lane;
                            largest = S::max(largest, E::load::<S>(plane.source.add(place)));
                        }
                    }
                    let place = row * to.row_stride() + column * to.pixel_stride() + lane;
                    E::store::<S>(plane.target.add(place), largest);
                }
            }
        }
    }
}

/// # Safety
/// As [`max_plane`].
#[inline(always)]
unsafe fn window_means<S: Simd, E: Element>(plane: &Plane<E>) {
    let (from, to) = (plane.from, plane.to);
    for row in 0..to.height {
        let rows = inside(row, 0, &plane.window, from.height);
        for column in 0..to.width {
            let columns = inside(column, 1, &plane.window, from.width);
            let factor = 1.0 / (rows.len() * columns.len()) as f32;
            for lane in (0..BLOCK).step_by(S::LANES) {
                // SAFETY: by the contract; rows and columns are inside the map.
                unsafe {
                    let mut sum = S::splat(0.0);
                    for y in rows.clone() {
                        for x in columns.clone() {
                            let place = y * from.row_stride() + x * from.pixel_stride() + lane;
                            sum = S::add(sum, E::load::<S>(plane.source.add(place)));
                        }
                    }
                    let place = row * to.row_stride() + column * to.pixel_stride() + lane;
                    E::store::<S>(plane.target.add(place), S::mul(sum, S::splat(factor)));
                }
            }
        }
    }
}

/// The mean of every channel, in an arena of `f32`. The result is one row, and image `i` of the batch its
/// pixel `i`: so all images of a batch go through the classifier's product at once.
///
/// # Panics
/// If a view leaves its arena, or channels or sizes do not fit.
pub fn average_pool_into<E: Element>(
    isa: Isa,
    (arena, from): (&Arena<E>, &View),
    (to_arena, to): (&mut Arena, &View),
) {
    assert!(from.end() <= arena.len(), "the map lies in its arena");
    assert!(to.end() <= to_arena.len(), "the result lies in its arena");
    assert_eq!(to.channels, from.channels, "channels");
    assert_eq!((to.images, to.size()), (1, [1, from.images]), "size");
    let (memory, to_memory) = (Shared::read_only(arena), Shared::of(to_arena));
    for_planes(from, |image, block| {
        // The map may have a block without channels at its end.
        if block >= to.blocks() {
            return;
        }
        let plane = Plane {
            window: Window::POINT,
            from: *from,
            // SAFETY: the view lies in its arena.
            source: unsafe { memory.plane(from, image, block) },
            to: *to,
            // SAFETY: as above.
            target: unsafe { to_memory.at(to.at(0, block, 0, image), BLOCK) },
        };
        let plane = &plane;
        // SAFETY: the planes lie in their arenas; what is written is one task's alone.
        unsafe { dispatch!(isa, mean_plane<E: Element>(plane: &Plane<E, f32>)) }
    });
}

/// # Safety
/// As [`max_plane`].
#[inline(always)]
unsafe fn mean_plane<S: Simd, E: Element>(plane: &Plane<E, f32>) {
    let from = plane.from;
    let factor = 1.0 / (from.height * from.width) as f32;
    for lane in (0..BLOCK).step_by(S::LANES) {
        // SAFETY: by the contract.
        unsafe {
            let mut sum = S::splat(0.0);
            for row in 0..from.height {
                for column in 0..from.width {
                    let place = row * from.row_stride() + column * from.pixel_stride() + lane;
                    sum = S::add(sum, E::load::<S>(plane.source.add(place)));
                }
            }
            S::store(plane.target.add(lane), S::mul(sum, S::splat(factor)));
        }
    }
}

#[cfg(test)]
mod tests;

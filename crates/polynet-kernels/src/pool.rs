//! Pools and their gradients.

use crate::conv::Window;
use crate::element::Element;
use crate::layout::{Arena, BLOCK, View, clear_halo};
use crate::map::{Memory, check_apart, for_planes};
use crate::simd::{Isa, Simd, dispatch};

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
    assert_eq!(to.size(), window.output_size(from.size()), "size");
    assert!(
        (0..2).all(|axis| window.padding[axis] < window.kernel[axis]),
        "every window holds a pixel"
    );
    clear_halo(to, arena);
    let memory = Memory(arena.as_mut_slice().as_mut_ptr());
    for_planes(to, |image, block| {
        let plane = Plane {
            window,
            from: *from,
            // SAFETY: both views lie in the arena.
            source: unsafe { memory.at(from, image, block) },
            to: *to,
            // SAFETY: as above.
            target: unsafe { memory.at(to, image, block) },
        };
        let plane = &plane;
        match pool {
            Pool::Max => dispatch!(isa, max_plane<E>(plane: &Plane<E>)),
            Pool::Mean => dispatch!(isa, window_means<E>(plane: &Plane<E>)),
        }
    });
}

/// A block of one image in two maps.
struct Plane<E, T = E> {
    window: Window,
    from: View,
    source: *const E,
    to: View,
    target: *mut T,
}

/// The part of a window's rows (or columns) that lies inside `0..size`.
fn inside(at: usize, axis: usize, window: &Window, size: usize) -> std::ops::Range<usize> {
    let start = at * window.stride[axis];
    let end = (start + window.kernel[axis])
        .saturating_sub(window.padding[axis])
        .min(size);
    start.saturating_sub(window.padding[axis])..end
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
                            let place = y * from.row_stride() + x * BLOCK + lane;
                            largest = S::max(largest, E::load::<S>(plane.source.add(place)));
                        }
                    }
                    let place = row * to.row_stride() + column * BLOCK + lane;
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
                            let place = y * from.row_stride() + x * BLOCK + lane;
                            sum = S::add(sum, E::load::<S>(plane.source.add(place)));
                        }
                    }
                    let place = row * to.row_stride() + column * BLOCK + lane;
                    E::store::<S>(plane.target.add(place), S::mul(sum, S::splat(factor)));
                }
            }
        }
    }
}

/// Adds the gradient of the input of a [`pool`] of means to `to`.
///
/// # Panics
/// As [`pool`].
pub fn mean_pool_gradient(isa: Isa, window: Window, arena: &mut Arena, gradient: &View, to: &View) {
    check_apart(arena, &[], to);
    assert!(
        gradient.end() <= arena.len() && !gradient.overlaps(to),
        "maps apart in the arena"
    );
    assert_eq!(gradient.size(), window.output_size(to.size()), "size");
    assert_eq!(gradient.channels, to.channels, "channels");
    let memory = Memory(arena.as_mut_slice().as_mut_ptr());
    for_planes(to, |image, block| {
        let plane = Plane {
            window,
            from: *gradient,
            // SAFETY: both views lie in the arena.
            source: unsafe { memory.at(gradient, image, block) },
            to: *to,
            // SAFETY: as above.
            target: unsafe { memory.at(to, image, block) },
        };
        let plane = &plane;
        dispatch!(isa, spread_windows(plane: &Plane<f32>));
    });
}

/// # Safety
/// As [`max_plane`].
#[inline(always)]
unsafe fn spread_windows<S: Simd>(plane: &Plane<f32>) {
    let (gradient, to) = (plane.from, plane.to);
    for row in 0..gradient.height {
        let rows = inside(row, 0, &plane.window, to.height);
        for column in 0..gradient.width {
            let columns = inside(column, 1, &plane.window, to.width);
            let factor = 1.0 / (rows.len() * columns.len()) as f32;
            for lane in (0..BLOCK).step_by(S::LANES) {
                // SAFETY: by the contract; rows and columns are inside the map.
                unsafe {
                    let from = row * gradient.row_stride() + column * BLOCK + lane;
                    let g = S::mul(S::load(plane.source.add(from)), S::splat(factor));
                    for y in rows.clone() {
                        for x in columns.clone() {
                            let place = plane.target.add(y * to.row_stride() + x * BLOCK + lane);
                            S::store(place, S::add(S::load(place), g));
                        }
                    }
                }
            }
        }
    }
}

/// The mean of every channel. The result is one row, and image `i` of the batch its pixel `i`: so
/// all images of a batch go through the classifier's product at once.
///
/// # Panics
/// If a view leaves the arena, or channels or sizes do not fit.
pub fn average_pool(isa: Isa, arena: &mut Arena, from: &View, to: &View) {
    assert!(!to.overlaps(from), "a map is written while it is read");
    assert!(to.end().max(from.end()) <= arena.len(), "maps in the arena");
    let memory = Memory(arena.as_mut_slice().as_mut_ptr());
    means(isa, (memory, from), (memory, to));
}

/// [`average_pool`] into another arena.
///
/// # Panics
/// As [`average_pool`].
pub fn average_pool_into<E: Element>(
    isa: Isa,
    (arena, from): (&Arena<E>, &View),
    (to_arena, to): (&mut Arena, &View),
) {
    assert!(from.end() <= arena.len(), "the map lies in its arena");
    assert!(to.end() <= to_arena.len(), "the result lies in its arena");
    let memory = Memory(arena.as_slice().as_ptr().cast_mut());
    means(
        isa,
        (memory, from),
        (Memory(to_arena.as_mut_slice().as_mut_ptr()), to),
    );
}

/// Means of a map that is only read, at a place that is only written.
fn means<E: Element>(
    isa: Isa,
    (memory, from): (Memory<E>, &View),
    (to_memory, to): (Memory<f32>, &View),
) {
    assert_eq!(to.channels, from.channels, "channels");
    assert_eq!((to.images, to.size()), (1, [1, from.images]), "size");
    for_planes(from, |image, block| {
        let plane = Plane {
            window: Window::POINT,
            from: *from,
            // SAFETY: the callers have checked that the view lies in its arena.
            source: unsafe { memory.at(from, image, block) },
            to: *to,
            // SAFETY: as above.
            target: unsafe { to_memory.at(to, 0, block).add(image * BLOCK) },
        };
        let plane = &plane;
        dispatch!(isa, mean_plane<E>(plane: &Plane<E, f32>));
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
                    let place = row * from.row_stride() + column * BLOCK + lane;
                    sum = S::add(sum, E::load::<S>(plane.source.add(place)));
                }
            }
            S::store(plane.target.add(lane), S::mul(sum, S::splat(factor)));
        }
    }
}

/// Adds the gradient of the input of a [`pool`] of maxima to `to`: that of a window goes to its largest element,
/// the first of equals in row-major order.
///
/// # Panics
/// As [`pool`].
pub fn max_pool_gradient(
    isa: Isa,
    window: Window,
    arena: &mut Arena,
    (from, gradient): (&View, &View),
    to: &View,
) {
    check_apart(arena, &[from], to);
    check_apart(arena, &[gradient], to);
    assert_eq!(gradient.size(), window.output_size(from.size()), "size");
    assert_eq!(from.size(), to.size(), "size");
    let _ = isa;
    let memory = Memory(arena.as_mut_slice().as_mut_ptr());
    for_planes(to, |image, block| {
        // SAFETY: the views lie in the arena; a plane is one task's alone.
        unsafe {
            let source = memory.at(from, image, block).cast_const();
            let gradient_plane = memory.at(gradient, image, block).cast_const();
            let target = memory.at(to, image, block);
            for row in 0..gradient.height {
                let rows = inside(row, 0, &window, from.height);
                for column in 0..gradient.width {
                    let columns = inside(column, 1, &window, from.width);
                    let mut best = [f32::NEG_INFINITY; BLOCK];
                    let mut place = [0_usize; BLOCK];
                    for y in rows.clone() {
                        for x in columns.clone() {
                            let pixel = source.add(y * from.row_stride() + x * BLOCK);
                            let at = y * to.row_stride() + x * BLOCK;
                            for lane in 0..BLOCK {
                                let value = *pixel.add(lane);
                                if value > best[lane] {
                                    best[lane] = value;
                                    place[lane] = at;
                                }
                            }
                        }
                    }
                    let g = gradient_plane.add(row * gradient.row_stride() + column * BLOCK);
                    for (lane, place) in place.iter().enumerate() {
                        *target.add(place + lane) += *g.add(lane);
                    }
                }
            }
        }
    });
}

/// The gradient of [`average_pool`]'s input, written to `to`.
///
/// # Panics
/// As [`average_pool`].
pub fn average_pool_gradient(isa: Isa, arena: &mut Arena, gradient: &View, to: &View) {
    assert!(
        to.end().max(gradient.end()) <= arena.len(),
        "maps in the arena"
    );
    assert!(!to.overlaps(gradient), "a map is written while it is read");
    assert_eq!(to.channels, gradient.channels, "channels");
    assert_eq!(
        (gradient.images, gradient.size()),
        (1, [1, to.images]),
        "size"
    );
    clear_halo(to, arena);
    let memory = Memory(arena.as_mut_slice().as_mut_ptr());
    let factor = 1.0 / (to.height * to.width) as f32;
    for_planes(to, |image, block| {
        let plane = Plane {
            window: Window::POINT,
            from: *gradient,
            // SAFETY: both views lie in the arena.
            source: unsafe { memory.0.add(gradient.at(0, block, 0, image)) },
            to: *to,
            // SAFETY: as above.
            target: unsafe { memory.at(to, image, block) },
        };
        let plane = &plane;
        dispatch!(isa, spread_plane(plane: &Plane<f32>, factor: f32));
    });
}

/// # Safety
/// As [`max_plane`].
#[inline(always)]
unsafe fn spread_plane<S: Simd>(plane: &Plane<f32>, factor: f32) {
    let to = plane.to;
    for lane in (0..BLOCK).step_by(S::LANES) {
        // SAFETY: by the contract.
        unsafe {
            let value = S::mul(S::load(plane.source.add(lane)), S::splat(factor));
            for row in 0..to.height {
                for column in 0..to.width {
                    let place = row * to.row_stride() + column * BLOCK + lane;
                    S::store(plane.target.add(place), value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::tests::map;
    use crate::map::{clear, gate};

    #[test]
    fn pools_agree_with_their_definitions() {
        for isa in Isa::available() {
            for padding in [0, 1] {
                let window = Window {
                    kernel: [3, 3],
                    stride: [2, 2],
                    padding: [padding; 2],
                };
                let from = View::new(0, 2, 20, [7, 6], 0);
                let [height, width] = window.output_size([7, 6]);
                let to = View::new(from.end(), 2, 20, [height, width], 1);
                let mean = View::new(to.end(), 1, 20, [1, 2], 0);
                let mut arena = Arena::new(mean.end());
                let x = map(&mut arena, &from, |i| ((i * 37) % 101) as f32 - 50.0);
                pool(isa, Pool::Max, window, &mut arena, &from, &to);
                let mut expected = Vec::new();
                for plane in x.chunks_exact(42) {
                    for row in 0..height as isize {
                        for column in 0..width as isize {
                            let taps = (0..9).filter_map(|tap| {
                                let y = 2 * row + tap / 3 - padding as isize;
                                let x = 2 * column + tap % 3 - padding as isize;
                                let inside = (0..7).contains(&y) && (0..6).contains(&x);
                                inside.then(|| plane[(y * 6 + x) as usize])
                            });
                            expected.push(taps.fold(f32::MIN, f32::max));
                        }
                    }
                }
                assert_eq!(to.read_nchw(&arena), expected, "{isa} {padding}");
                average_pool(isa, &mut arena, &from, &mean);
                for (index, mean) in mean.read_nchw(&arena).iter().enumerate() {
                    // One channel after the other, and in it one image after the other.
                    let plane = index % 2 * 20 + index / 2;
                    let expected = x[plane * 42..(plane + 1) * 42].iter().sum::<f32>() / 42.0;
                    assert!(
                        (mean - expected).abs() < 1e-4,
                        "{isa}: {mean} for {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn gradients_of_pools_and_gates_agree_with_their_definitions() {
        for isa in Isa::available() {
            let window = Window {
                kernel: [3, 3],
                stride: [2, 2],
                padding: [1, 1],
            };
            let from = View::new(0, 2, 20, [7, 6], 1);
            let [height, width] = window.output_size([7, 6]);
            let g_view = View::new(from.end(), 2, 20, [height, width], 0);
            let to = View::new(g_view.end(), 2, 20, [7, 6], 2);
            let row = View::new(to.end(), 1, 20, [1, 2], 0);
            let mut arena = Arena::new(row.end());
            let x = map(&mut arena, &from, |i| ((i * 37) % 101) as f32 - 50.0);
            let g = map(&mut arena, &g_view, |i| (i % 13) as f32 - 4.0);
            clear(&mut arena, &to);
            max_pool_gradient(isa, window, &mut arena, (&from, &g_view), &to);
            let mut expected = vec![0.0; x.len()];
            for (plane, g) in g.chunks_exact(height * width).enumerate() {
                for (index, g) in g.iter().enumerate() {
                    let (row, column) = ((index / width) as isize, (index % width) as isize);
                    let mut best: Option<usize> = None;
                    for tap in 0..9 {
                        let (y, x_at) = (2 * row + tap / 3 - 1, 2 * column + tap % 3 - 1);
                        if (0..7).contains(&y) && (0..6).contains(&x_at) {
                            let at = plane * 42 + (y * 6 + x_at) as usize;
                            if best.is_none_or(|best| x[at] > x[best]) {
                                best = Some(at);
                            }
                        }
                    }
                    expected[best.unwrap()] += g;
                }
            }
            assert_eq!(to.read_nchw(&arena), expected, "{isa}");
            let before = to.read_nchw(&arena);
            gate(isa, &mut arena, (0.5, &from), Some(&to), &to, false);
            let expected: Vec<f32> = (x.iter().zip(&before))
                .map(|(x, open)| if *open > 0.0 { 0.5 * x } else { 0.0 })
                .collect();
            assert_eq!(to.read_nchw(&arena), expected, "{isa}");
            gate(isa, &mut arena, (2.0, &from), None, &to, true);
            let expected: Vec<f32> = expected.iter().zip(&x).map(|(y, x)| y + 2.0 * x).collect();
            assert_eq!(to.read_nchw(&arena), expected, "{isa}");
            let g = map(&mut arena, &row, |i| i as f32);
            average_pool_gradient(isa, &mut arena, &row, &to);
            let spread = to.read_nchw(&arena);
            for (index, value) in spread.iter().enumerate() {
                let (image, channel) = (index / 840, index / 42 % 20);
                assert!(
                    (value - g[channel * 2 + image] / 42.0).abs() < 1e-5,
                    "{isa}"
                );
            }
        }
    }

    #[test]
    fn local_means_leave_the_border_out_forward_and_backward() {
        for isa in Isa::available() {
            let window = Window {
                kernel: [3, 3],
                stride: [1, 1],
                padding: [1, 1],
            };
            let from = View::new(0, 1, 17, [2, 3], 1);
            let to = View::new(from.end(), 1, 17, [2, 3], 0);
            let mut arena = Arena::new(to.end());
            let x = map(&mut arena, &from, |i| (i % 11) as f32);
            pool(isa, Pool::Mean, window, &mut arena, &from, &to);
            let means = to.read_nchw(&arena);
            for (index, mean) in means.iter().enumerate() {
                let (plane, column) = (index / 6, index % 3);
                let columns = column.saturating_sub(1)..(column + 2).min(3);
                let seen: Vec<f32> = (0..2)
                    .flat_map(|row| columns.clone().map(move |column| (row, column)))
                    .map(|(row, column)| x[plane * 6 + row * 3 + column])
                    .collect();
                let expected = seen.iter().sum::<f32>() / seen.len() as f32;
                assert!(
                    (mean - expected).abs() < 1e-5,
                    "{isa}: {mean} for {expected}"
                );
            }
            // ⟨g, mean(x)⟩ = ⟨gradient(g), x⟩, as the mean is linear.
            let g = map(&mut arena, &to, |i| (i % 7) as f32 - 3.0);
            clear(&mut arena, &from);
            mean_pool_gradient(isa, window, &mut arena, &to, &from);
            let product =
                |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
            let (left, right) = (product(&g, &means), product(&from.read_nchw(&arena), &x));
            assert!((left - right).abs() < 1e-3, "{isa}: {left} and {right}");
        }
    }
}

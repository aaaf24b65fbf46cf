//! Pools, affine maps and sums of feature maps: what costs memory traffic and little arithmetic.

use crate::conv::Window;
use crate::layout::{Arena, BLOCK, View, clear_halo};
use crate::simd::{Isa, Simd, dispatch};
use rayon::prelude::*;

/// Planes that are worth a task of their own, in elements.
const TASK_ELEMENTS: usize = 1 << 14;

/// A map's elements in memory, for tasks that write different planes.
#[derive(Clone, Copy)]
pub(crate) struct Memory(pub(crate) *mut f32);

// SAFETY: every task writes planes of its own and reads maps that none writes.
unsafe impl Sync for Memory {}

/// Runs `task(image, block)` for every plane of a map.
pub(crate) fn for_planes(view: &View, task: impl Fn(usize, usize) + Sync) {
    let blocks = view.blocks();
    let planes = view.images * blocks;
    let run = |plane: usize| task(plane / blocks, plane % blocks);
    if planes * view.block_stride() <= TASK_ELEMENTS {
        (0..planes).for_each(run);
    } else {
        let least = TASK_ELEMENTS.div_ceil(view.block_stride());
        let indices = (0..planes).into_par_iter().with_min_len(least);
        indices.for_each(run);
    }
}

pub(crate) fn check_apart(arena: &Arena, from: &[&View], to: &View) {
    assert!(to.end() <= arena.len(), "the result lies in the arena");
    for view in from {
        assert!(view.end() <= arena.len(), "the map lies in the arena");
        assert_eq!(view.channels, to.channels, "channels");
        assert_eq!(view.images, to.images, "images");
        assert!(!view.overlaps(to), "a map is written while it is read");
    }
}

/// The largest element of every window; places outside the map are left out.
///
/// # Panics
/// If a view leaves the arena, or channels or sizes do not fit.
pub fn max_pool(isa: Isa, window: Window, arena: &mut Arena, from: &View, to: &View) {
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
        dispatch!(isa, max_plane(plane: &Plane));
    });
}

impl Memory {
    /// # Safety
    /// Both elements must lie in the arena.
    unsafe fn copy(&self, from: usize, to: usize) {
        // SAFETY: by the contract.
        unsafe { *self.0.add(to) = *self.0.add(from) }
    }

    /// # Safety
    /// The view must lie in the arena.
    pub(crate) unsafe fn at(&self, view: &View, image: usize, block: usize) -> *mut f32 {
        // SAFETY: by the contract.
        unsafe { self.0.add(view.at(image, block, 0, 0)) }
    }
}

/// A block of one image in two maps.
struct Plane {
    window: Window,
    from: View,
    source: *const f32,
    to: View,
    target: *mut f32,
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
unsafe fn max_plane<S: Simd>(plane: &Plane) {
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
                            largest = S::max(largest, S::load(plane.source.add(place)));
                        }
                    }
                    let place = row * to.row_stride() + column * BLOCK + lane;
                    S::store(plane.target.add(place), largest);
                }
            }
        }
    }
}

/// The mean of every window over what lies inside the map: the border does not count.
///
/// # Panics
/// As [`max_pool`].
pub fn local_average_pool(isa: Isa, window: Window, arena: &mut Arena, from: &View, to: &View) {
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
        dispatch!(isa, window_means(plane: &Plane));
    });
}

/// # Safety
/// As [`max_plane`].
#[inline(always)]
unsafe fn window_means<S: Simd>(plane: &Plane) {
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
                            sum = S::add(sum, S::load(plane.source.add(place)));
                        }
                    }
                    let place = row * to.row_stride() + column * BLOCK + lane;
                    S::store(plane.target.add(place), S::mul(sum, S::splat(factor)));
                }
            }
        }
    }
}

/// Adds the gradient of [`local_average_pool`]'s input to `to`.
///
/// # Panics
/// As [`max_pool`].
pub fn local_average_pool_gradient(
    isa: Isa,
    window: Window,
    arena: &mut Arena,
    gradient: &View,
    to: &View,
) {
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
        dispatch!(isa, spread_windows(plane: &Plane));
    });
}

/// # Safety
/// As [`max_plane`].
#[inline(always)]
unsafe fn spread_windows<S: Simd>(plane: &Plane) {
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
    assert!(to.end().max(from.end()) <= arena.len(), "maps in the arena");
    assert!(!to.overlaps(from), "a map is written while it is read");
    assert_eq!(to.channels, from.channels, "channels");
    assert_eq!((to.images, to.size()), (1, [1, from.images]), "size");
    let memory = Memory(arena.as_mut_slice().as_mut_ptr());
    for_planes(from, |image, block| {
        let plane = Plane {
            window: Window::POINT,
            from: *from,
            // SAFETY: both views lie in the arena.
            source: unsafe { memory.at(from, image, block) },
            to: *to,
            // SAFETY: as above.
            target: unsafe { memory.0.add(to.at(0, block, 0, image)) },
        };
        let plane = &plane;
        dispatch!(isa, mean_plane(plane: &Plane));
    });
}

/// # Safety
/// As [`max_plane`].
#[inline(always)]
unsafe fn mean_plane<S: Simd>(plane: &Plane) {
    let from = plane.from;
    let factor = 1.0 / (from.height * from.width) as f32;
    for lane in (0..BLOCK).step_by(S::LANES) {
        // SAFETY: by the contract.
        unsafe {
            let mut sum = S::splat(0.0);
            for row in 0..from.height {
                for column in 0..from.width {
                    let place = row * from.row_stride() + column * BLOCK + lane;
                    sum = S::add(sum, S::load(plane.source.add(place)));
                }
            }
            S::store(plane.target.add(lane), S::mul(sum, S::splat(factor)));
        }
    }
}

/// A factor and a term for every channel, padded to whole blocks.
#[derive(Debug)]
pub struct Affine {
    scale: Arena,
    shift: Arena,
}

impl Affine {
    /// `[channels]` each.
    pub fn new(scale: &[f32], shift: &[f32]) -> Self {
        Self {
            scale: scale.into(),
            shift: shift.into(),
        }
    }

    /// `scale · x + shift`, then `max(·, 0)` if `relu`.
    ///
    /// # Panics
    /// If a view leaves the arena, or channels or sizes do not fit.
    pub fn apply(&self, isa: Isa, arena: &mut Arena, from: &View, to: &View, relu: bool) {
        let factors = to.blocks() * BLOCK;
        assert_eq!(self.scale.len(), factors, "a factor for every channel");
        check_apart(arena, &[from], to);
        assert_eq!(from.size(), to.size(), "size");
        clear_halo(to, arena);
        let memory = Memory(arena.as_mut_slice().as_mut_ptr());
        for_planes(to, |image, block| {
            let first = block * BLOCK;
            let combination = Combination {
                // SAFETY: both views lie in the arena.
                a: unsafe { memory.at(from, image, block) },
                a_row: from.row_stride(),
                // SAFETY: the end was checked.
                factor: unsafe { self.scale.as_slice().as_ptr().add(first) },
                // SAFETY: as above.
                b: unsafe { self.shift.as_slice().as_ptr().add(first) },
                b_row: 0,
                b_pixel: 0,
                // SAFETY: both views lie in the arena.
                target: unsafe { memory.at(to, image, block) },
                to: *to,
                relu,
            };
            let combination = &combination;
            dispatch!(isa, combine_plane(combination: &Combination));
        });
    }
}

/// `scale · a + b`, then `max(·, 0)` if `relu`. The result may replace `b`.
///
/// # Panics
/// If a view leaves the arena, or channels or sizes do not fit.
pub fn add(isa: Isa, arena: &mut Arena, (scale, a): (f32, &View), b: &View, to: &View, relu: bool) {
    check_apart(arena, &[a], to);
    if b != to {
        check_apart(arena, &[b], to);
    }
    assert!(a.size() == to.size() && b.size() == to.size(), "size");
    clear_halo(to, arena);
    let factor = [scale; BLOCK];
    let memory = Memory(arena.as_mut_slice().as_mut_ptr());
    for_planes(to, |image, block| {
        // SAFETY: the views lie in the arena.
        let [a_plane, b_plane, target] =
            [a, b, to].map(|view| unsafe { memory.at(view, image, block) });
        let combination = Combination {
            a: a_plane,
            a_row: a.row_stride(),
            factor: factor.as_ptr(),
            b: b_plane,
            b_row: b.row_stride(),
            b_pixel: BLOCK,
            target,
            to: *to,
            relu,
        };
        let combination = &combination;
        dispatch!(isa, combine_plane(combination: &Combination));
    });
}

/// Writes `scale · g` where `gate` is positive (everywhere without one) and 0 elsewhere to `to`, or
/// adds it to what is there if `add`. The result may replace `g`: the backward pass of ReLU, of a
/// scale, and of a term that is read twice.
///
/// # Panics
/// If a view leaves the arena, or channels or sizes do not fit.
pub fn gate(
    isa: Isa,
    arena: &mut Arena,
    (scale, g): (f32, &View),
    gate: Option<&View>,
    to: &View,
    add: bool,
) {
    if g != to {
        check_apart(arena, &[g], to);
    }
    let open = gate.unwrap_or(g);
    if open != to {
        check_apart(arena, &[open], to);
    }
    assert!(g.size() == to.size() && open.size() == to.size(), "size");
    clear_halo(to, arena);
    let memory = Memory(arena.as_mut_slice().as_mut_ptr());
    for_planes(to, |image, block| {
        // SAFETY: the views lie in the arena.
        let [g_plane, open_plane, target] =
            [g, open, to].map(|view| unsafe { memory.at(view, image, block) });
        let plane = Gate {
            g: g_plane,
            g_row: g.row_stride(),
            gate: gate.map_or(std::ptr::null(), |_| open_plane.cast_const()),
            gate_row: open.row_stride(),
            scale,
            target,
            to: *to,
            add,
        };
        let plane = &plane;
        dispatch!(isa, gate_plane(plane: &Gate));
    });
}

/// A plane of a gradient, of a gate and of a result.
struct Gate {
    g: *const f32,
    g_row: usize,
    gate: *const f32,
    gate_row: usize,
    scale: f32,
    target: *mut f32,
    to: View,
    add: bool,
}

/// # Safety
/// As [`max_plane`].
#[inline(always)]
unsafe fn gate_plane<S: Simd>(p: &Gate) {
    for row in 0..p.to.height {
        for column in 0..p.to.width {
            for lane in (0..BLOCK).step_by(S::LANES) {
                // SAFETY: by the contract.
                unsafe {
                    let mut g = S::load(p.g.add(row * p.g_row + column * BLOCK + lane));
                    if !p.gate.is_null() {
                        let open = S::load(p.gate.add(row * p.gate_row + column * BLOCK + lane));
                        g = S::where_positive(open, g);
                    }
                    let to = p
                        .target
                        .add(row * p.to.row_stride() + column * BLOCK + lane);
                    let before = if p.add { S::load(to) } else { S::splat(0.0) };
                    S::store(to, S::fma(S::splat(p.scale), g, before));
                }
            }
        }
    }
}

/// Adds the gradient of [`max_pool`]'s input to `to`: that of a window goes to its largest element,
/// the first of equals in row-major order.
///
/// # Panics
/// As [`max_pool`].
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
        dispatch!(isa, spread_plane(plane: &Plane, factor: f32));
    });
}

/// # Safety
/// As [`max_plane`].
#[inline(always)]
unsafe fn spread_plane<S: Simd>(plane: &Plane, factor: f32) {
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

/// Copies a map whose channels lie in some views to views that divide them otherwise.
///
/// # Panics
/// If a view leaves the arena, or channels or sizes do not fit.
pub fn regroup(arena: &mut Arena, from: &[View], to: &[View]) {
    let channels = |views: &[View]| views.iter().map(View::channels).sum::<usize>();
    assert_eq!(channels(from), channels(to), "channels");
    let first = *from.first().expect("a map has a view");
    for view in from.iter().chain(to) {
        assert!(view.end() <= arena.len(), "views in the arena");
        assert_eq!(
            (view.size(), view.images),
            (first.size(), first.images),
            "size"
        );
    }
    let overlap = to.iter().any(|w| from.iter().any(|r| w.overlaps(r)));
    assert!(!overlap, "a map is written while it is read");
    // Where each channel comes from: its view and its channel there.
    let sources: Vec<(View, usize)> = from
        .iter()
        .flat_map(|view| (0..view.channels).map(|channel| (*view, channel)))
        .collect();
    let mut first_channel = 0;
    for view in to {
        clear(arena, view);
        let memory = Memory(arena.as_mut_slice().as_mut_ptr());
        let sources = &sources[first_channel..first_channel + view.channels];
        for_planes(view, |image, block| {
            let lanes = sources.iter().skip(block * BLOCK).take(BLOCK).enumerate();
            for (lane, (source, channel)) in lanes {
                for row in 0..view.height {
                    for column in 0..view.width {
                        let place = source.at(image, channel / BLOCK, row, column);
                        let target = view.at(image, block, row, column) + lane;
                        // SAFETY: the views lie in the arena, and the plane is this task's alone.
                        unsafe { memory.copy(place + channel % BLOCK, target) };
                    }
                }
            }
        });
        first_channel += view.channels;
    }
}

/// Writes zeros, halo included.
///
/// # Panics
/// If the view leaves the arena.
pub fn clear(arena: &mut Arena, view: &View) {
    arena.as_mut_slice()[view.start()..view.end()].fill(0.0);
}

/// `factor · a + b` for the pixels of a plane.
struct Combination {
    a: *const f32,
    a_row: usize,
    factor: *const f32,
    b: *const f32,
    b_row: usize,
    b_pixel: usize,
    target: *mut f32,
    to: View,
    relu: bool,
}

/// # Safety
/// As [`max_plane`].
#[inline(always)]
unsafe fn combine_plane<S: Simd>(c: &Combination) {
    for row in 0..c.to.height {
        for column in 0..c.to.width {
            for lane in (0..BLOCK).step_by(S::LANES) {
                // SAFETY: by the contract.
                unsafe {
                    let a = S::load(c.a.add(row * c.a_row + column * BLOCK + lane));
                    let b = S::load(c.b.add(row * c.b_row + column * c.b_pixel + lane));
                    let mut y = S::fma(S::load(c.factor.add(lane)), a, b);
                    if c.relu {
                        y = S::max(S::splat(0.0), y);
                    }
                    let place = row * c.to.row_stride() + column * BLOCK + lane;
                    S::store(c.target.add(place), y);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map of the numbers `f(0), f(1), …` in row-major order, at `start`.
    fn map(arena: &mut Arena, view: &View, f: impl Fn(usize) -> f32) -> Vec<f32> {
        let count = view.images * view.channels * view.height * view.width;
        let values: Vec<f32> = (0..count).map(f).collect();
        view.write_nchw(arena, &values);
        values
    }

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
                max_pool(isa, window, &mut arena, &from, &to);
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
            local_average_pool(isa, window, &mut arena, &from, &to);
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
            local_average_pool_gradient(isa, window, &mut arena, &to, &from);
            let product =
                |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
            let (left, right) = (product(&g, &means), product(&from.read_nchw(&arena), &x));
            assert!((left - right).abs() < 1e-3, "{isa}: {left} and {right}");
        }
    }

    #[test]
    fn a_regrouped_map_has_the_same_channels() {
        let views = |start: usize, channels: &[usize]| {
            let mut start = start;
            let place = |&channels: &usize| {
                let view = View::new(start, 1, channels, [2, 3], 1);
                start = view.end();
                view
            };
            channels.iter().map(place).collect::<Vec<View>>()
        };
        let from = views(0, &[8, 24, 5]);
        let to = views(from[2].end(), &[20, 17]);
        let mut arena = Arena::new(to[1].end());
        let mut values = Vec::new();
        for (index, view) in from.iter().enumerate() {
            values.extend(map(&mut arena, view, |i| (100 * index + i) as f32));
        }
        regroup(&mut arena, &from, &to);
        let found: Vec<f32> = to.iter().flat_map(|view| view.read_nchw(&arena)).collect();
        assert_eq!(found, values);
    }

    #[test]
    fn sums_and_affine_maps_agree_with_their_definitions() {
        for isa in Isa::available() {
            let a = View::new(0, 1, 20, [3, 5], 1);
            let b = View::new(a.end(), 1, 20, [3, 5], 0);
            let to = View::new(b.end(), 1, 20, [3, 5], 2);
            let mut arena = Arena::new(to.end());
            let x = map(&mut arena, &a, |i| i as f32 - 90.0);
            let y = map(&mut arena, &b, |i| 30.0 - i as f32);
            add(isa, &mut arena, (0.5, &a), &b, &to, true);
            let expected: Vec<f32> = x
                .iter()
                .zip(&y)
                .map(|(x, y)| (0.5 * x + y).max(0.0))
                .collect();
            assert_eq!(to.read_nchw(&arena), expected, "{isa}");
            let scale: Vec<f32> = (0..20).map(|c| c as f32 * 0.5).collect();
            let shift: Vec<f32> = (0..20).map(|c| 7.0 - c as f32).collect();
            let affine = Affine::new(&scale, &shift);
            affine.apply(isa, &mut arena, &a, &to, false);
            let expected: Vec<f32> = x
                .iter()
                .enumerate()
                .map(|(i, x)| scale[i / 15] * x + shift[i / 15])
                .collect();
            assert_eq!(to.read_nchw(&arena), expected, "{isa}");
        }
    }
}

//! A plane of a map under a pool's window, and of its result.

use crate::layout::View;
use crate::window::Window;

/// Checks a pool's window and the sizes of its input and its result.
pub(super) fn check_window(window: Window, from: &View, to: &View) {
    window.check();
    assert!(
        (0..2).all(|axis| window.padding[axis] < window.kernel[axis]),
        "every window holds a pixel"
    );
    assert_eq!(to.size(), window.output_size(from.size()), "size");
}

/// A block of one image in two maps.
pub(super) struct Plane<E, T = E> {
    pub(super) window: Window,
    pub(super) from: View,
    pub(super) source: *const E,
    pub(super) to: View,
    pub(super) target: *mut T,
}

/// The part of a window's rows (or columns) that lies inside `0..size`.
pub(super) fn inside(
    at: usize,
    axis: usize,
    window: &Window,
    size: usize,
) -> std::ops::Range<usize> {
    let start = at * window.stride[axis];
    let end = (start + window.kernel[axis])
        .saturating_sub(window.padding[axis])
        .min(size);
    start.saturating_sub(window.padding[axis])..end
}

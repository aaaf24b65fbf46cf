//! Work divided by a map's planes, and checks of maps that are written while others are read.

use crate::element::Element;
use crate::layout::{Arena, Pixel, View};
use rayon::prelude::*;

/// Planes that are worth a task of their own, in elements.
const TASK_ELEMENTS: usize = 1 << 14;

/// Runs `task(image, block)` for every plane of a map.
pub(crate) fn for_planes(view: &View, task: impl Fn(usize, usize) + Sync) {
    let blocks = view.blocks();
    let planes = view.images * blocks;
    let run = |plane: usize| task(plane / blocks, plane % blocks);
    if planes * view.plane_stride() <= TASK_ELEMENTS {
        (0..planes).for_each(run);
    } else {
        let least = TASK_ELEMENTS.div_ceil(view.plane_stride());
        let indices = (0..planes).into_par_iter().with_min_len(least);
        indices.for_each(run);
    }
}

/// Checks a map that is written while maps of as many images and channels are read.
///
/// # Panics
/// If one leaves the arena, or the written one overlaps another.
pub(crate) fn check_apart<E: Element>(arena: &Arena<E>, from: &[&View], to: &View) {
    assert!(to.end() <= arena.len(), "the result lies in the arena");
    for view in from {
        assert!(view.end() <= arena.len(), "the map lies in the arena");
        assert_eq!(view.channels, to.channels, "channels");
        assert_eq!(view.images, to.images, "images");
        assert_eq!(view.pixel, to.pixel, "blocks side by side");
        assert!(!view.overlaps(to), "a map is written while it is read");
    }
}

/// Checks that maps have one block at a pixel: kernels that only train, and what is rounded to bytes, know no others.
///
/// # Panics
/// If one has several.
pub(crate) fn check_single_blocks(views: &[&View]) {
    let are_single = views.iter().all(|view| view.pixel == Pixel::Block);
    assert!(are_single, "one block at a pixel");
}

/// As [`check_apart`], but the written map may also replace one that is read.
pub(crate) fn check_replacing<E: Element>(arena: &Arena<E>, from: &[&View], to: &View) {
    check_apart(arena, &[], to);
    for view in from {
        if *view != to {
            check_apart(arena, &[view], to);
        }
    }
}

//! The steps that prediction and training have in common.

use super::buffers::BufferId;
use super::program::Step;
use polynet_kernels::layout::{Arena, View};
use polynet_kernels::{Element, Isa, map, pool};

/// The views of some buffers.
pub(super) fn of(views: &[View], ids: &[BufferId]) -> Vec<View> {
    ids.iter().map(|&id| views[id]).collect()
}

/// The channels of a map's parts.
pub(super) fn channels(views: &[View]) -> Vec<usize> {
    views.iter().map(View::channels).collect()
}

/// Makes a step on feature maps, `images` being `[images, 3, height, width]` in row-major order.
///
/// # Panics
/// If it is no step of both.
pub(super) fn run<E: Element>(
    step: &Step,
    isa: Isa,
    (views, arena): (&[View], &mut Arena<E>),
    images: &[f32],
) {
    match step {
        Step::Input { to } => views[*to].write_nchw(arena, images),
        Step::Regroup { from, to } => map::regroup(arena, &of(views, from), &of(views, to)),
        Step::Add {
            term,
            scale,
            addend,
            to,
            relu,
        } => {
            let [term, addend, to] = [term, addend, to].map(|id| &views[*id]);
            map::add(isa, arena, (*scale, term), addend, to, *relu);
        }
        Step::Pool {
            pool,
            window,
            from,
            to,
        } => pool::pool(isa, *pool, *window, arena, &views[*from], &views[*to]),
        step => unreachable!("not a step of prediction and training: {step:?}"),
    }
}

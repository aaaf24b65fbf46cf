//! Gradients with the pixels side by side that a product takes together.

use crate::conv::pack::steps;
use crate::conv::places::block_in;
use crate::dispatch::dispatch;
use crate::element::Element;
use crate::layout::{Arena, BLOCK, Shared, View};
use crate::simd::{Isa, Simd};
use rayon::prelude::*;

/// Elements that are worth a task of their own where they are put side by side.
const ZIP_ELEMENTS: usize = 1 << 14;

/// The gradients of a result, `[image][block][row][step][16][DEPTH pixels]`.
pub(super) fn zip<E: Element>(
    isa: Isa,
    memory: Shared<'_, E>,
    views: &[View],
    [rows, columns]: [usize; 2],
) -> Arena<E> {
    let plane = rows * steps::<E>(columns) * E::DEPTH * BLOCK;
    let blocks: usize = views.iter().map(View::blocks).sum();
    let planes = views[0].images * blocks;
    let mut zipped = Arena::new(planes * plane);
    let to = Shared::of(&mut zipped);
    let least = (ZIP_ELEMENTS / plane).max(1);
    let planes = (0..planes).into_par_iter().with_min_len(least);
    planes.for_each(|index| {
        let (view, block) = block_in(views, index % blocks);
        let zip = &Zip {
            // SAFETY: the views lie in the arena.
            from: unsafe { memory.plane(&view, index / blocks, block) },
            stride: view.row_stride(),
            rows,
            columns,
            // SAFETY: the memory holds every plane.
            to: unsafe { to.at(index * plane, plane) },
        };
        // SAFETY: the planes lie in memory; what is written is one task's alone.
        unsafe { dispatch!(isa, zip_rows<E: Element>(zip: &Zip<E>)) }
    });
    zipped
}

/// A plane whose pixels are put side by side, as many as a product takes.
struct Zip<E> {
    from: *const E,
    /// Elements between the rows.
    stride: usize,
    rows: usize,
    columns: usize,
    /// `[row][step][16][DEPTH]`, with zeros beside a last pixel.
    to: *mut E,
}

/// # Safety
/// The processor has the instruction set; the planes lie in memory.
#[inline(always)]
unsafe fn zip_rows<S: Simd, E: Element>(zip: &Zip<E>) {
    let mut to = zip.to;
    for row in 0..zip.rows {
        for column in (0..zip.columns).step_by(E::DEPTH) {
            for lane in (0..BLOCK).step_by(S::LANES) {
                // SAFETY: by the contract; a step holds a block of `DEPTH` pixels.
                unsafe {
                    let from = zip.from.add(row * zip.stride + column * BLOCK + lane);
                    let pixels = match column + E::DEPTH <= zip.columns {
                        true => E::pixels::<S>(from, BLOCK),
                        false => E::last_pixel::<S>(from),
                    };
                    E::write::<S>(to.add(lane * E::DEPTH), pixels);
                }
            }
            to = to.wrapping_add(BLOCK * E::DEPTH);
        }
    }
}

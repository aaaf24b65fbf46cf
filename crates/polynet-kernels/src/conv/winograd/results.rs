//! Products on the way back from the points: the results of tiles, and what becomes of them.

use super::axis::{MAX_POINTS, Transform, Vectors};
use super::shape::TileGrid;
use crate::conv::stores::Stores;
use crate::conv::tile::rectified;
use crate::element::Element;
use crate::layout::{Arena, BLOCK, Shared, View};
use crate::simd::Simd;

/// Some tiles of a result, and their products `[point][block][tile][16]`.
pub(super) struct Results<'a, E> {
    pub(super) memory: Shared<'a, E>,
    pub(super) stores: Stores<'a>,
    /// The bias with its channels in blocks.
    pub(super) bias: &'a Arena,
    /// Rows and columns of the result.
    pub(super) size: [usize; 2],
    pub(super) grid: TileGrid,
    /// The first tile, and how many.
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) products: *const f32,
}

/// # Safety
/// The processor has the instruction set; the views lie in the arena, and the products are there for
/// every tile. Nothing else reads or writes the results of these tiles.
#[inline(always)]
pub(super) unsafe fn store<S: Simd, E: Element, R: Transform, C: Transform>(job: &Results<'_, E>) {
    let (by_row, by_column) = (R::new(), C::new());
    let Stores { value, sum } = job.stores;
    let segments = value.map_or_else(|| sum.map_or(&[][..], |sum| sum.to), |value| value.to);
    let blocks: usize = segments.iter().map(View::blocks).sum();
    let point_stride = blocks * job.count * BLOCK;
    let bias = job.bias.as_slice().as_ptr();
    let mut rows = Vectors([0.0; MAX_POINTS * BLOCK]);
    let mut results = Vectors([0.0; MAX_POINTS * BLOCK]);
    let mut first_block = 0;
    for (segment, view) in segments.iter().enumerate() {
        for tile in 0..job.count {
            let outputs = [R::OUTPUTS, C::OUTPUTS];
            let [image, row, column] = job.grid.place(job.first + tile, outputs);
            for block in 0..view.blocks() {
                let out_block = first_block + block;
                for lane in (0..BLOCK).step_by(S::LANES) {
                    // SAFETY: by the contract; places outside the map are not written.
                    unsafe {
                        let from = job
                            .products
                            .add((out_block * job.count + tile) * BLOCK + lane);
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
                        let bias = S::load(bias.add(out_block * BLOCK + lane));
                        for r in 0..R::OUTPUTS.min(job.size[0] - row) {
                            for c in 0..C::OUTPUTS.min(job.size[1] - column) {
                                let result = S::load(to.add((r * C::OUTPUTS + c) * BLOCK));
                                let result = S::add(result, bias);
                                let at = |view: &View| {
                                    let first = view.at(image, block, row + r, column + c);
                                    job.memory.at(first + lane, S::LANES)
                                };
                                if let Some(value) = value {
                                    let value_at = at(&value.to[segment]);
                                    E::store::<S>(value_at, rectified::<S>(result, value.relu));
                                }
                                if let Some(sum) = sum {
                                    let addend = E::load::<S>(at(&sum.addend[segment]));
                                    let total = S::fma(S::splat(sum.scale), result, addend);
                                    let sum_at = at(&sum.to[segment]);
                                    E::store::<S>(sum_at, rectified::<S>(total, sum.relu));
                                }
                            }
                        }
                    }
                }
            }
        }
        first_block += view.blocks();
    }
}

//! Weights on the way to the points, and their gradients on the way back.

use crate::conv::pack::{Filters, Panel, block_channels};
use crate::conv::tile::Geometry;
use crate::dispatch::dispatch;
use crate::layout::{Arena, BLOCK, blocks_of};
use crate::simd::{Isa, Simd};
use rayon::prelude::*;
use std::cell::RefCell;

thread_local! {
    /// The taps of an input block and a panel.
    static TAPS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Elements of transformed weights.
pub(super) fn elements(points: usize, [inputs, outputs]: [&[usize]; 2]) -> usize {
    let blocks: usize = outputs.iter().map(|&channels| blocks_of(channels)).sum();
    blocks * BLOCK * points * inputs.iter().sum::<usize>()
}

/// The weights `[panel][point][input channel][output lane]` for `points`, each the factors of the taps;
/// in `memory`, which is made larger where it is too small.
pub(super) fn transform(
    isa: Isa,
    filters: &Filters<'_>,
    [inputs, outputs]: [&[usize]; 2],
    points: &[Vec<f32>],
    mut memory: Arena,
) -> (Arena, Vec<Panel>) {
    let (sources, targets) = (block_channels(inputs), block_channels(outputs));
    let rows = points.len() * inputs.iter().sum::<usize>();
    let blocks = Geometry::of(isa).blocks;
    let elements = elements(points.len(), [inputs, outputs]);
    if memory.len() < elements {
        memory = Arena::new(elements);
    }
    let panels = targets
        .chunks(blocks)
        .enumerate()
        .map(|(index, panel)| Panel {
            first_block: index * blocks,
            blocks: panel.len(),
            weights: index * blocks * BLOCK * rows,
        });
    let panels = panels.collect();
    let packed = memory.as_mut_slice()[..elements]
        .par_chunks_mut(blocks * BLOCK * rows)
        .zip(targets.par_chunks(blocks));
    packed.for_each(|(to, targets)| {
        let stride = to.len() / points.len();
        let mut first = 0;
        for source in &sources {
            let elements = source.1 * targets.len() * BLOCK;
            TAPS.with_borrow_mut(|taps| {
                taps.resize(filters.taps.len() * elements, 0.0);
                filters.pack_panel(isa, taps, &[*source], targets);
                let product = Product {
                    from: taps,
                    from_stride: elements,
                    factors: points,
                    to: &mut to[first..],
                    to_stride: stride,
                    elements,
                };
                product.compute(isa);
            });
            first += elements;
        }
    });
    (memory, panels)
}

/// Vectors of sums, each of vectors times factors: `to[i] = Σⱼ factors[i][j] · from[j]`.
pub(super) struct Product<'a> {
    pub(super) from: &'a [f32],
    /// Elements between the vectors.
    pub(super) from_stride: usize,
    pub(super) factors: &'a [Vec<f32>],
    pub(super) to: &'a mut [f32],
    /// Elements between the sums.
    pub(super) to_stride: usize,
    /// Elements of a vector; a multiple of 16.
    pub(super) elements: usize,
}

impl Product<'_> {
    pub(super) fn compute(mut self, isa: Isa) {
        let product = &mut self;
        for (stride, count, len) in [
            (
                product.from_stride,
                product.factors[0].len(),
                product.from.len(),
            ),
            (product.to_stride, product.factors.len(), product.to.len()),
        ] {
            assert!(
                (count - 1) * stride + product.elements <= len,
                "vectors in memory"
            );
        }
        assert!(product.elements.is_multiple_of(BLOCK), "whole blocks");
        // SAFETY: the memory holds the vectors.
        unsafe { dispatch!(isa, multiply(product: &mut Product<'_>)) }
    }
}

/// # Safety
/// The processor has the instruction set; the memory holds the vectors.
#[inline(always)]
unsafe fn multiply<S: Simd>(product: &mut Product<'_>) {
    // SAFETY: by the contract.
    unsafe {
        match product.factors[0].len() {
            3 => sums_of::<S, 3>(product),
            7 => sums_of::<S, 7>(product),
            9 => sums_of::<S, 9>(product),
            10 => sums_of::<S, 10>(product),
            6 => sums_of::<S, 6>(product),
            16 => sums_of::<S, 16>(product),
            36 => sums_of::<S, 36>(product),
            other => unreachable!("no transform has {other} taps or points"),
        }
    }
}

/// # Safety
/// As [`multiply`], and there are `COUNT` vectors.
#[inline(always)]
unsafe fn sums_of<S: Simd, const COUNT: usize>(product: &mut Product<'_>) {
    for first in (0..product.elements).step_by(S::LANES) {
        // SAFETY: by the contract.
        unsafe {
            let from = product.from.as_ptr().add(first);
            let mut vectors = [S::splat(0.0); COUNT];
            for (index, vector) in vectors.iter_mut().enumerate() {
                *vector = S::load(from.add(index * product.from_stride));
            }
            let to = product.to.as_mut_ptr().add(first);
            for (index, factors) in product.factors.iter().enumerate() {
                let mut sum = S::splat(0.0);
                for (vector, &factor) in vectors.iter().zip(factors) {
                    sum = S::fma(S::splat(factor), *vector, sum);
                }
                S::store(to.add(index * product.to_stride), sum);
            }
        }
    }
}

//! What becomes of the sums of some pixels and a panel's channels: ReLU, a scaled sum with another map, rounding.

use super::inputs::Place;
use super::layer::Layer;
use super::pack::PANEL;
use crate::conv::stores::Stores;
use crate::conv::tile::Target;
use crate::dispatch::dispatch;
use crate::element::Element;
use crate::layout::{BLOCK, Pixel, Shared, View};
use crate::simd::Simd;

/// What becomes of sums.
pub(super) trait SumStores: Sync {
    /// Whether maps that are read or written then have halos.
    fn have_halos(&self) -> bool;

    /// Stores what becomes of some sums: those of a panel's channels and neighbouring pixels of a row, `[pixel][32]`.
    ///
    /// # Safety
    /// The maps have the pixels, which are one task's alone, and the sums are valid.
    unsafe fn store(&self, panel: usize, from: Place, sums: (*const f32, usize));
}

/// Sums of `f32` on their way to maps.
pub(super) struct FloatStores<'a, E: Element> {
    pub(super) layer: &'a Layer<E>,
    pub(super) memory: Shared<'a, E>,
    pub(super) stores: Stores<'a>,
}

impl<E: Element> FloatStores<'_, E> {
    /// Where the results of a panel from a pixel on are stored.
    fn target(&self, panel: usize, Place { image, row, column }: Place) -> Target<E> {
        let line = self.layer.packed.panels[panel];
        let at = |views: &[View]| {
            let element = views[line.segment].at(image, line.block, row, column);
            // SAFETY: the view lies in the arena.
            unsafe { self.memory.at(element, PANEL) }
        };
        let mut target = Target::NONE;
        if let Some(value) = &self.stores.value {
            target.value = at(value.to);
        }
        if let Some(sum) = &self.stores.sum {
            target.addend = at(sum.addend);
            target.sum = at(sum.to);
        }
        target
    }
}

impl<E: Element> SumStores for FloatStores<'_, E> {
    fn have_halos(&self) -> bool {
        let addends = self.stores.sum.iter().flat_map(|sum| sum.addend);
        let mut maps = self.stores.maps().chain(addends);
        maps.any(|view| view.halo() != 0)
    }

    unsafe fn store(&self, panel: usize, from: Place, (sums, count): (*const f32, usize)) {
        let run = &Run {
            sums,
            count,
            blocks: self.layer.blocks_of(panel),
            target: self.target(panel, from),
            scale: self.stores.sum.map_or(0.0, |sum| sum.scale),
            value_relu: self.stores.value.is_some_and(|value| value.relu),
            sum_relu: self.stores.sum.is_some_and(|sum| sum.relu),
        };
        // SAFETY: by the contract.
        unsafe { dispatch!(self.layer.isa, store<E: Element>(run: &Run<E>)) }
    }
}

/// Neighbouring pixels of a row on their way from sums to maps.
struct Run<E> {
    /// `[pixel][32]`.
    sums: *const f32,
    count: usize,
    /// Blocks with channels; the other one of a pixel is zeros.
    blocks: usize,
    /// At the first pixel.
    target: Target<E>,
    scale: f32,
    value_relu: bool,
    sum_relu: bool,
}

/// # Safety
/// The processor has the instruction set, and pointers are valid for the pixels or null.
#[inline(always)]
unsafe fn store<S: Simd, E: Element>(run: &Run<E>) {
    let Target { value, sum, .. } = run.target;
    // SAFETY: by the contract.
    unsafe {
        match (value.is_null(), sum.is_null(), run.blocks) {
            (false, true, 1) => pixels::<S, E, true, false, 1>(run),
            (false, true, _) => pixels::<S, E, true, false, 2>(run),
            (true, _, 1) => pixels::<S, E, false, true, 1>(run),
            (true, ..) => pixels::<S, E, false, true, 2>(run),
            (false, false, 1) => pixels::<S, E, true, true, 1>(run),
            (false, false, _) => pixels::<S, E, true, true, 2>(run),
        }
    }
}

/// # Safety
/// As [`store`]; there are the maps that `VALUE` and `SUM` speak of.
#[inline(always)]
unsafe fn pixels<S: Simd, E: Element, const VALUE: bool, const SUM: bool, const BLOCKS: usize>(
    run: &Run<E>,
) {
    const PIXEL: usize = Pixel::TwoBlocks.channels();
    let Target { value, addend, sum } = run.target;
    // SAFETY: by the contract.
    unsafe {
        // What is no ReLU has a floor that nothing lies below.
        let floor = |relu: bool| S::splat(if relu { 0.0 } else { f32::NEG_INFINITY });
        let [value_floor, sum_floor] = [floor(run.value_relu), floor(run.sum_relu)];
        let scale = S::splat(run.scale);
        for pixel in 0..run.count {
            for lane in (0..PIXEL).step_by(2 * S::LANES) {
                let lanes = [lane, lane + S::LANES];
                let sums = lanes.map(|lane| match lane < BLOCKS * BLOCK {
                    true => S::load(run.sums.add(pixel * PIXEL + lane)),
                    false => S::splat(0.0),
                });
                let at = pixel * PIXEL + lane;
                if VALUE {
                    E::store_two::<S>(value.add(at), sums.map(|x| S::max(value_floor, x)));
                }
                if SUM {
                    let addends = [at, at + S::LANES].map(|at| E::load::<S>(addend.add(at)));
                    let total = |index: usize| {
                        S::max(sum_floor, S::fma(scale, sums[index], addends[index]))
                    };
                    E::store_two::<S>(sum.add(at), [total(0), total(1)]);
                }
            }
        }
    }
}

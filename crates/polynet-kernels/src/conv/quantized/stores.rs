//! What becomes of a quantized convolution's result, and the checks of the maps that it is written to.

use super::end::{Epilogue, Target};
use crate::conv::stores::{check_views, check_views_of};
use crate::element::Element;
use crate::layout::{Arena, BLOCK, Pixel, Shared, View, blocks_of};

/// A map of bytes, rounded from numbers.
#[derive(Clone, Copy, Debug)]
pub struct Rounded<'a> {
    /// The map, in the packed output segments.
    pub to: &'a [View],
    /// What one is worth in each view: a number is stored as the nearest multiple of it that 0…255 hold.
    pub steps: &'a [f32],
}

/// Where the result goes, as `f32` (or bf16), as bytes, or as both.
#[derive(Clone, Copy, Debug)]
pub struct QuantizedValue<'a> {
    /// The map of floating-point numbers, in the packed output segments.
    pub floats: Option<&'a [View]>,
    /// The map of bytes.
    pub bytes: Option<Rounded<'a>>,
    /// Whether `max(·, 0)` is stored; bytes never hold anything else.
    pub relu: bool,
}

/// `addend + scale · result`, and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct QuantizedSum<'a> {
    /// What the result is added to, a map of floating-point numbers. It may be where the sum goes.
    pub addend: &'a [View],
    /// The factor of the result.
    pub scale: f32,
    /// The sum.
    pub to: QuantizedValue<'a>,
}

/// What becomes of a quantized convolution's result.
#[derive(Clone, Copy, Debug, Default)]
pub struct QuantizedStores<'a> {
    /// The result itself.
    pub value: Option<QuantizedValue<'a>>,
    /// Its sum with another map.
    pub sum: Option<QuantizedSum<'a>>,
}

impl<'a> QuantizedStores<'a> {
    fn values(&self) -> impl Iterator<Item = QuantizedValue<'a>> {
        self.value.into_iter().chain(self.sum.map(|sum| sum.to))
    }

    /// The maps of bytes that are written.
    pub(in crate::conv) fn bytes(&self) -> impl Iterator<Item = &'a View> {
        let bytes = self.values().filter_map(|value| value.bytes);
        bytes.flat_map(|rounded| rounded.to)
    }

    /// The maps of floating-point numbers that are written.
    pub(in crate::conv) fn floats(&self) -> impl Iterator<Item = &'a View> {
        self.values().filter_map(|value| value.floats).flatten()
    }

    /// All maps that are written, and the addend.
    pub(in crate::conv) fn all(&self) -> impl Iterator<Item = &'a View> {
        let addend = self.sum.into_iter().flat_map(|sum| sum.addend);
        self.bytes().chain(self.floats()).chain(addend)
    }

    /// Checks that tasks may write side by side: no map that is written shares an element with another,
    /// but a sum may replace its addend. Maps of bytes have pixels of a kind, the others single blocks.
    pub(in crate::conv) fn check<E: Element>(
        &self,
        pixel: Pixel,
        (bytes, floats): (&Arena<u8>, &Arena<E>),
        inputs: &[View],
        (outputs, size): (&[usize], [usize; 2]),
    ) {
        assert!(
            self.bytes().chain(self.floats()).next().is_some(),
            "a result is stored"
        );
        let fits = |view: &View| view.size() == size && view.images == inputs[0].images;
        assert!(self.all().all(fits), "results of {size:?}");
        for value in self.values() {
            if let Some(rounded) = value.bytes {
                check_views_of(pixel, bytes, rounded.to, outputs);
                assert_eq!(
                    rounded.steps.len(),
                    rounded.to.len(),
                    "a step for each view"
                );
                assert!(
                    rounded.steps.iter().all(|step| *step > 0.0),
                    "steps above 0"
                );
            }
            value.floats.inspect(|to| check_views(floats, to, outputs));
        }
        let apart = |written: &[&View], read: &[&View]| {
            for (index, view) in written.iter().enumerate() {
                let others = read.iter().chain(&written[..index]);
                let overlaps = others.into_iter().any(|other| view.overlaps(other));
                assert!(
                    !overlaps,
                    "a map is written while another one is read or written there"
                );
            }
        };
        let all_inputs: Vec<&View> = inputs.iter().collect();
        apart(&self.bytes().collect::<Vec<_>>(), &all_inputs);
        let mut addend: Vec<&View> = Vec::new();
        if let Some(sum) = self.sum {
            check_views(floats, sum.addend, outputs);
            if sum.to.floats != Some(sum.addend) {
                addend.extend(sum.addend);
            }
        }
        apart(&self.floats().collect::<Vec<_>>(), &addend);
    }

    /// Where the pixels of a block of an output segment from a place on are stored.
    pub(in crate::conv) fn target<E: Element>(
        &self,
        (bytes, floats): (Shared<'_, u8>, Shared<'_, E>),
        [segment, block]: [usize; 2],
        [image, row, column]: [usize; 3],
    ) -> Target {
        let at = |views: &[View]| views[segment].at(image, block, row, column);
        // SAFETY: the views lie in their arenas.
        let float = |views: &[View]| unsafe { floats.at(at(views), BLOCK).cast::<()>() };
        // SAFETY: as above.
        let bytes = |views: &[View]| unsafe { bytes.at(at(views), BLOCK) };
        let byte = |rounded: Rounded<'_>| (bytes(rounded.to), 1.0 / rounded.steps[segment]);
        let mut target = Target::NONE;
        if let Some(value) = self.value {
            target.value = value.floats.map_or(target.value, float);
            if let Some(rounded) = value.bytes {
                (target.value_bytes, target.per_step[0]) = byte(rounded);
            }
        }
        if let Some(sum) = self.sum {
            target.addend = float(sum.addend);
            target.sum = sum.to.floats.map_or(target.sum, float);
            if let Some(rounded) = sum.to.bytes {
                (target.sum_bytes, target.per_step[1]) = byte(rounded);
            }
        }
        target
    }

    pub(in crate::conv) fn epilogue(&self) -> Epilogue {
        let sum = self.sum.map(|sum| sum.to);
        Epilogue {
            scale: self.sum.map_or(0.0, |sum| sum.scale),
            relu: [self.value, sum].map(|value| value.is_some_and(|value| value.relu)),
        }
    }
}

/// The segment of an output block of all segments', and which of its blocks it is.
pub(super) fn block_of(segments: &[usize], mut block: usize) -> [usize; 2] {
    for (segment, &channels) in segments.iter().enumerate() {
        let blocks = blocks_of(channels);
        if block < blocks {
            return [segment, block];
        }
        block -= blocks;
    }
    unreachable!("the segments hold every output block")
}

//! What becomes of a quantized convolution's result, and the checks of the maps that it is written to.

use super::tile::{Epilogue, Target};
use crate::conv::stores::check_views;
use crate::element::Element;
use crate::layout::{Arena, BLOCK, Shared, View};

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
    pub(super) fn bytes(&self) -> impl Iterator<Item = &'a View> {
        let bytes = self.values().filter_map(|value| value.bytes);
        bytes.flat_map(|rounded| rounded.to)
    }

    /// The maps of floating-point numbers that are written.
    pub(super) fn floats(&self) -> impl Iterator<Item = &'a View> {
        self.values().filter_map(|value| value.floats).flatten()
    }

    /// All maps that are written, and the addend.
    pub(super) fn all(&self) -> impl Iterator<Item = &'a View> {
        let addend = self.sum.into_iter().flat_map(|sum| sum.addend);
        self.bytes().chain(self.floats()).chain(addend)
    }

    /// Checks that tasks may write side by side: no map that is written shares an element with another,
    /// but a sum may replace its addend.
    pub(super) fn check<E: Element>(
        &self,
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
                check_views(bytes, rounded.to, outputs);
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

    /// Where the pixels of an output block from a place on are stored.
    pub(super) fn target<E: Element>(
        &self,
        (bytes, floats): (Shared<'_, u8>, Shared<'_, E>),
        block: usize,
        place: [usize; 3],
    ) -> Target {
        let at = |views: &[View]| element(views, block, place);
        // SAFETY: the views lie in their arenas.
        let float = |views: &[View]| unsafe { floats.at(at(views).1, BLOCK).cast::<()>() };
        let byte = |rounded: Rounded<'_>| {
            let (view, element) = at(rounded.to);
            // SAFETY: as above.
            (
                unsafe { bytes.at(element, BLOCK) },
                1.0 / rounded.steps[view],
            )
        };
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

    pub(super) fn epilogue(&self) -> Epilogue {
        let sum = self.sum.map(|sum| sum.to);
        Epilogue {
            scale: self.sum.map_or(0.0, |sum| sum.scale),
            relu: [self.value, sum].map(|value| value.is_some_and(|value| value.relu)),
        }
    }
}

/// The view that holds an output block, of those that hold all of them, and the element of a pixel.
fn element(views: &[View], mut block: usize, [image, row, column]: [usize; 3]) -> (usize, usize) {
    for (index, view) in views.iter().enumerate() {
        if block < view.blocks() {
            return (index, view.at(image, block, row, column));
        }
        block -= view.blocks();
    }
    unreachable!("the views hold every output block")
}

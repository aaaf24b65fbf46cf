//! What becomes of a convolution's result, and the checks of the maps that it reads and writes.

use crate::element::Number;
use crate::layout::{Arena, Pixel, View};

/// Where the result goes.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    /// The map, in the packed output segments.
    pub to: &'a [View],
    /// Whether `max(·, 0)` is stored.
    pub relu: bool,
}

/// `addend + scale · result`, and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Sum<'a> {
    /// What the result is added to. It may be where the sum goes.
    pub addend: &'a [View],
    /// The map, in the packed output segments.
    pub to: &'a [View],
    /// The factor of the result.
    pub scale: f32,
    /// Whether `max(·, 0)` is stored.
    pub relu: bool,
}

/// What becomes of a convolution's result; both at once is one pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stores<'a> {
    /// The result itself.
    pub value: Option<Value<'a>>,
    /// Its sum with another map.
    pub sum: Option<Sum<'a>>,
}

impl<'a> From<Value<'a>> for Stores<'a> {
    fn from(value: Value<'a>) -> Self {
        Self {
            value: Some(value),
            sum: None,
        }
    }
}

impl<'a> From<Sum<'a>> for Stores<'a> {
    fn from(sum: Sum<'a>) -> Self {
        Self {
            value: None,
            sum: Some(sum),
        }
    }
}

impl<'a> Stores<'a> {
    /// The maps that are written.
    pub(super) fn maps(&self) -> impl Iterator<Item = &'a View> {
        let value = self.value.iter().flat_map(|value| value.to);
        let sum = self.sum.iter().flat_map(|sum| sum.to);
        value.chain(sum)
    }
}

/// Checks the maps that results of a size are stored in, with channels in the given segments.
///
/// Tasks write them side by side, so none may share an element with another or with one that is read;
/// but a sum may replace its addend.
pub(super) fn check_stores<E: Number>(
    arena: &Arena<E>,
    inputs: &[View],
    stores: &Stores<'_>,
    of: (&[usize], [usize; 2]),
) {
    check_stores_of(Pixel::Block, arena, inputs, stores, of);
}

/// As [`check_stores`], of pixels of a kind.
pub(super) fn check_stores_of<E: Number>(
    pixel: Pixel,
    arena: &Arena<E>,
    inputs: &[View],
    stores: &Stores<'_>,
    (outputs, size): (&[usize], [usize; 2]),
) {
    assert!(stores.maps().next().is_some(), "a result is stored");
    let shape = |views: &[View]| {
        check_views_of(pixel, arena, views, outputs);
        let fits = |view: &View| view.size() == size && view.images == inputs[0].images;
        assert!(views.iter().all(fits), "results of {size:?}");
    };
    let apart = |written: &[View], read: &[View]| {
        let overlap = written.iter().any(|w| read.iter().any(|r| w.overlaps(r)));
        assert!(!overlap, "a map is written while it is read");
    };
    let distinct = |written: &[View]| {
        for (index, view) in written.iter().enumerate() {
            let overlap = written[..index].iter().any(|other| view.overlaps(other));
            assert!(!overlap, "an element is written twice");
        }
    };
    if let Some(value) = &stores.value {
        shape(value.to);
        distinct(value.to);
        apart(value.to, inputs);
    }
    if let Some(sum) = &stores.sum {
        shape(sum.to);
        shape(sum.addend);
        distinct(sum.to);
        apart(sum.to, inputs);
        if sum.to != sum.addend {
            apart(sum.to, sum.addend);
        }
        if let Some(value) = &stores.value {
            apart(value.to, sum.to);
            apart(value.to, sum.addend);
        }
    }
}

/// Checks the maps that a convolution reads as one, with pixels of a kind and channels in the given segments, and gives
/// the first: all have its size, halo and images.
pub(super) fn check_inputs_of<E: Number>(
    pixel: Pixel,
    arena: &Arena<E>,
    inputs: &[View],
    segments: &[usize],
) -> View {
    let first = *inputs.first().expect("a convolution has an input");
    check_views_of(pixel, arena, inputs, segments);
    let alike = |view: &View| {
        view.halo == first.halo && view.size() == first.size() && view.images == first.images
    };
    assert!(inputs.iter().all(alike), "inputs of one size and halo");
    first
}

/// Checks that maps of single blocks lie in the arena and have the channels of segments.
pub(super) fn check_views<E: Number>(arena: &Arena<E>, views: &[View], segments: &[usize]) {
    check_views_of(Pixel::Block, arena, views, segments);
}

/// As [`check_views`], of pixels of a kind.
pub(super) fn check_views_of<E: Number>(
    pixel: Pixel,
    arena: &Arena<E>,
    views: &[View],
    segments: &[usize],
) {
    assert!(
        views.iter().all(|view| view.pixel() == pixel),
        "maps of {pixel:?}"
    );
    let channels = views.iter().map(View::channels);
    assert!(
        channels.eq(segments.iter().copied()),
        "channels of the views are {segments:?}"
    );
    assert!(
        views.iter().all(|view| view.end() <= arena.len()),
        "views inside the arena"
    );
}

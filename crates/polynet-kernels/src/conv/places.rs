//! Where the microkernels' inputs and outputs lie: input blocks, taps, and the tiles of a row.

use crate::element::Number;
use crate::layout::{BLOCK, Shared, View};
use crate::window::Window;
use std::ops::Range;

/// A block of a list of views: the view and the block in it.
pub(super) fn block_in(views: &[View], mut block: usize) -> (View, usize) {
    for view in views {
        if block < view.blocks() {
            return (*view, block);
        }
        block -= view.blocks();
    }
    unreachable!("the views hold the block")
}

/// A tap of the kernel that lies inside the map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tap {
    /// Elements from an output pixel's place in the input to the tap.
    pub(super) input: isize,
    /// Its number among all taps.
    pub(super) index: usize,
}

impl Tap {
    /// The taps of a kernel in a map.
    pub(super) fn all(window: Window, input: &View) -> Vec<Self> {
        let tap = |index: usize| {
            let (row, column) = (index / window.kernel[1], index % window.kernel[1]);
            Self {
                input: (row * input.row_stride() + column * BLOCK) as isize,
                index,
            }
        };
        (0..window.taps()).map(tap).collect()
    }
}

/// Where the first pixel of a tile lies in the input.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    /// Elements from (0, 0) to the pixel's place.
    pub(super) origin: isize,
    /// The taps in rows of the kernel inside the map.
    pub(super) taps: Range<usize>,
}

impl Reach {
    /// Of the pixel in a row and a column of the result, of a window with a border.
    pub(super) fn of(
        (window, border): (Window, [isize; 2]),
        input: &View,
        [row, column]: [usize; 2],
    ) -> Self {
        let Window { kernel, stride, .. } = window;
        let top = (row * stride[0]) as isize - border[0];
        let first_tap = (-top).clamp(0, kernel[0] as isize) as usize;
        let last_tap = (input.height as isize - top).clamp(0, kernel[0] as isize) as usize;
        let left = (column * stride[1]) as isize - border[1];
        Self {
            origin: top * input.row_stride() as isize + left * BLOCK as isize,
            taps: first_tap * kernel[1]..last_tap * kernel[1],
        }
    }
}

/// An input block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<E> {
    /// Element (0, 0) of the block in the image at hand.
    pub(super) pixels: *const E,
    /// Products of a tap: channels in use, or pairs of them.
    pub(super) steps: usize,
    /// Those of the blocks before.
    pub(super) first_step: usize,
}

impl<E: Number> Source<E> {
    /// The input blocks of an image, of which a product takes `depth` channels.
    pub(super) fn all(
        sources: &mut Vec<Self>,
        (memory, inputs): (Shared<'_, E>, &[View]),
        image: usize,
        depth: usize,
    ) {
        sources.clear();
        let mut first_step = 0;
        for view in inputs {
            for block in 0..view.blocks() {
                let steps = (view.channels - block * BLOCK).min(BLOCK).div_ceil(depth);
                sources.push(Self {
                    // SAFETY: whoever makes a job has found the view in the arena.
                    pixels: unsafe { memory.plane(view, image, block) },
                    steps,
                    first_step,
                });
                first_step += steps;
            }
        }
    }
}

/// Neighbouring tiles of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tiles {
    pub(super) first_pixel: usize,
    pub(super) count: usize,
    /// Of each tile.
    pub(super) pixels: usize,
}

impl Tiles {
    /// Some of the tiles of a row of pixels that is divided into `count`: the larger ones first, by a pixel.
    pub(super) fn of(pixels: usize, count: usize, range: [usize; 2]) -> impl Iterator<Item = Self> {
        let (size, larger) = (pixels / count, pixels % count);
        let sizes = [(0, larger, size + 1), (larger, count, size)];
        sizes.into_iter().filter_map(move |(first, end, pixels)| {
            let [from, to] = range.map(|tile| tile.clamp(first, end));
            (from < to).then_some(Self {
                first_pixel: from * size + from.min(larger),
                count: to - from,
                pixels,
            })
        })
    }

    /// The same tiles, at most so many at once.
    pub(super) fn at_most(self, most: usize) -> impl Iterator<Item = Self> {
        (0..self.count).step_by(most).map(move |first| Self {
            first_pixel: self.first_pixel + first * self.pixels,
            count: most.min(self.count - first),
            ..self
        })
    }

    /// Pixels of all tiles.
    pub(super) fn all_pixels(self) -> usize {
        self.count * self.pixels
    }
}

//! Feature maps in blocks of 16 channels.
//!
//! A map `[images, channels, height, width]` is stored as `[images, blocks, height, width, 16]`: the
//! 16 channels of a block lie side by side at each pixel, so that every kernel reads and writes
//! whole vectors whatever the size of the map. Rows may have a halo of zeros on both sides, which
//! stands for a convolution's padding. Missing channels of a last block are zeros.
//!
//! All maps of a network lie in one [`Arena`]. A [`View`] says where; a concatenation is a list of
//! views, and never a copy.

use crate::element::Element;
use std::fmt;
use std::marker::PhantomData;

/// Channels of a block.
pub const BLOCK: usize = 16;

/// Blocks that hold `channels`.
pub fn blocks_of(channels: usize) -> usize {
    channels.div_ceil(BLOCK)
}

/// A cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code)] [u8; 64]);

/// Memory for elements that begins at a cache line.
pub struct Arena<E = f32> {
    lines: Vec<Line>,
    elements: PhantomData<E>,
}

impl<E> Default for Arena<E> {
    fn default() -> Self {
        Self {
            lines: Vec::new(),
            elements: PhantomData,
        }
    }
}

impl<E: Element> Arena<E> {
    /// Elements of a cache line.
    const IN_LINE: usize = size_of::<Line>() / size_of::<E>();

    /// Zeros for `len` elements.
    pub fn new(len: usize) -> Self {
        Self {
            // Bytes of zeros are the number zero.
            lines: vec![Line([0; 64]); len.div_ceil(Self::IN_LINE)],
            elements: PhantomData,
        }
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.lines.len() * Self::IN_LINE
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The elements.
    pub fn as_slice(&self) -> &[E] {
        // SAFETY: a line is whole elements of plain bytes without padding, and the vector owns them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len()) }
    }

    /// The elements.
    pub fn as_mut_slice(&mut self) -> &mut [E] {
        let len = self.len();
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), len) }
    }
}

impl From<&[f32]> for Arena {
    fn from(values: &[f32]) -> Self {
        let mut arena = Self::new(values.len());
        arena.as_mut_slice()[..values.len()].copy_from_slice(values);
        arena
    }
}

impl<E: Element> fmt::Debug for Arena<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arena({} elements)", self.len())
    }
}

/// Where a feature map lies in an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Element of image 0, block 0, row 0, column 0.
    pub(crate) offset: usize,
    pub(crate) images: usize,
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) halo: usize,
    pub(crate) image_stride: usize,
}

impl View {
    /// The elements that a map needs.
    pub fn elements(
        images: usize,
        channels: usize,
        [height, width]: [usize; 2],
        halo: usize,
    ) -> usize {
        images * blocks_of(channels) * height * (width + 2 * halo) * BLOCK
    }

    /// A map whose memory begins at element `start` of an arena.
    ///
    /// # Panics
    /// If `start` is no multiple of 16, or the map has no element.
    pub fn new(
        start: usize,
        images: usize,
        channels: usize,
        [height, width]: [usize; 2],
        halo: usize,
    ) -> Self {
        assert!(start.is_multiple_of(BLOCK), "a map begins at a cache line");
        assert!(
            images * channels * height * width > 0,
            "a map has an element"
        );
        Self {
            offset: start + halo * BLOCK,
            images,
            channels,
            height,
            width,
            halo,
            image_stride: Self::elements(1, channels, [height, width], halo),
        }
    }

    /// Images.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Blocks of channels.
    pub fn blocks(&self) -> usize {
        blocks_of(self.channels)
    }

    /// Rows and columns.
    pub fn size(&self) -> [usize; 2] {
        [self.height, self.width]
    }

    /// Columns of zeros on each side of a row.
    pub fn halo(&self) -> usize {
        self.halo
    }

    /// One past the last element, halo included.
    pub fn end(&self) -> usize {
        self.start() + self.images * self.image_stride
    }

    /// The first element, halo included.
    pub fn start(&self) -> usize {
        self.offset - self.halo * BLOCK
    }

    pub(crate) fn row_stride(&self) -> usize {
        (self.width + 2 * self.halo) * BLOCK
    }

    pub(crate) fn block_stride(&self) -> usize {
        self.height * self.row_stride()
    }

    /// Element of a pixel of a block.
    pub(crate) fn at(&self, image: usize, block: usize, row: usize, column: usize) -> usize {
        self.offset
            + image * self.image_stride
            + block * self.block_stride()
            + row * self.row_stride()
            + column * BLOCK
    }

    /// Whether two maps share an element.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start() < other.end() && other.start() < self.end()
    }

    /// Writes `[images, channels, height, width]` in row-major order into the map.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn write_nchw<E: Element>(&self, arena: &mut Arena<E>, values: &[f32]) {
        let pixels = self.height * self.width;
        assert_eq!(values.len(), self.images * self.channels * pixels);
        let memory = &mut arena.as_mut_slice()[self.start()..self.end()];
        memory.fill(E::default());
        for (plane, values) in values.chunks_exact(pixels).enumerate() {
            let (image, channel) = (plane / self.channels, plane % self.channels);
            for (row, values) in values.chunks_exact(self.width).enumerate() {
                let first = self.at(image, channel / BLOCK, row, 0) - self.start();
                let targets = memory[first + channel % BLOCK..].iter_mut();
                for (target, &value) in targets.step_by(BLOCK).zip(values) {
                    *target = E::from_f32(value);
                }
            }
        }
    }

    /// The map as `[images, channels, height, width]` in row-major order.
    pub fn read_nchw<E: Element>(&self, arena: &Arena<E>) -> Vec<f32> {
        let memory = arena.as_slice();
        let mut values = Vec::with_capacity(self.images * self.channels * self.height * self.width);
        for image in 0..self.images {
            for channel in 0..self.channels {
                for row in 0..self.height {
                    let first = self.at(image, channel / BLOCK, row, 0) + channel % BLOCK;
                    let sources = memory[first..].iter().step_by(BLOCK);
                    let sources = sources.take(self.width);
                    values.extend(sources.map(|element| element.to_f32()));
                }
            }
        }
        values
    }
}

/// Writes the zeros beside the rows of a map.
pub(crate) fn clear_halo<E: Element>(view: &View, arena: &mut Arena<E>) {
    if view.halo == 0 {
        return;
    }
    let memory = &mut arena.as_mut_slice()[view.start()..view.end()];
    let (halo, row) = (view.halo * BLOCK, view.row_stride());
    for row in memory.chunks_exact_mut(row) {
        let end = row.len() - halo;
        row[..halo].fill(E::default());
        row[end..].fill(E::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_the_rest_is_zero() {
        for (channels, halo) in [(3, 0), (16, 1), (40, 3)] {
            let (images, size) = (2, [3, 5]);
            let view = View::new(32, images, channels, size, halo);
            let mut arena = Arena::new(view.end());
            arena.as_mut_slice().fill(7.0);
            let values: Vec<f32> = (1..=images * channels * 15).map(|i| i as f32).collect();
            view.write_nchw(&mut arena, &values);
            assert_eq!(view.read_nchw(&arena), values);
            let sum: f32 = arena.as_slice()[32..].iter().sum();
            assert_eq!(sum, values.iter().sum::<f32>());
        }
    }
}

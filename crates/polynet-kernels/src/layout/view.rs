//! Where a feature map lies in an arena.

use super::arena::Arena;
use crate::element::{Element, Number};
use crate::simd::BLOCK;
use rayon::prelude::*;

/// Elements of rows that are worth a task of their own.
const ROWS_ELEMENTS: usize = 1 << 14;

/// Blocks that hold `channels`.
pub fn blocks_of(channels: usize) -> usize {
    channels.div_ceil(BLOCK)
}

/// What lies side by side at a pixel of a map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pixel {
    /// A block of 16 channels.
    #[default]
    Block,
    /// Two blocks: a cache line of bf16, and a row of a tile.
    TwoBlocks,
    /// Four blocks: a cache line of bytes, and a row of a tile.
    FourBlocks,
}

impl Pixel {
    /// How often a block is doubled. Places are found for every row of a map, so that nothing is divided by a number
    /// that the compiler does not know.
    const fn doublings(self) -> u32 {
        match self {
            Self::Block => 0,
            Self::TwoBlocks => 1,
            Self::FourBlocks => 2,
        }
    }

    /// Channels side by side.
    pub const fn channels(self) -> usize {
        BLOCK << self.doublings()
    }

    /// Blocks side by side.
    pub(crate) const fn blocks(self) -> usize {
        1 << self.doublings()
    }

    /// The pixel that holds a block, of all of a place, and which of its blocks it is.
    const fn of_block(self, block: usize) -> [usize; 2] {
        [block >> self.doublings(), block & (self.blocks() - 1)]
    }

    /// Blocks of a map of some channels: those that hold channels, and others up to the end of a pixel.
    const fn blocks_of(self, channels: usize) -> usize {
        let [pixels, rest] = self.of_block(channels.div_ceil(BLOCK));
        (pixels + (rest > 0) as usize) << self.doublings()
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
    pub(crate) pixel: Pixel,
}

impl View {
    /// The elements that a map needs.
    ///
    /// # Panics
    /// If they are more than an address space holds.
    pub fn elements(images: usize, channels: usize, size: [usize; 2], halo: usize) -> usize {
        Self::elements_of(Pixel::Block, images, channels, size, halo)
    }

    /// As [`View::elements`], of pixels of a kind.
    ///
    /// # Panics
    /// As [`View::elements`].
    pub fn elements_of(
        pixel: Pixel,
        images: usize,
        channels: usize,
        [height, width]: [usize; 2],
        halo: usize,
    ) -> usize {
        let row = halo.checked_mul(2).and_then(|halo| halo.checked_add(width));
        let blocks = pixel.blocks_of(channels);
        let factors = [Some(blocks), Some(height), row, Some(BLOCK)];
        let product = |product: usize, factor: Option<usize>| product.checked_mul(factor?);
        let elements = factors.into_iter().try_fold(images, product);
        elements.expect("a map that fits an address space")
    }

    /// A map whose memory begins at element `start` of an arena.
    ///
    /// # Panics
    /// If `start` is no multiple of 16, the map has no element, or it ends beyond any arena.
    pub fn new(
        start: usize,
        images: usize,
        channels: usize,
        size: [usize; 2],
        halo: usize,
    ) -> Self {
        Self::of(Pixel::Block, start, images, channels, size, halo)
    }

    /// As [`View::new`], of pixels of a kind, whose channels `start` is a multiple of.
    ///
    /// # Panics
    /// As [`View::new`].
    pub fn of(
        pixel: Pixel,
        start: usize,
        images: usize,
        channels: usize,
        [height, width]: [usize; 2],
        halo: usize,
    ) -> Self {
        assert!(
            start.is_multiple_of(pixel.channels()),
            "a map begins at a pixel"
        );
        assert!(
            ![images, channels, height, width].contains(&0),
            "a map has an element"
        );
        // No sum or product of places inside a map overflows after this.
        let elements = Self::elements_of(pixel, images, channels, [height, width], halo);
        let end = start.checked_add(elements);
        assert!(
            end.is_some_and(|end| end <= isize::MAX as usize),
            "a map ends inside an address space"
        );
        Self {
            offset: start + halo * pixel.channels(),
            images,
            channels,
            height,
            width,
            halo,
            image_stride: elements / images,
            pixel,
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

    /// Blocks of channels, with those that hold none at the end of pixels of several blocks.
    pub fn blocks(&self) -> usize {
        self.pixel.blocks_of(self.channels)
    }

    /// What lies side by side at a pixel.
    pub fn pixel(&self) -> Pixel {
        self.pixel
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
        self.offset - self.halo * self.pixel_stride()
    }

    /// Elements between neighbouring pixels.
    pub(crate) fn pixel_stride(&self) -> usize {
        self.pixel.channels()
    }

    pub(crate) fn row_stride(&self) -> usize {
        (self.width + 2 * self.halo) * self.pixel_stride()
    }

    /// Elements of a plane, whose pixels have one block or several.
    pub(crate) fn plane_stride(&self) -> usize {
        self.height * self.row_stride()
    }

    /// Element of a pixel of a block.
    pub(crate) fn at(&self, image: usize, block: usize, row: usize, column: usize) -> usize {
        let [plane, in_pixel] = self.pixel.of_block(block);
        self.offset
            + image * self.image_stride
            + plane * self.plane_stride()
            + row * self.row_stride()
            + column * self.pixel_stride()
            + in_pixel * BLOCK
    }

    /// Whether two maps share an element.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start() < other.end() && other.start() < self.end()
    }

    /// Writes `[images, channels, height, width]` in row-major order into the map.
    ///
    /// # Panics
    /// If the lengths do not fit or the map leaves the arena.
    pub fn write_nchw<E: Element>(&self, arena: &mut Arena<E>, values: &[f32]) {
        let pixels = self.height * self.width;
        assert_eq!(values.len(), self.images * self.channels * pixels);
        let memory = &mut arena.as_mut_slice()[self.start()..self.end()];
        let row_stride = self.row_stride();
        let rows = memory.par_chunks_exact_mut(row_stride);
        let least = ROWS_ELEMENTS.div_ceil(row_stride);
        rows.with_min_len(least)
            .enumerate()
            .for_each(|(index, memory)| {
                memory.fill(E::default());
                let (plane, row) = (index / self.height, index % self.height);
                let planes = self.blocks() * BLOCK / self.pixel_stride();
                let (image, first) = (plane / planes, plane % planes * self.pixel_stride());
                let used = self.pixel_stride().min(self.channels - first);
                for lane in 0..used {
                    let channel = image * self.channels + first + lane;
                    let values =
                        &values[(channel * self.height + row) * self.width..][..self.width];
                    let targets = memory[self.halo * self.pixel_stride() + lane..].iter_mut();
                    for (target, &value) in targets.step_by(self.pixel_stride()).zip(values) {
                        *target = E::from_f32(value);
                    }
                }
            });
    }

    /// The map as `[images, channels, height, width]` in row-major order.
    ///
    /// # Panics
    /// If the map leaves the arena.
    pub fn read_nchw<E: Element>(&self, arena: &Arena<E>) -> Vec<f32> {
        let memory = &arena.as_slice()[self.start()..self.end()];
        let mut values = Vec::with_capacity(self.images * self.channels * self.height * self.width);
        for image in 0..self.images {
            for channel in 0..self.channels {
                for row in 0..self.height {
                    let first = self.at(image, channel / BLOCK, row, 0) - self.start();
                    let first = first + channel % BLOCK;
                    let sources = memory[first..].iter().step_by(self.pixel_stride());
                    let sources = sources.take(self.width);
                    values.extend(sources.map(|element| element.to_f32()));
                }
            }
        }
        values
    }
}

/// Rows and columns of planes of maps of one size; without halos they are one long row.
pub(crate) fn flat<const COUNT: usize>(maps: [&View; COUNT]) -> [usize; 2] {
    let [height, width] = maps[0].size();
    match maps.iter().all(|map| map.halo == 0) {
        true => [1, height * width],
        false => [height, width],
    }
}

/// Writes the zeros beside the rows of a map.
pub(crate) fn clear_halo<E: Number>(view: &View, arena: &mut Arena<E>) {
    if view.halo == 0 {
        return;
    }
    let memory = &mut arena.as_mut_slice()[view.start()..view.end()];
    let (halo, row) = (view.halo * view.pixel_stride(), view.row_stride());
    for row in memory.chunks_exact_mut(row) {
        let end = row.len() - halo;
        row[..halo].fill(E::default());
        row[end..].fill(E::default());
    }
}

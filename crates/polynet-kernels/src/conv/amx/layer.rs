//! A convolution's weights and geometry, and the maps that fit them.

use super::kernel::{Kernels, Products, ROW_BYTES};
use super::pack::{Packed, STEP_BYTES};
use crate::conv::ahead::NextWeights;
use crate::conv::stores::check_inputs_of;
use crate::element::Number;
use crate::layout::{Arena, BLOCK, Pixel, View};
use crate::simd::Isa;
use crate::window::Window;

/// Bytes of the weights of a group of panels that a task keeps in its cache, which is larger where there are tiles: what is
/// gathered for a pair of tiles serves the whole group.
const GROUP_BYTES: usize = 800 << 10;

/// A convolution's weights and geometry.
#[derive(Debug)]
pub(super) struct Layer<W: Number> {
    pub(super) isa: Isa,
    pub(super) products: Products,
    pub(super) kernels: Kernels,
    pub(super) window: Window,
    pub(super) segments: [Vec<usize>; 2],
    pub(super) packed: Packed<W>,
}

impl<W: Number> Layer<W> {
    /// What pixels are a tile's row.
    const PIXEL: Pixel = match ROW_BYTES / size_of::<W>() {
        64 => Pixel::FourBlocks,
        _ => Pixel::TwoBlocks,
    };

    /// Panels whose weights fit a cache together.
    pub(super) fn panels_in_group(&self) -> usize {
        let bytes = self.packed.steps * STEP_BYTES;
        (GROUP_BYTES / bytes.max(1)).clamp(1, self.packed.panels.len())
    }

    /// Bytes of the packed weights.
    pub(super) fn weight_bytes(&self) -> usize {
        size_of::<W>() * self.packed.weights.len()
    }

    /// The weights, for the convolution before.
    pub(super) fn weights(&self) -> NextWeights<'_> {
        let groups = self.packed.panels.len().div_ceil(self.panels_in_group());
        let are_divided = groups >= rayon::current_num_threads();
        NextWeights::new(&self.packed.weights, are_divided)
    }

    /// What pixels the inputs have: a map of few channels, all taps of which share the products, may have any.
    fn input_pixel(&self, inputs: &[View]) -> Pixel {
        match self.packed.depth.is_of_taps() {
            true => inputs.first().map_or(Self::PIXEL, View::pixel),
            false => Self::PIXEL,
        }
    }

    /// Checks the maps that are read.
    ///
    /// Returns rows and columns of the result.
    ///
    /// # Panics
    /// If a view leaves the arena or has other pixels, sizes or channels do not fit, or a row's halo is narrower than
    /// what is reached beyond the map.
    pub(super) fn check_inputs<E: Number>(&self, arena: &Arena<E>, inputs: &[View]) -> [usize; 2] {
        let window = &self.window;
        let first = check_inputs_of(self.input_pixel(inputs), arena, inputs, &self.segments[0]);
        // No output's taps reach further beyond the map than the padding.
        let halo = window.padding[1];
        assert!(first.halo >= halo, "a halo of at least {halo} columns");
        window.output_size(first.size())
    }

    /// Blocks with channels of a panel.
    pub(super) fn blocks_of(&self, panel: usize) -> usize {
        self.packed.panels[panel].used.div_ceil(BLOCK)
    }
}

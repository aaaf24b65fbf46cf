//! A convolution as its tasks know it: packed weights, and where taps and outputs lie.

use super::division::panels_in_group;
use super::pack::{Filters, Packed, pack_bias};
use crate::element::Element;
use crate::layout::{Arena, BLOCK};
use crate::simd::Isa;
use crate::window::Window;

/// Where a convolution's outputs lie in the map that it writes: pixel `offset + step · position`. The
/// gradient of a convolution with a stride is one convolution for each remainder of the stride.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) step: [usize; 2],
    pub(super) offset: [usize; 2],
}

impl Grid {
    pub(super) const ALL: Self = Self {
        step: [1, 1],
        offset: [0, 0],
    };

    /// Rows and columns of outputs in a map.
    pub(super) fn count(&self, size: [usize; 2]) -> [usize; 2] {
        [0, 1].map(|axis| {
            let room = size[axis].saturating_sub(self.offset[axis]);
            room.div_ceil(self.step[axis])
        })
    }
}

/// A convolution's weights and geometry.
#[derive(Debug)]
pub(super) struct Layer<E: Element> {
    pub(super) isa: Isa,
    pub(super) window: Window,
    /// Rows and columns from an output's first tap to its place; the padding, but for gradients.
    pub(super) border: [isize; 2],
    pub(super) grid: Grid,
    /// Channels of the maps that are read and written.
    pub(super) segments: [Vec<usize>; 2],
    pub(super) packed: Packed<E>,
    pub(super) bias: Arena,
}

impl<E: Element> Layer<E> {
    pub(super) fn of_filters(
        memory: Arena<E>,
        isa: Isa,
        window: Window,
        segments: [&[usize]; 2],
        filters: &Filters<'_>,
        bias: &[f32],
    ) -> Self {
        Self {
            isa,
            window,
            border: window.padding.map(|padding| padding as isize),
            grid: Grid::ALL,
            segments: segments.map(<[usize]>::to_vec),
            packed: filters.pack(isa, segments, memory),
            bias: pack_bias(segments[1], bias),
        }
    }

    /// Whether every tap of every output lies at the output's own place.
    pub(super) fn is_pointwise(&self) -> bool {
        self.window == Window::POINT && self.border == [0, 0] && self.grid == Grid::ALL
    }

    /// Weights of a whole panel.
    pub(super) fn panel_weights(&self) -> usize {
        let in_channels: usize = self.segments[0].iter().sum();
        in_channels * self.window.taps() * self.packed.panels[0].blocks * BLOCK
    }

    /// Panels whose weights fit a cache together.
    pub(super) fn panels_in_group(&self) -> usize {
        let bytes = size_of::<E>() * self.panel_weights();
        panels_in_group(self.packed.panels.len(), bytes)
    }
}

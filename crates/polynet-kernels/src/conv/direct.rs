//! Convolution by its definition, from packed weights.

use super::ahead::NextWeights;
use super::job::Job;
use super::layer::{Grid, Layer};
use super::pack::{Filters, check_weights, packed_elements};
use super::stores::{Stores, check_inputs_of, check_stores};
use crate::element::Element;
use crate::layout::{Arena, Pixel, View};
use crate::simd::Isa;
use crate::window::Window;

/// A convolution with packed weights.
#[derive(Debug)]
pub struct Conv<E: Element = f32> {
    layer: Layer<E>,
}

impl<E: Element> Conv<E> {
    /// Packs weights `[out_channels, in_channels, kernel_height, kernel_width]` and a bias
    /// `[out_channels]` for maps whose channels lie in the given segments.
    ///
    /// # Panics
    /// If the lengths do not fit, a kernel or stride is 0, or one of the window's numbers is larger than
    /// [`Window::LARGEST`].
    pub fn pack(
        isa: Isa,
        window: Window,
        [inputs, outputs]: [&[usize]; 2],
        weights: &[f32],
        bias: &[f32],
    ) -> Self {
        let memory = Arena::default();
        Self::pack_in(memory, isa, window, [inputs, outputs], weights, bias)
    }

    /// As [`Conv::pack`], in memory that is used again: that of [`Conv::into_memory`].
    ///
    /// # Panics
    /// As [`Conv::pack`].
    pub fn pack_in(
        memory: Arena<E>,
        isa: Isa,
        window: Window,
        [inputs, outputs]: [&[usize]; 2],
        weights: &[f32],
        bias: &[f32],
    ) -> Self {
        let [per_output, _] = check_weights(window, [inputs, outputs], weights);
        let filters = Filters {
            values: weights,
            strides: [per_output, window.taps()],
            taps: &(0..window.taps()).collect::<Vec<_>>(),
        };
        let segments = [inputs, outputs];
        Self::of_layer(Layer::of_filters(
            memory, isa, window, segments, &filters, bias,
        ))
    }

    pub(super) fn of_layer(layer: Layer<E>) -> Self {
        Self { layer }
    }

    /// Elements of the packed weights of a convolution; see [`Conv::pack`].
    pub fn packed_elements(window: Window, segments: [&[usize]; 2]) -> usize {
        packed_elements::<E>(window.taps(), segments)
    }

    /// The memory of the weights, for the next convolution.
    pub fn into_memory(self) -> Arena<E> {
        self.layer.packed.weights
    }

    /// Bytes of the packed weights.
    pub fn weight_bytes(&self) -> usize {
        size_of::<E>() * self.layer.packed.weights.len()
    }

    /// Convolves `inputs`, read as one concatenated map, and stores the result.
    ///
    /// # Panics
    /// If a view leaves the arena, sizes or channels do not fit, a row's halo is narrower than what
    /// the kernel reaches beyond the map, or a map that is written overlaps another one (but a sum may
    /// replace its addend).
    pub fn run(&self, arena: &mut Arena<E>, inputs: &[View], stores: Stores<'_>) {
        self.run_ahead(arena, inputs, stores, None);
    }

    /// As [`Conv::run`], and asks the memory for the weights of the convolution that comes next, so
    /// that they are in a cache by then.
    ///
    /// # Panics
    /// As [`Conv::run`].
    pub fn run_ahead(
        &self,
        arena: &mut Arena<E>,
        inputs: &[View],
        stores: Stores<'_>,
        next: Option<NextWeights<'_>>,
    ) {
        self.check(arena, inputs, &stores);
        Job::new(&self.layer, arena, inputs, stores).run(next);
    }

    /// The weights, for [`Conv::run_ahead`] of the convolution before.
    pub fn weights(&self) -> NextWeights<'_> {
        let groups = self
            .layer
            .packed
            .panels
            .len()
            .div_ceil(self.layer.panels_in_group());
        NextWeights::new(
            &self.layer.packed.weights,
            groups >= rayon::current_num_threads(),
        )
    }

    /// Whether outputs lie in rows and columns of a map of a size.
    pub(super) fn has_outputs(&self, size: [usize; 2]) -> bool {
        !self.layer.grid.count(size).contains(&0)
    }

    fn check(&self, arena: &Arena<E>, inputs: &[View], stores: &Stores<'_>) {
        let Layer {
            window,
            border,
            grid,
            segments: [in_segments, out_segments],
            ..
        } = &self.layer;
        let first = check_inputs_of(Pixel::Block, arena, inputs, in_segments);
        let result = stores.maps().next().expect("a result is stored");
        let size = result.size();
        let padding = window.padding.map(|padding| padding as isize);
        // A gradient's sizes are checked by who makes it.
        if *grid == Grid::ALL && *border == padding {
            assert_eq!(size, window.output_size(first.size()), "size");
        }
        // The columns that the taps of the first and of the last output reach beyond the map.
        let [_, columns] = grid.count(size);
        let right = (columns.max(1) - 1) * window.stride[1] + window.kernel[1];
        let beyond = right as isize - border[1] - first.width as isize;
        let halo = border[1].max(beyond).max(0) as usize;
        assert!(
            window.taps() == 0 || first.halo >= halo,
            "a halo of at least {halo} columns"
        );
        check_stores(arena, inputs, stores, (out_segments, size));
    }
}

//! Convolution by tiles of bf16.
//!
//! A tile's row is a pixel of a map, two blocks side by side, so that maps feed the tiles as they lie. One product
//! takes 16 pixels, 32 numbers of their sums and 16 output channels; two by two tiles of sums, of 32 pixels and 32 channels, stay
//! in registers while four tiles are loaded for four products. The pixels of all images are one sequence, so that
//! small maps leave no tile half empty. 16 pixels that do not lie side by side in the map are copied to where they do,
//! once for all output channels that follow.
//!
//! The sum of an output begins with its bias and takes its products in one order, whatever the number of threads.

mod inputs;
mod job;
mod kernel;
mod pack;
mod store;

#[cfg(test)]
mod tests;

use super::ahead::NextWeights;
use super::pack::check_weights;
use super::stores::{Stores, check_stores_of, check_views_of};
use crate::element::Element;
use crate::layout::{Arena, Pixel, View, clear_halo};
use crate::simd::Isa;
use crate::window::Window;
use job::{Job, Layer};
use kernel::Products;
use pack::Packed;

/// A convolution of maps whose [pixels](Pixel) have two blocks, with weights packed for tiles.
///
/// An instruction set without tiles gives the same bits by plain Rust, slowly.
#[derive(Debug)]
pub struct AmxConv<E: Element> {
    layer: Layer<E>,
}

impl<E: Element> AmxConv<E> {
    /// Packs weights `[out_channels, in_channels, kernel_height, kernel_width]` and a bias
    /// `[out_channels]` for maps whose channels lie in the given segments.
    ///
    /// # Panics
    /// If the elements are not bf16, the lengths do not fit, or the window has numbers that kernels do not take.
    pub fn pack(
        isa: Isa,
        window: Window,
        segments: [&[usize]; 2],
        weights: &[f32],
        bias: &[f32],
    ) -> Self {
        Self::pack_for((Products::of(isa), isa), window, segments, weights, bias)
    }

    fn pack_for(
        (products, isa): (Products, Isa),
        window: Window,
        segments: [&[usize]; 2],
        weights: &[f32],
        bias: &[f32],
    ) -> Self {
        check_weights(window, segments, weights);
        Self {
            layer: Layer {
                isa,
                products,
                kernels: E::choose(products).expect("tiles multiply bf16"),
                window,
                segments: segments.map(<[usize]>::to_vec),
                packed: Packed::new(window.taps(), segments, weights, bias),
            },
        }
    }

    /// What pixels the inputs have: a map of few channels, all taps of which share the products, may have either kind.
    fn input_pixel(&self, inputs: &[View]) -> Pixel {
        match self.layer.packed.depth.is_of_taps() {
            true => inputs.first().map_or(Pixel::TwoBlocks, View::pixel),
            false => Pixel::TwoBlocks,
        }
    }

    /// Bytes of the packed weights.
    pub fn weight_bytes(&self) -> usize {
        size_of::<E>() * self.layer.packed.weights.len()
    }

    /// The weights, for [`AmxConv::run_ahead`] of the convolution before.
    pub fn weights(&self) -> NextWeights<'_> {
        let groups = self
            .layer
            .packed
            .panels
            .len()
            .div_ceil(self.layer.panels_in_group());
        let are_divided = groups >= rayon::current_num_threads();
        NextWeights::new(&self.layer.packed.weights, are_divided)
    }

    /// Convolves `inputs`, read as one concatenated map, and stores the result; asks the memory for the weights of the
    /// convolution that comes next.
    ///
    /// # Panics
    /// If a view leaves the arena or has single blocks, sizes or channels do not fit, a row's halo is narrower than
    /// what the kernel reaches beyond the map, or a map that is written overlaps another one (but a sum may
    /// replace its addend).
    pub fn run_ahead(
        &self,
        arena: &mut Arena<E>,
        inputs: &[View],
        stores: Stores<'_>,
        next: Option<NextWeights<'_>>,
    ) {
        self.check(arena, inputs, &stores);
        for view in stores.maps() {
            clear_halo(view, arena);
        }
        Job::new(&self.layer, arena, inputs, stores).run(next);
    }

    fn check(&self, arena: &Arena<E>, inputs: &[View], stores: &Stores<'_>) {
        let Layer {
            window, segments, ..
        } = &self.layer;
        let first = *inputs.first().expect("a convolution has an input");
        check_views_of(self.input_pixel(inputs), arena, inputs, &segments[0]);
        let alike = |view: &View| {
            view.halo == first.halo && view.size() == first.size() && view.images == first.images
        };
        assert!(inputs.iter().all(alike), "inputs of one size and halo");
        let size = window.output_size(first.size());
        // The columns that the taps of the first and of the last output reach beyond the map.
        let right = (size[1].max(1) - 1) * window.stride[1] + window.kernel[1];
        let beyond = right.saturating_sub(window.padding[1] + first.width);
        let halo = beyond.max(window.padding[1]);
        assert!(first.halo >= halo, "a halo of at least {halo} columns");
        check_stores_of(
            Pixel::TwoBlocks,
            arena,
            inputs,
            stores,
            (&segments[1], size),
        );
    }
}

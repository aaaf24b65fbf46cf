//! Convolution by tiles of bf16 or of bytes.
//!
//! A tile's row is a pixel of a map, two blocks side by side or four of bytes, so that maps feed the tiles as they lie. One
//! product takes 16 pixels, 32 numbers of their sums, or 64 bytes, and 16 output channels; two by two tiles of sums, of 32 pixels and 32 channels, stay
//! in registers while four tiles are loaded for four products. The pixels of all images are one sequence, so that
//! small maps leave no tile half empty. 16 pixels that do not lie side by side in the map are copied to where they do,
//! once for all output channels that follow.
//!
//! The sum of an output begins with its bias and takes its products in one order, whatever the number of threads.

mod inputs;
mod job;
mod kernel;
mod layer;
mod pack;
mod quantized;
mod store;

#[cfg(test)]
mod tests;

use super::ahead::NextWeights;
use super::pack::check_weights;
use super::stores::{Stores, check_stores_of};
use crate::element::Element;
use crate::layout::{Arena, Pixel, Shared, View, clear_halo};
use crate::simd::Isa;
use crate::window::Window;
use job::Job;
use kernel::Products;
use layer::Layer;
use pack::Packed;
use store::FloatStores;

pub use quantized::QuantizedAmxConv;

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
        assert_eq!(bias.len(), segments[1].iter().sum::<usize>(), "bias");
        Self {
            layer: Layer {
                isa,
                products,
                kernels: E::choose(products).expect("tiles multiply bf16"),
                window,
                segments: segments.map(<[usize]>::to_vec),
                packed: Packed::new(window.taps(), segments, weights, E::from_f32).with_bias(bias),
            },
        }
    }

    /// Bytes of the packed weights.
    pub fn weight_bytes(&self) -> usize {
        self.layer.weight_bytes()
    }

    /// The weights, for [`AmxConv::run_ahead`] of the convolution before.
    pub fn weights(&self) -> NextWeights<'_> {
        self.layer.weights()
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
        let size = self.layer.check_inputs(arena, inputs);
        let outputs = (&self.layer.segments[1][..], size);
        check_stores_of(Pixel::TwoBlocks, arena, inputs, &stores, outputs);
        for view in stores.maps() {
            clear_halo(view, arena);
        }
        let memory = Shared::of(arena);
        let stores = FloatStores {
            layer: &self.layer,
            memory,
            stores,
        };
        Job::new(&self.layer, (memory, inputs), stores).run(next);
    }
}

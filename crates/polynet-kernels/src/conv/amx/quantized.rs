//! Convolution by tiles of bytes.

#[cfg(test)]
mod tests;

use super::inputs::Place;
use super::job::Job;
use super::kernel::Products;
use super::layer::Layer;
use super::pack::{PANEL, Packed};
use super::store::SumStores;
use crate::conv::ahead::NextWeights;
use crate::conv::quantized::end::{End, Outputs, Sums, Target, end};
use crate::conv::quantized::{QuantizedStores, QuantizedWeights};
use crate::element::Element;
use crate::layout::{Arena, BLOCK, Pixel, Shared, View, clear_halo};
use crate::simd::{ByteProducts, Isa};
use crate::window::Window;

/// A convolution of maps of bytes whose [pixels](Pixel) have four blocks, with weights packed for tiles.
///
/// It gives the bits of [`QuantizedConv`](crate::conv::QuantizedConv). An instruction set without tiles gives them by
/// plain Rust, slowly.
#[derive(Debug)]
pub struct QuantizedAmxConv {
    layer: Layer<i8>,
    /// `[panel][32]`.
    scales: Arena,
    /// `[panel][32]`.
    bias: Arena,
}

impl QuantizedAmxConv {
    /// Packs weights for maps whose channels lie in the given segments.
    ///
    /// # Panics
    /// If the lengths do not fit, or the window has numbers that kernels do not take.
    pub fn pack(
        isa: Isa,
        window: Window,
        segments: [&[usize]; 2],
        weights: QuantizedWeights<'_>,
    ) -> Self {
        Self::pack_for((Products::of(isa), isa), window, segments, weights)
    }

    pub(super) fn pack_for(
        (products, isa): (Products, Isa),
        window: Window,
        segments: [&[usize]; 2],
        weights: QuantizedWeights<'_>,
    ) -> Self {
        weights.check(window, segments);
        let packed = Packed::new(window.taps(), segments, weights.values, |weight| weight);
        Self {
            scales: packed.of_outputs(weights.scales),
            bias: packed.of_outputs(weights.bias),
            layer: Layer {
                isa,
                products,
                kernels: products.of_bytes(),
                window,
                segments: segments.map(<[usize]>::to_vec),
                packed,
            },
        }
    }

    /// Bytes of the packed weights.
    pub fn weight_bytes(&self) -> usize {
        self.layer.weight_bytes()
    }

    /// The weights, for those who ask the memory for them ahead.
    pub fn weights(&self) -> NextWeights<'_> {
        self.layer.weights()
    }

    /// Whether all taps share the steps of their sums.
    #[cfg(test)]
    pub(super) fn is_of_taps(&self) -> bool {
        self.layer.packed.depth.is_of_taps()
    }

    /// Convolves `inputs`, read as one concatenated map of bytes, and stores the result in the arena of
    /// bytes or in that of floating-point numbers, whose pixels have a block; asks the memory for the weights of the
    /// convolution that comes next.
    ///
    /// # Panics
    /// If a view leaves its arena or has pixels of another kind, sizes or channels do not fit, a row's halo is narrower
    /// than what the kernel reaches beyond the map, or a map that is written overlaps another one (but a sum may
    /// replace its addend).
    pub fn run_ahead<E: Element>(
        &self,
        (bytes, floats): (&mut Arena<u8>, &mut Arena<E>),
        inputs: &[View],
        stores: QuantizedStores<'_>,
        next: Option<NextWeights<'_>>,
    ) {
        let size = self.layer.check_inputs(bytes, inputs);
        let outputs = (&self.layer.segments[1][..], size);
        stores.check(Pixel::FourBlocks, (bytes, floats), inputs, outputs);
        for view in stores.bytes() {
            clear_halo(view, bytes);
        }
        for view in stores.floats() {
            clear_halo(view, floats);
        }
        let bytes = Shared::of(bytes);
        let stores = WholeStores {
            conv: self,
            bytes,
            floats: Shared::of(floats),
            stores,
            end: end::<E>(ByteProducts::of(self.layer.isa)),
        };
        Job::new(&self.layer, (bytes, inputs), stores).run(next);
    }
}

/// Whole sums on their way to maps.
struct WholeStores<'a, E> {
    conv: &'a QuantizedAmxConv,
    bytes: Shared<'a, u8>,
    floats: Shared<'a, E>,
    stores: QuantizedStores<'a>,
    end: End,
}

impl<E: Element> SumStores for WholeStores<'_, E> {
    fn have_halos(&self) -> bool {
        self.stores.all().any(|view| view.halo() != 0)
    }

    unsafe fn store(&self, panel: usize, from: Place, (sums, pixels): (*const f32, usize)) {
        let Self { conv, stores, .. } = self;
        let line = conv.layer.packed.panels[panel];
        let blocks = conv.layer.blocks_of(panel);
        let place = [from.image, from.row, from.column];
        let mut targets = [Target::NONE; 2];
        for (index, target) in targets.iter_mut().take(blocks).enumerate() {
            let block = [line.segment, line.block + index];
            *target = stores.target((self.bytes, self.floats), block, place);
        }
        let outputs = Outputs {
            scales: conv.scales.as_slice()[panel * PANEL..].as_ptr(),
            bias: conv.bias.as_slice()[panel * PANEL..].as_ptr(),
            targets: &targets[..blocks],
            byte_stride: Pixel::FourBlocks.channels(),
            epilogue: stores.epilogue(),
        };
        debug_assert!(outputs.lie_in((self.bytes, self.floats), pixels));
        let sums = Sums {
            first: sums.cast(),
            of_lane: 1,
            of_pixel: PANEL,
            lanes: blocks * BLOCK,
            first_pixel: 0,
            pixels,
        };
        // SAFETY: by the contract; the instruction set is the processor's.
        unsafe { (self.end)(&outputs, &sums) }
    }
}

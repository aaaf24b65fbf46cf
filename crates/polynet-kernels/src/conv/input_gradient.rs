//! The gradient of a convolution's input: a convolution of the output's gradient with the kernel
//! turned around. With a stride it falls apart into one for each remainder of rows and columns, so
//! that no zero is multiplied. Without one it may be computed by transforms.

use super::direct::Conv;
use super::layer::{Grid, Layer};
use super::pack::{Filters, check_weights};
use super::stores::{Stores, Sum, Value};
use super::winograd::Winograd;
use crate::element::Element;
use crate::layout::{Arena, View};
use crate::simd::Isa;
use crate::window::Window;

/// The gradient of a convolution's input, with packed weights.
#[derive(Debug)]
pub struct InputGradient<E: Element = f32> {
    window: Window,
    method: Method<E>,
    /// Memory that the method does not use.
    rest: GradientMemory<E>,
}

#[derive(Debug)]
enum Method<E: Element> {
    /// One for each remainder of the stride.
    Direct(Vec<Conv<E>>),
    Transformed(Winograd),
}

/// Memory of packed weights that is used again.
#[derive(Debug, Default)]
pub struct GradientMemory<E: Element = f32> {
    direct: Vec<Arena<E>>,
    transformed: Arena,
}

/// The taps of a kernel that reach the pixels of one remainder, along one axis.
struct Axis {
    /// Taps, the last first.
    taps: Vec<usize>,
    /// Places from an output's first tap to its own.
    border: isize,
}

impl Axis {
    fn new(window: &Window, axis: usize, remainder: usize) -> Self {
        let (stride, padding) = (window.stride[axis], window.padding[axis]);
        let first = (remainder + padding) % stride;
        let taps: Vec<usize> = (first..window.kernel[axis]).step_by(stride).rev().collect();
        // Pixel `stride · p + remainder` gets tap `first + stride · j` from output
        // `p + (remainder + padding − first) / stride − j`.
        let shift = ((remainder + padding - first) / stride) as isize;
        Self {
            border: taps.len() as isize - 1 - shift,
            taps,
        }
    }
}

impl InputGradient {
    /// Columns of zeros that the gradient of the output needs beside its rows, whatever the element.
    pub fn halo(window: Window) -> usize {
        window.kernel[1].saturating_sub(1)
    }
}

impl<E: Element> InputGradient<E> {
    /// Packs the weights `[out_channels, in_channels, kernel_height, kernel_width]` of a convolution
    /// whose maps have channels in the given segments.
    ///
    /// # Panics
    /// As [`Conv::pack`].
    pub fn pack(
        isa: Isa,
        window: Window,
        [inputs, outputs]: [&[usize]; 2],
        weights: &[f32],
    ) -> Self {
        Self::pack_in(
            GradientMemory::default(),
            isa,
            window,
            [inputs, outputs],
            weights,
        )
    }

    /// As [`InputGradient::pack`], in memory that is used again: that of
    /// [`InputGradient::into_memory`].
    ///
    /// # Panics
    /// As [`InputGradient::pack`].
    pub fn pack_in(
        mut memory: GradientMemory<E>,
        isa: Isa,
        window: Window,
        [inputs, outputs]: [&[usize]; 2],
        weights: &[f32],
    ) -> Self {
        let [per_output, _] = check_weights(window, [inputs, outputs], weights);
        let taps = window.taps();
        let zeros = vec![0.0; per_output / taps];
        let mut parts = Vec::new();
        for row in 0..window.stride[0] {
            let rows = Axis::new(&window, 0, row);
            for column in 0..window.stride[1] {
                let columns = Axis::new(&window, 1, column);
                let places = rows.taps.iter().flat_map(|row| {
                    let columns = columns.taps.iter();
                    columns.map(move |column| row * window.kernel[1] + column)
                });
                let filters = Filters {
                    values: weights,
                    strides: [taps, per_output],
                    taps: &places.collect::<Vec<_>>(),
                };
                let part = Window {
                    kernel: [rows.taps.len(), columns.taps.len()],
                    stride: [1, 1],
                    padding: [0, 0],
                };
                let memory = memory.direct.pop().unwrap_or_default();
                let segments = [outputs, inputs];
                let layer = Layer {
                    border: [rows.border, columns.border],
                    grid: Grid {
                        step: window.stride,
                        offset: [row, column],
                    },
                    ..Layer::of_filters(memory, isa, part, segments, &filters, &zeros)
                };
                parts.push(Conv::of_layer(layer));
            }
        }
        Self {
            window,
            method: Method::Direct(parts),
            rest: memory,
        }
    }

    /// As [`InputGradient::pack_in`], computed by transforms, for inputs of so many pixels of all images
    /// together. The gradients need no halo.
    ///
    /// # Panics
    /// As [`InputGradient::pack`], if the window has no transform, or if its padding is as wide as its
    /// kernel.
    pub fn transformed_in(
        mut memory: GradientMemory<E>,
        isa: Isa,
        (window, pixels): (Window, usize),
        [inputs, outputs]: [&[usize]; 2],
        weights: &[f32],
    ) -> Self {
        let [per_output, _] = check_weights(window, [inputs, outputs], weights);
        let taps = window.taps();
        let filters = Filters {
            values: weights,
            strides: [taps, per_output],
            taps: &(0..taps).rev().collect::<Vec<_>>(),
        };
        let padding = [0, 1].map(|axis| {
            let reach = window.kernel[axis] - 1;
            let padding = reach.checked_sub(window.padding[axis]);
            padding.expect("a padding narrower than the kernel")
        });
        let turned = Window { padding, ..window };
        let weights = std::mem::take(&mut memory.transformed);
        let zeros = vec![0.0; per_output / taps];
        let segments = [outputs, inputs];
        let conv = Winograd::of_filters(weights, isa, (turned, pixels), segments, &filters, &zeros);
        Self {
            window,
            method: Method::Transformed(conv),
            rest: memory,
        }
    }

    /// The memory of the weights, for the next convolution.
    pub fn into_memory(self) -> GradientMemory<E> {
        let mut memory = self.rest;
        match self.method {
            Method::Direct(parts) => {
                let parts = parts.into_iter().map(Conv::into_memory);
                memory.direct.extend(parts);
            }
            Method::Transformed(conv) => memory.transformed = conv.into_memory(),
        }
        memory
    }

    /// Writes the gradient of the input, or adds it to what is there if `add`.
    ///
    /// # Panics
    /// As [`Conv::run`]; the halo of `gradients` must be at least [`InputGradient::halo`] unless it is computed by
    /// transforms.
    pub fn run(&self, arena: &mut Arena<E>, gradients: &[View], to: &[View], add: bool) {
        let size = to.first().expect("a convolution has an input").size();
        let gradient_size = gradients
            .first()
            .expect("a convolution has a result")
            .size();
        assert_eq!(self.window.output_size(size), gradient_size, "size");
        let stores: Stores<'_> = if add {
            let sum = Sum {
                addend: to,
                to,
                scale: 1.0,
                relu: false,
            };
            sum.into()
        } else {
            Value { to, relu: false }.into()
        };
        match &self.method {
            Method::Direct(parts) => {
                for part in parts {
                    if part.has_outputs(size) {
                        part.run(arena, gradients, stores);
                    }
                }
            }
            Method::Transformed(conv) => conv.run(arena, gradients, stores),
        }
    }
}

//! Convolution with its epilogue: bias, ReLU, and a scaled sum with another map.
//!
//! [`Conv`] holds weights that are packed once for an instruction set. It reads any list of views as
//! one concatenated input and writes any list of views, so that a concatenation is never made.

mod ahead;
mod gradient;
mod input_gradient;
mod job;
mod naive;
mod pack;
mod tile;
mod toom;
mod winograd;

use crate::element::Element;
use crate::layout::{Arena, BLOCK, View};
use crate::simd::Isa;
use ahead::Share;
use job::Job;
use pack::{Filters, Packed, block_channels};
use rayon::prelude::*;

pub use ahead::NextWeights;
pub use gradient::weight_gradient;
pub use input_gradient::InputGradient;
pub use naive::convolve;
pub(crate) use tile::{TileKernel, bf16_tile_kernel, f32_tile_kernel};
pub use winograd::Winograd;

/// Kernel, step and border of a convolution, rows first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Rows and columns between outputs.
    pub stride: [usize; 2],
    /// Rows and columns of zeros on each side.
    pub padding: [usize; 2],
}

impl Window {
    /// 1×1, stride 1.
    pub const POINT: Self = Self {
        kernel: [1, 1],
        stride: [1, 1],
        padding: [0, 0],
    };

    /// Rows and columns of the result; 0 where the kernel does not fit.
    pub fn output_size(&self, size: [usize; 2]) -> [usize; 2] {
        [0, 1].map(|axis| {
            let padded = size[axis] + 2 * self.padding[axis];
            match padded.checked_sub(self.kernel[axis]) {
                Some(room) => room / self.stride[axis] + 1,
                None => 0,
            }
        })
    }

    /// Rows times columns of the kernel.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }
}

/// Where the result goes.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    /// The map, in the packed output segments.
    pub to: &'a [View],
    /// Whether `max(·, 0)` is stored.
    pub relu: bool,
}

/// `addend + scale · result`, and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Sum<'a> {
    /// What the result is added to. It may be where the sum goes.
    pub addend: &'a [View],
    /// The map, in the packed output segments.
    pub to: &'a [View],
    /// The factor of the result.
    pub scale: f32,
    /// Whether `max(·, 0)` is stored.
    pub relu: bool,
}

/// What becomes of a convolution's result; both at once is one pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stores<'a> {
    /// The result itself.
    pub value: Option<Value<'a>>,
    /// Its sum with another map.
    pub sum: Option<Sum<'a>>,
}

impl<'a> From<Value<'a>> for Stores<'a> {
    fn from(value: Value<'a>) -> Self {
        Self {
            value: Some(value),
            sum: None,
        }
    }
}

impl<'a> From<Sum<'a>> for Stores<'a> {
    fn from(sum: Sum<'a>) -> Self {
        Self {
            value: None,
            sum: Some(sum),
        }
    }
}

impl<'a> Stores<'a> {
    fn maps(&self) -> impl Iterator<Item = &'a View> {
        let value = self.value.iter().flat_map(|value| value.to);
        let sum = self.sum.iter().flat_map(|sum| sum.to);
        value.chain(sum)
    }
}

/// Where a convolution's outputs lie in the map that it writes: pixel `offset + step · position`. The
/// gradient of a convolution with a stride is one convolution for each remainder of the stride.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grid {
    step: [usize; 2],
    offset: [usize; 2],
}

impl Grid {
    const ALL: Self = Self {
        step: [1, 1],
        offset: [0, 0],
    };

    /// Rows and columns of outputs in a map.
    fn count(&self, size: [usize; 2]) -> [usize; 2] {
        [0, 1].map(|axis| {
            let room = size[axis].saturating_sub(self.offset[axis]);
            room.div_ceil(self.step[axis])
        })
    }
}

/// A convolution with packed weights.
#[derive(Debug)]
pub struct Conv<E: Element = f32> {
    isa: Isa,
    window: Window,
    /// Rows and columns from an output's first tap to its place; the padding, but for gradients.
    border: [isize; 2],
    grid: Grid,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    packed: Packed<E>,
    bias: Arena,
}

/// Weights of a group of panels that a task keeps in its cache.
const GROUP_BYTES: usize = 400 << 10;

impl<E: Element> Conv<E> {
    /// Packs weights `[out_channels, in_channels, kernel_height, kernel_width]` and a bias
    /// `[out_channels]` for maps whose channels lie in the given segments.
    ///
    /// # Panics
    /// If the lengths do not fit, or the processor lacks the instruction set.
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
        let per_output = inputs.iter().sum::<usize>() * window.taps();
        let out_channels: usize = outputs.iter().sum();
        assert_eq!(weights.len(), out_channels * per_output, "weights");
        let filters = Filters {
            values: weights,
            strides: [per_output, window.taps()],
            taps: &(0..window.taps()).collect::<Vec<_>>(),
        };
        Self::of_filters(memory, isa, window, [inputs, outputs], &filters, bias)
    }

    fn of_filters(
        memory: Arena<E>,
        isa: Isa,
        window: Window,
        [inputs, outputs]: [&[usize]; 2],
        filters: &Filters<'_>,
        bias: &[f32],
    ) -> Self {
        assert!(isa.is_available(), "this processor has no {isa}");
        Self {
            isa,
            window,
            border: window.padding.map(|padding| padding as isize),
            grid: Grid::ALL,
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
            packed: filters.pack(isa, [inputs, outputs], memory),
            bias: pack_bias(outputs, bias),
        }
    }

    /// The memory of the weights, for the next convolution.
    pub fn into_memory(self) -> Arena<E> {
        self.packed.weights
    }

    /// Weights of a whole panel.
    fn panel_weights(&self) -> usize {
        let in_channels: usize = self.inputs.iter().sum();
        in_channels * self.window.taps() * self.packed.panels[0].blocks * BLOCK
    }

    /// Panels whose weights fit a cache together.
    fn panels_in_group(&self) -> usize {
        let bytes = size_of::<E>() * self.panel_weights().max(1);
        (GROUP_BYTES / bytes).clamp(1, self.packed.panels.len())
    }

    /// Bytes of the packed weights.
    pub fn weight_bytes(&self) -> usize {
        size_of::<E>() * self.packed.weights.len()
    }

    /// Convolves `inputs`, read as one concatenated map, and stores the result.
    ///
    /// # Panics
    /// If a view leaves the arena, sizes or channels do not fit, a row's halo is narrower than what
    /// the kernel reaches beyond the map, or a map that is written overlaps one that is read (but a sum may replace its
    /// addend).
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
        let job = Job::new(self, arena, inputs, stores);
        let tasks = job.tasks();
        let run = |index: usize| {
            let share = next.map_or(Share::NOTHING, |next| next.share(index, tasks.len()));
            job.run(tasks[index], share);
        };
        if tasks.len() == 1 {
            run(0);
        } else {
            (0..tasks.len()).into_par_iter().for_each(run);
        }
    }

    /// The weights, for [`Conv::run_ahead`] of the convolution before.
    pub fn weights(&self) -> NextWeights<'_> {
        let groups = self.packed.panels.len().div_ceil(self.panels_in_group());
        NextWeights::new(&self.packed.weights, groups >= rayon::current_num_threads())
    }

    fn check(&self, arena: &Arena<E>, inputs: &[View], stores: &Stores<'_>) {
        let first = *inputs.first().expect("a convolution has an input");
        check_views(arena, inputs, &self.inputs);
        let alike = |view: &View| {
            view.halo == first.halo && view.size() == first.size() && view.images == first.images
        };
        assert!(inputs.iter().all(alike), "inputs of one size and halo");
        let result = stores.maps().next().expect("a result is stored");
        let size = result.size();
        let padding = self.window.padding.map(|padding| padding as isize);
        // A gradient's sizes are checked by who makes it.
        if self.grid == Grid::ALL && self.border == padding {
            assert_eq!(size, self.window.output_size(first.size()), "size");
        }
        // The columns that the taps of the first and of the last output reach beyond the map.
        let [_, columns] = self.grid.count(size);
        let right = (columns.max(1) - 1) * self.window.stride[1] + self.window.kernel[1];
        let beyond = right as isize - self.border[1] - first.width as isize;
        let halo = self.border[1].max(beyond).max(0) as usize;
        assert!(
            self.window.taps() == 0 || first.halo >= halo,
            "a halo of at least {halo} columns"
        );
        check_stores(arena, inputs, stores, (&self.outputs, size));
    }
}

/// Checks the maps that results of a size are stored in, with channels in the given segments.
fn check_stores<E: Element>(
    arena: &Arena<E>,
    inputs: &[View],
    stores: &Stores<'_>,
    (outputs, size): (&[usize], [usize; 2]),
) {
    assert!(stores.maps().next().is_some(), "a result is stored");
    let shape = |views: &[View]| {
        check_views(arena, views, outputs);
        let fits = |view: &View| view.size() == size && view.images == inputs[0].images;
        assert!(views.iter().all(fits), "results of {size:?}");
    };
    let apart = |written: &[View], read: &[View]| {
        let overlap = written.iter().any(|w| read.iter().any(|r| w.overlaps(r)));
        assert!(!overlap, "a map is written while it is read");
    };
    if let Some(value) = &stores.value {
        shape(value.to);
        apart(value.to, inputs);
    }
    if let Some(sum) = &stores.sum {
        shape(sum.to);
        shape(sum.addend);
        apart(sum.to, inputs);
        if sum.to != sum.addend {
            apart(sum.to, sum.addend);
        }
        if let Some(value) = &stores.value {
            apart(value.to, sum.to);
            apart(value.to, sum.addend);
        }
    }
}

/// A bias with its channels in blocks.
fn pack_bias(outputs: &[usize], bias: &[f32]) -> Arena {
    let targets = block_channels(outputs);
    assert_eq!(bias.len(), outputs.iter().sum::<usize>(), "bias");
    let mut packed = Arena::new(targets.len() * BLOCK);
    for (to, (first, used)) in packed.as_mut_slice().chunks_exact_mut(BLOCK).zip(targets) {
        to[..used].copy_from_slice(&bias[first..first + used]);
    }
    packed
}

fn check_views<E: Element>(arena: &Arena<E>, views: &[View], segments: &[usize]) {
    let channels: Vec<usize> = views.iter().map(|view| view.channels).collect();
    assert_eq!(channels, segments, "channels of the views");
    assert!(
        views.iter().all(|view| view.end() <= arena.len()),
        "views inside the arena"
    );
}

#[cfg(test)]
mod tests;

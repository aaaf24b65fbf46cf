//! Convolution of stride 1 by Toom-Cook transforms (Winograd's algorithm): fewer multiplications, as
//! many bytes.
//!
//! A task takes some tiles of the result through three steps in memory of its own: transform their
//! inputs, multiply the channels for each point by the pointwise microkernel, transform back.

use super::pack::block_channels;
use super::tile::{Ahead, Geometry, Source, Tap, Target, Tile, f32_tile_kernel};
use super::toom::{Toom, filter_matrix};
use super::{Conv, Value, Window, check_views, pack_bias};
use crate::element::Element;
use crate::layout::{Arena, BLOCK, View, clear_halo};
use crate::simd::{Isa, Simd};
use rayon::prelude::*;
use std::cell::RefCell;

/// Bytes of transformed inputs and products of a task, to stay in its cache.
const SCRATCH_BYTES: usize = 512 << 10;

/// A transform along one axis.
trait Transform: Copy + Sync {
    /// Products of a tile.
    const POINTS: usize;
    /// Outputs of a tile.
    const OUTPUTS: usize;

    fn new() -> Self;

    /// # Safety
    /// As [`Toom::input`].
    unsafe fn input<S: Simd, E: Element>(
        &self,
        d: *const E,
        stride: usize,
        to: *mut f32,
        to_stride: usize,
    );

    /// # Safety
    /// As [`Toom::output`].
    unsafe fn output<S: Simd>(&self, m: *const f32, stride: usize, to: *mut f32, to_stride: usize);
}

/// No transform, for an axis along which the kernel has one tap.
#[derive(Clone, Copy)]
struct Identity;

impl Transform for Identity {
    const POINTS: usize = 1;
    const OUTPUTS: usize = 1;

    fn new() -> Self {
        Self
    }

    #[inline(always)]
    unsafe fn input<S: Simd, E: Element>(&self, d: *const E, _: usize, to: *mut f32, _: usize) {
        // SAFETY: by the contract.
        unsafe { S::store(to, E::load::<S>(d)) }
    }

    #[inline(always)]
    unsafe fn output<S: Simd>(&self, m: *const f32, _: usize, to: *mut f32, _: usize) {
        // SAFETY: by the contract.
        unsafe { S::store(to, S::load(m)) }
    }
}

/// `M` outputs from `2K + 2` points.
#[derive(Clone, Copy)]
struct Outputs<const K: usize, const M: usize>(Toom<K>);

impl<const K: usize, const M: usize> Transform for Outputs<K, M> {
    const POINTS: usize = 2 * K + 2;
    const OUTPUTS: usize = M;

    fn new() -> Self {
        Self(Toom::new())
    }

    #[inline(always)]
    unsafe fn input<S: Simd, E: Element>(
        &self,
        d: *const E,
        stride: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        // SAFETY: by the contract.
        unsafe { self.0.input::<S, E>(d, stride, to, to_stride) }
    }

    #[inline(always)]
    unsafe fn output<S: Simd>(&self, m: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: by the contract.
        unsafe { self.0.output::<S, M>(m, stride, to, to_stride) }
    }
}

type Three = Outputs<2, 4>;
type Seven = Outputs<4, 4>;

/// The kernels that have a transform, rows times columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Row3,
    Column3,
    Square3,
    Row7,
    Column7,
}

impl Shape {
    fn of(window: Window) -> Option<Self> {
        if window.stride != [1, 1] {
            return None;
        }
        match window.kernel {
            [1, 3] => Some(Self::Row3),
            [3, 1] => Some(Self::Column3),
            [3, 3] => Some(Self::Square3),
            [1, 7] => Some(Self::Row7),
            [7, 1] => Some(Self::Column7),
            _ => None,
        }
    }

    /// Pairs and outputs of the transform of each axis; no pairs where there is none.
    fn axes(self) -> [(usize, usize); 2] {
        let (one, three, seven) = ((0, 1), (2, 4), (4, 4));
        match self {
            Self::Row3 => [one, three],
            Self::Column3 => [three, one],
            Self::Square3 => [three, three],
            Self::Row7 => [one, seven],
            Self::Column7 => [seven, one],
        }
    }
}

/// A convolution with transformed and packed weights.
#[derive(Debug)]
pub struct Winograd {
    isa: Isa,
    window: Window,
    shape: Shape,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    /// A pointwise convolution for every point.
    points: Vec<Conv>,
    bias: Arena,
}

impl Winograd {
    /// Whether a window has a transform.
    pub fn has(window: Window) -> bool {
        Shape::of(window).is_some()
    }

    /// As [`Conv::pack`].
    ///
    /// # Panics
    /// As [`Conv::pack`], and if the window has no transform.
    pub fn pack(
        isa: Isa,
        window: Window,
        [inputs, outputs]: [&[usize]; 2],
        weights: &[f32],
        bias: &[f32],
    ) -> Self {
        let shape = Shape::of(window).expect("the window has a transform");
        let [row_pairs, column_pairs] = shape.axes().map(|(pairs, _)| pairs);
        let by_row = filter_matrix(row_pairs, window.kernel[0]);
        let by_column = filter_matrix(column_pairs, window.kernel[1]);
        let transformed: Vec<Vec<f32>> = by_row
            .iter()
            .flat_map(|row| by_column.iter().map(move |column| (row, column)))
            .map(|(row, column)| {
                let factors: Vec<f64> = row
                    .iter()
                    .flat_map(|r| column.iter().map(move |c| r * c))
                    .collect();
                let filters = weights.chunks_exact(factors.len());
                filters
                    .map(|filter| {
                        let products = filter.iter().zip(&factors);
                        products
                            .map(|(&tap, factor)| f64::from(tap) * factor)
                            .sum::<f64>() as f32
                    })
                    .collect()
            })
            .collect();
        let zeros = vec![0.0; bias.len()];
        let points = transformed
            .iter()
            .map(|weights| Conv::pack(isa, Window::POINT, [inputs, outputs], weights, &zeros))
            .collect();
        Self {
            isa,
            window,
            shape,
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
            points,
            bias: pack_bias(outputs, bias),
        }
    }

    /// As [`Conv::run`], for a result that is stored; inputs need no halo.
    ///
    /// # Panics
    /// As [`Conv::run`].
    pub fn run<E: Element>(&self, arena: &mut Arena<E>, inputs: &[View], value: Value<'_>) {
        self.check(arena, inputs, value.to);
        for view in value.to {
            clear_halo(view, arena);
        }
        let input = inputs[0];
        let size = self.window.output_size(input.size());
        let outputs = self.shape.axes().map(|(_, outputs)| outputs);
        let tiles = [0, 1].map(|axis| size[axis].div_ceil(outputs[axis]));
        let channels: usize = self.inputs.iter().chain(&self.outputs).sum();
        let tile_bytes = 4 * self.points.len() * channels;
        let total = input.images * tiles[0] * tiles[1];
        let most = (SCRATCH_BYTES / tile_bytes).clamp(4, 128);
        let threads = rayon::current_num_threads();
        let tasks = total.div_ceil(most).next_multiple_of(threads).min(total);
        let job = Job {
            winograd: self,
            memory: arena.as_mut_slice().as_mut_ptr(),
            inputs,
            value,
            size,
            tiles,
        };
        let run = |task: usize| job.run(task * total / tasks, (task + 1) * total / tasks);
        (0..tasks).into_par_iter().for_each(run);
    }

    fn check<E: Element>(&self, arena: &Arena<E>, inputs: &[View], to: &[View]) {
        check_views(arena, inputs, &self.inputs);
        check_views(arena, to, &self.outputs);
        let input = inputs[0];
        let size = self.window.output_size(input.size());
        let fits = |view: &View| view.size() == size && view.images == input.images;
        assert!(to.iter().all(fits), "results of {size:?}");
        let alike = |view: &View| view.size() == input.size() && view.images == input.images;
        assert!(inputs.iter().all(alike), "inputs of one size");
        let overlap = to.iter().any(|w| inputs.iter().any(|r| w.overlaps(r)));
        assert!(!overlap, "a map is written while it is read");
    }
}

thread_local! {
    static SCRATCH: RefCell<Arena> = RefCell::new(Arena::new(0));
}

/// A convolution on given memory.
struct Job<'a, E> {
    winograd: &'a Winograd,
    memory: *mut E,
    inputs: &'a [View],
    value: Value<'a>,
    /// Rows and columns of the result.
    size: [usize; 2],
    /// Rows and columns of tiles.
    tiles: [usize; 2],
}

// SAFETY: tasks write disjoint tiles, and `Winograd::check` keeps what is written apart from what is
// read.
unsafe impl<E> Sync for Job<'_, E> {}

/// Tiles of a task and its scratch memory: `[point][block][tile][16]` of inputs, then of products.
struct Scratch {
    first: usize,
    count: usize,
    inputs: *mut f32,
    products: *mut f32,
}

impl<E: Element> Job<'_, E> {
    fn run(&self, first: usize, end: usize) {
        let winograd = self.winograd;
        let blocks = |views: &[View]| views.iter().map(View::blocks).sum::<usize>();
        let (in_blocks, out_blocks) = (blocks(self.inputs), blocks(self.value.to));
        let points = winograd.points.len();
        let count = end - first;
        let in_elements = points * in_blocks * count * BLOCK;
        let out_elements = points * out_blocks * count * BLOCK;
        SCRATCH.with_borrow_mut(|scratch| {
            if scratch.len() < in_elements + out_elements {
                *scratch = Arena::new(in_elements + out_elements);
            }
            let inputs = scratch.as_mut_slice().as_mut_ptr();
            let scratch = Scratch {
                first,
                count,
                inputs,
                // SAFETY: the arena holds both.
                products: unsafe { inputs.add(in_elements) },
            };
            self.transform(&scratch, transform_inputs_of(winograd.shape, winograd.isa));
            self.multiply(&scratch, in_blocks, out_blocks);
            self.transform(&scratch, transform_outputs_of(winograd.shape, winograd.isa));
        });
    }

    fn transform(&self, scratch: &Scratch, function: TransformFn<E>) {
        // SAFETY: `Winograd::check` has found every view inside the arena and of the right size;
        // the scratch memory holds what the tiles need; the instruction set is available.
        unsafe { function(self, scratch) }
    }

    /// The product of the channels for every point.
    fn multiply(&self, scratch: &Scratch, in_blocks: usize, out_blocks: usize) {
        let geometry = Geometry::of(self.winograd.isa);
        let used = block_channels(&self.winograd.inputs);
        let count = scratch.count;
        let runs = count.div_ceil(geometry.pixels);
        let taps = [Tap { input: 0, index: 0 }];
        let mut sources = Vec::with_capacity(in_blocks);
        for (point, conv) in self.winograd.points.iter().enumerate() {
            sources.clear();
            for (block, &(first_channel, channels)) in used.iter().enumerate() {
                let at = (point * in_blocks + block) * count * BLOCK;
                sources.push(Source {
                    // SAFETY: inside the scratch memory.
                    pixels: unsafe { scratch.inputs.add(at) },
                    steps: channels,
                    first_step: first_channel,
                });
            }
            for run in 0..runs {
                let (first, end) = (run * count / runs, (run + 1) * count / runs);
                for panel in &conv.packed.panels {
                    let mut targets = [Target::NONE; 2];
                    for (block, target) in targets.iter_mut().take(panel.blocks).enumerate() {
                        let block = point * out_blocks + panel.first_block + block;
                        // SAFETY: inside the scratch memory.
                        target.value =
                            unsafe { scratch.products.add((block * count + first) * BLOCK) };
                    }
                    let tile = Tile {
                        sources: &sources,
                        origin: (first * BLOCK) as isize,
                        taps: &taps,
                        all_taps: 1,
                        pixel_stride: BLOCK,
                        out_stride: BLOCK,
                        // SAFETY: panels and their biases lie in the packed arenas.
                        weights: unsafe {
                            conv.packed.weights.as_slice().as_ptr().add(panel.weights)
                        },
                        // SAFETY: as above.
                        bias: unsafe {
                            conv.bias.as_slice().as_ptr().add(panel.first_block * BLOCK)
                        },
                        targets: &targets[..panel.blocks],
                        scale: 0.0,
                        ahead: Ahead::NOTHING,
                        value_relu: false,
                        sum_relu: false,
                    };
                    let kernel = f32_tile_kernel(conv.isa, panel.blocks, end - first, BLOCK);
                    // SAFETY: sources and targets hold the pixels of the run.
                    unsafe { kernel(&tile) }
                }
            }
        }
    }

    /// Image, row and column of a tile's first output.
    fn place(&self, tile: usize, outputs: [usize; 2]) -> [usize; 3] {
        let (line, column) = (tile / self.tiles[1], tile % self.tiles[1]);
        let (image, row) = (line / self.tiles[0], line % self.tiles[0]);
        [image, row * outputs[0], column * outputs[1]]
    }
}

/// The most points of a tile.
const MAX_POINTS: usize = 36;

/// Room for the vectors of a tile.
#[repr(align(64))]
struct Vectors([f32; MAX_POINTS * BLOCK]);

/// # Safety
/// The processor has the instruction set; the views lie in the arena, and the scratch memory holds
/// what its tiles need.
#[inline(always)]
unsafe fn transform_inputs<S: Simd, E: Element, R: Transform, C: Transform>(
    job: &Job<'_, E>,
    s: &Scratch,
) {
    let (by_row, by_column) = (R::new(), C::new());
    let padding = job.winograd.window.padding;
    let blocks: usize = job.inputs.iter().map(View::blocks).sum();
    let point_stride = blocks * s.count * BLOCK;
    let mut gathered = Vectors([0.0; MAX_POINTS * BLOCK]);
    let mut rows = Vectors([0.0; MAX_POINTS * BLOCK]);
    let mut first_block = 0;
    for view in job.inputs {
        for tile in 0..s.count {
            let [image, row, column] = job.place(s.first + tile, [R::OUTPUTS, C::OUTPUTS]);
            let top = row as isize - padding[0] as isize;
            let left = column as isize - padding[1] as isize;
            let is_inside = top >= 0
                && left >= 0
                && top as usize + R::POINTS <= view.height
                && left as usize + C::POINTS <= view.width;
            for block in 0..view.blocks() {
                // SAFETY: by the contract; places outside the map are not read.
                unsafe {
                    let plane = job.memory.add(view.at(image, block, 0, 0)).cast_const();
                    for lane in (0..BLOCK).step_by(S::LANES) {
                        let to = s
                            .inputs
                            .add(((first_block + block) * s.count + tile) * BLOCK + lane);
                        let middle = rows.0.as_mut_ptr();
                        let place = |r: usize| {
                            if R::POINTS == 1 {
                                (to, point_stride)
                            } else {
                                (middle.add(r * C::POINTS * BLOCK), BLOCK)
                            }
                        };
                        if is_inside {
                            let first = top as usize * view.row_stride() + left as usize * BLOCK;
                            let d = plane.add(first + lane);
                            for r in 0..R::POINTS {
                                let (to, stride) = place(r);
                                let d = d.add(r * view.row_stride());
                                by_column.input::<S, E>(d, BLOCK, to, stride);
                            }
                        } else {
                            let d = gathered.0.as_mut_ptr();
                            let size = [R::POINTS, C::POINTS];
                            gather::<S, E>(view, plane.add(lane), [top, left], size, d);
                            for r in 0..R::POINTS {
                                let (to, stride) = place(r);
                                let d = d.add(r * C::POINTS * BLOCK).cast_const();
                                by_column.input::<S, f32>(d, BLOCK, to, stride);
                            }
                        }
                        if R::POINTS > 1 {
                            for c in 0..C::POINTS {
                                let from = middle.add(c * BLOCK);
                                let to = to.add(c * point_stride);
                                let strides = [C::POINTS * BLOCK, C::POINTS * point_stride];
                                by_row.input::<S, f32>(
                                    from.cast_const(),
                                    strides[0],
                                    to,
                                    strides[1],
                                );
                            }
                        }
                    }
                }
            }
        }
        first_block += view.blocks();
    }
}

/// Copies a tile's vectors, with zeros for what lies outside the map.
///
/// # Safety
/// As [`transform_inputs`]; `to` holds `rows · columns` vectors, 16 elements apart.
#[inline(always)]
unsafe fn gather<S: Simd, E: Element>(
    view: &View,
    plane: *const E,
    [top, left]: [isize; 2],
    [rows, columns]: [usize; 2],
    to: *mut f32,
) {
    for r in 0..rows {
        let y = top + r as isize;
        for c in 0..columns {
            let x = left + c as isize;
            let inside =
                (0..view.height as isize).contains(&y) && (0..view.width as isize).contains(&x);
            // SAFETY: by the contract; the place was checked.
            unsafe {
                let value = if inside {
                    E::load::<S>(plane.add(y as usize * view.row_stride() + x as usize * BLOCK))
                } else {
                    S::splat(0.0)
                };
                S::store(to.add((r * columns + c) * BLOCK), value);
            }
        }
    }
}

/// # Safety
/// As [`transform_inputs`].
#[inline(always)]
unsafe fn transform_outputs<S: Simd, E: Element, R: Transform, C: Transform>(
    job: &Job<'_, E>,
    s: &Scratch,
) {
    let (by_row, by_column) = (R::new(), C::new());
    let blocks: usize = job.value.to.iter().map(View::blocks).sum();
    let point_stride = blocks * s.count * BLOCK;
    let mut rows = Vectors([0.0; MAX_POINTS * BLOCK]);
    let mut results = Vectors([0.0; MAX_POINTS * BLOCK]);
    let mut first_block = 0;
    for view in job.value.to {
        for tile in 0..s.count {
            let [image, row, column] = job.place(s.first + tile, [R::OUTPUTS, C::OUTPUTS]);
            for block in 0..view.blocks() {
                let out_block = first_block + block;
                for lane in (0..BLOCK).step_by(S::LANES) {
                    // SAFETY: by the contract; places outside the map are not written.
                    unsafe {
                        let from = s.products.add((out_block * s.count + tile) * BLOCK + lane);
                        let middle = rows.0.as_mut_ptr();
                        let to = results.0.as_mut_ptr();
                        for r in 0..R::POINTS {
                            let from = from.add(r * C::POINTS * point_stride);
                            let to = middle.add(r * C::OUTPUTS * BLOCK);
                            by_column.output::<S>(from, point_stride, to, BLOCK);
                        }
                        for c in 0..C::OUTPUTS {
                            let stride = C::OUTPUTS * BLOCK;
                            by_row.output::<S>(
                                middle.add(c * BLOCK),
                                stride,
                                to.add(c * BLOCK),
                                stride,
                            );
                        }
                        let bias = S::load(
                            job.winograd
                                .bias
                                .as_slice()
                                .as_ptr()
                                .add(out_block * BLOCK + lane),
                        );
                        for r in 0..R::OUTPUTS.min(job.size[0] - row) {
                            for c in 0..C::OUTPUTS.min(job.size[1] - column) {
                                let value = S::load(to.add((r * C::OUTPUTS + c) * BLOCK));
                                let mut value = S::add(value, bias);
                                if job.value.relu {
                                    value = S::max(S::splat(0.0), value);
                                }
                                let place = view.at(image, block, row + r, column + c) + lane;
                                E::store::<S>(job.memory.add(place), value);
                            }
                        }
                    }
                }
            }
        }
        first_block += view.blocks();
    }
}

type TransformFn<E> = unsafe fn(&Job<'_, E>, &Scratch);

/// Compiles a transform for every shape of an instruction set.
macro_rules! transforms {
    ($name:ident, $simd:ty, $feature:meta) => {
        mod $name {
            use super::*;

            /// # Safety
            /// As [`transform_inputs`].
            #[$feature]
            unsafe fn inputs<E: Element, R: Transform, C: Transform>(
                job: &Job<'_, E>,
                scratch: &Scratch,
            ) {
                // SAFETY: the caller's contract is the same.
                unsafe { transform_inputs::<$simd, E, R, C>(job, scratch) }
            }

            /// # Safety
            /// As [`transform_outputs`].
            #[$feature]
            unsafe fn outputs<E: Element, R: Transform, C: Transform>(
                job: &Job<'_, E>,
                scratch: &Scratch,
            ) {
                // SAFETY: the caller's contract is the same.
                unsafe { transform_outputs::<$simd, E, R, C>(job, scratch) }
            }

            pub(super) fn inputs_of<E: Element>(shape: Shape) -> TransformFn<E> {
                match shape {
                    Shape::Row3 => inputs::<E, Identity, Three>,
                    Shape::Column3 => inputs::<E, Three, Identity>,
                    Shape::Square3 => inputs::<E, Three, Three>,
                    Shape::Row7 => inputs::<E, Identity, Seven>,
                    Shape::Column7 => inputs::<E, Seven, Identity>,
                }
            }

            pub(super) fn outputs_of<E: Element>(shape: Shape) -> TransformFn<E> {
                match shape {
                    Shape::Row3 => outputs::<E, Identity, Three>,
                    Shape::Column3 => outputs::<E, Three, Identity>,
                    Shape::Square3 => outputs::<E, Three, Three>,
                    Shape::Row7 => outputs::<E, Identity, Seven>,
                    Shape::Column7 => outputs::<E, Seven, Identity>,
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
transforms!(
    avx512,
    crate::simd::Avx512,
    target_feature(enable = "avx512f")
);
#[cfg(target_arch = "x86_64")]
transforms!(avx2, crate::simd::Avx2, target_feature(enable = "avx2,fma"));
#[cfg(target_arch = "aarch64")]
transforms!(neon, crate::simd::Neon, inline);
transforms!(portable, crate::simd::Portable, inline);

fn transform_inputs_of<E: Element>(shape: Shape, isa: Isa) -> TransformFn<E> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16 | Isa::Avx512 => avx512::inputs_of(shape),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::inputs_of(shape),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => neon::inputs_of(shape),
        _ => portable::inputs_of(shape),
    }
}

fn transform_outputs_of<E: Element>(shape: Shape, isa: Isa) -> TransformFn<E> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16 | Isa::Avx512 => avx512::outputs_of(shape),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::outputs_of(shape),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => neon::outputs_of(shape),
        _ => portable::outputs_of(shape),
    }
}

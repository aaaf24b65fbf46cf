//! A convolution at work: its tasks, and their calls of the microkernel.

use super::ahead::NextWeights;
use super::division::{Division, Run, TASK_MACS};
use super::layer::{Grid, Layer};
use super::places::{Reach, Source, Tap};
use super::stores::Stores;
use super::tile::{Geometry, Target, Tile, TileShape};
use crate::element::Element;
use crate::layout::{Arena, BLOCK, Shared, View, clear_halo};

/// A convolution on given memory.
pub(super) struct Job<'a, E: Element> {
    layer: &'a Layer<E>,
    memory: Shared<'a, E>,
    inputs: &'a [View],
    stores: Stores<'a>,
    taps: Vec<Tap>,
    division: Division,
}

impl<'a, E: Element> Job<'a, E> {
    /// Of maps that were checked: they lie in the arena, have the right sizes and halos, and tasks that
    /// write different parts of them do not meet.
    pub(super) fn new(
        layer: &'a Layer<E>,
        arena: &'a mut Arena<E>,
        inputs: &'a [View],
        stores: Stores<'a>,
    ) -> Self {
        let window = layer.window;
        let input = inputs[0];
        let result = stores.maps().next().expect("a result is stored");
        let [mut rows, mut columns] = layer.grid.count(result.size());
        let addends = stores.sum.iter().flat_map(|sum| sum.addend);
        let has_halo = |view: &View| view.halo > 0;
        let is_flat = layer.is_pointwise()
            && !inputs.iter().any(has_halo)
            && !stores.maps().chain(addends).any(has_halo);
        if is_flat {
            (rows, columns) = (1, rows * columns);
        }
        let taps = Tap::all(window, &input);
        for view in stores.maps() {
            clear_halo(view, arena);
        }
        let in_blocks: usize = inputs.iter().map(View::blocks).sum();
        let pixel_bytes = size_of::<E>() * in_blocks * BLOCK * window.taps();
        Self {
            layer,
            memory: Shared::of(arena),
            inputs,
            stores,
            taps,
            division: Division {
                panels: layer.packed.panels.len(),
                panels_in_group: layer.panels_in_group(),
                panel_macs: layer.panel_weights(),
                rows,
                columns,
                images: input.images,
                tile_pixels: Geometry::of(layer.isa).pixels,
                pixel_bytes,
                task_macs: TASK_MACS,
            },
        }
    }

    /// Convolves, and asks for the weights that come next.
    pub(super) fn run(&self, next: Option<NextWeights<'_>>) {
        let share = |task, tasks| NextWeights::share_of(next, task, tasks);
        self.division
            .for_runs(share, Sources::default, |sources, run| {
                self.run_tiles(sources.of(run.image, self), &run);
            });
    }

    fn run_tiles(&self, sources: &[Source<E>], run: &Run) {
        let &Run {
            image,
            row,
            tiles,
            ahead,
            ..
        } = run;
        let panel = &self.layer.packed.panels[run.panel];
        let column = tiles.first_pixel;
        let (layer, input) = (self.layer, self.inputs[0]);
        let stride = layer.window.stride;
        let reach = Reach::of((layer.window, layer.border), &input, [row, column]);
        let mut targets = [Target::NONE; 2];
        for (block, target) in targets.iter_mut().take(panel.blocks).enumerate() {
            *target = self.target(panel.first_block + block, [image, row, column]);
        }
        let out_stride = layer.grid.step[1] * BLOCK;
        let pixel_stride = stride[1] * BLOCK;
        let tile = Tile {
            sources,
            origin: reach.origin,
            taps: &self.taps[reach.taps],
            all_taps: self.taps.len(),
            pixel_stride,
            out_stride,
            // SAFETY: panels and their biases lie in the packed arenas.
            weights: unsafe { layer.packed.weights.as_slice().as_ptr().add(panel.weights) },
            // SAFETY: as above.
            bias: unsafe {
                layer
                    .bias
                    .as_slice()
                    .as_ptr()
                    .add(panel.first_block * BLOCK)
            },
            targets: &targets[..panel.blocks],
            count: tiles.count,
            scale: self.stores.sum.map_or(0.0, |sum| sum.scale),
            ahead,
            value_relu: self.stores.value.is_some_and(|value| value.relu),
            sum_relu: self.stores.sum.is_some_and(|sum| sum.relu),
        };
        let shape = TileShape {
            isa: layer.isa,
            blocks: panel.blocks,
            pixels: tiles.pixels,
            stride: pixel_stride,
        };
        let kernel = shape.kernel();
        debug_assert!(tile.lies_in(
            [self.memory; 2],
            layer.packed.weights.as_slice(),
            tiles.pixels
        ));
        // SAFETY: `Conv::check` has found every view inside the arena and of the right size, and
        // the halo as wide as the padding; rows outside the map are left out of the taps.
        unsafe { kernel(&tile) }
    }

    /// Where the pixels of an output block from a column on are stored.
    fn target(&self, block: usize, [image, row, column]: [usize; 3]) -> Target<E> {
        let Grid { step, offset } = self.layer.grid;
        let (row, column) = (offset[0] + row * step[0], offset[1] + column * step[1]);
        let place = |views: &[View]| {
            let mut block = block;
            for view in views {
                if block < view.blocks() {
                    // SAFETY: the view lies in the arena.
                    return unsafe { self.memory.at(view.at(image, block, row, column), BLOCK) };
                }
                block -= view.blocks();
            }
            unreachable!("the views hold every output block")
        };
        let mut target = Target::NONE;
        if let Some(value) = &self.stores.value {
            target.value = place(value.to);
        }
        if let Some(sum) = &self.stores.sum {
            target.addend = place(sum.addend);
            target.sum = place(sum.to);
        }
        target
    }
}

/// The input blocks of the image that a task is at.
struct Sources<E> {
    image: Option<usize>,
    blocks: Vec<Source<E>>,
}

impl<E> Default for Sources<E> {
    fn default() -> Self {
        Self {
            image: None,
            blocks: Vec::new(),
        }
    }
}

impl<E: Element> Sources<E> {
    fn of(&mut self, image: usize, job: &Job<'_, E>) -> &[Source<E>] {
        if self.image != Some(image) {
            self.image = Some(image);
            Source::all(&mut self.blocks, (job.memory, job.inputs), image, E::DEPTH);
        }
        &self.blocks
    }
}

//! A convolution at work: its tasks, and their calls of the microkernel.

use super::ahead::{Ahead, Share};
use super::layer::{Grid, Layer};
use super::pack::{Panel, steps};
use super::stores::Stores;
use super::tile::{Geometry, Source, Tap, Target, Tile, TileShape, Tiles};
use crate::element::Element;
use crate::layout::{Arena, BLOCK, Shared, View, clear_halo};
use crate::window::Window;

/// Multiply-accumulates that are worth a task of their own.
const TASK_MACS: usize = 100_000;

/// Bytes of inputs that panels read one after the other, to stay in a cache.
const RUN_BYTES: usize = 64 << 10;

/// A part of a job: some panels for some tiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    panels: [usize; 2],
    tiles: [usize; 2],
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A convolution on given memory.
pub(super) struct Job<'a, E: Element> {
    layer: &'a Layer<E>,
    memory: Shared<'a, E>,
    inputs: &'a [View],
    stores: Stores<'a>,
    taps: Vec<Tap>,
    /// Rows, columns and images of the result; a pointwise job is one long row.
    rows: usize,
    columns: usize,
    images: usize,
    tiles_in_row: usize,
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
        let taps = (0..window.taps())
            .map(|tap| {
                let (row, column) = (tap / window.kernel[1], tap % window.kernel[1]);
                Tap {
                    input: (row * input.row_stride() + column * BLOCK) as isize,
                    index: tap,
                }
            })
            .collect();
        for view in stores.maps() {
            clear_halo(view, arena);
        }
        Self {
            layer,
            memory: Shared::of(arena),
            inputs,
            stores,
            taps,
            rows,
            columns,
            images: input.images,
            tiles_in_row: columns.div_ceil(Geometry::of(layer.isa).pixels),
        }
    }

    /// The tasks: groups of panels whose weights fit a cache, times ranges of tiles.
    pub(super) fn tasks(&self) -> Vec<Task> {
        let layer = self.layer;
        let panels = layer.packed.panels.len();
        let tiles = self.images * self.rows * self.tiles_in_row;
        let panel_weights = layer.panel_weights();
        let in_group = layer.panels_in_group();
        let groups = panels.div_ceil(in_group);
        let macs = self.images * self.rows * self.columns * panel_weights * panels;
        let threads = rayon::current_num_threads();
        let wanted = (macs / TASK_MACS).clamp(1, 4 * threads);
        let mut ranges = wanted.div_ceil(groups);
        // As many tasks for one thread as for another.
        if wanted > 1 {
            let step = threads / gcd(groups, threads);
            ranges = ranges.next_multiple_of(step);
        }
        let ranges = ranges.min(tiles);
        let mut tasks = Vec::with_capacity(groups * ranges);
        for group in 0..groups {
            for range in 0..ranges {
                tasks.push(Task {
                    panels: [group, group + 1].map(|group| group * panels / groups),
                    tiles: [range, range + 1].map(|range| range * tiles / ranges),
                });
            }
        }
        tasks
    }

    pub(super) fn run(&self, task: Task, share: Share) {
        let mut sources = Vec::new();
        let mut image_before = None;
        let panels = &self.layer.packed.panels[task.panels[0]..task.panels[1]];
        let all = panels.len() * (task.tiles[1] - task.tiles[0]);
        let mut asked = 0;
        let in_blocks: usize = self.inputs.iter().map(View::blocks).sum();
        let pixel_bytes = size_of::<E>() * in_blocks * BLOCK * self.layer.window.taps();
        let tile_bytes = pixel_bytes * Geometry::of(self.layer.isa).pixels;
        let most = match panels {
            [_] => usize::MAX,
            _ => (RUN_BYTES / tile_bytes.max(1)).max(1),
        };
        let in_row = self.tiles_in_row;
        for line in task.tiles[0] / in_row..task.tiles[1].div_ceil(in_row) {
            let (image, row) = (line / self.rows, line % self.rows);
            if image_before != Some(image) {
                self.sources(image, &mut sources);
                image_before = Some(image);
            }
            let range = task
                .tiles
                .map(|tile| tile.clamp(line * in_row, (line + 1) * in_row));
            let range = range.map(|tile| tile - line * in_row);
            let runs = Tiles::of(self.columns, in_row, range);
            for tiles in runs.flat_map(|tiles| tiles.at_most(most)) {
                for panel in panels {
                    let ahead = share.of_tiles([asked, asked + tiles.count], all);
                    self.run_tiles(panel, &sources, [image, row], tiles, ahead);
                    asked += tiles.count;
                }
            }
        }
    }

    /// The input blocks of an image.
    fn sources(&self, image: usize, sources: &mut Vec<Source<E>>) {
        sources.clear();
        let mut first_step = 0;
        for view in self.inputs {
            for block in 0..view.blocks() {
                let steps = steps::<E>((view.channels - block * BLOCK).min(BLOCK));
                sources.push(Source {
                    // SAFETY: the view lies in the arena.
                    pixels: unsafe { self.memory.plane(view, image, block) },
                    steps,
                    first_step,
                });
                first_step += steps;
            }
        }
    }

    fn run_tiles(
        &self,
        panel: &Panel,
        sources: &[Source<E>],
        [image, row]: [usize; 2],
        tiles: Tiles,
        ahead: Ahead,
    ) {
        let column = tiles.first_pixel;
        let (layer, input) = (self.layer, self.inputs[0]);
        let Window { kernel, stride, .. } = layer.window;
        // Rows of the kernel inside the map.
        let top = (row * stride[0]) as isize - layer.border[0];
        let first_tap = (-top).clamp(0, kernel[0] as isize) as usize;
        let last_tap = (input.height as isize - top).clamp(0, kernel[0] as isize) as usize;
        let left = (column * stride[1]) as isize - layer.border[1];
        let origin = top * input.row_stride() as isize + left * BLOCK as isize;
        let mut targets = [Target::NONE; 2];
        for (block, target) in targets.iter_mut().take(panel.blocks).enumerate() {
            *target = self.target(panel.first_block + block, [image, row, column]);
        }
        let out_stride = layer.grid.step[1] * BLOCK;
        let pixel_stride = stride[1] * BLOCK;
        let tile = Tile {
            sources,
            origin,
            taps: &self.taps[first_tap * kernel[1]..last_tap * kernel[1]],
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

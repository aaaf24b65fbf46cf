//! A convolution at work: its tasks, and their calls of the microkernel.
//!
//! A task takes some panels for some pairs of tiles. The inputs of a pair stay in the first cache while panel after panel
//! is multiplied with them: where they are too many, a part of the steps at a time, with sums kept in between. What
//! becomes of a call's sums is done after the next call, whose products the processor then is still at.

use super::inputs::{Inputs, PAIR, Pair, Place};
use super::kernel::{Call, Kernels, Products, SUM_BYTES};
use super::pack::{PANEL, Packed, STEP, STEP_WEIGHTS};
use super::store::{Run, store};
use crate::amx::TILE_ROWS;
use crate::conv::ahead::{Ahead, NextWeights, Share};
use crate::conv::division::{Division, Task};
use crate::conv::places::block_in;
use crate::conv::stores::Stores;
use crate::conv::tile::Target;
use crate::dispatch::dispatch;
use crate::element::Element;
use crate::layout::{Arena, BLOCK, Shared, View};
use crate::simd::Isa;
use crate::window::Window;
use std::cell::RefCell;

/// Multiply-accumulates by tiles that are worth a task of their own.
const TASK_MACS: usize = 2 << 20;

/// Bytes of the weights of a group of panels that a task keeps in its cache, which is larger where there are tiles: what is
/// gathered for a pair of tiles serves the whole group.
const GROUP_BYTES: usize = 800 << 10;

/// Pairs of tiles for each thread that are worth dividing, rather than panels.
const PAIRS_OF_THREAD: usize = 4;

/// Steps whose inputs, 2 KiB each, a first cache holds beside their weights.
const CACHE_STEPS: usize = 16;

/// Pairs of tiles that are multiplied with a panel one after the other, at most.
const MOST_PAIRS: usize = 16;

/// A convolution's weights and geometry.
#[derive(Debug)]
pub(super) struct Layer<E: Element> {
    pub(super) isa: Isa,
    pub(super) products: Products,
    pub(super) kernels: Kernels,
    pub(super) window: Window,
    pub(super) segments: [Vec<usize>; 2],
    pub(super) packed: Packed<E>,
}

impl<E: Element> Layer<E> {
    /// Panels whose weights fit a cache together.
    pub(super) fn panels_in_group(&self) -> usize {
        let bytes = size_of::<E>() * self.packed.steps * STEP_WEIGHTS;
        (GROUP_BYTES / bytes.max(1)).clamp(1, self.packed.panels.len())
    }
}

/// A convolution on given memory.
pub(super) struct Job<'a, E: Element> {
    layer: &'a Layer<E>,
    memory: Shared<'a, E>,
    inputs: Inputs<'a, E>,
    stores: Stores<'a>,
    /// Of the result, in all images.
    pixels: usize,
    /// Rows and columns of what is stored; one long row where no halo is between the rows.
    store_size: [usize; 2],
}

impl<'a, E: Element> Job<'a, E> {
    /// Of maps that were checked: they lie in the arena, have the right sizes and halos, and tasks that
    /// write different parts of them do not meet.
    pub(super) fn new(
        layer: &'a Layer<E>,
        arena: &'a mut Arena<E>,
        views: &'a [View],
        stores: Stores<'a>,
    ) -> Self {
        let memory = Shared::of(arena);
        let size = layer.window.output_size(views[0].size());
        Self {
            layer,
            memory,
            inputs: Inputs {
                isa: layer.isa,
                memory,
                views,
                window: layer.window,
                size,
                depth: layer.packed.depth,
                steps: layer.packed.steps,
            },
            stores,
            pixels: views[0].images * size[0] * size[1],
            store_size: flat_size(&stores, size),
        }
    }

    /// Convolves, and asks for the weights that come next.
    pub(super) fn run(&self, next: Option<NextWeights<'_>>) {
        let packed = &self.layer.packed;
        let pairs = self.pixels.div_ceil(PAIR);
        let threads = rayon::current_num_threads();
        // A small map has no pairs for all threads, but there are panels for them.
        let most = match pairs < PAIRS_OF_THREAD * threads {
            true => packed.panels.len().div_ceil(threads),
            false => packed.panels.len(),
        };
        let division = Division {
            panels: packed.panels.len(),
            panels_in_group: self.layer.panels_in_group().min(most),
            panel_macs: PAIR * PANEL * STEP * packed.steps,
            rows: 1,
            columns: pairs,
            images: 1,
            tile_pixels: 1,
            pixel_bytes: size_of::<E>() * PAIR * STEP * packed.steps,
            task_macs: TASK_MACS,
        };
        division.for_tasks(|task, [index, tasks]| {
            let share = NextWeights::share_of(next, index, tasks);
            SCRATCH.with_borrow_mut(|scratch| self.run_task(task, share, scratch));
        });
    }

    fn run_task(&self, task: Task, share: Share, scratch: &mut Scratch) {
        let panels = task.panels[0]..task.panels[1];
        let order = Order::of(self.layer.packed.steps, panels.len());
        scratch.make_room(&order);
        let mut calls = Calls {
            share,
            asked: 0,
            all: panels.len() * (task.tiles[1] - task.tiles[0]),
            sums: scratch.sums.as_mut_slice().as_mut_ptr(),
            turn: 0,
            waiting: None,
        };
        // SAFETY: the layer's instruction set is the processor's.
        let _registers = unsafe { self.layer.products.registers() };
        for first in (task.tiles[0]..task.tiles[1]).step_by(order.pairs) {
            let pairs = first..(first + order.pairs).min(task.tiles[1]);
            for (pair, room) in pairs.clone().zip(&mut scratch.pairs) {
                self.inputs.prepare(pair * PAIR, self.pixels_of(pair), room);
            }
            let prepared = &scratch.pairs[..pairs.len()];
            let most = prepared.iter().map(|pair| pair.steps.len()).max();
            let parts = most.unwrap_or(0).div_ceil(order.steps).max(1);
            for part in 0..parts {
                for panel in panels.clone() {
                    for (pair, prepared) in pairs.clone().zip(prepared) {
                        let place = match order.are_sums_kept {
                            true => panel - panels.start,
                            false => calls.turn % 2,
                        };
                        let sums = Sums {
                            panel,
                            pair,
                            numbers: calls.sums.wrapping_add(place * PAIR * PANEL),
                        };
                        let ahead = calls.ahead(part);
                        let steps = (part * order.steps, order.steps);
                        self.multiply(prepared, steps, &sums, ahead);
                        let is_done = part + 1 == parts;
                        let before = std::mem::replace(&mut calls.waiting, is_done.then_some(sums));
                        before.inspect(|sums| self.store(sums));
                    }
                }
            }
        }
        calls.waiting.inspect(|sums| self.store(sums));
    }

    /// Pixels of a pair of tiles.
    fn pixels_of(&self, pair: usize) -> usize {
        PAIR.min(self.pixels - pair * PAIR)
    }

    /// Adds the products of at most `count` steps from one on to the sums, which begin with the bias.
    fn multiply(&self, prepared: &Pair, (first, count): (usize, usize), sums: &Sums, ahead: Ahead) {
        let packed = &self.layer.packed;
        let first = first.min(prepared.steps.len());
        let steps = &prepared.steps[first..];
        let steps = &steps[..steps.len().min(count)];
        let panel_weights = packed.steps * STEP_WEIGHTS;
        let (start, start_bytes) = match first {
            0 => (packed.bias.as_slice()[sums.panel * PANEL..].as_ptr(), 0),
            _ => (sums.numbers.cast_const(), SUM_BYTES),
        };
        let weights = &packed.weights.as_slice()[sums.panel * panel_weights..];
        debug_assert!(weights.len() >= panel_weights);
        let call = Call {
            steps: steps.as_ptr(),
            count: steps.len(),
            row_bytes: prepared.row_bytes,
            weights: weights.as_ptr().cast(),
            start,
            start_bytes,
            sums: sums.numbers,
            ahead: ahead.first,
            ahead_lines: ahead.lines.div_ceil(steps.len().max(1)),
        };
        let tiles = self.pixels_of(sums.pair).div_ceil(TILE_ROWS);
        let halves = packed.panels[sums.panel].div_ceil(BLOCK);
        let kernel = self.layer.kernels[tiles - 1][halves - 1];
        // SAFETY: the steps' tiles lie in the memory or where they were gathered, weights and bias in the packed
        // arenas; there is room for the sums, and the task has configured the registers.
        unsafe { kernel(&call) }
    }

    /// Stores what becomes of sums.
    fn store(&self, sums: &Sums) {
        let [rows, columns] = self.store_size;
        let count = self.pixels_of(sums.pair);
        let blocks = self.layer.packed.panels[sums.panel].div_ceil(BLOCK);
        let mut place = Place::of(sums.pair * PAIR, self.store_size);
        let mut done = 0;
        while done < count {
            let of_row = (columns - place.column).min(count - done);
            let run = &Run {
                sums: sums.numbers.wrapping_add(done * PANEL).cast_const(),
                count: of_row,
                blocks,
                target: self.target(2 * sums.panel, place),
                scale: self.stores.sum.map_or(0.0, |sum| sum.scale),
                value_relu: self.stores.value.is_some_and(|value| value.relu),
                sum_relu: self.stores.sum.is_some_and(|sum| sum.relu),
            };
            // SAFETY: the maps have those pixels, which are this task's alone, and the sums so many.
            unsafe { dispatch!(self.layer.isa, store<E: Element>(run: &Run<E>)) }
            done += of_row;
            place = Place {
                column: columns - 1,
                ..place
            }
            .next([rows, columns]);
        }
    }

    /// Where the results of an output block from a pixel on are stored.
    fn target(&self, block: usize, Place { image, row, column }: Place) -> Target<E> {
        let at = |views: &[View]| {
            let (view, block) = block_in(views, block);
            // SAFETY: the view lies in the arena.
            unsafe { self.memory.at(view.at(image, block, row, column), PANEL) }
        };
        let mut target = Target::NONE;
        if let Some(value) = &self.stores.value {
            target.value = at(value.to);
        }
        if let Some(sum) = &self.stores.sum {
            target.addend = at(sum.addend);
            target.sum = at(sum.to);
        }
        target
    }
}

/// Rows and columns of the maps that results of a size go through.
fn flat_size(stores: &Stores<'_>, [rows, columns]: [usize; 2]) -> [usize; 2] {
    let addends = stores.sum.iter().flat_map(|sum| sum.addend);
    match stores.maps().chain(addends).all(|view| view.halo() == 0) {
        true => [1, rows * columns],
        false => [rows, columns],
    }
}

/// In what parts a task multiplies.
struct Order {
    /// Pairs of tiles whose inputs a cache holds.
    pairs: usize,
    /// Steps that are taken for all panels before the next ones.
    steps: usize,
    /// Whether sums are kept from part to part: for each panel of the one pair.
    are_sums_kept: bool,
    /// Sums at the same time.
    sums: usize,
}

impl Order {
    fn of(steps: usize, panels: usize) -> Self {
        let are_sums_kept = panels > 1 && steps > CACHE_STEPS + CACHE_STEPS / 2;
        Self {
            pairs: (CACHE_STEPS / steps.max(1)).clamp(1, MOST_PAIRS),
            steps: match are_sums_kept {
                true => CACHE_STEPS,
                false => steps.max(1),
            },
            are_sums_kept,
            sums: match are_sums_kept {
                true => panels,
                // Those that grow, and those that are stored.
                false => 2,
            },
        }
    }
}

/// Sums of the pixels of a pair of tiles and the channels of a panel.
struct Sums {
    panel: usize,
    pair: usize,
    /// `[32 pixels][32 channels]`.
    numbers: *mut f32,
}

/// What a task keeps from call to call.
struct Calls {
    share: Share,
    /// Calls that have asked for their part, of all.
    asked: usize,
    all: usize,
    sums: *mut f32,
    turn: usize,
    /// Sums that are to be stored.
    waiting: Option<Sums>,
}

impl Calls {
    /// What the next call asks for: all of it with the first part of the steps.
    fn ahead(&mut self, part: usize) -> Ahead {
        self.turn += 1;
        if part > 0 {
            return Share::NOTHING.of_tiles([0, 0], 1);
        }
        self.asked += 1;
        self.share.of_tiles([self.asked - 1, self.asked], self.all)
    }
}

/// A thread's memory for tasks.
#[derive(Default)]
struct Scratch {
    pairs: Vec<Pair>,
    sums: Arena,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Scratch {
    fn make_room(&mut self, order: &Order) {
        if self.pairs.len() < order.pairs {
            self.pairs.resize_with(order.pairs, Pair::default);
        }
        let sums = order.sums * PAIR * PANEL;
        if self.sums.len() < sums {
            self.sums = Arena::new(sums);
        }
    }
}

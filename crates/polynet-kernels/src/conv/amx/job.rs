//! A convolution at work: its tasks, and their calls of the microkernel.
//!
//! A task takes some panels for some pairs of tiles. The inputs of a pair stay in the first cache while panel after panel
//! is multiplied with them: where they are too many, a part of the steps at a time, with sums kept in between. What
//! becomes of a call's sums is done after the next call, whose products the processor then is still at.

use super::inputs::{Inputs, PAIR, Pair, Place};
use super::kernel::{Call, SUM_BYTES};
use super::layer::Layer;
use super::pack::{PANEL, STEP_BYTES, step_of};
use super::store::SumStores;
use crate::amx::TILE_ROWS;
use crate::conv::ahead::{Ahead, NextWeights, Share};
use crate::conv::division::{Division, Task};
use crate::element::Number;
use crate::layout::{Arena, Shared, View};
use std::cell::RefCell;

/// Multiply-accumulates by tiles that are worth a task of their own.
const TASK_MACS: usize = 2 << 20;

/// Pairs of tiles for each thread that are worth dividing, rather than panels.
const PAIRS_OF_THREAD: usize = 4;

/// Steps whose inputs, 2 KiB each, a first cache holds beside their weights.
const CACHE_STEPS: usize = 16;

/// Pairs of tiles that are multiplied with a panel one after the other, at most.
const MOST_PAIRS: usize = 16;

/// A convolution on given memory.
pub(super) struct Job<'a, E, W: Number, S> {
    layer: &'a Layer<W>,
    inputs: Inputs<'a, E>,
    stores: S,
    /// Of the result, in all images.
    pixels: usize,
    /// Rows and columns of what is stored; one long row where no halo is between the rows.
    store_size: [usize; 2],
}

impl<'a, E: Number, W: Number, S: SumStores> Job<'a, E, W, S> {
    /// Of maps that were checked: they lie in the memory, have the right sizes and halos, and tasks that
    /// write different parts of them do not meet.
    pub(super) fn new(
        layer: &'a Layer<W>,
        (memory, views): (Shared<'a, E>, &'a [View]),
        stores: S,
    ) -> Self {
        let size = layer.window.output_size(views[0].size());
        let [rows, columns] = size;
        Self {
            layer,
            inputs: Inputs {
                isa: layer.isa,
                memory,
                views,
                window: layer.window,
                size,
                depth: layer.packed.depth,
                steps: layer.packed.steps,
            },
            pixels: views[0].images * rows * columns,
            store_size: match stores.have_halos() {
                true => size,
                false => [1, rows * columns],
            },
            stores,
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
            panel_macs: PAIR * PANEL * step_of::<W>() * packed.steps,
            rows: 1,
            columns: pairs,
            images: 1,
            tile_pixels: 1,
            pixel_bytes: PAIR * STEP_BYTES / PANEL * packed.steps,
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
        let panel_weights = packed.steps * step_of::<W>() * PANEL;
        let (start, start_bytes) = match first {
            0 => (packed.start.as_slice()[sums.panel * PANEL..].as_ptr(), 0),
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
        let halves = self.layer.blocks_of(sums.panel);
        let kernel = self.layer.kernels[tiles - 1][halves - 1];
        // SAFETY: the steps' tiles lie in the memory or where they were gathered, weights and bias in the packed
        // arenas; there is room for the sums, and the task has configured the registers.
        unsafe { kernel(&call) }
    }

    /// Stores what becomes of sums.
    fn store(&self, sums: &Sums) {
        let [rows, columns] = self.store_size;
        let count = self.pixels_of(sums.pair);
        let mut place = Place::of(sums.pair * PAIR, self.store_size);
        let mut done = 0;
        while done < count {
            let of_row = (columns - place.column).min(count - done);
            let numbers = sums.numbers.wrapping_add(done * PANEL).cast_const();
            // SAFETY: the maps have those pixels, which are this task's alone, and the sums so many.
            unsafe { self.stores.store(sums.panel, place, (numbers, of_row)) }
            done += of_row;
            place = Place {
                column: columns - 1,
                ..place
            }
            .next([rows, columns]);
        }
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

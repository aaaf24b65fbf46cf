//! A convolution's work divided among tasks: groups of weight panels whose weights fit a cache, times
//! ranges of tiles.

use super::ahead::{Ahead, Share};
use super::places::Tiles;
use rayon::prelude::*;

/// Multiply-accumulates by vectors that are worth a task of their own.
pub(super) const TASK_MACS: usize = 100_000;

/// Bytes of inputs that panels read one after the other, to stay in a cache.
const RUN_BYTES: usize = 64 << 10;

/// Bytes of the weights of a group of panels that a task keeps in its cache.
const GROUP_BYTES: usize = 400 << 10;

/// Panels of a number of weights and bytes whose weights fit a cache together.
pub(super) fn panels_in_group(panels: usize, panel_bytes: usize) -> usize {
    (GROUP_BYTES / panel_bytes.max(1)).clamp(1, panels)
}

/// A part of the work: some panels for some tiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub(super) panels: [usize; 2],
    pub(super) tiles: [usize; 2],
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// What there is to divide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Division {
    pub(super) panels: usize,
    pub(super) panels_in_group: usize,
    /// Multiply-accumulates of a panel for a pixel.
    pub(super) panel_macs: usize,
    /// Rows, columns and images of the result; a pointwise convolution is one long row.
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) images: usize,
    /// Pixels of the largest tile.
    pub(super) tile_pixels: usize,
    /// Bytes of inputs that a pixel of the result is made of.
    pub(super) pixel_bytes: usize,
    /// Multiply-accumulates that are worth a task of their own.
    pub(super) task_macs: usize,
}

/// Tiles of a row under one panel, and what to ask the memory for meanwhile.
pub(super) struct Run {
    pub(super) panel: usize,
    pub(super) image: usize,
    pub(super) row: usize,
    pub(super) tiles: Tiles,
    pub(super) ahead: Ahead,
}

impl Division {
    fn tiles_in_row(&self) -> usize {
        self.columns.div_ceil(self.tile_pixels)
    }

    fn tasks(&self) -> Vec<Task> {
        let tiles = self.images * self.rows * self.tiles_in_row();
        let groups = self.panels.div_ceil(self.panels_in_group);
        let macs = self.images * self.rows * self.columns * self.panel_macs * self.panels;
        let threads = rayon::current_num_threads();
        let wanted = (macs / self.task_macs).clamp(1, 4 * threads);
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
                    panels: [group, group + 1].map(|group| group * self.panels / groups),
                    tiles: [range, range + 1].map(|range| range * tiles / ranges),
                });
            }
        }
        tasks
    }

    /// Runs all tasks side by side; each knows which of how many it is.
    pub(super) fn for_tasks(&self, run: impl Fn(Task, [usize; 2]) + Sync) {
        let tasks = self.tasks();
        let of_task = |index: usize| run(tasks[index], [index, tasks.len()]);
        if tasks.len() == 1 {
            of_task(0);
        } else {
            (0..tasks.len()).into_par_iter().for_each(of_task);
        }
    }

    /// Makes all runs side by side, each task with a state of its own; `share` is what a task of how
    /// many asks for.
    pub(super) fn for_runs<S>(
        &self,
        share: impl Fn(usize, usize) -> Share + Sync,
        state: impl Fn() -> S + Sync,
        run: impl Fn(&mut S, Run) + Sync,
    ) {
        self.for_tasks(|task, [index, tasks]| {
            let mut state = state();
            let share = share(index, tasks);
            self.walk(task, share, |part| run(&mut state, part));
        });
    }

    fn walk(&self, task: Task, share: Share, mut run: impl FnMut(Run)) {
        let panels = task.panels[0]..task.panels[1];
        let all = panels.len() * (task.tiles[1] - task.tiles[0]);
        let mut asked = 0;
        let tile_bytes = self.pixel_bytes * self.tile_pixels;
        let most = match panels.len() {
            1 => usize::MAX,
            _ => (RUN_BYTES / tile_bytes.max(1)).max(1),
        };
        let in_row = self.tiles_in_row();
        for line in task.tiles[0] / in_row..task.tiles[1].div_ceil(in_row) {
            let (image, row) = (line / self.rows, line % self.rows);
            let range = task
                .tiles
                .map(|tile| tile.clamp(line * in_row, (line + 1) * in_row));
            let range = range.map(|tile| tile - line * in_row);
            let runs = Tiles::of(self.columns, in_row, range);
            for tiles in runs.flat_map(|tiles| tiles.at_most(most)) {
                for panel in panels.clone() {
                    run(Run {
                        panel,
                        image,
                        row,
                        tiles,
                        ahead: share.of_tiles([asked, asked + tiles.count], all),
                    });
                    asked += tiles.count;
                }
            }
        }
    }
}

//! Weights are asked for before they are needed, so that they are in a cache by then: while one
//! convolution multiplies, its microkernel prefetches those of the next.

use crate::element::Number;
use crate::layout::Arena;

const LINE_BYTES: usize = 64;

/// The packed weights of a convolution that is about to run.
#[derive(Clone, Copy, Debug)]
pub struct NextWeights<'a> {
    bytes: &'a [u8],
    /// Whether threads divide the weights; else each reads all of them.
    are_divided: bool,
}

impl<'a> NextWeights<'a> {
    pub(super) fn new<E: Number>(weights: &'a Arena<E>, are_divided: bool) -> Self {
        Self {
            bytes: weights.as_bytes(),
            are_divided,
        }
    }

    /// What one of `tasks` tasks asks for, if anything comes next.
    pub(super) fn share_of(next: Option<Self>, task: usize, tasks: usize) -> Share {
        next.map_or(Share::NOTHING, |next| next.share(task, tasks))
    }

    /// What one of `tasks` tasks asks for. Threads take tasks in order, the first of them the first
    /// part; where the weights will be divided among threads, each asks for its own part, else each
    /// asks for all.
    fn share(&self, task: usize, tasks: usize) -> Share {
        let threads = rayon::current_num_threads();
        let lines = self.bytes.len() / LINE_BYTES;
        let thread = task * threads / tasks;
        let [from, to] = [thread, thread + 1].map(|thread| (thread * tasks).div_ceil(threads));
        let [first, end] = if self.are_divided {
            [thread, thread + 1].map(|thread| thread * lines / threads)
        } else {
            [0, lines]
        };
        let [first, end] =
            [task, task + 1].map(|task| first + (end - first) * (task - from) / (to - from));
        Share {
            first: self.bytes[first * LINE_BYTES..].as_ptr(),
            lines: end - first,
        }
    }
}

/// Cache lines that a task asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    first: *const u8,
    lines: usize,
}

impl Share {
    pub(super) const NOTHING: Self = Self {
        first: std::ptr::null(),
        lines: 0,
    };

    /// The part for some of the task's tiles.
    pub(super) fn of_tiles(&self, [first, end]: [usize; 2], all: usize) -> Ahead {
        let [first, end] = [first, end].map(|tile| self.lines * tile / all);
        Ahead {
            first: self.first.wrapping_add(first * LINE_BYTES),
            lines: end - first,
        }
    }
}

/// Cache lines that a call asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    pub(super) first: *const u8,
    pub(super) lines: usize,
}

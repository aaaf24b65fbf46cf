//! Maps, windows and products.

use polynet::arch::graph::PoolWindow;
use rayon::prelude::*;

/// A feature map of all images.
#[derive(Clone)]
pub(super) struct Map {
    pub(super) size: [usize; 2],
    /// Elements of a channel: images × rows × columns.
    pub(super) row: usize,
    pub(super) values: Vec<f64>,
}

impl Map {
    pub(super) fn new(size: [usize; 2], images: usize, values: Vec<f64>) -> Self {
        Self {
            size,
            row: images * size[0] * size[1],
            values,
        }
    }

    pub(super) fn rows(&self) -> std::slice::Chunks<'_, f64> {
        self.values.chunks(self.row)
    }

    pub(super) fn rows_mut(&mut self) -> std::slice::ChunksMut<'_, f64> {
        self.values.chunks_mut(self.row)
    }
}

pub(super) const POINTWISE: PoolWindow = PoolWindow {
    kernel_size: [1, 1],
    stride: [1, 1],
    padding: [0, 0],
};

/// A window that moves over the maps of a channel.
pub(super) struct Taps {
    pub(super) window: PoolWindow,
    images: usize,
    from: [usize; 2],
    to: [usize; 2],
    /// Elements of a channel before and behind the window.
    inputs: usize,
    pub(super) outputs: usize,
}

impl Taps {
    pub(super) fn new(window: PoolWindow, images: usize, from: [usize; 2], to: [usize; 2]) -> Self {
        let elements = |size: [usize; 2]| images * size[0] * size[1];
        let (inputs, outputs) = (elements(from), elements(to));
        Self {
            window,
            images,
            from,
            to,
            inputs,
            outputs,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.window.kernel_size.iter().product()
    }

    /// Shows every tap that lies inside the map: its number, and the elements of the channel that it
    /// reads and serves.
    pub(super) fn each(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let PoolWindow {
            kernel_size,
            stride,
            padding,
        } = self.window;
        let inside = |axis: usize, tap: usize, to: usize| {
            let at = (to * stride[axis] + tap).checked_sub(padding[axis])?;
            (at < self.from[axis]).then_some(at)
        };
        for tap in 0..self.count() {
            let [down, right] = [tap / kernel_size[1], tap % kernel_size[1]];
            let columns = (0..self.to[1]).filter_map(|to| Some((inside(1, right, to)?, to)));
            let columns: Vec<(usize, usize)> = columns.collect();
            for image in 0..self.images {
                for row in 0..self.to[0] {
                    let Some(from) = inside(0, down, row) else {
                        continue;
                    };
                    let input = (image * self.from[0] + from) * self.from[1];
                    let output = (image * self.to[0] + row) * self.to[1];
                    for (from, to) in &columns {
                        visit(tap, input + from, output + to);
                    }
                }
            }
        }
    }

    /// How many taps of each output lie inside the map.
    pub(super) fn inside(&self) -> Vec<f64> {
        let mut inside = vec![0.0; self.outputs];
        self.each(|_, _, output| inside[output] += 1.0);
        inside
    }

    /// The gradient of the maps whose [columns](Pass::columns) have these gradients.
    pub(super) fn gathered(&self, seen: &[f64]) -> Vec<f64> {
        let mut maps = Vec::new();
        for seen in seen.chunks(self.count() * self.outputs) {
            let mut row = vec![0.0; self.inputs];
            self.each(|tap, input, output| row[input] += seen[tap * self.outputs + output]);
            maps.extend(row);
        }
        maps
    }
}

/// A window's maximum and the next after it, each with where in the map it was.
#[derive(Clone, Copy)]
pub(super) struct Maximum {
    pub(super) best: (f64, usize),
    pub(super) next: (f64, usize),
}

pub(super) fn max_pool(x: &Map, taps: &Taps) -> Vec<Maximum> {
    let mut maxima = Vec::new();
    for (channel, row) in x.rows().enumerate() {
        let nothing = (f64::NEG_INFINITY, 0);
        let mut found = vec![
            Maximum {
                best: nothing,
                next: nothing
            };
            taps.outputs
        ];
        taps.each(|_, input, output| {
            let (seen, known) = ((row[input], channel * x.row + input), &mut found[output]);
            if seen.0 > known.best.0 {
                known.next = std::mem::replace(&mut known.best, seen);
            } else if seen.0 > known.next.0 {
                known.next = seen;
            }
        });
        maxima.extend(found);
    }
    maxima
}

/// `[a, b, run]` as `[b, a, run]`; nothing stays nothing.
pub(super) fn transposed(values: &[f64], [a, b]: [usize; 2], run: usize) -> Vec<f64> {
    let runs = (0..b).flat_map(|j| (0..a).map(move |i| (i * b + j) * run));
    let runs = runs.filter_map(|start| values.get(start..start + run));
    runs.flatten().copied().collect()
}

/// `sum += factor · values`
pub(super) fn add(sum: &mut [f64], factor: f64, values: &[f64]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += factor * value;
    }
}

/// Eight sums side by side, since each addition waits for the one before it.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// The product of `a`, `[rows, inner]`, and `b`, `[inner, columns]`: piece by piece, so that what
/// several rows read stays in a cache.
pub(super) fn product(a: &[f64], b: &[f64], rows: usize) -> Vec<f64> {
    const ROWS: usize = 4;
    const PIECE: usize = 512;
    let inner = a.len() / rows;
    let columns = b.len() / inner;
    let mut result = vec![0.0; rows * columns];
    let strips = result
        .par_chunks_mut(ROWS * columns)
        .zip(a.par_chunks(ROWS * inner));
    strips.for_each(|(result, a)| {
        for start in (0..columns).step_by(PIECE) {
            let piece = start..columns.min(start + PIECE);
            for (k, b) in b.chunks(columns).enumerate() {
                for (result, a) in result.chunks_mut(columns).zip(a.chunks(inner)) {
                    add(&mut result[piece.clone()], a[k], &b[piece.clone()]);
                }
            }
        }
    });
    result
}

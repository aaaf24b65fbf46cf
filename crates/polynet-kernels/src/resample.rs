//! RGB pictures of another size: every new pixel is a weighted sum of old ones.
//!
//! Law: rows are resampled first, then columns. Sums are exact, in integers, and each direction rounds
//! once, to the nearest byte. So every instruction set gives the same bytes.
//!
//! Sixteen rows at a time are turned to columns, so that neighbours in memory have one weight; resampled,
//! they are turned back and wait in a ring for the sums down the columns.

use crate::dispatch::dispatch;
use crate::simd::{Isa, Simd};
use std::ops::Range;

/// Bits of a weight behind the point.
pub const WEIGHT_BITS: u32 = 22;

const CHANNELS: usize = 3;
/// Rows that are resampled together, one a lane.
const ROWS: usize = 16;
/// Columns that are turned together: they stay in the nearest cache.
const TURNED: usize = 384;
/// Bytes of a row that are summed together down the columns.
const PART: usize = 32;
/// What rounds a sum to the nearest when its last bits are cut off.
const HALF: i32 = 1 << (WEIGHT_BITS - 1);

/// Which old samples make each new one along a direction, and how much of each.
#[derive(Clone, Debug, Default)]
pub struct Taps {
    windows: Vec<Window>,
    /// Window by window.
    weights: Vec<i32>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    first: usize,
    count: usize,
}

impl Taps {
    /// Forgets all samples but keeps the memory.
    pub fn clear(&mut self) {
        self.windows.clear();
        self.weights.clear();
    }

    /// The next new sample: old ones from `first` on, times `weights` in units of 2⁻²².
    ///
    /// # Panics
    /// If there is no weight, the window begins before the last one's, or the sum might not fit 32 bits: the
    /// weights' magnitudes add up to more than 2.
    pub fn push(&mut self, first: usize, weights: impl IntoIterator<Item = i32>) {
        let start = self.weights.len();
        self.weights.extend(weights);
        let weights = &self.weights[start..];
        assert!(!weights.is_empty(), "a window of one sample or more");
        let before = self.windows.last().map_or(0, |window| window.first);
        assert!(first >= before, "windows in order");
        let total: u64 = weights
            .iter()
            .map(|weight| u64::from(weight.unsigned_abs()))
            .sum();
        assert!(
            total <= 2 << WEIGHT_BITS,
            "weights that add up to 2 at most"
        );
        let count = weights.len();
        self.windows.push(Window { first, count });
    }

    /// How many new samples there are.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Every new sample's first old one and weights.
    #[inline(always)]
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let mut rest = self.weights.as_slice();
        self.windows.iter().map(move |window| {
            let (weights, after) = rest.split_at(window.count);
            rest = after;
            (window.first, weights)
        })
    }

    /// The old samples from the first to the last that count.
    fn reach(&self) -> Range<usize> {
        let start = self.windows.first().map_or(0, |window| window.first);
        let ends = self
            .windows
            .iter()
            .map(|window| window.first + window.count);
        start..ends.max().unwrap_or(start)
    }
}

/// Resamples pictures; keeps its memory from one to the next.
#[derive(Clone, Debug, Default)]
pub struct Resampler {
    /// Sixteen rows of the picture, `[column, channel, row]`.
    columns: Vec<u8>,
    /// The same rows resampled, `[new column, channel, row]`.
    resampled: Vec<u8>,
    /// A ring of resampled rows, each a whole number of parts.
    ring: Vec<u8>,
}

impl Resampler {
    /// Resamples a picture `[height, width, 3]` to `[down.len(), across.len(), 3]`. Between the two
    /// directions it keeps as many rows as the longest window of `down` has, and 30 more at most.
    ///
    /// # Panics
    /// If the picture is no whole number of rows, a window reaches beyond it, or `to` has another size.
    pub fn run(
        &mut self,
        isa: Isa,
        (picture, width): (&[u8], usize),
        [across, down]: [&Taps; 2],
        to: &mut [u8],
    ) {
        let line = CHANNELS * across.len();
        assert_eq!(to.len(), line * down.len(), "bytes of the new picture");
        if to.is_empty() {
            return;
        }
        let [reach, rows] = reaches((picture, width), [across, down]);
        let used = CHANNELS * reach.start..CHANNELS * reach.end;
        let stride = line.next_multiple_of(PART);
        let longest = down.windows.iter().map(|window| window.count).max();
        let capacity = (longest.unwrap_or(1) + ROWS - 1).next_multiple_of(ROWS);
        self.columns.resize(ROWS * used.len(), 0);
        self.resampled.resize(ROWS * line, 0);
        self.ring.resize(capacity * stride, 0);
        let mut ready = 0;
        for ((first, weights), line) in down.iter().zip(to.chunks_exact_mut(line)) {
            let first = first - rows.start;
            ready = ready.max(first / ROWS * ROWS);
            while ready < first + weights.len() {
                // Of the last rows there may be fewer: then the last one counts for the rest.
                let sixteen: [&[u8]; ROWS] = std::array::from_fn(|row| {
                    let row = (rows.start + ready + row).min(rows.end - 1);
                    &picture[CHANNELS * width * row..][used.clone()]
                });
                let slots = &mut self.ring[ready % capacity * stride..][..ROWS * stride];
                self::rows(
                    isa,
                    sixteen,
                    across,
                    &mut self.columns,
                    &mut self.resampled,
                    slots,
                );
                ready += ROWS;
            }
            let ring = Ring {
                rows: &self.ring,
                stride,
                first: first % capacity,
            };
            let ring = &ring;
            // SAFETY: the function needs the instruction set alone.
            unsafe { dispatch!(isa, sum_down(ring: &Ring<'_>, weights: &[i32], line: &mut [u8])) }
        }
    }
}

/// The old columns and rows that count.
fn reaches((picture, width): (&[u8], usize), [across, down]: [&Taps; 2]) -> [Range<usize>; 2] {
    let (reach, rows) = (across.reach(), down.reach());
    assert!(reach.end <= width, "windows within a row");
    assert!(
        picture.len().is_multiple_of(CHANNELS * width)
            && rows.end <= picture.len() / (CHANNELS * width),
        "whole rows, and windows within them"
    );
    [reach, rows]
}

/// Resamples sixteen rows into their slots of the ring.
fn rows(
    isa: Isa,
    sixteen: [&[u8]; ROWS],
    across: &Taps,
    columns: &mut [u8],
    resampled: &mut [u8],
    slots: &mut [u8],
) {
    // SAFETY: the functions need the instruction set alone. Each is compiled by itself, so that the compiler
    // knows its arguments apart.
    unsafe {
        dispatch!(isa, stand(sixteen: [&[u8]; ROWS], columns: &mut [u8]));
        let columns = &*columns;
        dispatch!(isa, sum_across(columns: &[u8], across: &Taps, resampled: &mut [u8]));
        let resampled = &*resampled;
        dispatch!(isa, lie(resampled: &[u8], slots: &mut [u8]));
    }
}

/// Resampled rows, one after the other; after the last the first is next.
struct Ring<'a> {
    rows: &'a [u8],
    stride: usize,
    /// The row that is read first.
    first: usize,
}

/// A sum of bytes times weights, rounded.
#[inline(always)]
fn rounded<const COUNT: usize>(sums: &[i32; COUNT]) -> [u8; COUNT] {
    let mut bytes = [0; COUNT];
    for (byte, sum) in bytes.iter_mut().zip(sums) {
        *byte = (sum >> WEIGHT_BITS).clamp(0, 255) as u8;
    }
    bytes
}

/// Adds bytes times a weight.
#[inline(always)]
fn add<const COUNT: usize>(sums: &mut [i32; COUNT], bytes: &[u8; COUNT], weight: i32) {
    for (sum, byte) in sums.iter_mut().zip(bytes) {
        // `Taps::push` has seen to it that no sum wraps.
        *sum = sum.wrapping_add(weight.wrapping_mul(i32::from(*byte)));
    }
}

/// Merges four rows byte by byte.
#[inline(always)]
fn merge([a, b, c, d]: [&[u8]; 4], to: &mut [u8]) {
    let rows = a.iter().zip(b).zip(c).zip(d);
    for (to, (((a, b), c), d)) in to.as_chunks_mut::<4>().0.iter_mut().zip(rows) {
        *to = [*a, *b, *c, *d];
    }
}

/// Turns sixteen rows to columns, `[column, row]`: every fourth row is merged, then the four results.
///
/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn stand<S: Simd>(rows: [&[u8]; ROWS], columns: &mut [u8]) {
    let mut quarters = [0; ROWS * TURNED];
    for (number, to) in columns.chunks_mut(ROWS * TURNED).enumerate() {
        let count = to.len() / ROWS;
        let part = |row: usize| &rows[row][TURNED * number..][..count];
        for (row, quarter) in quarters.chunks_exact_mut(4 * count).take(4).enumerate() {
            merge([row, row + 4, row + 8, row + 12].map(part), quarter);
        }
        let quarter = |number: usize| &quarters[4 * count * number..][..4 * count];
        merge([quarter(0), quarter(1), quarter(2), quarter(3)], to);
    }
}

/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn sum_across<S: Simd>(columns: &[u8], across: &Taps, resampled: &mut [u8]) {
    let pixels = columns.as_chunks::<{ CHANNELS * ROWS }>().0;
    let resampled = resampled.as_chunks_mut::<{ CHANNELS * ROWS }>().0;
    let start = across.reach().start;
    for ((first, weights), to) in across.iter().zip(resampled) {
        let mut sums = [HALF; CHANNELS * ROWS];
        for (pixel, &weight) in pixels[first - start..].iter().zip(weights) {
            add(&mut sums, pixel, weight);
        }
        *to = rounded(&sums);
    }
}

/// Turns columns `[column, row]` to sixteen rows, each as long as a slot of the ring.
///
/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn lie<S: Simd>(columns: &[u8], slots: &mut [u8]) {
    let stride = slots.len() / ROWS;
    let (squares, rest) = columns.as_chunks::<{ ROWS * ROWS }>();
    for (number, square) in squares.iter().enumerate() {
        write_square(square, &mut slots[ROWS * number..], stride);
    }
    if !rest.is_empty() {
        let mut square = [0; ROWS * ROWS];
        square[..rest.len()].copy_from_slice(rest);
        write_square(&square, &mut slots[ROWS * squares.len()..], stride);
    }
}

/// Writes a square's columns as rows, `stride` apart.
#[inline(always)]
fn write_square(square: &[u8; ROWS * ROWS], to: &mut [u8], stride: usize) {
    let turned = shuffled(&shuffled(&shuffled(&shuffled(square))));
    for (row, bytes) in turned.as_chunks::<ROWS>().0.iter().enumerate() {
        to[row * stride..][..ROWS].copy_from_slice(bytes);
    }
}

/// The two halves, merged byte by byte. Four of these turn the eight bits of an index halfway round:
/// rows become columns.
#[inline(always)]
fn shuffled(square: &[u8; ROWS * ROWS]) -> [u8; ROWS * ROWS] {
    let mut out = [0; ROWS * ROWS];
    let (first, second) = square.split_at(ROWS * ROWS / 2);
    for ((to, &a), &b) in out.as_chunks_mut::<2>().0.iter_mut().zip(first).zip(second) {
        *to = [a, b];
    }
    out
}

/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn sum_down<S: Simd>(ring: &Ring<'_>, weights: &[i32], line: &mut [u8]) {
    let (parts, rest) = line.as_chunks_mut::<PART>();
    let count = parts.len();
    for (number, part) in parts.iter_mut().enumerate() {
        *part = ring.sum(number, weights);
    }
    if !rest.is_empty() {
        let part = ring.sum(count, weights);
        rest.copy_from_slice(&part[..rest.len()]);
    }
}

impl Ring<'_> {
    /// One part of the new row.
    #[inline(always)]
    fn sum(&self, part: usize, weights: &[i32]) -> [u8; PART] {
        let mut sums = [HALF; PART];
        let mut row = self.first * self.stride;
        for &weight in weights {
            let bytes = self.rows[row + PART * part..].first_chunk();
            add(&mut sums, bytes.expect("a row of whole parts"), weight);
            row += self.stride;
            if row == self.rows.len() {
                row = 0;
            }
        }
        rounded(&sums)
    }
}

#[cfg(test)]
mod tests;

//! The inverse cosine transform of a block to 8×8 samples, or to 4×4, 2×2 or 1×1 that show the
//! same at a smaller scale.
//!
//! Source: Arai, Agui, Nakajima 1988 for 8×8. The smaller ones are transforms of their own size
//! of the lowest frequencies. In float32; nothing is contracted, so results are the same on
//! every machine.

use std::{array, f32::consts::PI};

/// Position of each coefficient of the zigzag order in a block that is stored column by column.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 8, 1, 2, 9, 16, 24, 17, 10, 3, 4, 11, 18, 25, 32, 40, 33, 26, 19, 12, 5, 6, 13, 20, 27, 34,
    41, 48, 56, 49, 42, 35, 28, 21, 14, 7, 15, 22, 29, 36, 43, 50, 57, 58, 51, 44, 37, 30, 23, 31,
    38, 45, 52, 59, 60, 53, 46, 39, 47, 54, 61, 62, 55, 63,
];

/// How a component's blocks become samples.
pub(super) struct Transform {
    /// Samples a side: 8, 4, 2 or 1.
    pub(super) side: usize,
    /// What coefficients are multiplied by, in the order of a block.
    factors: [f32; 64],
    /// `[sample, frequency]` of the smaller transforms.
    waves: [[f32; 4]; 4],
}

impl Transform {
    /// `quantization` is in zigzag order.
    pub(super) fn new(quantization: &[u16; 64], side: usize) -> Self {
        let scale = |frequency: usize| match (side, frequency) {
            (8, 0) => 8f32.sqrt().recip(),
            (8, _) => (frequency as f32 * PI / 16.0).cos() / 2.0,
            _ => 1.0,
        };
        // The waves of a transform of n samples, times √(n/8) a direction: the mean stays.
        let wave = |sample: usize, frequency: usize| {
            let angle = (2 * sample + 1) as f32 * frequency as f32 * PI / (2 * side) as f32;
            let share = if frequency == 0 { 1.0f32 } else { 2.0 } / 8.0;
            share.sqrt() * angle.cos()
        };
        let mut factors = [0.0; 64];
        for (&position, &step) in ZIGZAG.iter().zip(quantization) {
            let position = usize::from(position);
            factors[position] = f32::from(step) * scale(position / 8) * scale(position % 8);
        }
        let waves = array::from_fn(|sample| array::from_fn(|frequency| wave(sample, frequency)));
        Self {
            side,
            factors,
            waves,
        }
    }

    /// Writes a block's samples to `out`, whose rows lie `stride` apart. `last` is the zigzag
    /// position of the last coefficient that isn't zero.
    #[inline]
    pub(super) fn write(&self, block: &[i16; 64], last: usize, out: &mut [u8], stride: usize) {
        if last == 0 {
            let mean = match self.side {
                8 => 1.0,
                _ => self.waves[0][0] * self.waves[0][0],
            };
            let value = sample(f32::from(block[0]) * self.factors[0] * mean);
            for y in 0..self.side {
                out[y * stride..][..self.side].fill(value);
            }
            return;
        }
        let mut frequencies = [0f32; 64];
        for ((to, &coefficient), factor) in frequencies.iter_mut().zip(block).zip(&self.factors) {
            *to = f32::from(coefficient) * factor;
        }
        match self.side {
            8 => {
                let mut samples = [0u8; 64];
                let values = pass(&transposed(&pass(&frequencies)));
                for (to, &value) in samples.iter_mut().zip(&values) {
                    *to = sample(value);
                }
                for (y, row) in samples.as_chunks::<8>().0.iter().enumerate() {
                    out[y * stride..][..8].copy_from_slice(row);
                }
            }
            side => self.write_small(&frequencies, side, out, stride),
        }
    }

    fn write_small(&self, block: &[f32; 64], side: usize, out: &mut [u8], stride: usize) {
        // [column frequency, row]
        let mut between = [[0f32; 4]; 4];
        for (u, column) in between.iter_mut().take(side).enumerate() {
            for (y, value) in column.iter_mut().take(side).enumerate() {
                *value = (0..side).map(|v| self.waves[y][v] * block[8 * u + v]).sum();
            }
        }
        for (y, row) in out.chunks_mut(stride).take(side).enumerate() {
            for (x, to) in row[..side].iter_mut().enumerate() {
                let value: f32 = (0..side).map(|u| self.waves[x][u] * between[u][y]).sum();
                *to = sample(value);
            }
        }
    }
}

/// A value around 0 as a byte around 128, rounded.
#[inline(always)]
fn sample(value: f32) -> u8 {
    /// Adding it leaves a rounded number in the lowest bits.
    const ROUND: f32 = 8_388_608.0;
    ((value + 128.0).clamp(0.0, 255.0) + ROUND).to_bits() as u8
}

#[inline(always)]
fn transposed(block: &[f32; 64]) -> [f32; 64] {
    array::from_fn(|index| block[8 * (index % 8) + index / 8])
}

/// Transforms each of the eight columns.
#[inline(always)]
fn pass(block: &[f32; 64]) -> [f32; 64] {
    const SQRT_2: f32 = std::f32::consts::SQRT_2;
    let mut out = [0f32; 64];
    for c in 0..8 {
        let [x0, x1, x2, x3, x4, x5, x6, x7]: [f32; 8] = array::from_fn(|r| block[8 * r + c]);
        let (sum, difference) = (x0 + x4, x0 - x4);
        let even_sum = x2 + x6;
        let even = (x2 - x6) * SQRT_2 - even_sum;
        let (a0, a3) = (sum + even_sum, sum - even_sum);
        let (a1, a2) = (difference + even, difference - even);

        let (z13, z10) = (x5 + x3, x5 - x3);
        let (z11, z12) = (x1 + x7, x1 - x7);
        let b7 = z11 + z13;
        let b11 = (z11 - z13) * SQRT_2;
        let z5 = (z10 + z12) * 1.847_759_1;
        let b10 = z5 - z12 * 1.082_392_2;
        let b12 = z5 - z10 * 2.613_126;
        let b6 = b12 - b7;
        let b5 = b11 - b6;
        let b4 = b10 - b5;

        out[c] = a0 + b7;
        out[8 + c] = a1 + b6;
        out[16 + c] = a2 + b5;
        out[24 + c] = a3 + b4;
        out[32 + c] = a3 - b4;
        out[40 + c] = a2 - b5;
        out[48 + c] = a1 - b6;
        out[56 + c] = a0 - b7;
    }
    out
}

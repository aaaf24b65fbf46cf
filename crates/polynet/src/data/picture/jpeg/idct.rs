//! The inverse cosine transform of a block to 8×8 samples, or to 4×4, 2×2 or 1×1 that show the
//! same at a smaller scale.
//!
//! 8×8 is libjpeg's slow integer transform (Loeffler, Ligtenberg, Moschytz 1989) to the bit: 13
//! bits of the factors, columns first, 2 bits kept between the passes, 16 bits a value. The smaller
//! ones are transforms of their own size of the lowest frequencies, in float32; nothing is
//! contracted, so results are the same on every machine.

use std::{array, f32::consts::PI};

/// Position of each coefficient of the zigzag order in a block that is stored row by row.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Bits behind the point of the factors.
const FACTOR_BITS: u32 = 13;

/// Bits behind the point of what the first pass leaves.
const KEPT_BITS: u32 = 2;

/// How a component's blocks become samples.
pub(super) struct Transform {
    /// Samples a side: 8, 4, 2 or 1.
    pub(super) side: usize,
    /// What coefficients are multiplied by, in the order of a block.
    steps: [i16; 64],
    /// `[frequency, sample]` of the smaller transforms.
    waves: [[f32; 4]; 4],
}

impl Transform {
    /// `quantization` is in zigzag order.
    pub(super) fn new(quantization: &[u16; 64], side: usize) -> Self {
        // The waves of a transform of n samples, times √(n/8) a direction: the mean stays.
        let wave = |sample: usize, frequency: usize| {
            let angle = (2 * sample + 1) as f32 * frequency as f32 * PI / (2 * side) as f32;
            let share = if frequency == 0 { 1.0f32 } else { 2.0 } / 8.0;
            share.sqrt() * angle.cos()
        };
        let mut steps = [0; 64];
        for (&position, &step) in ZIGZAG.iter().zip(quantization) {
            steps[usize::from(position)] = step as i16;
        }
        let waves = array::from_fn(|frequency| array::from_fn(|sample| wave(sample, frequency)));
        Self { side, steps, waves }
    }

    /// Writes a block's samples to `out`, whose rows lie `stride` apart. `last` is the zigzag
    /// position of the last coefficient that isn't zero.
    #[inline]
    pub(super) fn write(&self, block: &[i16; 64], last: usize, out: &mut [u8], stride: usize) {
        if last == 0 {
            let mean = block[0].wrapping_mul(self.steps[0]);
            let value = match self.side {
                8 => byte((mean.saturating_add(4)) >> 3),
                _ => sample(f32::from(mean) * self.waves[0][0] * self.waves[0][0]),
            };
            for y in 0..self.side {
                out[y * stride..][..self.side].fill(value);
            }
            return;
        }
        let frequencies: [i16; 64] = array::from_fn(|i| block[i].wrapping_mul(self.steps[i]));
        match self.side {
            8 => {
                let columns = pass::<{ FACTOR_BITS - KEPT_BITS }>(&frequencies);
                let rows = pass::<{ FACTOR_BITS + KEPT_BITS + 3 }>(&transposed(&columns));
                let samples = transposed(&rows).map(byte);
                for (y, row) in samples.as_chunks::<8>().0.iter().enumerate() {
                    out[y * stride..][..8].copy_from_slice(row);
                }
            }
            4 => self.write_small::<4>(&frequencies, out, stride),
            2 => self.write_small::<2>(&frequencies, out, stride),
            _ => self.write_small::<1>(&frequencies, out, stride),
        }
    }

    fn write_small<const SIDE: usize>(&self, block: &[i16; 64], out: &mut [u8], stride: usize) {
        // [row frequency, column]
        let mut between = [[0f32; SIDE]; SIDE];
        for (row, frequencies) in between.iter_mut().zip(block.as_chunks::<8>().0) {
            for (wave, &frequency) in self.waves.iter().zip(&frequencies[..SIDE]) {
                for (to, height) in row.iter_mut().zip(wave) {
                    *to += height * f32::from(frequency);
                }
            }
        }
        for (y, out) in out.chunks_mut(stride).take(SIDE).enumerate() {
            let mut values = [0f32; SIDE];
            for (wave, row) in self.waves.iter().zip(&between) {
                for (to, value) in values.iter_mut().zip(row) {
                    *to += wave[y] * value;
                }
            }
            out[..SIDE].copy_from_slice(&values.map(sample));
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

/// A value around 0 as a byte around 128.
#[inline(always)]
fn byte(value: i16) -> u8 {
    (value.clamp(-128, 127) + 128) as u8
}

/// Three perfect shuffles turn the six bits of an index halfway round: rows become columns. Unlike
/// the loop over indices, each of them is eight vector instructions.
#[inline(always)]
fn transposed(block: &[i16; 64]) -> [i16; 64] {
    shuffled(&shuffled(&shuffled(block)))
}

/// The two halves, merged value by value.
#[inline(always)]
fn shuffled(block: &[i16; 64]) -> [i16; 64] {
    let mut out = [0; 64];
    let (first, second) = block.split_at(32);
    for ((to, &a), &b) in out.as_chunks_mut::<2>().0.iter_mut().zip(first).zip(second) {
        *to = [a, b];
    }
    out
}

/// A factor with [`FACTOR_BITS`] behind the point.
const fn fixed(factor: f64) -> i16 {
    (factor * (1 << FACTOR_BITS) as f64 + 0.5) as i16
}

const F_0_298: i16 = fixed(0.298_631_336);
const F_0_390: i16 = fixed(0.390_180_644);
const F_0_541: i16 = fixed(0.541_196_1);
const F_0_765: i16 = fixed(0.765_366_865);
const F_0_899: i16 = fixed(0.899_976_223);
const F_1_175: i16 = fixed(1.175_875_602);
const F_1_501: i16 = fixed(1.501_321_11);
const F_1_847: i16 = fixed(1.847_759_065);
const F_1_961: i16 = fixed(1.961_570_56);
const F_2_053: i16 = fixed(2.053_119_869);
const F_2_562: i16 = fixed(2.562_915_447);
const F_3_072: i16 = fixed(3.072_711_026);

/// Transforms each of the eight columns and drops `SHIFT` bits, rounded. Every product is one of
/// two 16-bit numbers: sums that libjpeg multiplies are taken apart, which changes no bit.
#[inline(always)]
fn pass<const SHIFT: u32>(block: &[i16; 64]) -> [i16; 64] {
    let mut out = [0i16; 64];
    for c in 0..8 {
        let [x0, x1, x2, x3, x4, x5, x6, x7]: [i16; 8] = array::from_fn(|r| block[8 * r + c]);
        let pair = |a: i16, fa: i16, b: i16, fb: i16| {
            (i32::from(a) * i32::from(fa)).wrapping_add(i32::from(b) * i32::from(fb))
        };
        let even2 = pair(x2, F_0_541, x6, F_0_541 - F_1_847);
        let even3 = pair(x2, F_0_541 + F_0_765, x6, F_0_541);
        let sum = i32::from(x0.wrapping_add(x4)) << FACTOR_BITS;
        let difference = i32::from(x0.wrapping_sub(x4)) << FACTOR_BITS;
        let round = 1 << (SHIFT - 1);
        let a0 = sum.wrapping_add(even3).wrapping_add(round);
        let a3 = sum.wrapping_sub(even3).wrapping_add(round);
        let a1 = difference.wrapping_add(even2).wrapping_add(round);
        let a2 = difference.wrapping_sub(even2).wrapping_add(round);

        let (z3, z4) = (x7.wrapping_add(x3), x5.wrapping_add(x1));
        let (shared3, shared4) = (
            pair(z3, F_1_175 - F_1_961, z4, F_1_175),
            pair(z3, F_1_175, z4, F_1_175 - F_0_390),
        );
        let b0 = pair(x7, F_0_298 - F_0_899, x1, -F_0_899).wrapping_add(shared3);
        let b1 = pair(x5, F_2_053 - F_2_562, x3, -F_2_562).wrapping_add(shared4);
        let b2 = pair(x3, F_3_072 - F_2_562, x5, -F_2_562).wrapping_add(shared3);
        let b3 = pair(x1, F_1_501 - F_0_899, x7, -F_0_899).wrapping_add(shared4);

        let narrow = |value: i32| (value >> SHIFT).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        out[c] = narrow(a0.wrapping_add(b3));
        out[8 + c] = narrow(a1.wrapping_add(b2));
        out[16 + c] = narrow(a2.wrapping_add(b1));
        out[24 + c] = narrow(a3.wrapping_add(b0));
        out[32 + c] = narrow(a3.wrapping_sub(b0));
        out[40 + c] = narrow(a2.wrapping_sub(b1));
        out[48 + c] = narrow(a1.wrapping_sub(b2));
        out[56 + c] = narrow(a0.wrapping_sub(b3));
    }
    out
}

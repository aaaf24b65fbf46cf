use super::*;
use crate::is_refused;

/// Numbers below a bound, the same in every run.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }

    /// `count` windows of at most `longest` of `samples` samples; some weights are negative.
    fn taps(&mut self, samples: usize, count: usize, longest: usize) -> Taps {
        let mut taps = Taps::default();
        let mut firsts: Vec<usize> = (0..count).map(|_| self.below(samples)).collect();
        firsts.sort_unstable();
        for first in firsts {
            let length = 1 + self.below(longest.min(samples - first));
            let largest = (2 << WEIGHT_BITS) / length;
            let weights: Vec<i32> = (0..length)
                .map(|_| self.below(largest) as i32 - largest as i32 / 4)
                .collect();
            taps.push(first, weights);
        }
        taps
    }
}

/// The definition, a new pixel at a time, in 64 bits.
fn naive(picture: &[u8], width: usize, across: &Taps, down: &Taps) -> Vec<u8> {
    let sum = |weights: &[i32], sample: &dyn Fn(usize) -> u8| {
        let products = weights.iter().enumerate();
        let sum: i64 = products
            .map(|(tap, &weight)| i64::from(weight) * i64::from(sample(tap)))
            .sum();
        ((sum + (1 << (WEIGHT_BITS - 1))) >> WEIGHT_BITS).clamp(0, 255) as u8
    };
    let mut result = Vec::new();
    for (top, rows) in down.iter() {
        for (left, columns) in across.iter() {
            for channel in 0..CHANNELS {
                result.push(sum(rows, &|row| {
                    sum(columns, &|column| {
                        let pixel = (top + row) * width + left + column;
                        picture[CHANNELS * pixel + channel]
                    })
                }));
            }
        }
    }
    result
}

#[test]
fn every_instruction_set_gives_the_bytes_of_the_definition() {
    let mut draws = Draws(1);
    // Memory of one size is used again for the next.
    let mut resampler = Resampler::default();
    for round in 0..200 {
        let (wide, tall) = [(40, 40), (500, 3), (3, 200), (1, 90), (200, 1)][round % 5];
        let (width, height) = (1 + draws.below(wide), 1 + draws.below(tall));
        let picture = draws.bytes(CHANNELS * width * height);
        let columns = 1 + draws.below(50);
        let longest = 1 + draws.below(40);
        let across = draws.taps(width, columns, longest);
        let rows = 1 + draws.below(30);
        let down = draws.taps(height, rows, longest);
        let expected = naive(&picture, width, &across, &down);
        for isa in Isa::available() {
            let mut got = vec![1; expected.len()];
            resampler.run(isa, (&picture, width), [&across, &down], &mut got);
            assert!(
                got == expected,
                "{isa}, round {round}: {width}x{height} to {columns}x{rows}"
            );
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let taps = |first, count| {
        let mut taps = Taps::default();
        taps.push(first, vec![1 << (WEIGHT_BITS - 3); count]);
        taps
    };
    let run = |length: usize, across: &Taps, down: &Taps, to: usize| {
        let (picture, mut to) = (vec![0; length], vec![0; to]);
        let picture = (picture.as_slice(), 4);
        Resampler::default().run(Isa::best(), picture, [across, down], &mut to);
    };
    // A picture of 4×2 pixels.
    run(24, &taps(1, 3), &taps(0, 2), 3);
    assert!(
        is_refused(|| run(24, &taps(1, 4), &taps(0, 2), 3)),
        "columns"
    );
    assert!(is_refused(|| run(24, &taps(1, 3), &taps(1, 2), 3)), "rows");
    assert!(is_refused(|| run(23, &taps(1, 3), &taps(0, 1), 3)), "bytes");
    assert!(
        is_refused(|| run(24, &taps(1, 3), &taps(0, 2), 4)),
        "result"
    );
    let mut taps = taps(2, 1);
    assert!(is_refused(|| taps.clone().push(1, [1])), "order");
    assert!(is_refused(|| taps.clone().push(2, [])), "no weight");
    let most = 2 << WEIGHT_BITS;
    assert!(is_refused(|| taps.clone().push(2, [most, -1])), "sum");
    taps.push(2, [most - 1, -1]);
}

//! Weights in the order in which tiles take them: `[panel][step][half of the panel][pair][output lane][2]`.
//!
//! A panel is 32 output channels, a step 32 numbers of the sum. Those of a step are the channels of two input
//! blocks under one tap; where a map has at most a block of channels, all taps share the steps, or most of each would
//! be zeros.

use crate::element::Element;
use crate::layout::{Arena, BLOCK, Pixel};
use rayon::prelude::*;

/// Numbers of a sum that a product of tiles takes.
pub(super) const STEP: usize = 32;

/// Output channels of a panel.
pub(super) const PANEL: usize = Pixel::TwoBlocks.channels();

/// Weights of a panel's step.
pub(super) const STEP_WEIGHTS: usize = STEP * PANEL;

/// How the numbers of a sum are divided into steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Two blocks of channels under a tap, for one pair of blocks after the other and in each for all taps.
    Blocks,
    /// All channels, so many, under one tap after the other.
    Taps { channels: usize },
}

impl Depth {
    fn of(taps: usize, inputs: &[usize]) -> Self {
        match *inputs {
            [channels] if channels <= BLOCK && taps > 1 => Self::Taps { channels },
            _ => Self::Blocks,
        }
    }

    pub(super) fn is_of_taps(self) -> bool {
        self != Self::Blocks
    }

    /// The input channel and the tap of each number of all steps; none where a step has fewer.
    fn numbers(self, taps: usize, inputs: &[usize]) -> Vec<Option<[usize; 2]>> {
        let mut numbers = Vec::new();
        match self {
            Self::Blocks => {
                for (first, used) in lines(inputs) {
                    for tap in 0..taps {
                        let number = |lane: usize| (lane < used).then_some([first + lane, tap]);
                        numbers.extend((0..STEP).map(number));
                    }
                }
            }
            Self::Taps { channels } => {
                let all = 0..taps * channels;
                numbers.extend(all.map(|number| Some([number % channels, number / channels])));
                numbers.resize(numbers.len().next_multiple_of(STEP), None);
            }
        }
        numbers
    }
}

/// (channel of the whole, channels in use) of every pixel's channels in a list of segments.
fn lines(segments: &[usize]) -> Vec<(usize, usize)> {
    let mut lines = Vec::new();
    let mut first = 0;
    for &channels in segments {
        let of_segment = (0..channels).step_by(PANEL);
        lines.extend(of_segment.map(|at| (first + at, PANEL.min(channels - at))));
        first += channels;
    }
    lines
}

/// Packed weights and bias.
#[derive(Debug)]
pub(super) struct Packed<E: Element> {
    pub(super) depth: Depth,
    /// Of a panel.
    pub(super) steps: usize,
    /// Output channels in use of each.
    pub(super) panels: Vec<usize>,
    pub(super) weights: Arena<E>,
    /// `[panel][32]`.
    pub(super) bias: Arena,
}

impl<E: Element> Packed<E> {
    /// Of weights `[outputs, inputs, taps]`, whose number fits.
    pub(super) fn new(
        taps: usize,
        [inputs, outputs]: [&[usize]; 2],
        weights: &[f32],
        bias: &[f32],
    ) -> Self {
        assert_eq!(bias.len(), outputs.iter().sum::<usize>(), "bias");
        let depth = Depth::of(taps, inputs);
        let numbers = depth.numbers(taps, inputs);
        let per_output = inputs.iter().sum::<usize>() * taps;
        // Where each number's weight is among those of an output.
        let place = |number: &Option<[usize; 2]>| number.map(|[input, tap]| input * taps + tap);
        let places: Vec<Option<usize>> = numbers.iter().map(place).collect();
        let targets = lines(outputs);
        let mut packed = Arena::new(places.len() * PANEL * targets.len());
        let mut packed_bias = Arena::new(PANEL * targets.len());
        let panels = packed
            .as_mut_slice()
            .par_chunks_mut((places.len() * PANEL).max(1));
        panels.zip(&targets).for_each(|(panel, &(first, used))| {
            let rows = weights[first * per_output..].chunks_exact(per_output.max(1));
            let rows: Vec<&[f32]> = rows.take(used).collect();
            pack_panel(panel, &rows, &places);
        });
        let biases = packed_bias.as_mut_slice().chunks_exact_mut(PANEL);
        for (to, &(first, used)) in biases.zip(&targets) {
            to[..used].copy_from_slice(&bias[first..first + used]);
        }
        Self {
            depth,
            steps: places.len() / STEP,
            panels: targets.iter().map(|&(_, used)| used).collect(),
            weights: packed,
            bias: packed_bias,
        }
    }
}

/// Packs the weights of a panel's outputs, of which each is a row.
fn pack_panel<E: Element>(panel: &mut [E], rows: &[&[f32]], places: &[Option<usize>]) {
    let steps = panel.chunks_exact_mut(STEP_WEIGHTS);
    for (step, places) in steps.zip(places.chunks_exact(STEP)) {
        for (output, row) in rows.iter().enumerate() {
            let (half, lane) = (output / BLOCK, output % BLOCK);
            for (number, place) in places.iter().enumerate() {
                let Some(place) = *place else { continue };
                let at = half * STEP * BLOCK + (number / 2 * BLOCK + lane) * 2 + number % 2;
                step[at] = E::from_f32(row[place]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn pixels_hold_each_channel_once() {
        assert_eq!(
            lines(&[40, 16, 64]),
            [(0, 32), (32, 8), (40, 16), (56, 32), (88, 32)]
        );
    }

    #[test]
    fn weights_lie_in_pairs_by_steps() {
        // The weight of output o, input i and tap t is 100·o + 10·i + t + 1.
        let (taps, inputs, outputs) = (2, [33, 1], [18]);
        let number = |index: usize| {
            let (output, input, tap) = (index / 68, index / 2 % 34, index % 2);
            (output % 2 * 100 + input + 40 * tap + 1) as f32
        };
        let weights: Vec<f32> = (0..18 * 68).map(number).collect();
        let packed = Packed::<bf16>::new(taps, [&inputs, &outputs], &weights, &[0.5; 18]);
        assert_eq!((packed.depth, packed.steps), (Depth::Blocks, 6));
        let at = |step: usize, number: usize, output: usize| {
            let half = output / 16 * 512;
            let place = step * 1024 + half + number / 2 * 32 + output % 16 * 2 + number % 2;
            packed.weights.as_slice()[place].to_f32()
        };
        assert_eq!(
            [at(0, 0, 0), at(0, 31, 1), at(1, 4, 17)],
            [1.0, 132.0, 145.0]
        );
        // The second pixel of the first segment has a channel, the second segment another.
        assert_eq!([at(2, 0, 0), at(3, 0, 0), at(2, 1, 0)], [33.0, 73.0, 0.0]);
        assert_eq!([at(4, 0, 0), at(5, 0, 1), at(0, 0, 18)], [34.0, 174.0, 0.0]);
        assert_eq!(packed.bias.as_slice()[17..19], [0.5, 0.0]);
    }

    #[test]
    fn taps_of_few_channels_share_steps() {
        let weights: Vec<f32> = (0..27).map(|index| index as f32).collect();
        let packed = Packed::<bf16>::new(9, [&[3], &[1]], &weights, &[0.0]);
        assert_eq!(
            (packed.depth, packed.steps),
            (Depth::Taps { channels: 3 }, 1)
        );
        // Channel 2 under tap 4 is number 14.
        assert_eq!(packed.weights.as_slice()[7 * 32].to_f32(), 22.0);
        let weights = packed.weights.as_slice();
        assert!(
            weights[14 * 32..]
                .iter()
                .all(|weight| weight.to_f32() == 0.0)
        );
    }
}

//! Weights in the order in which tiles take them: `[panel][step][half of the panel][word][output lane][2]`, of bytes with 4.
//!
//! A panel is 32 output channels, a step 32 numbers of the sum, or 64 bytes: a row of a tile. Those of a step are the channels
//! of two input blocks, or four, under one tap; where a map has at most a block of channels, all taps share the steps, or most of each would
//! be zeros.

use super::kernel::ROW_BYTES;
use crate::element::Number;
use crate::layout::{Arena, BLOCK};
use rayon::prelude::*;

/// Output channels of a panel.
pub(super) const PANEL: usize = 2 * BLOCK;

/// Bytes of the weights of a panel's step.
pub(super) const STEP_BYTES: usize = ROW_BYTES * PANEL;

/// Bytes of the numbers that a lane of a product takes together.
const WORD_BYTES: usize = 4;

/// Numbers of a sum that a product of tiles takes.
pub(super) const fn step_of<E: Number>() -> usize {
    ROW_BYTES / size_of::<E>()
}

/// How the numbers of a sum are divided into steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// A pixel's channels under a tap, for what lies side by side in one pixel after the other and in each for all taps.
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

    /// The input channel and the tap of each number of all steps, of so many each; none where a step has fewer.
    fn numbers(self, step: usize, taps: usize, inputs: &[usize]) -> Vec<Option<[usize; 2]>> {
        let mut numbers = Vec::new();
        match self {
            Self::Blocks => {
                for Line { first, used, .. } in lines(step, inputs) {
                    for tap in 0..taps {
                        let number = |lane: usize| (lane < used).then_some([first + lane, tap]);
                        numbers.extend((0..step).map(number));
                    }
                }
            }
            Self::Taps { channels } => {
                let all = 0..taps * channels;
                numbers.extend(all.map(|number| Some([number % channels, number / channels])));
                numbers.resize(numbers.len().next_multiple_of(step), None);
            }
        }
        numbers
    }
}

/// Channels that lie side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The first channel, of the whole.
    pub(super) first: usize,
    /// Channels in use.
    pub(super) used: usize,
    pub(super) segment: usize,
    /// The first block, of the segment.
    pub(super) block: usize,
}

/// The lines of segments, of at most so many channels each.
fn lines(width: usize, segments: &[usize]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut first = 0;
    for (segment, &channels) in segments.iter().enumerate() {
        let of_segment = (0..channels).step_by(width).map(|at| Line {
            first: first + at,
            used: width.min(channels - at),
            segment,
            block: at / BLOCK,
        });
        lines.extend(of_segment);
        first += channels;
    }
    lines
}

/// Packed weights.
#[derive(Debug)]
pub(super) struct Packed<W: Number> {
    pub(super) depth: Depth,
    /// Of a panel.
    pub(super) steps: usize,
    pub(super) panels: Vec<Line>,
    pub(super) weights: Arena<W>,
    /// What sums begin with, `[panel][32]`: a bias, or zeros, which are whole numbers, too.
    pub(super) start: Arena,
}

impl<W: Number> Packed<W> {
    /// Of weights `[outputs, inputs, taps]`, whose number fits, and what each is as an element.
    pub(super) fn new<V: Copy + Sync>(
        taps: usize,
        [inputs, outputs]: [&[usize]; 2],
        weights: &[V],
        element: impl Fn(V) -> W + Sync,
    ) -> Self {
        let depth = Depth::of(taps, inputs);
        let numbers = depth.numbers(step_of::<W>(), taps, inputs);
        let per_output = inputs.iter().sum::<usize>() * taps;
        // Where each number's weight is among those of an output.
        let place = |number: &Option<[usize; 2]>| number.map(|[input, tap]| input * taps + tap);
        let places: Vec<Option<usize>> = numbers.iter().map(place).collect();
        let targets = lines(PANEL, outputs);
        let mut packed = Arena::new(places.len() * PANEL * targets.len());
        let panels = packed
            .as_mut_slice()
            .par_chunks_mut((places.len() * PANEL).max(1));
        panels.zip(&targets).for_each(|(panel, target)| {
            let rows = weights[target.first * per_output..].chunks_exact(per_output.max(1));
            let rows: Vec<&[V]> = rows.take(target.used).collect();
            pack_panel(panel, &rows, &places, &element);
        });
        Self {
            depth,
            steps: places.len() / step_of::<W>(),
            start: Arena::new(PANEL * targets.len()),
            panels: targets,
            weights: packed,
        }
    }

    /// With sums that begin with a bias.
    pub(super) fn with_bias(mut self, bias: &[f32]) -> Self {
        self.start = self.of_outputs(bias);
        self
    }

    /// A number of each output channel as `[panel][32]`.
    pub(super) fn of_outputs(&self, values: &[f32]) -> Arena {
        let mut packed = Arena::new(PANEL * self.panels.len());
        let panels = packed.as_mut_slice().chunks_exact_mut(PANEL);
        for (to, &Line { first, used, .. }) in panels.zip(&self.panels) {
            to[..used].copy_from_slice(&values[first..first + used]);
        }
        packed
    }
}

/// Packs the weights of a panel's outputs, of which each is a row.
fn pack_panel<V: Copy, W: Number>(
    panel: &mut [W],
    rows: &[&[V]],
    places: &[Option<usize>],
    element: &impl Fn(V) -> W,
) {
    let (step, word) = (step_of::<W>(), WORD_BYTES / size_of::<W>());
    let steps = panel.chunks_exact_mut(step * PANEL);
    for (to, places) in steps.zip(places.chunks_exact(step)) {
        for (output, row) in rows.iter().enumerate() {
            let (half, lane) = (output / BLOCK, output % BLOCK);
            for (number, place) in places.iter().enumerate() {
                let Some(place) = *place else { continue };
                let in_half = (number / word * BLOCK + lane) * word + number % word;
                to[half * step * BLOCK + in_half] = element(row[place]);
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
        let lines = |width| lines(width, &[40, 16, 64]).into_iter();
        let of = |line: Line| [line.first, line.used, line.segment, line.block];
        assert!(lines(32).map(of).eq([
            [0, 32, 0, 0],
            [32, 8, 0, 2],
            [40, 16, 1, 0],
            [56, 32, 2, 0],
            [88, 32, 2, 2]
        ]));
        let of_bytes = [[0, 40, 0, 0], [40, 16, 1, 0], [56, 64, 2, 0]];
        assert!(lines(64).map(of).eq(of_bytes));
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
        let packed = Packed::new(taps, [&inputs, &outputs], &weights, bf16::from_f32);
        let packed = packed.with_bias(&[0.5; 18]);
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
        assert_eq!(packed.start.as_slice()[17..19], [0.5, 0.0]);
    }

    #[test]
    fn bytes_lie_in_fours() {
        let weights: Vec<i8> = (0..2 * 70).map(|index| (index % 70) as i8).collect();
        let packed = Packed::new(1, [&[70], &[2]], &weights, |weight: i8| weight);
        assert_eq!((packed.depth, packed.steps), (Depth::Blocks, 2));
        // Of the second output in words 0, 15 and 16, the last of which is the second step's first.
        let places = [4, 7, 15 * 64 + 6, 2048 + 4, 2048 + 64 + 5, 2048 + 64 + 6];
        let found = places.map(|place| packed.weights.as_slice()[place]);
        assert_eq!(found, [0, 3, 62, 64, 69, 0]);
    }

    #[test]
    fn taps_of_few_channels_share_steps() {
        let weights: Vec<f32> = (0..27).map(|index| index as f32).collect();
        let packed = Packed::new(9, [&[3], &[1]], &weights, bf16::from_f32);
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

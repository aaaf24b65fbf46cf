//! Weights in the order in which the microkernel reads them.

use super::tile::Geometry;
use crate::element::Element;
use crate::layout::{Arena, BLOCK, blocks_of};
use crate::simd::Isa;
use rayon::prelude::*;

/// Weights of consecutive output blocks, interleaved for the microkernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panel {
    pub(super) first_block: usize,
    pub(super) blocks: usize,
    /// Its first element among the packed weights.
    pub(super) weights: usize,
}

/// Packed weights: `[panel][input block][tap][channel][output lane]`; for bf16
/// `[…][pair of channels][output lane][2]`, with a zero beside a last channel.
#[derive(Debug)]
pub(super) struct Packed<E: Element> {
    pub(super) panels: Vec<Panel>,
    pub(super) weights: Arena<E>,
}

/// Weights as they lie in a row-major array.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filters<'a> {
    pub(super) values: &'a [f32],
    /// Elements between neighbouring output and input channels.
    pub(super) strides: [usize; 2],
    /// The element of each tap.
    pub(super) taps: &'a [usize],
}

/// (channel of the whole, channels in use) of every block of a list of segments.
pub(super) fn block_channels(segments: &[usize]) -> Vec<(usize, usize)> {
    let mut blocks = Vec::new();
    let mut first = 0;
    for &channels in segments {
        for block in 0..blocks_of(channels) {
            let used = (channels - block * BLOCK).min(BLOCK);
            blocks.push((first + block * BLOCK, used));
        }
        first += channels;
    }
    blocks
}

/// Products of a tap for channels in use.
pub(super) fn steps<E: Element>(channels: usize) -> usize {
    channels.div_ceil(E::DEPTH)
}

impl Filters<'_> {
    /// Packs the weights into `memory`, which is made larger where it is too small.
    pub(super) fn pack<E: Element>(
        &self,
        isa: Isa,
        [inputs, outputs]: [&[usize]; 2],
        mut memory: Arena<E>,
    ) -> Packed<E> {
        let (sources, targets) = (block_channels(inputs), block_channels(outputs));
        let steps: usize = sources.iter().map(|&(_, used)| steps::<E>(used)).sum();
        let rows = steps * self.taps.len() * E::DEPTH;
        let blocks = Geometry::of(isa).blocks;
        let elements = targets.len() * BLOCK * rows;
        if memory.len() < elements {
            memory = Arena::new(elements);
        }
        let panels = targets
            .chunks(blocks)
            .enumerate()
            .map(|(index, panel)| Panel {
                first_block: index * blocks,
                blocks: panel.len(),
                weights: index * blocks * BLOCK * rows,
            })
            .collect();
        if rows > 0 {
            let packed = memory.as_mut_slice()[..elements]
                .par_chunks_mut(blocks * BLOCK * rows)
                .zip(targets.par_chunks(blocks));
            packed.for_each(|(packed, targets)| self.pack_panel(packed, &sources, targets));
        }
        Packed {
            panels,
            weights: memory,
        }
    }

    /// Packs the weights of a panel: `[input block][tap][channel][output lane]`.
    pub(super) fn pack_panel<E: Element>(
        &self,
        packed: &mut [E],
        sources: &[(usize, usize)],
        targets: &[(usize, usize)],
    ) {
        let lanes = targets.len() * BLOCK;
        let mut rest = packed;
        for &(in_first, in_used) in sources {
            let row = steps::<E>(in_used) * lanes * E::DEPTH;
            let (part, after) = rest.split_at_mut(self.taps.len() * row);
            rest = after;
            let is_whole = targets.iter().all(|&(_, used)| used == BLOCK);
            if !is_whole || !in_used.is_multiple_of(E::DEPTH) {
                part.fill(E::default());
            }
            for (block, &(out_first, out_used)) in targets.iter().enumerate() {
                let first = block * BLOCK * E::DEPTH;
                for (part, &tap) in part.chunks_exact_mut(row).zip(self.taps) {
                    if self.strides[0] > self.strides[1] {
                        for lane in 0..out_used {
                            let part = &mut part[first + lane * E::DEPTH..];
                            self.pack_lane(part, lanes, [out_first + lane, in_first, tap], in_used);
                        }
                    } else {
                        for input in 0..in_used {
                            let step = input / E::DEPTH * lanes * E::DEPTH;
                            let part = &mut part[step + first + input % E::DEPTH..];
                            self.pack_row(part, [out_first, in_first + input, tap], out_used);
                        }
                    }
                }
            }
        }
    }

    /// The input channels of one output channel: a column of the packed rows.
    fn pack_lane<E: Element>(&self, to: &mut [E], lanes: usize, from: [usize; 3], in_used: usize) {
        let first = self.place(from);
        for parity in 0..E::DEPTH.min(in_used) {
            let to = to[parity..].iter_mut().step_by(lanes * E::DEPTH);
            let from = self.values[first + parity * self.strides[1]..].iter();
            let from = from.step_by(E::DEPTH * self.strides[1]);
            let count = (in_used - parity).div_ceil(E::DEPTH);
            for (to, from) in to.zip(from).take(count) {
                *to = E::from_f32(*from);
            }
        }
    }

    /// The output channels of one input channel: a packed row.
    fn pack_row<E: Element>(&self, to: &mut [E], from: [usize; 3], out_used: usize) {
        let to = to.iter_mut().step_by(E::DEPTH);
        let from = self.values[self.place(from)..]
            .iter()
            .step_by(self.strides[0]);
        for (to, from) in to.zip(from).take(out_used) {
            *to = E::from_f32(*from);
        }
    }

    fn place(&self, [output, input, tap]: [usize; 3]) -> usize {
        output * self.strides[0] + input * self.strides[1] + tap
    }
}

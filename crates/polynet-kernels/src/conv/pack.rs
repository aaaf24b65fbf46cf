//! Weights in the order in which the microkernel reads them.

use super::tile::Geometry;
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

/// Packed weights: `[panel][input block][tap][channel][output lane]`.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) panels: Vec<Panel>,
    pub(super) weights: Arena,
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

impl Filters<'_> {
    /// Packs the weights into `memory`, which is made larger where it is too small.
    pub(super) fn pack(
        &self,
        isa: Isa,
        [inputs, outputs]: [&[usize]; 2],
        mut memory: Arena,
    ) -> Packed {
        let (sources, targets) = (block_channels(inputs), block_channels(outputs));
        let rows = inputs.iter().sum::<usize>() * self.taps.len();
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

    fn pack_panel(
        &self,
        packed: &mut [f32],
        sources: &[(usize, usize)],
        targets: &[(usize, usize)],
    ) {
        let lanes = targets.len() * BLOCK;
        let taps = self.taps.len();
        let mut rest = packed;
        for &(in_first, in_used) in sources {
            let (part, after) = rest.split_at_mut(taps * in_used * lanes);
            rest = after;
            for (block, &(out_first, out_used)) in targets.iter().enumerate() {
                let first = block * BLOCK;
                if self.strides[0] > self.strides[1] {
                    for lane in 0..out_used {
                        let from = [out_first + lane, in_first];
                        self.pack_lane(&mut part[first + lane..], lanes, from, in_used);
                    }
                } else {
                    let rows = part.chunks_exact_mut(lanes).enumerate();
                    for (row, to) in rows {
                        let from = [out_first, in_first + row % in_used];
                        let to = &mut to[first..first + out_used];
                        self.pack_row(to, from, self.taps[row / in_used]);
                    }
                }
                if out_used < BLOCK {
                    for row in part.chunks_exact_mut(lanes) {
                        row[first + out_used..first + BLOCK].fill(0.0);
                    }
                }
            }
        }
    }

    /// One output channel: a column of the packed rows, which are `lanes` long.
    fn pack_lane(&self, to: &mut [f32], lanes: usize, from: [usize; 2], in_used: usize) {
        let [output, input] = from;
        let first = output * self.strides[0] + input * self.strides[1];
        for (tap, &place) in self.taps.iter().enumerate() {
            let to = to[tap * in_used * lanes..].iter_mut().step_by(lanes);
            let from = self.values[first + place..].iter().step_by(self.strides[1]);
            for (to, from) in to.zip(from).take(in_used) {
                *to = *from;
            }
        }
    }

    /// The output channels of one input channel and tap.
    fn pack_row(&self, to: &mut [f32], [output, input]: [usize; 2], tap: usize) {
        let first = output * self.strides[0] + input * self.strides[1] + tap;
        if self.strides[0] == 1 {
            to.copy_from_slice(&self.values[first..first + to.len()]);
            return;
        }
        let from = self.values[first..].iter().step_by(self.strides[0]);
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
    }
}

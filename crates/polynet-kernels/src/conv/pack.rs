//! Weights in the order in which the microkernel reads them.

use super::tile::Geometry;
use crate::dispatch::dispatch;
use crate::element::Element;
use crate::layout::{Arena, BLOCK, blocks_of};
use crate::simd::{Isa, Simd};
use crate::window::Window;
use rayon::prelude::*;
use std::cell::RefCell;

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

/// Weights of an output channel and of an input channel.
///
/// # Panics
/// If there are not as many weights as the window and the segments say, or the window has numbers that
/// kernels do not take.
pub(super) fn check_weights(
    window: Window,
    segments: [&[usize]; 2],
    weights: &[f32],
) -> [usize; 2] {
    window.check();
    let add = |sum: usize, channels: &usize| sum.checked_add(*channels);
    let products = segments.map(|segments| {
        let channels = segments.iter().try_fold(0, add);
        channels.and_then(|channels| channels.checked_mul(window.taps()))
    });
    let [Some(per_output), Some(per_input)] = products else {
        panic!("more weights than an address space holds");
    };
    let expected = (per_input / window.taps()).checked_mul(per_output);
    assert_eq!(Some(weights.len()), expected, "weights");
    [per_output, per_input]
}

/// A bias with its channels in blocks.
pub(super) fn pack_bias(outputs: &[usize], bias: &[f32]) -> Arena {
    let targets = block_channels(outputs);
    assert_eq!(bias.len(), outputs.iter().sum::<usize>(), "bias");
    let mut packed = Arena::new(targets.len() * BLOCK);
    for (to, (first, used)) in packed.as_mut_slice().chunks_exact_mut(BLOCK).zip(targets) {
        to[..used].copy_from_slice(&bias[first..first + used]);
    }
    packed
}

/// Products of a tap for channels in use.
pub(super) fn steps<E: Element>(channels: usize) -> usize {
    channels.div_ceil(E::DEPTH)
}

/// Elements of packed weights.
pub(super) fn packed_elements<E: Element>(taps: usize, [inputs, outputs]: [&[usize]; 2]) -> usize {
    let sources = block_channels(inputs);
    let steps: usize = sources.iter().map(|&(_, used)| steps::<E>(used)).sum();
    let blocks: usize = outputs.iter().map(|&channels| blocks_of(channels)).sum();
    blocks * BLOCK * steps * taps * E::DEPTH
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
        let elements = packed_elements::<E>(self.taps.len(), [inputs, outputs]);
        let rows = elements / (targets.len() * BLOCK).max(1);
        let blocks = Geometry::of(isa).blocks;
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
            packed.for_each(|(packed, targets)| self.pack_panel(isa, packed, &sources, targets));
        }
        Packed {
            panels,
            weights: memory,
        }
    }

    /// Packs the weights of a panel: `[input block][tap][channel][output lane]`.
    pub(super) fn pack_panel<E: Element>(
        &self,
        isa: Isa,
        packed: &mut [E],
        sources: &[(usize, usize)],
        targets: &[(usize, usize)],
    ) {
        let lanes = targets.len() * BLOCK;
        let all_taps = self.all_taps();
        let mut rest = packed;
        COLUMNS.with_borrow_mut(|columns| {
            for &source @ (_, in_used) in sources {
                let row = steps::<E>(in_used) * lanes * E::DEPTH;
                let (part, after) = rest.split_at_mut(self.taps.len() * row);
                rest = after;
                for (block, &target) in targets.iter().enumerate() {
                    self.columns(isa, source, target, columns);
                    let packing = &mut Packing {
                        columns,
                        all_taps,
                        taps: self.taps,
                        inputs: in_used,
                        first_lane: block * BLOCK,
                        lanes,
                        to: part,
                    };
                    // SAFETY: the function checks its memory.
                    unsafe {
                        dispatch!(isa, pack_columns<E: Element>(packing: &mut Packing<'_, E>));
                    }
                }
            }
        });
    }

    /// Taps of the array, of which some are packed.
    fn all_taps(&self) -> usize {
        self.strides[0].min(self.strides[1])
    }

    /// The weights `[input channel][tap of the array][output lane]` of an input and an output block, with
    /// zeros in lanes that are not used.
    fn columns(
        &self,
        isa: Isa,
        (in_first, in_used): (usize, usize),
        (out_first, out_used): (usize, usize),
        to: &mut Vec<f32>,
    ) {
        let taps = self.all_taps();
        // A block of columns is written whole, and the next one over what is too much.
        to.resize((in_used * taps + BLOCK) * BLOCK, 0.0);
        let first = out_first * self.strides[0] + in_first * self.strides[1];
        // The columns of all input channels may lie side by side.
        let together = if self.strides[1] == taps { in_used } else { 1 };
        let rows = &mut Rows {
            values: &self.values[first..],
            stride: self.strides[0],
            count: out_used,
            len: together * taps,
            groups: in_used / together,
            group_stride: self.strides[1],
            to,
        };
        // SAFETY: the function checks its memory.
        unsafe { dispatch!(isa, columns_of(rows: &mut Rows<'_>)) }
    }
}

thread_local! {
    static COLUMNS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// The weights of an input and an output block on the way to their places in a panel.
struct Packing<'a, E> {
    /// `[input channel][tap of the array][output lane]`.
    columns: &'a [f32],
    all_taps: usize,
    taps: &'a [usize],
    /// Input channels.
    inputs: usize,
    first_lane: usize,
    /// Output lanes of the panel.
    lanes: usize,
    /// `[tap][step][output lane]`, for bf16 of pairs.
    to: &'a mut [E],
}

/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn pack_columns<S: Simd, E: Element>(packing: &mut Packing<'_, E>) {
    let &mut Packing {
        columns,
        all_taps,
        inputs,
        lanes,
        ..
    } = packing;
    let mut place = packing.first_lane * E::DEPTH;
    for &tap in packing.taps {
        for input in (0..inputs).step_by(E::DEPTH) {
            let column = |input: usize| &columns[(input * all_taps + tap) * BLOCK..][..BLOCK];
            let first = column(input);
            // The last step of an odd number of channels has zeros.
            let second = match input + 1 < inputs {
                true => column(input + 1),
                false => &[0.0; BLOCK][..],
            };
            let to = &mut packing.to[place..place + BLOCK * E::DEPTH];
            for lane in (0..BLOCK).step_by(S::LANES) {
                // SAFETY: the slices hold a block.
                unsafe {
                    let channels = [first, second].map(|column| S::load(column.as_ptr().add(lane)));
                    E::store_weights::<S>(to.as_mut_ptr().add(lane * E::DEPTH), channels);
                }
            }
            place += lanes * E::DEPTH;
        }
    }
}

/// Groups of up to 16 rows that become columns of 16.
struct Rows<'a> {
    values: &'a [f32],
    /// Elements between rows.
    stride: usize,
    count: usize,
    /// Elements of a row.
    len: usize,
    groups: usize,
    /// Elements between groups.
    group_stride: usize,
    /// Columns of one group after the other, with room for 16 more.
    to: &'a mut [f32],
}

/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn columns_of<S: Simd>(rows: &mut Rows<'_>) {
    for group in 0..rows.groups {
        let values = &rows.values[group * rows.group_stride..];
        let to = &mut rows.to[group * rows.len * BLOCK..];
        if rows.stride == 1 && rows.len == 1 {
            // A whole column without a call of a function.
            match (to.first_chunk_mut::<BLOCK>(), values.first_chunk()) {
                (Some(to), Some(values)) if rows.count == BLOCK => *to = *values,
                _ => {
                    to[..rows.count].copy_from_slice(&values[..rows.count]);
                    to[rows.count..BLOCK].fill(0.0);
                }
            }
            continue;
        }
        for first in (0..rows.len).step_by(BLOCK) {
            let from = &values[first..];
            let to = &mut to[first * BLOCK..];
            let is_inside = from.len() >= (BLOCK - 1) * rows.stride + BLOCK;
            let pays = rows.count == BLOCK && rows.len - first >= BLOCK / 4;
            if pays && is_inside && to.len() >= BLOCK * BLOCK {
                // SAFETY: both hold 16 rows of 16.
                unsafe { S::transpose(from.as_ptr(), rows.stride, to.as_mut_ptr(), BLOCK) }
                continue;
            }
            let columns = to.chunks_exact_mut(BLOCK).take(rows.len - first);
            for (column, to) in columns.enumerate().take(BLOCK) {
                for (lane, to) in to[..rows.count].iter_mut().enumerate() {
                    *to = from[lane * rows.stride + column];
                }
                to[rows.count..].fill(0.0);
            }
        }
    }
}

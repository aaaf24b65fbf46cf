//! A computation as a list of kernel calls on buffers.
//!
//! Prediction and training have steps in common and steps of their own; what they read and write, which
//! borders of zeros their inputs need and how long a buffer lives is known here for all of them, so
//! that one [planner](super::buffers) places the memory of both.

use super::buffers::{Buffer, BufferId};
use crate::arch::graph::NodeId;
use crate::step::Precision;
use polynet_kernels::conv::{InputGradient, Window, Winograd};
use polynet_kernels::layout::Pixel;
use polynet_kernels::pool::Pool;

/// Index of a batch norm as it was applied in a training step.
pub(super) type Slot = usize;

/// One convolution of the graph inside a step of prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ConvPart {
    pub(super) weight: usize,
    pub(super) norm: Option<usize>,
    pub(super) bias: Option<usize>,
    /// Factor of the result that is folded into the weights.
    pub(super) factor: f32,
    /// The node that it is in the graph.
    pub(super) node: NodeId,
}

/// How the convolutions of a step make one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ConvSource {
    /// All read the same map; their outputs are side by side.
    SideBySide(Vec<ConvPart>),
    /// Each reads a map of its own; the results are added.
    Added(Vec<ConvPart>),
    /// The classifier.
    Linear,
}

/// A result on its way to memory.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ValueStore {
    pub(super) to: Vec<BufferId>,
    pub(super) relu: bool,
}

/// A result added to a sum.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SumStore {
    pub(super) addend: Vec<BufferId>,
    pub(super) to: Vec<BufferId>,
    pub(super) scale: f32,
    pub(super) relu: bool,
}

/// A result on its way to memory as it is, as bytes, or as both.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ByteStore {
    pub(super) floats: Option<Vec<BufferId>>,
    pub(super) bytes: Option<Vec<BufferId>>,
    pub(super) relu: bool,
}

/// As [`SumStore`], with the sum stored so.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ByteSum {
    pub(super) addend: Vec<BufferId>,
    pub(super) scale: f32,
    pub(super) to: ByteStore,
}

/// A part of a batch norm's map on the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NormPart {
    pub(super) slot: Slot,
    pub(super) z: BufferId,
    /// The gradient of the result.
    pub(super) dy: BufferId,
    /// The gradient of `z`.
    pub(super) dz: BufferId,
}

/// A kernel's call.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// The images.
    Input {
        to: BufferId,
    },
    /// A copy with the channels divided otherwise.
    Regroup {
        from: Vec<BufferId>,
        to: Vec<BufferId>,
    },
    /// `addend + scale · term`, then ReLU or not.
    Add {
        term: BufferId,
        scale: f32,
        addend: BufferId,
        to: BufferId,
        relu: bool,
    },
    Pool {
        pool: Pool,
        window: Window,
        from: BufferId,
        to: BufferId,
    },
    AveragePool {
        from: BufferId,
        to: BufferId,
    },

    // Prediction.
    /// Convolutions with batch norm, bias and factors folded into their weights.
    FoldedConv {
        source: ConvSource,
        window: Window,
        inputs: Vec<BufferId>,
        value: Option<ValueStore>,
        sum: Option<SumStore>,
    },
    /// Convolutions side by side that read maps of bytes, as [`Step::FoldedConv`] otherwise.
    QuantizedConv {
        parts: Vec<ConvPart>,
        window: Window,
        inputs: Vec<BufferId>,
        value: Option<ByteStore>,
        sum: Option<ByteSum>,
    },
    /// A map rounded to bytes.
    Quantize {
        from: BufferId,
        to: BufferId,
    },
    /// Batch norm `norm`, or nothing, then ReLU or nothing.
    Affine {
        norm: Option<usize>,
        first_channel: usize,
        from: BufferId,
        to: BufferId,
        relu: bool,
    },

    // Training, forward.
    Conv {
        weight: usize,
        window: Window,
        inputs: Vec<BufferId>,
        to: Vec<BufferId>,
    },
    /// The statistics of a map, and the batch norm that they give: one slot for each part.
    Moments {
        norm: usize,
        parts: Vec<(BufferId, Slot)>,
        relu: bool,
        /// Whether the layer is computed for the first time in the step.
        is_first: bool,
    },
    Normalize {
        slot: Slot,
        z: BufferId,
        to: BufferId,
    },
    /// `addend + factor · normalized z`, then ReLU or not.
    AddNormalized {
        slot: Slot,
        z: BufferId,
        factor: f32,
        addend: Option<BufferId>,
        to: BufferId,
        relu: bool,
    },
    Relu {
        from: BufferId,
        to: BufferId,
    },
    /// `x + bias`, then ReLU or not.
    Bias {
        bias: usize,
        first_channel: usize,
        from: BufferId,
        to: BufferId,
        relu: bool,
    },
    /// Dropout in place, forward or backward, by mask `index`.
    Dropout {
        index: usize,
        parts: Vec<BufferId>,
    },
    Linear {
        inputs: Vec<BufferId>,
        to: BufferId,
    },
    /// The loss; the gradient of the logits replaces them.
    Loss {
        logits: BufferId,
    },

    // Training, backward.
    LinearGradient {
        inputs: Vec<BufferId>,
        gradient: BufferId,
        to: Vec<BufferId>,
    },
    AveragePoolGradient {
        gradient: BufferId,
        to: BufferId,
        add: bool,
    },
    MaxPoolGradient {
        window: Window,
        from: BufferId,
        gradient: BufferId,
        to: BufferId,
    },
    MeanPoolGradient {
        window: Window,
        gradient: BufferId,
        to: BufferId,
    },
    /// The gradient of a bias: the sums of the channels.
    BiasGradient {
        bias: usize,
        parts: Vec<BufferId>,
    },
    /// `scale · gradient` where `gate` is positive, stored or added.
    Gate {
        gradient: BufferId,
        scale: f32,
        gate: Option<BufferId>,
        to: BufferId,
        add: bool,
    },
    /// From the gradient of a batch norm's result to that of its input.
    NormGradient {
        norm: usize,
        parts: Vec<NormPart>,
        factor: f32,
    },
    WeightGradient {
        weight: usize,
        window: Window,
        inputs: Vec<BufferId>,
        outputs: Vec<BufferId>,
    },
    InputGradient {
        weight: usize,
        window: Window,
        gradients: Vec<BufferId>,
        to: Vec<BufferId>,
        add: bool,
    },
    Clear {
        to: BufferId,
    },
}

/// Which convolutions are computed by transforms that need fewer products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transforms {
    /// Those whose kernel has one.
    WherePossible,
    /// Those with a square kernel, whose transform saves more than half of the products.
    Squares,
    /// None.
    Never,
}

impl Transforms {
    /// Those of predictions: products of bf16 are fast enough without.
    pub(super) fn of(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::WherePossible,
            Precision::Bf16 => Self::Never,
        }
    }

    /// Whether a convolution under this window is computed so.
    pub(super) fn apply(self, window: Window) -> bool {
        let is_wanted = match self {
            Self::WherePossible => true,
            Self::Squares => window.kernel[0] == window.kernel[1],
            Self::Never => false,
        };
        is_wanted && Winograd::has(window)
    }

    /// The border that a kernel reads: transformed convolutions make their own.
    fn halo(self, window: Window, halo: usize) -> usize {
        if self.apply(window) { 0 } else { halo }
    }
}

/// The buffers that a step touches, by `iter` or `iter_mut`.
macro_rules! buffers_of {
    ($step:expr, $iter:ident $($reference:tt)+) => {{
        let mut found = Vec::new();
        match $step {
            Self::Input { to } | Self::Clear { to } | Self::Loss { logits: to } => found.push(to),
            Self::Pool { from, to, .. }
            | Self::AveragePool { from, to }
            | Self::Affine { from, to, .. }
            | Self::Quantize { from, to }
            | Self::Relu { from, to }
            | Self::Bias { from, to, .. }
            | Self::Normalize { z: from, to, .. }
            | Self::AveragePoolGradient {
                gradient: from, to, ..
            }
            | Self::MeanPoolGradient {
                gradient: from, to, ..
            } => found.extend([from, to]),
            Self::Regroup { from, to }
            | Self::Conv {
                inputs: from, to, ..
            }
            | Self::WeightGradient {
                inputs: from,
                outputs: to,
                ..
            }
            | Self::InputGradient {
                gradients: from,
                to,
                ..
            } => found.extend(from.$iter().chain(to.$iter())),
            Self::Add {
                term, addend, to, ..
            } => found.extend([term, addend, to]),
            Self::FoldedConv {
                inputs, value, sum, ..
            } => {
                found.extend(inputs.$iter());
                found.extend(value.$iter().flat_map(|value| value.to.$iter()));
                for sum in sum.$iter() {
                    found.extend(sum.addend.$iter().chain(sum.to.$iter()));
                }
            }
            Self::QuantizedConv {
                inputs, value, sum, ..
            } => {
                found.extend(inputs.$iter());
                let mut stores: Vec<_> = value.$iter().collect();
                for sum in sum.$iter() {
                    found.extend(sum.addend.$iter());
                    stores.push($($reference)+ sum.to);
                }
                for ByteStore { floats, bytes, .. } in stores {
                    found.extend(floats.$iter().chain(bytes).flat_map(|to| to.$iter()));
                }
            }
            Self::Moments { parts, .. } => found.extend(parts.$iter().map(|(z, _)| z)),
            Self::AddNormalized { z, addend, to, .. } => {
                found.extend([z, to].into_iter().chain(addend.$iter()));
            }
            Self::Dropout { parts, .. } | Self::BiasGradient { parts, .. } => {
                found.extend(parts.$iter());
            }
            Self::Linear { inputs, to } => {
                found.extend(inputs.$iter());
                found.push(to);
            }
            Self::LinearGradient {
                inputs,
                gradient,
                to,
            } => {
                found.extend(inputs.$iter().chain(to.$iter()));
                found.push(gradient);
            }
            Self::MaxPoolGradient {
                from, gradient, to, ..
            } => found.extend([from, gradient, to]),
            Self::Gate {
                gradient, gate, to, ..
            } => found.extend([gradient, to].into_iter().chain(gate.$iter())),
            Self::NormGradient { parts, .. } => {
                for part in parts.$iter() {
                    let NormPart { z, dy, dz, .. } = part;
                    found.extend([z, dy, dz]);
                }
            }
        }
        found
    }};
}

impl Step {
    /// The maps whose parts must have one halo, and at least how wide.
    fn halos(&self, transforms: Transforms) -> Vec<(usize, &[BufferId])> {
        match self {
            Self::FoldedConv { window, inputs, .. } | Self::Conv { window, inputs, .. } => {
                vec![(transforms.halo(*window, window.padding[1]), inputs)]
            }
            Self::QuantizedConv { window, inputs, .. } => vec![(window.padding[1], inputs)],
            Self::WeightGradient {
                window,
                inputs,
                outputs,
                ..
            } => {
                let halo = transforms.halo(*window, window.padding[1]);
                vec![(halo, inputs), (0, outputs)]
            }
            Self::InputGradient {
                window, gradients, ..
            } => {
                let halo = transforms.halo(*window, InputGradient::halo(*window));
                vec![(halo, gradients)]
            }
            _ => Vec::new(),
        }
    }

    /// The buffers that the step touches.
    pub(super) fn buffers(&self) -> Vec<&BufferId> {
        buffers_of!(self, iter &)
    }

    fn buffers_mut(&mut self) -> Vec<&mut BufferId> {
        buffers_of!(self, iter_mut &mut)
    }
}

/// The steps of a computation, for any number of images.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) buffers: Vec<Buffer>,
    pub(super) steps: Vec<Step>,
    pub(super) transforms: Transforms,
    /// What is read after the last step.
    pub(super) results: Vec<BufferId>,
}

impl Program {
    /// The first and the last step that touch each buffer.
    pub(super) fn lives(&self) -> Vec<(usize, usize)> {
        let mut lives = vec![(usize::MAX, 0); self.buffers.len()];
        for (index, step) in self.steps.iter().enumerate() {
            for &id in step.buffers() {
                let (first, last) = &mut lives[id];
                *first = (*first).min(index);
                *last = index;
            }
        }
        for &id in &self.results {
            lives[id].1 = self.steps.len();
        }
        lives
    }

    /// Lets `new` take the place of `old` everywhere.
    pub(super) fn replace(&mut self, old: BufferId, new: BufferId) {
        let used = self.steps.iter_mut().flat_map(Step::buffers_mut);
        for id in used.chain(&mut self.results).filter(|id| **id == old) {
            *id = new;
        }
    }

    /// Lets every feature map have pixels of two blocks, which convolutions read as tiles; but for images of few
    /// channels that only convolutions with several taps read: these make tiles of what they read.
    pub(super) fn pair_blocks(&mut self) {
        let is_kept: Vec<bool> = (0..self.buffers.len())
            .map(|id| self.is_read_by_taps(id))
            .collect();
        for (buffer, is_kept) in self.buffers.iter_mut().zip(is_kept) {
            if !is_kept && !buffer.is_row_of_images && !buffer.is_bytes {
                buffer.pixel = Pixel::TwoBlocks;
            }
        }
    }

    /// Lets every map of bytes have pixels of four blocks, which convolutions read as tiles.
    pub(super) fn widen_bytes(&mut self) {
        for buffer in self.buffers.iter_mut().filter(|buffer| buffer.is_bytes) {
            buffer.pixel = Pixel::FourBlocks;
        }
    }

    /// Whether a buffer holds images of few channels that only convolutions with several taps read.
    fn is_read_by_taps(&self, id: BufferId) -> bool {
        let is_read_so = |step: &Step| match step {
            Step::Input { .. } => true,
            Step::FoldedConv { inputs, window, .. } => inputs[..] == [id] && window.taps() > 1,
            _ => false,
        };
        let mut touching = (self.steps.iter()).filter(|step| step.buffers().contains(&&id));
        self.steps.contains(&Step::Input { to: id })
            && self.buffers[id].channels <= Pixel::Block.channels()
            && touching.all(is_read_so)
    }

    /// Gives every buffer the halo that its readers need; all parts of one map have the same.
    pub(super) fn set_halos(&mut self) {
        loop {
            let mut changed = false;
            for step in &self.steps {
                for (halo, parts) in step.halos(self.transforms) {
                    let present = parts.iter().map(|&id| self.buffers[id].halo).max();
                    let halo = present.unwrap_or(0).max(halo);
                    for &id in parts {
                        changed |= self.buffers[id].halo != halo;
                        self.buffers[id].halo = halo;
                    }
                }
            }
            if !changed {
                return;
            }
        }
    }
}

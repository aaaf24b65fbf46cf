//! Lays out one cell: nodes, and the names of their tensors.

use super::builder::Builder;
use super::{BiasSpec, ConvSpec, NodeId, NormSpec, Op, Pool, PoolWindow};
use crate::arch::cell::{Activation, Cell, ConvLayer, Normalization, Padding};
use crate::arch::{ArchError, Sharing};

/// Which tensors an evaluation of a block uses.
#[derive(Clone, Copy)]
pub(super) struct Use {
    /// How many evaluations of the block come before this one in the module.
    pub(super) index: usize,
    /// How many there are in all.
    pub(super) count: usize,
    pub(super) sharing: Sharing,
}

impl Use {
    pub(super) const ONLY: Self = Self {
        index: 0,
        count: 1,
        sharing: Sharing::Full,
    };

    fn is_separate(self) -> bool {
        self.sharing == Sharing::Release && self.count > 1
    }

    /// `base`, with the number of the use where the sharing keeps a tensor for each.
    fn tensor_name(self, base: String) -> String {
        if self.is_separate() {
            self.numbered(base)
        } else {
            base
        }
    }

    /// `base`, with the number of the use where there are several.
    fn numbered(self, base: String) -> String {
        match self.count {
            1 => base,
            _ => format!("{base}.{}", self.index),
        }
    }
}

/// Where a cell stands, for names and for the sharing of the release.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) path: String,
    /// The last convolution of a block is not shared in the release.
    pub(super) is_last: bool,
    pub(super) used: Use,
}

impl Place {
    pub(super) fn new(path: impl Into<String>, used: Use) -> Self {
        Self {
            path: path.into(),
            is_last: true,
            used,
        }
    }

    fn child(&self, name: impl std::fmt::Display, is_last: bool) -> Self {
        Self {
            path: format!("{}.{name}", self.path),
            is_last: self.is_last && is_last,
            used: self.used,
        }
    }
}

impl Builder {
    pub(super) fn cell(
        &mut self,
        cell: &Cell,
        x: NodeId,
        place: &Place,
    ) -> Result<NodeId, ArchError> {
        match cell {
            Cell::Conv(conv) => self.conv(conv, x, place),
            Cell::Norm => {
                let shape = self.graph.nodes[x].shape;
                let norm = self.norm(place, shape[0]);
                let activation = Activation::Relu;
                Ok(self.push(Op::Norm { norm, activation }, vec![x], shape))
            }
            &Cell::MaxPool {
                kernel_size,
                stride,
                padding,
            } => {
                let kernel_size = [kernel_size; 2];
                let stride = [stride; 2];
                let [channels, height, width] = self.graph.nodes[x].shape;
                let size =
                    self.output_size([height, width], kernel_size, stride, padding, place)?;
                let window = PoolWindow {
                    kernel_size,
                    stride,
                    padding: padding.amount(kernel_size),
                };
                let pool = Pool::Max;
                let op = Op::Pool { pool, window };
                Ok(self.push(op, vec![x], [channels, size[0], size[1]]))
            }
            &Cell::AveragePool { kernel_size } => {
                let shape = self.graph.nodes[x].shape;
                let kernel_size = [kernel_size; 2];
                let window = PoolWindow {
                    kernel_size,
                    stride: [1, 1],
                    padding: Padding::Same.amount(kernel_size),
                };
                let pool = Pool::Mean;
                let op = Op::Pool { pool, window };
                Ok(self.push(op, vec![x], shape))
            }
            Cell::Chain(cells) => {
                let last = cells.len().saturating_sub(1);
                cells.iter().enumerate().try_fold(x, |x, (index, cell)| {
                    self.cell(cell, x, &place.child(index, index == last))
                })
            }
            Cell::Concat(cells) => {
                let branches = self.branches(cells, x, place)?;
                let [_, height, width] = self.graph.nodes[branches[0]].shape;
                let channels = branches
                    .iter()
                    .map(|&branch| self.graph.nodes[branch].shape[0])
                    .sum();
                Ok(self.push(Op::Concat, branches, [channels, height, width]))
            }
            Cell::Sum { terms, activation } => {
                let branches = self.branches(terms, x, place)?;
                let shape = self.graph.nodes[branches[0]].shape;
                let op = Op::Sum {
                    scales: vec![1.0; branches.len()],
                    activation: *activation,
                };
                Ok(self.push(op, branches, shape))
            }
        }
    }

    fn branches(
        &mut self,
        cells: &[Cell],
        x: NodeId,
        place: &Place,
    ) -> Result<Vec<NodeId>, ArchError> {
        cells
            .iter()
            .enumerate()
            .map(|(index, cell)| {
                let place = place.child(format_args!("branch{index}"), false);
                self.cell(cell, x, &place)
            })
            .collect()
    }

    fn conv(&mut self, conv: &ConvLayer, x: NodeId, place: &Place) -> Result<NodeId, ArchError> {
        let [in_channels, height, width] = self.graph.nodes[x].shape;
        let stride = [conv.stride; 2];
        let size = self.output_size(
            [height, width],
            conv.kernel_size,
            stride,
            conv.padding,
            place,
        )?;
        let base = format!("{}.conv", place.path);
        let name = if place.is_last {
            place.used.tensor_name(base)
        } else {
            base
        };
        let [kernel_height, kernel_width] = conv.kernel_size;
        let shape = [conv.out_channels, in_channels, kernel_height, kernel_width];
        let convs = &mut self.graph.convs;
        let weight = *self.names.entry(name.clone()).or_insert_with(|| {
            let name = name.clone();
            convs.push(ConvSpec { name, shape });
            convs.len() - 1
        });
        let (norm, activation) = match conv.normalization {
            Normalization::Batch => {
                let norm = self.norm(place, conv.out_channels);
                (Some(norm), conv.activation)
            }
            Normalization::Bias => (None, Activation::Identity),
            Normalization::None => (None, conv.activation),
        };
        let op = Op::Conv {
            weight,
            stride,
            padding: conv.padding.amount(conv.kernel_size),
            norm,
            activation,
        };
        let shape = [conv.out_channels, size[0], size[1]];
        let y = self.push(op, vec![x], shape);
        if conv.normalization != Normalization::Bias {
            return Ok(y);
        }
        let bias = self.bias(name, conv.out_channels);
        let activation = conv.activation;
        Ok(self.push(Op::Bias { bias, activation }, vec![y], shape))
    }

    /// The bias of the convolution called `name`, which is shared as the convolution is.
    fn bias(&mut self, name: String, channels: usize) -> usize {
        let biases = &mut self.graph.biases;
        let key = format!("{name}.bias");
        *self.names.entry(key).or_insert_with(|| {
            biases.push(BiasSpec { name, channels });
            biases.len() - 1
        })
    }

    fn norm(&mut self, place: &Place, channels: usize) -> usize {
        let base = format!("{}.norm", place.path);
        let name = place.used.tensor_name(base.clone());
        let statistics = place.used.numbered(base);
        let norms = &mut self.graph.norms;
        let next = norms.last().map_or(0, |norm| norm.moments + 2);
        let first = *self.names.entry(name.clone()).or_insert(norms.len());
        let (parameters, moments) = match norms.get(first) {
            Some(first) => (first.parameters, next),
            None => (next, next + 2),
        };
        norms.push(NormSpec {
            name,
            statistics,
            channels,
            parameters,
            moments,
        });
        norms.len() - 1
    }

    fn output_size(
        &self,
        size: [usize; 2],
        kernel_size: [usize; 2],
        stride: [usize; 2],
        padding: Padding,
        place: &Place,
    ) -> Result<[usize; 2], ArchError> {
        let padding = padding.amount(kernel_size);
        let mut output = [0; 2];
        for axis in 0..2 {
            let padded = size[axis] + 2 * padding[axis];
            if padded < kernel_size[axis] {
                return Err(ArchError::InputTooSmall {
                    input_size: self.graph.nodes[0].shape[1],
                    place: place.path.clone(),
                    size,
                    kernel_size,
                });
            }
            output[axis] = (padded - kernel_size[axis]) / stride[axis] + 1;
        }
        Ok(output)
    }
}

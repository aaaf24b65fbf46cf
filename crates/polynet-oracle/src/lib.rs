//! The graph computed plainly in f64, forward and backward: the judge of the engines.
//!
//! Law: nothing here is clever. Every operation is written from its definition, every value is kept,
//! nothing is shared with what it judges but the [`Graph`]. The oracle itself is held to PyTorch.
//!
//! Maps lie channel first, `[channels, images, rows, columns]`, so that whatever belongs to a channel
//! (a batch norm, a bias, a weight's product) walks over one contiguous row.

#![allow(clippy::unwrap_used)] // a judge in tests may panic

pub mod agreement;
mod backward;
pub mod formula;
mod maps;

use maps::{Map, Maximum, POINTWISE, Taps, add, max_pool, product, transposed};
use polynet::arch::graph::{Graph, Node, NodeId, Op, Pool, PoolWindow};
use std::borrow::Cow;

/// What is asked of a pass; by default all of a training step: every path, nothing frozen, no dropout.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Share of the target that is spread evenly over all classes.
    pub label_smoothing: f64,
    /// Tensors that get no gradient, by index. A batch norm whose scale is one of them normalizes with
    /// its running statistics.
    pub frozen: Vec<bool>,
    /// Inputs that sums leave out: the sum's node and the input's position.
    pub dropped: Vec<(NodeId, usize)>,
    /// Factors of the dropouts in the order of the graph, each `[images, features]`; none is no dropout.
    pub masks: Vec<Vec<f64>>,
}

/// A pass over the graph with everything that it computed.
pub struct Pass<'a> {
    graph: &'a Graph,
    tensors: &'a [Vec<f64>],
    /// What was asked.
    pub asked: &'a Asked,
    images: usize,
    /// Results by node; none where no surviving path needs the node.
    values: Vec<Option<Map>>,
    /// The results of batch norms before scale and shift, by node.
    normalized: Vec<Option<Normalized>>,
    /// The windows of pools that take a maximum, by node.
    maxima: Vec<Vec<Maximum>>,
    /// Choices that were close, each with how far the argument was from turning it.
    pub close: Vec<(f64, Choice)>,
    /// Batch norm, mean and variance over `n − 1` of each evaluation that used those of the batch.
    pub statistics: Vec<(usize, Vec<f64>, Vec<f64>)>,
}

/// An element, by its node and its place in the node's result, at which a ReLU takes one side of zero or
/// a pool one of several elements.
pub type Choice = (NodeId, usize);

/// A choice is close where so much of its map's root mean square would turn it. Zero itself is no
/// choice: it comes of zeros, which rounding leaves alone.
const CLOSE: f64 = 1e-4;

/// The loss of a pass and its gradients.
pub struct Gradients {
    /// Mean cross-entropy.
    pub loss: f64,
    /// By tensor index; none for running statistics, for frozen tensors and for unused ones.
    pub tensors: Vec<Option<Vec<f64>>>,
}

struct Normalized {
    norm: usize,
    /// `(z − mean) / √(var + ε)`.
    map: Map,
    /// `1 / √(var + ε)` of each channel.
    inverse: Vec<f64>,
    is_of_batch: bool,
}

/// Weights as the oracle takes them.
pub fn in_f64<'a>(tensors: impl IntoIterator<Item = &'a [f32]>) -> Vec<Vec<f64>> {
    let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect();
    tensors.into_iter().map(wide).collect()
}

/// Logits `[images, classes]` with the running statistics and without dropout.
pub fn predict(graph: &Graph, tensors: &[Vec<f64>], images: &[f64]) -> Vec<f64> {
    Pass::new(graph, tensors, images, &asked_for_prediction(graph)).logits()
}

/// Every batch norm keeps its running statistics.
pub fn asked_for_prediction(graph: &Graph) -> Asked {
    let frozen = vec![true; graph.tensors().count()];
    Asked {
        frozen,
        ..Asked::default()
    }
}

impl<'a> Pass<'a> {
    /// Computes what the logits of `images`, `[images, channels, rows, columns]`, need.
    pub fn new(
        graph: &'a Graph,
        tensors: &'a [Vec<f64>],
        images: &[f64],
        asked: &'a Asked,
    ) -> Self {
        let nodes = graph.nodes.len();
        let count = images.len() / graph.nodes[0].shape.iter().product::<usize>();
        let mut pass = Self {
            graph,
            tensors,
            asked,
            images: count,
            values: vec![None; nodes],
            normalized: (0..nodes).map(|_| None).collect(),
            maxima: vec![Vec::new(); nodes],
            close: Vec::new(),
            statistics: Vec::new(),
        };
        let mut needed = vec![false; nodes];
        needed[graph.output()] = true;
        for id in (0..nodes).rev().filter(|&id| id > 0) {
            if needed[id] {
                pass.inputs(id).for_each(|(input, _)| needed[input] = true);
            }
        }
        let [channels, height, width] = graph.nodes[0].shape;
        let values = transposed(images, [count, channels], height * width);
        pass.values[0] = Some(Map::new([height, width], count, values));
        for id in (1..nodes).filter(|&id| needed[id]) {
            let mut value = pass.before_activation(id);
            let square = value.values.iter().map(|x| x * x).sum::<f64>();
            let close = CLOSE * (square / value.values.len() as f64).sqrt();
            let mut look = |(element, distance): (usize, f64)| {
                if distance != 0.0 && distance < close {
                    pass.close.push((distance, (id, element)));
                }
            };
            if is_relu(&graph.nodes[id].op) {
                let distances = value.values.iter().map(|x| x.abs());
                distances.enumerate().for_each(&mut look);
                value.values.iter_mut().for_each(|x| *x = x.max(0.0));
            }
            // Where the maximum is zero a ReLU cut it off, which no gradient passes.
            let leads = pass.maxima[id].iter().enumerate();
            let leads = leads.filter(|(_, maximum)| maximum.best.0 != 0.0);
            leads.for_each(|(element, Maximum { best, next })| look((element, best.0 - next.0)));
            pass.values[id] = Some(value);
        }
        pass
    }

    /// `[images, classes]`.
    pub fn logits(&self) -> Vec<f64> {
        self.result(self.graph.output())
    }

    /// A node's result, `[images, channels, rows, columns]`; empty where it is not computed.
    pub fn result(&self, id: NodeId) -> Vec<f64> {
        let [channels, height, width] = self.graph.nodes[id].shape;
        transposed(self.value(id), [channels, self.images], height * width)
    }

    /// A node's result, `[channels, images, rows, columns]`; empty where it is not computed.
    fn value(&self, id: NodeId) -> &[f64] {
        self.values[id].as_ref().map_or(&[], |map| &map.values)
    }

    fn map(&self, id: NodeId) -> &Map {
        self.values[id]
            .as_ref()
            .expect("nodes stand behind what they read")
    }

    /// The nodes that a node reads, each with its position among all of its inputs.
    fn inputs(&self, id: NodeId) -> impl Iterator<Item = (NodeId, usize)> + '_ {
        let inputs = self.graph.nodes[id].inputs.iter().copied().zip(0..);
        inputs.filter(move |&(_, position)| !self.asked.dropped.contains(&(id, position)))
    }

    fn is_frozen(&self, tensor: usize) -> bool {
        self.asked.frozen.get(tensor).copied().unwrap_or_default()
    }

    /// The factors of a dropout in the order of its map.
    fn mask(&self, id: NodeId) -> Option<Vec<f64>> {
        let before = self.graph.nodes[..id].iter();
        let index = before
            .filter(|node| matches!(node.op, Op::Dropout { .. }))
            .count();
        let mask = self.asked.masks.get(index)?;
        let [channels, height, width] = self.graph.nodes[id].shape;
        Some(transposed(mask, [self.images, channels], height * width))
    }

    fn before_activation(&mut self, id: NodeId) -> Map {
        let Node {
            op, inputs, shape, ..
        } = &self.graph.nodes[id];
        let x = self.map(inputs[0]);
        let size = [shape[1], shape[2]];
        let map = |values| Map::new(size, self.images, values);
        match op {
            &Op::Conv { weight, norm, .. } => {
                let columns = self.columns(id, x);
                let z = map(product(&self.tensors[weight], &columns, shape[0]));
                match norm {
                    Some(norm) => self.normalize(id, norm, z),
                    None => z,
                }
            }
            &Op::Norm { norm, .. } => {
                let z = x.clone();
                self.normalize(id, norm, z)
            }
            &Op::Bias { bias, .. } => {
                let bias = &self.tensors[self.graph.bias_tensor(bias)];
                let mut y = x.clone();
                for (row, bias) in y.rows_mut().zip(bias) {
                    row.iter_mut().for_each(|x| *x += bias);
                }
                y
            }
            Op::Relu => x.clone(),
            &Op::Pool { pool, window } => match pool {
                Pool::Max => {
                    let maxima = max_pool(x, &Taps::new(window, self.images, x.size, size));
                    let y = map(maxima.iter().map(|maximum| maximum.best.0).collect());
                    self.maxima[id] = maxima;
                    y
                }
                Pool::Mean => {
                    let taps = Taps::new(window, self.images, x.size, size);
                    let mut values = Vec::new();
                    for row in x.rows() {
                        let mut sums = vec![0.0; taps.outputs];
                        taps.each(|_, input, output| sums[output] += row[input]);
                        values.extend(
                            sums.iter()
                                .zip(&taps.inside())
                                .map(|(sum, count)| sum / count),
                        );
                    }
                    map(values)
                }
            },
            Op::Concat => {
                let parts = self
                    .inputs(id)
                    .map(|(input, _)| &self.map(input).values[..]);
                map(parts.collect::<Vec<_>>().concat())
            }
            Op::Sum { scales, .. } => {
                let mut values = vec![0.0; shape[0] * x.row];
                for (input, position) in self.inputs(id) {
                    add(&mut values, f64::from(scales[position]), self.value(input));
                }
                map(values)
            }
            Op::AveragePool => {
                let pixels = x.size[0] * x.size[1];
                let images = x.values.chunks(pixels);
                map(images
                    .map(|image| image.iter().sum::<f64>() / pixels as f64)
                    .collect())
            }
            Op::Dropout { .. } => {
                let mut y = x.clone();
                for (x, factor) in y.values.iter_mut().zip(self.mask(id).into_iter().flatten()) {
                    *x *= factor;
                }
                y
            }
            Op::Linear => {
                let weight = self.graph.linear_tensor();
                let mut logits = map(product(&self.tensors[weight], &x.values, shape[0]));
                for (row, bias) in logits.rows_mut().zip(&self.tensors[weight + 1]) {
                    row.iter_mut().for_each(|x| *x += bias);
                }
                logits
            }
            Op::Input => unreachable!("the first node alone is the image"),
        }
    }

    /// `scale · (z − mean) / √(var + ε) + shift` of each channel.
    fn normalize(&mut self, id: NodeId, norm: usize, mut z: Map) -> Map {
        let [scale, shift, mean, var] = self.graph.norm_tensors(norm);
        let is_of_batch = !self.is_frozen(scale);
        let (mean, var) = if is_of_batch {
            let count = z.row as f64;
            let mean: Vec<f64> = z
                .rows()
                .map(|row| row.iter().sum::<f64>() / count)
                .collect();
            let rows = z.rows().zip(&mean);
            let squares =
                |row: &[f64], mean: f64| row.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
            let squares: Vec<f64> = rows.map(|(row, &mean)| squares(row, mean)).collect();
            let over = |count: f64| squares.iter().map(|sum| sum / count).collect::<Vec<f64>>();
            let unbiased = over((count - 1.0).max(1.0));
            self.statistics.push((norm, mean.clone(), unbiased));
            (mean, over(count))
        } else {
            (self.tensors[mean].clone(), self.tensors[var].clone())
        };
        let inverse = var
            .iter()
            .map(|var| 1.0 / (var + self.graph.norm_epsilon).sqrt());
        let inverse: Vec<f64> = inverse.collect();
        for ((row, mean), inverse) in z.rows_mut().zip(&mean).zip(&inverse) {
            row.iter_mut().for_each(|x| *x = (*x - mean) * inverse);
        }
        let mut y = z.clone();
        let channels = self.tensors[scale].iter().zip(&self.tensors[shift]);
        for (row, (scale, shift)) in y.rows_mut().zip(channels) {
            row.iter_mut().for_each(|x| *x = scale * *x + shift);
        }
        let normalized = Normalized {
            norm,
            map: z,
            inverse,
            is_of_batch,
        };
        self.normalized[id] = Some(normalized);
        y
    }

    /// What a convolution multiplies with its weights: for each input channel and tap of the kernel the
    /// map as that tap sees it, `[input channels × taps, images × rows × columns]`.
    fn columns<'x>(&self, id: NodeId, x: &'x Map) -> Cow<'x, [f64]> {
        let taps = self.taps(id, x.size);
        if taps.window == POINTWISE {
            return Cow::Borrowed(&x.values);
        }
        let mut columns = Vec::new();
        for row in x.rows() {
            let mut seen = vec![0.0; taps.count() * taps.outputs];
            taps.each(|tap, input, output| seen[tap * taps.outputs + output] = row[input]);
            columns.extend(seen);
        }
        Cow::Owned(columns)
    }

    /// The window of a convolution.
    fn taps(&self, id: NodeId, from: [usize; 2]) -> Taps {
        let Node { op, shape, .. } = &self.graph.nodes[id];
        let &Op::Conv {
            weight,
            stride,
            padding,
            ..
        } = op
        else {
            unreachable!("the node is a convolution")
        };
        let [.., rows, columns] = self.graph.convs[weight].shape;
        let window = PoolWindow {
            kernel_size: [rows, columns],
            stride,
            padding,
        };
        Taps::new(window, self.images, from, [shape[1], shape[2]])
    }
}

fn is_relu(op: &Op) -> bool {
    match op {
        Op::Relu => true,
        Op::Conv { activation, .. }
        | Op::Norm { activation, .. }
        | Op::Bias { activation, .. }
        | Op::Sum { activation, .. } => activation.is_relu(),
        _ => false,
    }
}

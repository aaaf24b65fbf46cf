//! From the loss back to every tensor.

use super::maps::{Taps, add, dot, product, transposed};
use super::{Choice, Gradients, Normalized, Pass, is_relu};
use polynet::arch::graph::{Node, NodeId, Op, Pool};
use rayon::prelude::*;
use std::collections::HashSet;

/// Gradients on their way from the logits to the image.
struct Backward<'a> {
    pass: &'a Pass<'a>,
    /// Of the nodes' results.
    maps: Vec<Option<Vec<f64>>>,
    tensors: Vec<Option<Vec<f64>>>,
    turned: &'a HashSet<Choice>,
}

impl Backward<'_> {
    /// From the gradient of a node's result to those of its tensors and of what it reads.
    fn node(&mut self, id: NodeId, mut g: Vec<f64>) {
        let pass = self.pass;
        let Node { op, inputs, .. } = &pass.graph.nodes[id];
        let x = pass.map(inputs[0]);
        let turned = self.turned.iter().filter(|(node, _)| *node == id);
        let turned: Vec<usize> = turned.map(|(_, element)| *element).collect();
        if is_relu(op) {
            for (element, (g, y)) in g.iter_mut().zip(pass.value(id)).enumerate() {
                if (*y > 0.0) == turned.contains(&element) {
                    *g = 0.0;
                }
            }
        }
        match op {
            &Op::Conv { weight, norm, .. } => {
                if norm.is_some() {
                    self.norm(id, &mut g);
                }
                let columns = pass.columns(id, x);
                let row = pass.map(id).row;
                let products = g
                    .par_chunks(row)
                    .flat_map_iter(|g| columns.chunks(row).map(move |x| dot(g, x)));
                let products: Vec<f64> = products.collect();
                self.add_tensor(weight, products);
                let weights = &pass.tensors[weight];
                let outputs = g.len() / row;
                let to_columns = transposed(weights, [outputs, weights.len() / outputs], 1);
                let seen = product(&to_columns, &g, weights.len() / outputs);
                self.add_map(inputs[0], &pass.taps(id, x.size).gathered(&seen));
            }
            Op::Norm { .. } => {
                self.norm(id, &mut g);
                self.add_map(inputs[0], &g);
            }
            &Op::Bias { bias, .. } => {
                let sums = g.chunks(x.row).map(|row| row.iter().sum());
                self.add_tensor(pass.graph.bias_tensor(bias), sums.collect());
                self.add_map(inputs[0], &g);
            }
            Op::Relu => self.add_map(inputs[0], &g),
            &Op::Pool { pool, window } => {
                let mut to = vec![0.0; x.values.len()];
                let taps = Taps::new(window, pass.images, x.size, pass.map(id).size);
                match pool {
                    Pool::Max => {
                        for (element, (maximum, g)) in pass.maxima[id].iter().zip(g).enumerate() {
                            let chosen = if turned.contains(&element) {
                                maximum.next
                            } else {
                                maximum.best
                            };
                            to[chosen.1] += g;
                        }
                    }
                    Pool::Mean => {
                        let inside = taps.inside();
                        for (to, g) in to.chunks_mut(x.row).zip(g.chunks(taps.outputs)) {
                            taps.each(|_, input, output| to[input] += g[output] / inside[output]);
                        }
                    }
                }
                self.add_map(inputs[0], &to);
            }
            Op::Concat => {
                let mut rest = &g[..];
                for (input, _) in pass.inputs(id) {
                    let (part, after) = rest.split_at(pass.value(input).len());
                    self.add_map(input, part);
                    rest = after;
                }
            }
            Op::Sum { scales, .. } => {
                for (input, position) in pass.inputs(id) {
                    let scale = f64::from(scales[position]);
                    let scaled: Vec<f64> = g.iter().map(|g| scale * g).collect();
                    self.add_map(input, &scaled);
                }
            }
            Op::AveragePool => {
                let pixels = x.size[0] * x.size[1];
                let spread = g
                    .iter()
                    .flat_map(|g| std::iter::repeat_n(g / pixels as f64, pixels));
                self.add_map(inputs[0], &spread.collect::<Vec<f64>>());
            }
            Op::Dropout { .. } => {
                let factors = pass.mask(id).into_iter().flatten();
                g.iter_mut()
                    .zip(factors)
                    .for_each(|(g, factor)| *g *= factor);
                self.add_map(inputs[0], &g);
            }
            Op::Linear => {
                let index = pass.graph.linear_tensor();
                let weights = &pass.tensors[index];
                let features = weights.len() / pass.tensors[index + 1].len();
                let rows = g.chunks(pass.images);
                let products = rows.clone().flat_map(|g| x.rows().map(move |x| dot(g, x)));
                self.add_tensor(index, products.collect());
                self.add_tensor(index + 1, rows.map(|row| row.iter().sum()).collect());
                let to_features = transposed(weights, [weights.len() / features, features], 1);
                self.add_map(inputs[0], &product(&to_features, &g, features));
            }
            Op::Input => unreachable!("the image has no gradient"),
        }
    }

    /// From the gradient of a batch norm's result to that of its input.
    fn norm(&mut self, id: NodeId, g: &mut [f64]) {
        let pass = self.pass;
        let normalized = pass.normalized[id]
            .as_ref()
            .expect("the node has a batch norm");
        let Normalized {
            norm,
            map,
            inverse,
            is_of_batch,
        } = normalized;
        let [scale, shift, ..] = pass.graph.norm_tensors(*norm);
        let (mut scales, mut shifts) = (Vec::new(), Vec::new());
        let channels = pass.tensors[scale].iter().zip(inverse);
        for ((g, x), (scale, inverse)) in g.chunks_mut(map.row).zip(map.rows()).zip(channels) {
            let (of_scale, of_shift) = (dot(g, x), g.iter().sum::<f64>());
            scales.push(of_scale);
            shifts.push(of_shift);
            let share = if *is_of_batch {
                1.0 / map.row as f64
            } else {
                0.0
            };
            for (g, x) in g.iter_mut().zip(x) {
                *g = scale * inverse * (*g - share * (of_shift + x * of_scale));
            }
        }
        self.add_tensor(scale, scales);
        self.add_tensor(shift, shifts);
    }

    fn add_tensor(&mut self, index: usize, gradient: Vec<f64>) {
        match &mut self.tensors[index] {
            Some(sum) => add(sum, 1.0, &gradient),
            none => *none = Some(gradient),
        }
    }

    /// Nobody asks for the image's gradient.
    fn add_map(&mut self, id: NodeId, gradient: &[f64]) {
        match &mut self.maps[id] {
            _ if id == 0 => {}
            Some(sum) => add(sum, 1.0, gradient),
            none => *none = Some(gradient.to_vec()),
        }
    }
}

impl Pass<'_> {
    /// The loss against one label for each image, and its gradients, where the choices of `turned` go
    /// the other way than f64 finds.
    pub fn backward(&self, labels: &[usize], turned: &HashSet<Choice>) -> Gradients {
        let classes = self.graph.linear.out_features;
        let smoothing = self.asked.label_smoothing;
        let (mut loss, mut logits) = (0.0, self.logits());
        for (row, &label) in logits.chunks_mut(classes).zip(labels) {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|x| (x - largest).exp()).sum();
            for (class, x) in row.iter_mut().enumerate() {
                let is_label = f64::from(u8::from(class == label));
                let target = smoothing / classes as f64 + (1.0 - smoothing) * is_label;
                let log = *x - largest - sum.ln();
                loss -= target * log / labels.len() as f64;
                *x = (log.exp() - target) / labels.len() as f64;
            }
        }
        let mut backward = Backward {
            pass: self,
            maps: vec![None; self.graph.nodes.len()],
            tensors: vec![None; self.tensors.len()],
            turned,
        };
        let output = self.graph.output();
        backward.maps[output] = Some(transposed(&logits, [self.images, classes], 1));
        for id in (1..=output).rev() {
            if let Some(gradient) = backward.maps[id].take() {
                backward.node(id, gradient);
            }
        }
        let mut tensors = backward.tensors;
        for (index, gradient) in tensors.iter_mut().enumerate() {
            gradient.take_if(|_| self.is_frozen(index));
        }
        Gradients { loss, tensors }
    }
}

//! An engine's training step against the oracle's: loss, logits, batch-norm statistics and the gradient
//! of every parameter.
//!
//! Why this is strict although a step has choices that rounding can turn (which side of zero a ReLU's
//! argument lies on, which element of a pool is the largest): the forward pass is compared first, so a
//! choice may differ only where the oracle finds it [close](Pass::close), within 1e-4 of its map.
//! All others are the oracle's. The closest of them may go the engine's way, each only if the
//! gradients of the whole network then come nearer, and afterwards every element of every gradient must
//! lie within the bound, relative to its tensor's largest. One turned choice moves gradients by 1e-3 to
//! 1e-1, so a few that happen to be close cannot make up for a mistake.

use crate::formula::{largest, range, values};
use crate::{Asked, Choice, Gradients, Pass, in_f64};
use polynet::arch::graph::{Graph, Op, TensorSpec};
use polynet::{
    Activations, Architecture, BatchPart, Frozen, Gradients as Found, HostTensor, LossOptions,
    Params, Paths, StepOptions, TensorMap,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;
use std::sync::Arc;

/// Largest deviation of loss, logits, means relative to the deviations, and variances.
const FORWARD: f64 = 1e-4;
/// A tensor whose gradient is so much smaller than the largest of all has none.
const ZERO: f64 = 1e-9;
/// The close choices that may go the engine's way, and how often each may turn.
const CLOSEST: usize = 16;
const SWEEPS: usize = 3;

/// A network with a batch of images, all by the formula.
pub struct Case {
    /// The network.
    pub graph: Arc<Graph>,
    /// Its weights and running statistics.
    pub params: Params,
    specs: Vec<TensorSpec>,
    dropout: f64,
    /// The same as the oracle takes them.
    pub tensors: Vec<Vec<f64>>,
    /// `[images, channels, height, width]`
    pub images: Vec<f32>,
    labels: Vec<usize>,
}

/// What a training step is asked.
#[derive(Clone)]
pub struct Request {
    /// Share of the target that is spread evenly over all classes.
    pub label_smoothing: f64,
    /// Which tensors are left alone.
    pub is_frozen: fn(&TensorSpec) -> bool,
    /// Chance that a path of the last module is dropped.
    pub max_drop: f64,
    /// Of the paths, and again of the dropouts.
    pub seed: u64,
    /// Whether feature maps are kept or recomputed.
    pub activations: Activations,
}

impl Request {
    /// Everything is trained on every path, and every map is kept.
    pub const WHOLE: Self = Self {
        label_smoothing: 0.1,
        is_frozen: |_| false,
        max_drop: 0.0,
        seed: 1,
        activations: Activations::Kept,
    };
}

impl Case {
    /// So many images, drawn from `seed`.
    pub fn new(text: &str, images: usize, seed: u64) -> Self {
        let architecture: Architecture = text.parse().unwrap();
        let graph = architecture.graph().unwrap();
        let specs: Vec<TensorSpec> = graph.tensors().collect();
        let named = specs.iter().map(|spec| {
            let values = values(&spec.name, &spec.shape, 1, range(spec, 6.0));
            let shape = spec.shape.clone();
            (spec.name.clone(), HostTensor { shape, values })
        });
        let params = Params::from_source(&graph, &named.collect::<TensorMap>()).unwrap();
        let [channels, height, width] = graph.nodes[0].shape;
        let shape = [images, channels, height, width];
        Self {
            tensors: in_f64(params.iter().map(|(_, values)| values)),
            images: values("input", &shape, seed, (-2.0, 4.0)),
            labels: (0..images)
                .map(|image| image % architecture.num_classes)
                .collect(),
            dropout: architecture.dropout,
            graph: Arc::new(graph),
            params,
            specs,
        }
    }

    /// A step as `compute` makes it.
    pub fn step(
        &self,
        request: &Request,
        compute: impl FnOnce(BatchPart<'_>, &StepOptions<'_>) -> Found,
    ) -> Found {
        let rng = ChaCha8Rng::seed_from_u64(request.seed);
        let paths = Paths::draw(&self.graph, request.max_drop, &mut rng.clone());
        let frozen = Frozen::new(&self.specs, request.is_frozen);
        let loss = LossOptions {
            label_smoothing: request.label_smoothing,
        };
        let options = StepOptions {
            frozen: &frozen,
            activations: request.activations,
            ..StepOptions::new(loss, &paths)
        };
        let part = BatchPart {
            images: &self.images,
            labels: &self.labels,
            rng,
        };
        compute(part, &options)
    }

    /// A request in the oracle's words, by another reading of the same laws: one number for each path in
    /// the graph's order, and one for each element of a dropout.
    fn asked(&self, request: &Request) -> Asked {
        let mut dropped = Vec::new();
        let mut drawn = ChaCha8Rng::seed_from_u64(request.seed);
        let last = self.graph.module_paths.len().saturating_sub(1).max(1) as f64;
        for (module, stochastic) in self.graph.module_paths.iter().enumerate() {
            let chance = request.max_drop * module as f64 / last;
            for sum in &stochastic.sums {
                let lost = sum.paths.iter().filter(|_| drawn.random::<f64>() < chance);
                dropped.extend(lost.map(|&path| (sum.node, path)));
            }
        }
        let mut drawn = ChaCha8Rng::seed_from_u64(request.seed);
        let is_dropout = |op: &Op| matches!(op, Op::Dropout { .. });
        let dropouts = self.graph.nodes.iter().filter(|node| is_dropout(&node.op));
        let kept = f64::from((1.0 / (1.0 - self.dropout)) as f32);
        let masks = dropouts.map(|node| {
            let elements = 0..self.labels.len() * node.shape[0];
            let is_kept = |number: f64| f64::from(u8::from(number >= self.dropout));
            elements.map(|_| kept * is_kept(drawn.random())).collect()
        });
        Asked {
            label_smoothing: request.label_smoothing,
            frozen: self.specs.iter().map(request.is_frozen).collect(),
            dropped,
            masks: masks.collect(),
        }
    }

    /// Sorts the close choices of a pass by how many times the rounding of `f32` they are away from
    /// turning. How far rounding reaches at each node shows in a pass whose tensors and images are
    /// disturbed by as much as an `f32` cannot hold.
    fn sort_choices(&self, pass: &mut Pass<'_>, (images, asked): (&[f64], &Asked)) {
        let mut drawn = ChaCha8Rng::seed_from_u64(0);
        let mut disturbed = |values: &[f64]| -> Vec<f64> {
            let mut ulps = || (2.0 * drawn.random::<f64>() - 1.0) * f64::from(f32::EPSILON) / 2.0;
            values.iter().map(|value| value * (1.0 + ulps())).collect()
        };
        let tensors: Vec<Vec<f64>> = self
            .tensors
            .iter()
            .map(|values| disturbed(values))
            .collect();
        let images = disturbed(images);
        let other = Pass::new(&self.graph, &tensors, &images, asked);
        let rounding = (0..self.graph.nodes.len()).map(|id| {
            let (exact, other) = (pass.result(id), other.result(id));
            let square: f64 = exact.iter().zip(&other).map(|(a, b)| (a - b).powi(2)).sum();
            (square / exact.len() as f64).sqrt()
        });
        let rounding: Vec<f64> = rounding.collect();
        for (distance, (node, _)) in &mut pass.close {
            *distance /= rounding[*node];
        }
        pass.close.sort_by(|a, b| a.0.total_cmp(&b.0));
    }

    /// Checks named steps of a request, their gradients to `bound` of each tensor's largest element.
    pub fn check(&self, request: &Request, found: &[(String, Found)], bound: f64) {
        let asked = self.asked(request);
        let images: Vec<f64> = self.images.iter().copied().map(f64::from).collect();
        let mut pass = Pass::new(&self.graph, &self.tensors, &images, &asked);
        self.sort_choices(&mut pass, (&images, &asked));
        let exact = pass.backward(&self.labels, &HashSet::new());
        for (name, found) in found {
            check_forward(name, &pass, exact.loss, found);
            assert_eq!(exact.tensors.len(), found.tensors.len(), "{name}");
            for ((exact, found), spec) in exact.tensors.iter().zip(&found.tensors).zip(&self.specs)
            {
                assert_eq!(exact.is_some(), found.is_some(), "{name}: {}", spec.name);
            }
            let found: Vec<Option<Vec<f64>>> = found
                .tensors
                .iter()
                .map(|gradient| gradient.as_deref().map(wide))
                .collect();
            assert!(
                found
                    .iter()
                    .flatten()
                    .any(|gradient| largest(gradient) > 0.0),
                "{name}"
            );
            let turned = turned(&pass, &self.labels, (&exact, &found), bound);
            let expected = pass.backward(&self.labels, &turned);
            let (error, index) = worst(&expected.tensors, &found);
            let turned = turned.len();
            println!("{name}: gradients within {error:.1e}, {turned} choices turned");
            assert!(
                error <= bound,
                "{name}: {}: {error:e}",
                self.specs[index].name
            );
        }
    }

    /// How far each of some steps in bf16 lies from the oracle's, and how far the oracle's own lies whose
    /// tensors and images are rounded to bf16: what no computation in bf16 can be expected to be below.
    pub fn distances_in_bf16(
        &self,
        request: &Request,
        found: &[Found],
    ) -> (Vec<Distance>, Distance) {
        let asked = self.asked(request);
        let images: Vec<f64> = self.images.iter().copied().map(f64::from).collect();
        let pass = Pass::new(&self.graph, &self.tensors, &images, &asked);
        let exact = pass.backward(&self.labels, &HashSet::new());
        let tensors: Vec<Vec<f64>> = self.tensors.iter().map(|v| in_bf16(v)).collect();
        let images = in_bf16(&images);
        let rounded = Pass::new(&self.graph, &tensors, &images, &asked);
        let of_rounded = rounded.backward(&self.labels, &HashSet::new());
        let logits = pass.logits();
        let distance = |loss: f64, found: &[f64], tensors: &[Option<Vec<f64>>]| Distance {
            loss: (loss / exact.loss - 1.0).abs(),
            logits: deviation(&logits, found) / largest(&logits),
            gradient: relative(&exact.tensors, tensors),
        };
        let found = found.iter().map(|found| {
            let gradients = found.tensors.iter().map(|g| g.as_deref().map(wide));
            let gradients: Vec<Option<Vec<f64>>> = gradients.collect();
            distance(found.loss, &wide(&found.logits), &gradients)
        });
        (
            found.collect(),
            distance(of_rounded.loss, &rounded.logits(), &of_rounded.tensors),
        )
    }
}

/// How far a step lies from the oracle's.
#[derive(Clone, Copy, Debug)]
pub struct Distance {
    /// Of the loss, relative to it.
    pub loss: f64,
    /// The largest of a logit, relative to the largest logit.
    pub logits: f64,
    /// Of the gradient of all parameters together, relative to its norm.
    pub gradient: f64,
}

/// Numbers rounded to 8 bits.
fn in_bf16(values: &[f64]) -> Vec<f64> {
    let rounded = values.iter().map(|&value| {
        let bits = (value as f32).to_bits();
        let half = 0x7fff + (bits >> 16 & 1);
        f64::from(f32::from_bits((bits + half) & 0xffff_0000))
    });
    rounded.collect()
}

/// The norm of all deviations, relative to that of the gradient.
fn relative(exact: &[Option<Vec<f64>>], found: &[Option<Vec<f64>>]) -> f64 {
    let (mut errors, mut squares) = (0.0, 0.0);
    for (exact, found) in exact.iter().zip(found) {
        assert_eq!(exact.is_some(), found.is_some());
        for (a, b) in exact.iter().flatten().zip(found.iter().flatten()) {
            errors += (a - b).powi(2);
            squares += a * a;
        }
    }
    (errors / squares).sqrt()
}

fn check_forward(name: &str, pass: &Pass<'_>, loss: f64, found: &Found) {
    let error = (found.loss / loss - 1.0).abs();
    assert!(error <= FORWARD, "{name}: loss {} for {loss}", found.loss);
    let logits = pass.logits();
    let error = deviation(&logits, &wide(&found.logits)) / largest(&logits);
    assert!(error <= FORWARD, "{name}: logits: {error:e}");
    assert_eq!(pass.statistics.len(), found.statistics.len(), "{name}");
    for ((norm, mean, var), found) in pass.statistics.iter().zip(&found.statistics) {
        assert_eq!(*norm, found.norm, "{name}");
        let mean = deviation(mean, &wide(&found.mean)) / largest(var).sqrt();
        let var = deviation(var, &wide(&found.unbiased_var)) / largest(var);
        assert!(
            mean.max(var) <= FORWARD,
            "{name}: batch norm {norm}: {mean:e} {var:e}"
        );
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// Largest difference; both have as many elements.
fn deviation(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max)
}

/// The largest deviation of a gradient relative to its largest element, and of which tensor. A gradient
/// that is zero but for the rounding of f64, as that of a bias before a batch norm, has the scale of the
/// others.
fn worst(exact: &[Option<Vec<f64>>], found: &[Option<Vec<f64>>]) -> (f64, usize) {
    let all = exact
        .iter()
        .flatten()
        .map(|gradient| largest(gradient))
        .fold(0.0, f64::max);
    let both = exact.iter().zip(found).enumerate();
    let errors = both.filter_map(|(index, (exact, found))| {
        let (exact, found) = (exact.as_ref()?, found.as_ref()?);
        let is_zero = largest(exact) < ZERO * all;
        let scale = if is_zero { all } else { largest(exact) };
        Some((deviation(exact, found) / scale, index))
    });
    errors.fold(
        (0.0, 0),
        |worst, error| if error.0 > worst.0 { error } else { worst },
    )
}

/// Squared deviations of all gradients, each relative to its own square.
fn distance(exact: &[Option<Vec<f64>>], found: &[Option<Vec<f64>>]) -> f64 {
    let both = exact
        .iter()
        .zip(found)
        .filter_map(|(a, b)| Some((a.as_ref()?, b.as_ref()?)));
    let squares = both.map(|(exact, found)| {
        let square: f64 = exact.iter().map(|x| x * x).sum();
        exact
            .iter()
            .zip(found)
            .map(|(a, b)| (a - b).powi(2))
            .sum::<f64>()
            / square.max(ZERO)
    });
    squares.sum()
}

/// The close choices that the engine made the other way: each is turned, or turned back, where that
/// brings the gradients nearer, several times over because one may hide another.
fn turned(
    pass: &Pass<'_>,
    labels: &[usize],
    (exact, found): (&Gradients, &[Option<Vec<f64>>]),
    bound: f64,
) -> HashSet<Choice> {
    let mut turned = HashSet::new();
    let of = |gradients: &Gradients| {
        let tensors = &gradients.tensors;
        (worst(tensors, found).0, distance(tensors, found))
    };
    let mut nearest = of(exact);
    let closest = &pass.close[..pass.close.len().min(CLOSEST)];
    for (_, choice) in std::iter::repeat_n(closest, SWEEPS).flatten() {
        if nearest.0 <= bound {
            break;
        }
        turn(&mut turned, *choice);
        let other = of(&pass.backward(labels, &turned));
        if other.1 < nearest.1 {
            nearest = other;
        } else {
            turn(&mut turned, *choice);
        }
    }
    turned
}

fn turn(turned: &mut HashSet<Choice>, choice: Choice) {
    if !turned.remove(&choice) {
        turned.insert(choice);
    }
}

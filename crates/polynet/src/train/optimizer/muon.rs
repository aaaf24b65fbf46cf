//! Muon (Jordan et al. 2024): the step of a hidden layer is its momentum with all singular values made
//! about 1, so that no direction of the weights learns much faster than the others.

use super::super::recipe::OptimizerAlgorithm;
use super::rule::{Parameter, Rule};
use polynet_kernels::Isa;
use polynet_kernels::matrix::{Left, Matrix};

/// Coefficients of the iteration's polynomial `a·x + b·x³ + c·x⁵`, chosen by its author so that small
/// singular values grow fastest: after [`ITERATIONS`] those from 0.002 to 1 lie between 0.68 and 1.21.
const COEFFICIENTS: [f32; 3] = [3.4445, -4.775, 2.0315];
const ITERATIONS: usize = 5;
/// Smallest norm that a step is divided by.
const SMALLEST_NORM: f32 = 1e-7;
/// Root mean square of AdamW's usual steps, in learning rates: with it one learning rate is right for the
/// matrices and for what AdamW moves (Liu et al. 2025, "Muon is scalable for LLM training", §2.2).
const STEP_OF_ADAM: f64 = 0.2;

/// How a matrix moves.
pub(super) struct Muon {
    momentum: f32,
    nesterov: bool,
    shape: [usize; 2],
}

impl Muon {
    /// `None` if the tensor is no matrix of a hidden layer, or another algorithm moves it.
    pub(super) fn of(rule: &Rule) -> Option<Self> {
        match rule.algorithm {
            OptimizerAlgorithm::Muon {
                momentum, nesterov, ..
            } => Some(Self {
                momentum: momentum as f32,
                nesterov,
                shape: rule.matrix?,
            }),
            _ => None,
        }
    }

    /// Moves a matrix.
    pub(super) fn update(self, parameter: Parameter<'_>) {
        let Parameter {
            weight,
            gradient,
            slots: [velocity, _],
            rule,
        } = parameter;
        let mut direction = gradient.to_vec();
        let values = velocity.iter_mut().zip(gradient).zip(&mut direction);
        for ((velocity, gradient), direction) in values {
            *velocity = self.momentum * *velocity + gradient;
            *direction = match self.nesterov {
                true => gradient + self.momentum * *velocity,
                false => *velocity,
            };
        }
        orthogonalize(&mut direction, self.shape);
        let longer = self.shape[0].max(self.shape[1]) as f64;
        let step = (STEP_OF_ADAM * longer.sqrt() * rule.learning_rate) as f32;
        let shrink = (1.0 - rule.learning_rate * rule.decay) as f32;
        for (weight, direction) in weight.iter_mut().zip(direction) {
            *weight = shrink * *weight - step * direction;
        }
    }
}

/// Makes all singular values of a matrix in row-major order about 1, by Newton and Schulz's iteration.
fn orthogonalize(values: &mut [f32], [rows, columns]: [usize; 2]) {
    let isa = Isa::best();
    let squares = values.iter().map(|x| f64::from(*x).powi(2));
    let norm = (squares.sum::<f64>().sqrt() as f32).max(SMALLEST_NORM);
    // The longer side has the rows: so the matrix of the shorter sides' products is `Xᵀ·X`.
    let is_wide = columns > rows;
    let place = |[long, short]: [usize; 2]| match is_wide {
        true => short * columns + long,
        false => long * columns + short,
    };
    let shape = [rows.max(columns), rows.min(columns)];
    let mut x = Matrix::from_fn(shape, |long, short| values[place([long, short])] / norm);
    let mut next = Matrix::zeros(shape);
    let square = [shape[1]; 2];
    let (mut gram, mut factor) = (Matrix::zeros(square), Matrix::zeros(square));
    let [a, b, c] = COEFFICIENTS;
    for _ in 0..ITERATIONS {
        gram.combine_symmetric(isa, (1.0, Left::TransposeOf(&x), &x), None);
        factor.combine_symmetric(isa, (c, Left::Of(&gram), &gram), Some((b, &gram)));
        next.combine(isa, (1.0, Left::Of(&x), &factor), Some((a, &x)));
        std::mem::swap(&mut x, &mut next);
    }
    for long in 0..shape[0] {
        for short in 0..shape[1] {
            values[place([long, short])] = x.at(long, short);
        }
    }
}

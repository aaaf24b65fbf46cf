//! Rounding errors, held to what the arithmetic of each kernel makes of them.
//!
//! Products of independent numbers add up like a random walk: after `k` of them a sum is about `σ·√k`, and
//! rounding it adds 0.4 units in the last place of that, so `n` products come to an error of
//! `0.4·2⁻²⁴·σ·n/√2`. A transform makes one such sum over the channels for every point. Its products are as large
//! as the rows of `G` and `Bᵀ` make them, and the rows of `Aᵀ` add the errors up.

use super::tests::noise;
use super::toom::filter_matrix;
use super::*;
use crate::layout::{Arena, View};
use crate::simd::Isa;

const CHANNELS: usize = 256;
const OUTPUTS: usize = 16;
/// Standard deviation of the product of two numbers of −1…1.
const PRODUCT: f64 = 1.0 / 3.0;

/// The error of a sum of `count` products of standard deviation `size`.
fn of_sum(count: usize, size: f64) -> f64 {
    0.4 * 2.0_f64.powi(-24) * size * count as f64 / 2.0_f64.sqrt()
}

/// The coefficients of `Π (x − point)`, lowest power first.
fn product(points: impl IntoIterator<Item = f64>) -> Vec<f64> {
    points.into_iter().fold(vec![1.0], |coefficients, point| {
        let mut next = vec![0.0; coefficients.len() + 1];
        for (power, coefficient) in coefficients.iter().enumerate() {
            next[power + 1] += coefficient;
            next[power] -= coefficient * point;
        }
        next
    })
}

fn squares(row: &[f64]) -> f64 {
    row.iter().map(|x| x * x).sum()
}

/// By how much a transform along one axis magnifies the variance of errors, on the mean over its outputs.
fn magnified(pairs: usize, taps: usize, outputs: usize) -> f64 {
    let g = filter_matrix(pairs, taps);
    if pairs == 0 {
        return 1.0;
    }
    let finite = 2 * pairs + 1;
    let points: Vec<f64> = g[..finite].iter().map(|row| row[1] / row[0]).collect();
    let others = |point: usize| (0..finite).filter(move |&other| other != point);
    let mut b: Vec<Vec<f64>> = (0..finite)
        .map(|point| product(others(point).map(|other| points[other])))
        .collect();
    b.push(product(points.iter().copied()));
    let a = |output: usize, point: usize| match points.get(point) {
        Some(value) => value.powi(output as i32),
        None => f64::from(output + 1 == outputs),
    };
    // It is a convolution.
    for output in 0..outputs {
        for tap in 0..taps {
            for input in 0..=finite {
                let of_point = |point: usize| {
                    let input = b[point].get(input).copied().unwrap_or(0.0);
                    a(output, point) * g[point][tap] * input
                };
                let sum: f64 = (0..=finite).map(of_point).sum();
                let expected = f64::from(input == output + tap);
                assert!((sum - expected).abs() < 1e-9, "{pairs} pairs, {taps} taps");
            }
        }
    }
    let of_output = |output: usize| -> f64 {
        (0..=finite)
            .map(|point| a(output, point).powi(2) * squares(&g[point]) * squares(&b[point]))
            .sum()
    };
    (0..outputs).map(of_output).sum::<f64>() / outputs as f64
}

/// The root of the mean square of a kernel's errors.
fn error(window: Window, side: usize, run: impl Fn(&mut Arena, &[View], &[View])) -> f64 {
    let size = [side; 2];
    let x = noise(1, CHANNELS * side * side);
    let from = View::new(0, 1, CHANNELS, size, 3);
    let to = View::new(from.end(), 1, OUTPUTS, window.output_size(size), 0);
    let mut arena = Arena::new(to.end());
    from.write_nchw(&mut arena, &x);
    run(&mut arena, &[from], &[to]);
    let shape = [1, CHANNELS, side, side];
    let expected = convolve(window, &x, shape, &weights(window), &[0.0; OUTPUTS]);
    let found = to.read_nchw(&arena);
    assert_eq!(found.len(), expected.len());
    let errors = found.iter().zip(&expected);
    let sum: f64 = errors
        .map(|(found, expected)| (f64::from(*found) - f64::from(*expected)).powi(2))
        .sum();
    (sum / found.len() as f64).sqrt()
}

fn weights(window: Window) -> Vec<f32> {
    noise(2, OUTPUTS * CHANNELS * window.taps())
}

fn stores(to: &[View]) -> Stores<'_> {
    Stores {
        value: Some(Value { to, relu: false }),
        sum: None,
    }
}

#[test]
fn errors_are_those_of_the_arithmetic() {
    let (one, small_three, three, seven) = ((0, 1), (1, 2), (2, 4), (4, 4));
    for (kernel, side, axes) in [
        ([1, 1], 12, None),
        ([3, 3], 12, None),
        ([1, 3], 14, Some([one, three])),
        ([3, 1], 14, Some([three, one])),
        ([3, 3], 14, Some([small_three, small_three])),
        ([3, 3], 22, Some([three, three])),
        ([1, 7], 18, Some([one, seven])),
        ([7, 1], 18, Some([seven, one])),
    ] {
        let window = Window {
            kernel,
            stride: [1, 1],
            padding: [0, 0],
        };
        let pixels: usize = window.output_size([side; 2]).iter().product();
        let segments: [&[usize]; 2] = [&[CHANNELS], &[OUTPUTS]];
        let (weights, bias) = (weights(window), [0.0; OUTPUTS]);
        let expected = match axes {
            None => of_sum(CHANNELS * window.taps(), PRODUCT),
            Some(axes) => {
                let axes = [0, 1].map(|axis| {
                    let (pairs, outputs) = axes[axis];
                    magnified(pairs, kernel[axis], outputs)
                });
                of_sum(CHANNELS, PRODUCT) * (axes[0] * axes[1]).sqrt()
            }
        };
        for isa in Isa::available() {
            let found = error(window, side, |arena, from, to| match axes {
                None => {
                    Conv::pack(isa, window, segments, &weights, &bias).run(arena, from, stores(to))
                }
                Some(_) => Winograd::pack(isa, (window, pixels), segments, &weights, &bias).run(
                    arena,
                    from,
                    stores(to),
                ),
            });
            let ratio = found / expected;
            println!("{isa} {kernel:?} {axes:?}: {found:.1e}, {ratio:.2} of the model's");
            assert!((0.8..1.3).contains(&ratio), "{isa} {window:?}: {ratio}");
        }
    }
}

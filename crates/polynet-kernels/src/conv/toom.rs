//! Toom-Cook (Winograd) transforms in one dimension: `m` outputs of a filter of `r` taps from
//! `m + r − 1` products instead of `m · r`.
//!
//! The products are values of polynomials at the points 0, ±a₁, …, ±a_K and ∞. Pairs ±a share their
//! even and odd halves, so a transform of `2K + 2` points takes about `2K²` operations.
//!
//! `y = Aᵀ[(G g) ⊙ (Bᵀ d)]`, with `S(x) = Π(x² − aⱼ²)` and `Qⱼ = S / (x² − aⱼ²)`: the rows of `Bᵀ`
//! are the coefficients of `S` (point 0), `x(x ± aⱼ)Qⱼ` and `x·S` (∞).

use crate::element::Element;
use crate::simd::Simd;

/// The most pairs of a transform.
const MAX_PAIRS: usize = 5;

/// The most points of a transform.
const MAX_POINTS: usize = 2 * MAX_PAIRS + 2;

/// `count` vectors that lie `stride` apart, read once: a store might change what is read after it.
///
/// # Safety
/// The processor has the instruction set, and the pointer is valid for all vectors.
#[inline(always)]
unsafe fn vectors<S: Simd, E: Element>(
    from: *const E,
    stride: usize,
    count: usize,
) -> [S::V; MAX_POINTS] {
    // SAFETY: by the contract.
    unsafe {
        let mut vectors = [S::splat(0.0); MAX_POINTS];
        for (index, vector) in vectors.iter_mut().enumerate().take(count) {
            *vector = E::load::<S>(from.add(index * stride));
        }
        vectors
    }
}

/// A transform for `2K + 2` points.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Toom<const K: usize> {
    /// aⱼ.
    points: [f32; K],
    /// Coefficients of `S` in powers of `x²`; the leading one is 1 and left out.
    whole: [f32; K],
    /// Coefficients of `Qⱼ` in powers of `x²`, `K` each.
    quotients: [[f32; K]; K],
}

/// The points of `K` pairs, chosen for small rounding errors.
fn pairs(count: usize) -> &'static [f64] {
    match count {
        1 => &[1.0],
        2 => &[2.0 / 3.0, 1.25],
        3 => &[0.375, 0.875, 3.0],
        4 => &[0.375, 0.75, 4.0 / 3.0, 3.0],
        5 => &[0.375, 0.75, 1.25, 2.0, 4.0],
        _ => unreachable!("transforms have 1 to {MAX_PAIRS} pairs"),
    }
}

/// Coefficients of `Π(y − aⱼ²)` over the pairs but `without`, lowest power first.
fn product(points: &[f64], without: Option<usize>) -> Vec<f64> {
    let mut coefficients = vec![1.0];
    for (index, point) in points.iter().enumerate() {
        if Some(index) == without {
            continue;
        }
        let mut next = vec![0.0; coefficients.len() + 1];
        for (power, coefficient) in coefficients.iter().enumerate() {
            next[power + 1] += coefficient;
            next[power] -= coefficient * point * point;
        }
        coefficients = next;
    }
    coefficients
}

/// `G` for filters of `taps` taps: a row of `taps` factors for each of the `2K + 2` points. Without
/// pairs it is the identity.
pub(crate) fn filter_matrix(pair_count: usize, taps: usize) -> Vec<Vec<f64>> {
    let unit = |tap: usize| (0..taps).map(|other| f64::from(other == tap)).collect();
    if pair_count == 0 {
        return (0..taps).map(unit).collect();
    }
    let pairs = pairs(pair_count);
    let mut points = vec![0.0];
    points.extend(pairs.iter().flat_map(|&point| [point, -point]));
    let mut rows: Vec<Vec<f64>> = points
        .iter()
        .enumerate()
        .map(|(index, &point)| {
            let others = points
                .iter()
                .enumerate()
                .filter(|&(other, _)| other != index);
            let norm: f64 = others.map(|(_, other)| point - other).product();
            (0..taps).map(|tap| point.powi(tap as i32) / norm).collect()
        })
        .collect();
    rows.push(unit(taps - 1));
    rows
}

impl<const K: usize> Toom<K> {
    pub(crate) fn new() -> Self {
        let pairs = pairs(K);
        let narrow = |values: &[f64]| {
            let mut narrowed = [0.0; K];
            for (to, from) in narrowed.iter_mut().zip(values) {
                *to = *from as f32;
            }
            narrowed
        };
        let mut quotients = [[0.0; K]; K];
        for (index, quotient) in quotients.iter_mut().enumerate() {
            *quotient = narrow(&product(pairs, Some(index)));
        }
        Self {
            points: narrow(pairs),
            whole: narrow(&product(pairs, None)),
            quotients,
        }
    }

    /// `Bᵀ d` of `2K + 2` vectors that lie `stride` apart in `d`, stored `to_stride` apart.
    ///
    /// # Safety
    /// The processor has the instruction set, and `d` and `to` are valid for all vectors.
    #[inline(always)]
    pub(crate) unsafe fn input<S: Simd, E: Element>(
        &self,
        d: *const E,
        stride: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        // SAFETY: by the contract.
        unsafe {
            let d = vectors::<S, E>(d, stride, 2 * K + 2);
            let mut first = d[2 * K];
            let mut last = d[2 * K + 1];
            for k in 0..K {
                let factor = S::splat(self.whole[k]);
                first = S::fma(factor, d[2 * k], first);
                last = S::fma(factor, d[2 * k + 1], last);
            }
            S::store(to, first);
            S::store(to.add((2 * K + 1) * to_stride), last);
            for pair in 0..K {
                // The leading coefficient of a quotient is 1.
                let mut even = d[2 * K];
                let mut odd = d[2 * K - 1];
                for k in 0..K - 1 {
                    let factor = S::splat(self.quotients[pair][k]);
                    even = S::fma(factor, d[2 * k + 2], even);
                    odd = S::fma(factor, d[2 * k + 1], odd);
                }
                let point = S::splat(self.points[pair]);
                let negative = S::splat(-self.points[pair]);
                S::store(to.add((2 * pair + 1) * to_stride), S::fma(point, odd, even));
                S::store(
                    to.add((2 * pair + 2) * to_stride),
                    S::fma(negative, odd, even),
                );
            }
        }
    }

    /// `Aᵀ m` of `2K + 2` vectors that lie `stride` apart: `M` outputs, stored `to_stride` apart.
    ///
    /// # Safety
    /// As [`Toom::input`].
    #[inline(always)]
    pub(crate) unsafe fn output<S: Simd, const M: usize>(
        &self,
        m: *const f32,
        stride: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        // SAFETY: by the contract.
        unsafe {
            let load = |index: usize| S::load(m.add(index * stride));
            let mut outputs = [S::splat(0.0); M];
            outputs[0] = load(0);
            for pair in 0..K {
                let (plus, minus) = (load(2 * pair + 1), load(2 * pair + 2));
                let sum = S::add(plus, minus);
                let difference = S::fma(S::splat(-1.0), minus, plus);
                let mut power = 1.0;
                for (index, output) in outputs.iter_mut().enumerate() {
                    let half = if index % 2 == 0 { sum } else { difference };
                    *output = S::fma(S::splat(power), half, *output);
                    power *= self.points[pair];
                }
            }
            outputs[M - 1] = S::add(outputs[M - 1], load(2 * K + 1));
            for (index, &output) in outputs.iter().enumerate() {
                S::store(to.add(index * to_stride), output);
            }
        }
    }
    /// `A y` of `M` vectors that lie `stride` apart: the gradients of the `2K + 2` products that make
    /// outputs with the gradients `y`, stored `to_stride` apart.
    ///
    /// # Safety
    /// As [`Toom::input`].
    #[inline(always)]
    pub(crate) unsafe fn output_gradient<S: Simd, E: Element, const M: usize>(
        &self,
        y: *const E,
        stride: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        // SAFETY: by the contract.
        unsafe {
            let y = vectors::<S, E>(y, stride, M);
            S::store(to, y[0]);
            S::store(to.add((2 * K + 1) * to_stride), y[M - 1]);
            for pair in 0..K {
                let mut halves = [S::splat(0.0); 2];
                let mut power = 1.0;
                for index in 0..M {
                    let half = &mut halves[index % 2];
                    *half = S::fma(S::splat(power), y[index], *half);
                    power *= self.points[pair];
                }
                let [even, odd] = halves;
                let difference = S::fma(S::splat(-1.0), odd, even);
                S::store(to.add((2 * pair + 1) * to_stride), S::add(even, odd));
                S::store(to.add((2 * pair + 2) * to_stride), difference);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Portable;

    fn check<const K: usize, const M: usize>() {
        let taps = 2 * K + 3 - M;
        let filter: Vec<f64> = (0..taps).map(|k| (k as f64 * 1.7 + 0.3).sin()).collect();
        let data: Vec<f32> = (0..(2 * K + 2) * 4)
            .map(|i| (i as f32 * 0.9).cos())
            .collect();
        let toom = Toom::<K>::new();
        let mut products = vec![0.0_f32; data.len()];
        // SAFETY: both hold 2K + 2 vectors of 4 lanes.
        unsafe { toom.input::<Portable, f32>(data.as_ptr(), 4, products.as_mut_ptr(), 4) };
        for (point, row) in filter_matrix(K, taps).iter().enumerate() {
            let factor: f64 = row.iter().zip(&filter).map(|(g, tap)| g * tap).sum();
            for lane in 0..4 {
                products[4 * point + lane] *= factor as f32;
            }
        }
        let mut outputs = [0.0_f32; 32];
        // SAFETY: as above; the outputs hold M vectors.
        unsafe { toom.output::<Portable, M>(products.as_ptr(), 4, outputs.as_mut_ptr(), 4) };
        for index in 0..M {
            for lane in 0..4 {
                let expected: f64 = (0..taps)
                    .map(|tap| filter[tap] * f64::from(data[4 * (index + tap) + lane]))
                    .sum();
                let error = (f64::from(outputs[4 * index + lane]) - expected).abs();
                assert!(error < 2e-5, "F({M}, {taps}): {error}");
            }
        }
    }

    /// `⟨A y, m⟩ = ⟨y, Aᵀ m⟩`.
    fn check_gradient<const K: usize, const M: usize>() {
        let toom = Toom::<K>::new();
        let products: Vec<f32> = (0..(2 * K + 2) * 4).map(|i| (i as f32).sin()).collect();
        let gradients: Vec<f32> = (0..M * 4).map(|i| (i as f32 * 0.7).cos()).collect();
        let (mut outputs, mut lifted) = ([0.0_f32; 32], vec![0.0_f32; products.len()]);
        // SAFETY: the products are 2K + 2 vectors of 4 lanes, the outputs M.
        unsafe {
            toom.output::<Portable, M>(products.as_ptr(), 4, outputs.as_mut_ptr(), 4);
            toom.output_gradient::<Portable, f32, M>(gradients.as_ptr(), 4, lifted.as_mut_ptr(), 4);
        }
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter()
                .zip(b)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum()
        };
        let (found, expected) = (dot(&lifted, &products), dot(&gradients, &outputs[..4 * M]));
        assert!(
            (found - expected).abs() < 1e-5 * (1.0 + expected.abs()),
            "{found}, {expected}"
        );
    }

    #[test]
    fn gradients_go_the_other_way() {
        check_gradient::<1, 2>();
        check_gradient::<2, 4>();
        check_gradient::<4, 4>();
    }

    #[test]
    fn transforms_convolve() {
        check::<1, 2>();
        check::<2, 4>();
        check::<3, 6>();
        check::<3, 2>();
        check::<4, 4>();
        check::<5, 6>();
    }
}

//! First filters that whiten: the directions in which patches of the training images vary most.
//!
//! Neighbouring pixels are nearly the same, so what a first convolution of random filters gives is
//! nearly the same in every channel, and training spends its first epochs on telling them apart. The
//! principal components of the patches are uncorrelated from the first step. Half of the filters are
//! the components, by falling variance, the other half their negatives, as the ReLU cuts off one side
//! of each (Jordan 2024, arXiv 2404.00498, §3.2; the idea is Page's, 2018).
//!
//! Deviation: there the components are divided by their spread and stay as they are. Here batch norm
//! follows, which divides by it, and they are trained like all others, so they begin with the norm of
//! He's rule.
//!
//! Law: the filters of one sign are orthogonal, and the moments of what they give are those of the
//! patches in these directions, whatever the order of the images.

use crate::arch::Graph;
use crate::data::{Batch, DataError};
use crate::params::Params;

/// Images whose patches are looked at.
pub(super) const IMAGES: usize = 512;
/// The most patches of an image, about.
const PATCHES: usize = 1024;
/// Sweeps of Jacobi's method; it squares the error in each, and eight are enough for any matrix.
const SWEEPS: usize = 16;

/// Replaces the filters of a network's first convolution.
pub(super) fn whiten(
    params: &mut Params,
    graph: &Graph,
    batches: impl IntoIterator<Item = Result<Batch, DataError>>,
) -> Result<(), DataError> {
    let Some(conv) = graph.convs.first() else {
        return Ok(());
    };
    let [out_channels, in_channels, height, width] = conv.shape;
    let mut moments = Moments::new(in_channels, [height, width]);
    for batch in batches {
        let batch = batch?;
        let image = in_channels * batch.input_size * batch.input_size;
        for pixels in batch.images[..image * batch.len()].chunks_exact(image) {
            moments.add(pixels, batch.input_size);
        }
    }
    let components = Components::of(moments.matrix());
    // The first of the tensors is the first convolution's.
    params[0].copy_from_slice(&components.filters(out_channels));
    Ok(())
}

/// Sums of products of the numbers of a patch, two by two.
struct Moments {
    in_channels: usize,
    kernel_size: [usize; 2],
    /// `[n, n]` of the `n` numbers of a patch, as a filter has them; the upper half.
    sums: Vec<f64>,
    count: usize,
}

impl Moments {
    fn new(in_channels: usize, kernel_size: [usize; 2]) -> Self {
        let length = in_channels * kernel_size[0] * kernel_size[1];
        Self {
            in_channels,
            kernel_size,
            sums: vec![0.0; length * length],
            count: 0,
        }
    }

    fn length(&self) -> usize {
        self.in_channels * self.kernel_size[0] * self.kernel_size[1]
    }

    /// An image `[in_channels, side, side]`. One smaller than a patch has none.
    fn add(&mut self, image: &[f32], side: usize) {
        let [height, width] = self.kernel_size;
        let (rows, columns) = (
            (side + 1).saturating_sub(height),
            (side + 1).saturating_sub(width),
        );
        let step = ((rows * columns) as f64 / PATCHES as f64)
            .sqrt()
            .ceil()
            .max(1.0) as usize;
        let mut patch = Vec::with_capacity(self.length());
        for top in (0..rows).step_by(step) {
            for left in (0..columns).step_by(step) {
                patch.clear();
                for plane in image.chunks_exact(side * side) {
                    for row in plane.chunks_exact(side).skip(top).take(height) {
                        patch.extend(row[left..left + width].iter().map(|&x| f64::from(x)));
                    }
                }
                self.add_patch(&patch);
            }
        }
    }

    fn add_patch(&mut self, patch: &[f64]) {
        self.count += 1;
        for (row, (sums, &a)) in self
            .sums
            .chunks_exact_mut(patch.len())
            .zip(patch)
            .enumerate()
        {
            for (sum, &b) in sums[row..].iter_mut().zip(&patch[row..]) {
                *sum += a * b;
            }
        }
    }

    /// Their means, `[n, n]`, symmetric.
    fn matrix(&self) -> Vec<f64> {
        let n = self.length();
        let count = self.count.max(1) as f64;
        (0..n * n)
            .map(|place| {
                let (row, column) = (place / n, place % n);
                self.sums[row.min(column) * n + row.max(column)] / count
            })
            .collect()
    }
}

/// A symmetric matrix's eigenvectors, by falling eigenvalue.
struct Components(Vec<Vec<f64>>);

impl Components {
    /// By Jacobi's method in cycles: rotations that make one number beside the diagonal zero each.
    fn of(mut matrix: Vec<f64>) -> Self {
        let n = matrix.len().isqrt();
        let mut vectors: Vec<Vec<f64>> = (0..n)
            .map(|row| {
                (0..n)
                    .map(|column| f64::from(u8::from(row == column)))
                    .collect()
            })
            .collect();
        for _ in 0..SWEEPS {
            for p in 0..n {
                for q in p + 1..n {
                    rotate(&mut matrix, &mut vectors, p, q);
                }
            }
        }
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| matrix[b * n + b].total_cmp(&matrix[a * n + a]));
        Self(
            order
                .into_iter()
                .map(|place| upright(std::mem::take(&mut vectors[place])))
                .collect(),
        )
    }

    /// `[count, n]`: each component and its negative, again from the first where there are too few.
    fn filters(&self, count: usize) -> Vec<f32> {
        let half = count.div_ceil(2);
        (0..count)
            .flat_map(|filter| {
                let sign = if filter < half { 1.0 } else { -1.0 };
                let component = &self.0[filter % half % self.0.len()];
                let norm = std::f64::consts::SQRT_2 * sign;
                component.iter().map(move |x| (norm * x) as f32)
            })
            .collect()
    }
}

/// One of the two vectors that differ in sign alone: that whose largest number is positive.
fn upright(vector: Vec<f64>) -> Vec<f64> {
    let largest = vector
        .iter()
        .copied()
        .fold(0.0_f64, |a, b| if b.abs() > a.abs() { b } else { a });
    vector.into_iter().map(|x| x * largest.signum()).collect()
}

/// Turns rows and columns `p` and `q` so that the number where they cross becomes zero; the rows of
/// `vectors` turn with them.
fn rotate(matrix: &mut [f64], vectors: &mut [Vec<f64>], p: usize, q: usize) {
    let n = vectors.len();
    let crossing = matrix[p * n + q];
    if crossing == 0.0 {
        return;
    }
    // Golub and Van Loan, Matrix Computations, §8.5.2: the smaller of the two angles.
    let tau = (matrix[q * n + q] - matrix[p * n + p]) / (2.0 * crossing);
    let tangent = tau.signum() / (tau.abs() + tau.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = tangent * cosine;
    for k in 0..n {
        let (a, b) = (matrix[k * n + p], matrix[k * n + q]);
        matrix[k * n + p] = cosine * a - sine * b;
        matrix[k * n + q] = sine * a + cosine * b;
    }
    for k in 0..n {
        let (a, b) = (matrix[p * n + k], matrix[q * n + k]);
        matrix[p * n + k] = cosine * a - sine * b;
        matrix[q * n + k] = sine * a + cosine * b;
        let (a, b) = (vectors[p][k], vectors[q][k]);
        vectors[p][k] = cosine * a - sine * b;
        vectors[q][k] = sine * a + cosine * b;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Architecture;
    use crate::random::sample_rng;
    use rand_distr::{Distribution, StandardNormal};

    /// `[3, side, side]`: neighbours are alike, and red is like green.
    fn smooth_image(side: usize, number: usize) -> Vec<f32> {
        let mut rng = sample_rng(1, 0, number);
        let mut draw = || -> f32 { StandardNormal.sample(&mut rng) };
        let shared: Vec<f32> = (0..side * side).map(|_| draw()).collect();
        (0..3)
            .flat_map(|channel| {
                let mut value = 0.0;
                let plane: Vec<f32> = shared
                    .iter()
                    .map(|shared| {
                        let own = if channel == 2 { 1.0 } else { 0.2 };
                        value = 0.8 * value + shared + own * draw();
                        value
                    })
                    .collect();
                plane
            })
            .collect()
    }

    /// What filters `[count, 3, 3, 3]` give at all places of an image, by filter.
    fn convolve(filters: &[f32], image: &[f32], side: usize) -> Vec<Vec<f64>> {
        let places = side - 2;
        filters
            .chunks_exact(27)
            .map(|filter| {
                (0..places * places)
                    .map(|place| {
                        let (top, left) = (place / places, place % places);
                        (0..27)
                            .map(|k| {
                                let (channel, y, x) = (k / 9, top + k % 9 / 3, left + k % 3);
                                let pixel = image[channel * side * side + y * side + x];
                                f64::from(filter[k]) * f64::from(pixel)
                            })
                            .sum()
                    })
                    .collect()
            })
            .collect()
    }

    fn filters(images: &[Vec<f32>], count: usize) -> Vec<f32> {
        let mut moments = Moments::new(3, [3, 3]);
        for image in images {
            moments.add(image, 12);
        }
        Components::of(moments.matrix()).filters(count)
    }

    #[test]
    fn what_the_filters_give_is_uncorrelated_and_falls() {
        let images: Vec<_> = (0..40).map(|number| smooth_image(12, number)).collect();
        let filters = filters(&images, 54);
        let mut products = vec![0.0; 27 * 27];
        let mut count = 0;
        for image in &images {
            let given = convolve(&filters[..27 * 27], image, 12);
            count += given[0].len();
            for (a, first) in given.iter().enumerate() {
                for (b, second) in given.iter().enumerate() {
                    let product: f64 = first.iter().zip(second).map(|(x, y)| x * y).sum();
                    products[a * 27 + b] += product;
                }
            }
        }
        let power = |a: usize| products[a * 27 + a] / count as f64;
        for a in 0..27 {
            assert!(a == 0 || power(a) <= power(a - 1) * 1.000_001, "{a}");
            for b in 0..a {
                let correlation =
                    products[a * 27 + b] / count as f64 / (power(a) * power(b)).sqrt();
                assert!(correlation.abs() < 1e-4, "{a} {b}: {correlation}");
            }
        }
        // Much more in the first than in the last: the images are smooth.
        assert!(power(0) > 50.0 * power(26), "{} {}", power(0), power(26));
    }

    #[test]
    fn each_component_comes_with_its_negative_and_he_s_norm() {
        let images: Vec<_> = (0..4).map(|number| smooth_image(12, number)).collect();
        let filters = filters(&images, 33);
        for k in 0..27 {
            // 17 positive ones, then 16 negative ones.
            assert_eq!(filters[27 * 3 + k], -filters[27 * 20 + k]);
        }
        for filter in filters.chunks_exact(27) {
            let norm = filter.iter().map(|x| x * x).sum::<f32>();
            assert!((norm - 2.0).abs() < 1e-5, "{norm}");
        }
    }

    #[test]
    fn more_filters_than_components_begin_again() {
        let images = [smooth_image(12, 0)];
        let filters = filters(&images, 64);
        assert_eq!(filters[..27], filters[27 * 27..27 * 28]);
    }

    #[test]
    fn only_the_first_convolution_changes() {
        let network: Architecture = "small-polynet; width = 0.0625".parse().unwrap();
        let graph = network.graph().unwrap();
        let drawn = Params::init(&graph, 1);
        let mut whitened = Params::init(&graph, 1);
        let batch = Batch {
            images: smooth_image(12, 3),
            labels: vec![0],
            indices: vec![0],
            positions: vec![0],
            skipped: Vec::new(),
            number: 0,
            input_size: 12,
        };
        whiten(&mut whitened, &graph, [Ok(batch)]).unwrap();
        let changed: Vec<usize> = (0..drawn.len())
            .filter(|&index| drawn[index] != whitened[index])
            .collect();
        assert_eq!(changed, [0]);
        let name = graph.tensors().next().unwrap().name;
        assert_eq!(name, "stem.0.conv.weight");
    }
}

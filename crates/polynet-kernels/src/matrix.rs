//! Dense matrices of `f32`: products for optimizers that see a layer's weights as a matrix.

use crate::dispatch::dispatch;
use crate::simd::{BLOCK, Isa, Simd};
use rayon::prelude::*;

/// Rows of a task: a multiple of what a tile of any instruction set has.
const TASK_ROWS: usize = 2 * BLOCK;
/// Multiply-adds that are worth tasks of their own.
const TASK_PRODUCTS: usize = 1 << 18;

/// A matrix in row-major order. Both sides are filled up with zeros to whole blocks of 16, so that products
/// know no remainders; zeros stay zeros in all that is computed here.
#[derive(Clone, Debug)]
pub struct Matrix {
    shape: [usize; 2],
    /// `shape` in whole blocks.
    padded: [usize; 2],
    values: Vec<f32>,
}

/// The left side of a product.
#[derive(Clone, Copy, Debug)]
pub enum Left<'a> {
    /// The matrix.
    Of(&'a Matrix),
    /// Its transpose.
    TransposeOf(&'a Matrix),
}

impl Matrix {
    /// Zeros of a shape, rows first.
    pub fn zeros(shape: [usize; 2]) -> Self {
        let padded = shape.map(|side| side.next_multiple_of(BLOCK));
        Self {
            shape,
            padded,
            values: vec![0.0; padded[0] * padded[1]],
        }
    }

    /// The matrix whose elements at a row and a column are these.
    pub fn from_fn(shape: [usize; 2], element: impl Fn(usize, usize) -> f32) -> Self {
        let mut matrix = Self::zeros(shape);
        let rows = matrix.values.chunks_exact_mut(matrix.padded[1].max(1));
        for (row, values) in rows.take(shape[0]).enumerate() {
            for (column, value) in values[..shape[1]].iter_mut().enumerate() {
                *value = element(row, column);
            }
        }
        matrix
    }

    /// The element at a row and a column.
    ///
    /// # Panics
    /// If it lies outside.
    pub fn at(&self, row: usize, column: usize) -> f32 {
        assert!(row < self.shape[0] && column < self.shape[1], "inside");
        self.values[row * self.padded[1] + column]
    }

    /// Writes `α · left · right + β · added` here. Every element is summed in one order, whatever the
    /// number of threads.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn combine(
        &mut self,
        isa: Isa,
        product: (f32, Left<'_>, &Self),
        added: Option<(f32, &Self)>,
    ) {
        self.compute(isa, product, added, false);
    }

    /// As [`Matrix::combine`] where the result is known to be symmetric: half of it is computed, the other
    /// half copied.
    ///
    /// # Panics
    /// If the shapes do not fit or the result is not square.
    pub fn combine_symmetric(
        &mut self,
        isa: Isa,
        product: (f32, Left<'_>, &Self),
        added: Option<(f32, &Self)>,
    ) {
        assert_eq!(self.shape[0], self.shape[1], "a square");
        self.compute(isa, product, added, true);
        let side = self.padded[1];
        for row in 1..self.shape[0] {
            let (above, below) = self.values.split_at_mut(row * side);
            for (column, value) in below[..row].iter_mut().enumerate() {
                *value = above[column * side + row];
            }
        }
    }

    fn compute(
        &mut self,
        isa: Isa,
        (alpha, left, right): (f32, Left<'_>, &Self),
        added: Option<(f32, &Self)>,
        upper_half: bool,
    ) {
        let (of, rows, inner) = match left {
            Left::Of(of) => (of, of.shape[0], of.shape[1]),
            Left::TransposeOf(of) => (of, of.shape[1], of.shape[0]),
        };
        assert_eq!(
            inner, right.shape[0],
            "columns of the left, rows of the right"
        );
        assert_eq!(self.shape, [rows, right.shape[1]], "the product's shape");
        if let Some((_, added)) = added {
            assert_eq!(added.shape, self.shape, "the sum's shape");
        }
        let [steps, columns] = right.padded;
        let stride = of.padded[1];
        // The right side by panels of a block of columns, each row's block after the other.
        let mut panels = Vec::with_capacity(right.values.len());
        for column in (0..columns).step_by(BLOCK) {
            let blocks = (0..steps).map(|row| row * columns + column);
            blocks.for_each(|at| panels.extend_from_slice(&right.values[at..at + BLOCK]));
        }
        let task = |(index, to): (usize, &mut [f32])| {
            let first = index * TASK_ROWS;
            let part = &mut Part {
                left: &of.values,
                strides: match left {
                    Left::Of(_) => [stride, 1],
                    Left::TransposeOf(_) => [1, stride],
                },
                first,
                steps,
                panels: &panels,
                alpha,
                added: added.map(|(beta, added)| (beta, &added.values[first * columns..])),
                columns,
                upper_half,
                to,
            };
            // SAFETY: the matrices have whole blocks, as many as the asserted shapes say.
            unsafe { dispatch!(isa, multiply(part: &mut Part<'_>)) }
        };
        let parts = self.values.chunks_mut((TASK_ROWS * columns).max(1));
        if rows * inner * columns <= TASK_PRODUCTS {
            parts.enumerate().for_each(task);
        } else {
            let parts = self.values.par_chunks_mut((TASK_ROWS * columns).max(1));
            parts.enumerate().for_each(task);
        }
    }
}

/// Some rows of a product.
struct Part<'a> {
    left: &'a [f32],
    /// Elements from a row of the left side to the next, and from a column.
    strides: [usize; 2],
    /// The first row.
    first: usize,
    /// Columns of the left side.
    steps: usize,
    panels: &'a [f32],
    alpha: f32,
    /// What is added, from the first row on.
    added: Option<(f32, &'a [f32])>,
    columns: usize,
    /// Whether tiles below the diagonal may stay as they are.
    upper_half: bool,
    /// Whole rows.
    to: &'a mut [f32],
}

/// # Safety
/// The processor has the instruction set; rows, columns and steps are whole blocks and lie in their slices.
#[inline(always)]
unsafe fn multiply<S: Simd>(part: &mut Part<'_>) {
    // As many sums as hide an addition's latency, and no more than there are registers.
    // SAFETY: by the contract; rows of a tile divide a block.
    unsafe {
        match S::LANES {
            16 => tiles::<S, 8, 1>(part),
            8 => tiles::<S, 4, 2>(part),
            _ => tiles::<S, 4, 4>(part),
        }
    }
}

/// # Safety
/// As [`multiply`]; `VECTORS` have a block's elements and `ROWS` divides 16.
#[inline(always)]
unsafe fn tiles<S: Simd, const ROWS: usize, const VECTORS: usize>(part: &mut Part<'_>) {
    let [row_stride, step_stride] = part.strides;
    let rows = part.to.len() / part.columns.max(1);
    for column in (0..part.columns).step_by(BLOCK) {
        for row in (0..rows).step_by(ROWS) {
            if part.upper_half && column + BLOCK <= part.first + row {
                continue;
            }
            // SAFETY: by the contract.
            unsafe {
                let mut left = part.left.as_ptr().add((part.first + row) * row_stride);
                let mut right = part.panels.as_ptr().add(column * part.steps);
                let mut sums = [[S::splat(0.0); VECTORS]; ROWS];
                for _ in 0..part.steps {
                    let mut vectors = [S::splat(0.0); VECTORS];
                    for (index, vector) in vectors.iter_mut().enumerate() {
                        *vector = S::load(right.add(index * S::LANES));
                    }
                    for (index, sums) in sums.iter_mut().enumerate() {
                        let factor = S::splat(*left.add(index * row_stride));
                        for (sum, vector) in sums.iter_mut().zip(vectors) {
                            *sum = S::fma(factor, vector, *sum);
                        }
                    }
                    left = left.add(step_stride);
                    right = right.add(BLOCK);
                }
                let alpha = S::splat(part.alpha);
                for (index, sums) in sums.into_iter().enumerate() {
                    for (vector, sum) in sums.into_iter().enumerate() {
                        let place = (row + index) * part.columns + column + vector * S::LANES;
                        let mut value = S::mul(alpha, sum);
                        if let Some((beta, added)) = part.added {
                            let added = S::load(added.as_ptr().add(place));
                            value = S::fma(S::splat(beta), added, value);
                        }
                        S::store(part.to.as_mut_ptr().add(place), value);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::is_refused;

    fn matrix(shape: [usize; 2], seed: usize) -> Matrix {
        Matrix::from_fn(shape, |row, column| {
            let n = (row * 31 + column * 17 + seed * 7) % 101;
            n as f32 / 50.0 - 1.0
        })
    }

    #[test]
    fn products_agree_with_their_definition() {
        for isa in Isa::available() {
            for [rows, inner, columns] in [
                [1, 1, 1],
                [3, 70, 5],
                [40, 17, 33],
                [130, 96, 70],
                [16, 0, 16],
            ] {
                let (a, b) = (matrix([rows, inner], 1), matrix([inner, columns], 2));
                let transposed = Matrix::from_fn([inner, rows], |i, j| a.at(j, i));
                let added = matrix([rows, columns], 3);
                for (left, added) in [
                    (Left::Of(&a), None),
                    (Left::TransposeOf(&transposed), Some((-0.5, &added))),
                ] {
                    let mut found = matrix([rows, columns], 4);
                    found.combine(isa, (0.75, left, &b), added);
                    for row in 0..rows {
                        for column in 0..columns {
                            let terms = (0..inner)
                                .map(|k| f64::from(a.at(row, k)) * f64::from(b.at(k, column)));
                            let mut expected = 0.75 * terms.sum::<f64>();
                            if let Some((beta, added)) = added {
                                expected += f64::from(beta) * f64::from(added.at(row, column));
                            }
                            let error = (f64::from(found.at(row, column)) - expected).abs();
                            assert!(
                                error < 1e-5,
                                "{isa} {rows}x{inner}x{columns}: {row} {column} {error}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_symmetric_result_is_the_same_to_the_bit() {
        for isa in Isa::available() {
            for [rows, inner] in [[1, 3], [47, 20], [100, 150]] {
                let a = matrix([inner, rows], 1);
                let mut whole = Matrix::zeros([rows, rows]);
                whole.combine(isa, (0.5, Left::TransposeOf(&a), &a), None);
                let mut half = matrix([rows, rows], 2);
                half.combine_symmetric(isa, (0.5, Left::TransposeOf(&a), &a), None);
                assert_eq!(half.values, whole.values, "{isa} {rows}x{inner}");
            }
        }
        let (a, mut wide) = (matrix([3, 4], 1), Matrix::zeros([4, 3]));
        let isa = Isa::best();
        assert!(is_refused(|| wide.combine_symmetric(
            isa,
            (1.0, Left::TransposeOf(&a), &matrix([3, 3], 2)),
            None
        )));
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (a, b) = (matrix([200, 150], 1), matrix([150, 120], 2));
        let product = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let mut to = Matrix::zeros([200, 120]);
                to.combine(Isa::best(), (1.0, Left::Of(&a), &b), None);
                to.values
            })
        };
        assert_eq!(product(1), product(3));
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let (a, b) = (matrix([3, 4], 1), matrix([3, 4], 2));
        let isa = Isa::best();
        let mut square = Matrix::zeros([3, 3]);
        assert!(is_refused(|| square.clone().combine(
            isa,
            (1.0, Left::Of(&a), &b),
            None
        )));
        assert!(is_refused(|| square.clone().combine(
            isa,
            (1.0, Left::TransposeOf(&a), &b),
            None
        )));
        assert!(is_refused(|| Matrix::zeros([4, 4]).combine(
            isa,
            (1.0, Left::TransposeOf(&a), &b),
            Some((1.0, &a))
        )));
        assert!(is_refused(|| a.at(3, 0)));
        square.combine(
            isa,
            (1.0, Left::Of(&matrix([3, 3], 1)), &matrix([3, 3], 2)),
            None,
        );
    }
}

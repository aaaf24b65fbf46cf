//! A tile in plain Rust, whose products are those of the instructions, `TDPBF16PS` and `TDPBUSD`, to the bit.
//!
//! As Intel's manual defines the first: for every row and column of the sums, the products of first numbers of pairs are
//! added up one after the other, those of second numbers beside them, then both sums are added, and their sum to what
//! was there. Every addition of a product is rounded once, to the nearest, ties to even. What is denormal is zero
//! with its sign, before and after; the control register counts for nothing, and nothing is raised. What a sum that is no
//! number looks like in bits is not promised.
//!
//! By the second, a word of the first factor is four bytes of 0…255, one of the second four of −128…127. Their products are added
//! to a sum of 32 bits, beyond which it begins again.

use half::bf16;

/// Rows of a tile.
pub(crate) const TILE_ROWS: usize = 16;

/// Words of 32 bits in a row: sums, pairs of bf16, or four bytes; the first of these is the lowest part.
const ROW_WORDS: usize = 16;

/// A tile.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Tile {
    rows: [[u32; ROW_WORDS]; TILE_ROWS],
}

/// What the words of factors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Factors {
    /// Pairs of bf16, whose sums are `f32`.
    Bf16,
    /// Four bytes, whose sums are whole: of the first factor without a sign, of the second with one.
    Bytes,
}

/// How much of three tiles a product is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Of the first factor and the sums.
    pub(crate) rows: usize,
    /// Words of the first factor's rows, rows of the second factor.
    pub(crate) words: usize,
    /// Words of the second factor's rows and of the sums'.
    pub(crate) columns: usize,
}

impl Extent {
    /// Whole tiles.
    pub(crate) const WHOLE: Self = Self {
        rows: TILE_ROWS,
        words: ROW_WORDS,
        columns: ROW_WORDS,
    };
}

impl Tile {
    /// Zeros.
    pub(crate) const ZERO: Self = Self {
        rows: [[0; ROW_WORDS]; TILE_ROWS],
    };

    /// Reads rows of some bytes that lie `stride` bytes apart; the rest is zero.
    ///
    /// # Safety
    /// The rows are valid to be read.
    pub(crate) unsafe fn read(from: *const u8, stride: isize, [rows, bytes]: [usize; 2]) -> Self {
        let mut tile = Self::ZERO;
        for (index, row) in tile.rows.iter_mut().enumerate().take(rows) {
            // SAFETY: by the contract; a row has 64 bytes.
            unsafe {
                let from = from.offset(index as isize * stride);
                from.copy_to_nonoverlapping(row.as_mut_ptr().cast(), bytes.min(64));
            }
        }
        tile
    }

    /// Writes rows of some bytes, `stride` bytes apart.
    ///
    /// # Safety
    /// The rows are valid to be written.
    pub(crate) unsafe fn write(&self, to: *mut u8, stride: isize, [rows, bytes]: [usize; 2]) {
        for (index, row) in self.rows.iter().enumerate().take(rows) {
            // SAFETY: by the contract; a row has 64 bytes.
            unsafe {
                let to = to.offset(index as isize * stride);
                to.copy_from_nonoverlapping(row.as_ptr().cast(), bytes.min(64));
            }
        }
    }

    /// Adds the products of two tiles to the sums; what lies outside the extent is zero then.
    pub(crate) fn add_products(
        &mut self,
        factors: Factors,
        [first, second]: [&Self; 2],
        extent: Extent,
    ) {
        match factors {
            Factors::Bf16 => self.add_products_of_bf16(first, second, extent),
            Factors::Bytes => self.add_products_of_bytes(first, second, extent),
        }
    }

    fn add_products_of_bytes(&mut self, first: &Self, second: &Self, extent: Extent) {
        let mut all = [[0; ROW_WORDS]; TILE_ROWS];
        for (row, sums) in all.iter_mut().enumerate().take(extent.rows) {
            for (column, sum) in sums.iter_mut().enumerate().take(extent.columns) {
                let words = first.rows[row].iter().zip(&second.rows);
                let products = words.take(extent.words).flat_map(|(word, others)| {
                    let bytes = word.to_le_bytes().map(i32::from);
                    let others = others[column].to_le_bytes();
                    let others = others.map(|byte| i32::from(byte.cast_signed()));
                    [0, 1, 2, 3].map(|byte| bytes[byte] * others[byte])
                });
                let before = self.rows[row][column].cast_signed();
                *sum = products.fold(before, i32::wrapping_add).cast_unsigned();
            }
        }
        self.rows = all;
    }

    fn add_products_of_bf16(&mut self, first: &Self, second: &Self, extent: Extent) {
        let mut all = [[0; ROW_WORDS]; TILE_ROWS];
        for (row, sums) in all.iter_mut().enumerate().take(extent.rows) {
            let mut sums_of_pairs = [[0.0_f32; ROW_WORDS]; 2];
            let pairs = first.rows[row].iter().zip(&second.rows);
            for (&pair, others) in pairs.take(extent.words) {
                let pair = numbers(pair);
                for (column, &other) in others.iter().enumerate() {
                    let other = numbers(other);
                    for (half, sums) in sums_of_pairs.iter_mut().enumerate() {
                        let product = f64::from(pair[half]) * f64::from(other[half]);
                        sums[column] = rounded(product + f64::from(sums[column]));
                    }
                }
            }
            for (column, sum) in sums.iter_mut().enumerate().take(extent.columns) {
                let [even, odd] = sums_of_pairs.map(|sums| f64::from(sums[column]));
                let both = f64::from(rounded(even + odd));
                let before = f64::from(flushed(f32::from_bits(self.rows[row][column])));
                *sum = rounded(before + both).to_bits();
            }
        }
        self.rows = all;
    }
}

/// The numbers of a pair.
fn numbers(pair: u32) -> [f32; 2] {
    let halves = [pair as u16, (pair >> 16) as u16];
    halves.map(|bits| flushed(bf16::from_bits(bits).to_f32()))
}

/// What is denormal becomes a zero.
fn flushed(x: f32) -> f32 {
    match x.abs() < f32::MIN_POSITIVE {
        true => 0.0_f32.copysign(x),
        false => x,
    }
}

/// The nearest `f32`, but a zero for what would be denormal, of a sum in `f64` of an `f32` and a product of two bf16. Rounded
/// twice it is as if rounded once: a product has 16 bits, so whatever comes near the middle of two `f32` fits 53.
fn rounded(x: f64) -> f32 {
    // Half a step below the least, which is where numbers are rounded to it if small ones have as many bits.
    const LEAST: f64 = f32::MIN_POSITIVE as f64 * (1.0 - 1.0 / (1 << 25) as f64);
    match x.abs() < LEAST {
        true => 0.0_f32.copysign(x as f32),
        false => x as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(of: impl Fn(usize, usize) -> u32) -> Tile {
        let mut tile = Tile::ZERO;
        for (row, words) in tile.rows.iter_mut().enumerate() {
            for (column, word) in words.iter_mut().enumerate() {
                *word = of(row, column);
            }
        }
        tile
    }

    fn pair(first: f32, second: f32) -> u32 {
        let [first, second] = [first, second].map(|x| u32::from(bf16::from_f32(x).to_bits()));
        first | second << 16
    }

    /// Numbers in −1…1 with 8 bits.
    fn noise(index: usize) -> f32 {
        ((index * 7919 + 13) % 257) as f32 / 128.0 - 1.0
    }

    fn operands() -> [Tile; 3] {
        let pairs = |seed: usize| {
            move |row: usize, column: usize| {
                let index = seed + 2 * (16 * row + column);
                pair(noise(index), noise(index + 1))
            }
        };
        let sums = tile(|row, column| noise(900 + 16 * row + column).to_bits());
        [sums, tile(pairs(0)), tile(pairs(5000))]
    }

    #[test]
    fn products_agree_with_the_definition_in_f64() {
        for extent in [
            Extent::WHOLE,
            Extent {
                rows: 3,
                words: 5,
                columns: 7,
            },
        ] {
            let [before, first, second] = operands();
            let mut sums = before.clone();
            sums.add_products(Factors::Bf16, [&first, &second], extent);
            for row in 0..16 {
                for column in 0..16 {
                    let mut expected = f64::from(f32::from_bits(before.rows[row][column]));
                    for k in 0..extent.words {
                        let [a, b] = [first.rows[row][k], second.rows[k][column]].map(numbers);
                        for half in 0..2 {
                            expected += f64::from(a[half]) * f64::from(b[half]);
                        }
                    }
                    let found = f64::from(f32::from_bits(sums.rows[row][column]));
                    if row >= extent.rows || column >= extent.columns {
                        expected = 0.0;
                    }
                    assert!((found - expected).abs() < 1e-5, "{row} {column}: {found}");
                }
            }
        }
    }

    #[test]
    fn each_product_is_added_as_by_a_fused_multiply_add() {
        let [before, first, second] = operands();
        let mut sums = before.clone();
        sums.add_products(Factors::Bf16, [&first, &second], Extent::WHOLE);
        for row in 0..16 {
            for column in 0..16 {
                let mut of_pairs = [0.0_f32; 2];
                for k in 0..16 {
                    let [a, b] = [first.rows[row][k], second.rows[k][column]].map(numbers);
                    for half in 0..2 {
                        of_pairs[half] = a[half].mul_add(b[half], of_pairs[half]);
                    }
                }
                let before = f32::from_bits(before.rows[row][column]);
                let expected = before + (of_pairs[0] + of_pairs[1]);
                assert_eq!(f32::from_bits(sums.rows[row][column]), expected);
            }
        }
    }

    #[test]
    fn sums_that_lie_far_apart_are_rounded_once() {
        for exponent in -60..60 {
            for (a, b, sum) in [(1.0078125, 1.0078125, 1.0), (-1.9921875, 1.5, 1.9999999)] {
                let a = a * 2.0_f32.powi(exponent);
                for sum in [sum, -sum, sum + 2.0_f32.powi(-23)] {
                    let found = rounded(f64::from(a) * f64::from(b) + f64::from(sum));
                    assert_eq!(found, a.mul_add(b, sum), "{a} {b} {sum}");
                }
            }
        }
    }

    #[test]
    fn what_is_denormal_is_zero_before_and_after() {
        let tiny = f32::from_bits(1 << 16);
        assert_eq!(numbers(pair(tiny, -tiny)), [0.0, 0.0]);
        assert!(numbers(pair(0.0, -tiny))[1].is_sign_negative());
        let least = f64::from(f32::MIN_POSITIVE);
        assert_eq!(rounded(least), f32::MIN_POSITIVE);
        assert_eq!(rounded(-least * 0.999), 0.0);
        assert!(rounded(-least * 0.999).is_sign_negative());
        assert_eq!(
            rounded(least * (1.0 - 2.0_f64.powi(-26))),
            f32::MIN_POSITIVE
        );
        let mut sums = tile(|_, _| 1);
        sums.add_products(Factors::Bf16, [&Tile::ZERO; 2], Extent::WHOLE);
        assert_eq!(sums, Tile::ZERO);
        // The product of two small numbers would be denormal.
        let small = 2.0_f32.powi(-70);
        let mut sums = Tile::ZERO;
        let factors = [pair(small, 0.0), pair(small, 0.0)].map(|pair| tile(|_, _| pair));
        sums.add_products(Factors::Bf16, factors.each_ref(), Extent::WHOLE);
        assert_eq!(sums, Tile::ZERO);
    }

    #[test]
    fn what_is_too_large_is_infinite() {
        let large = pair(3e38, 0.0);
        let factors = [large, pair(2.0, 0.0)].map(|pair| tile(|_, _| pair));
        let mut sums = Tile::ZERO;
        sums.add_products(Factors::Bf16, factors.each_ref(), Extent::WHOLE);
        assert_eq!(f32::from_bits(sums.rows[3][4]), f32::INFINITY);
    }

    #[test]
    fn bytes_of_the_first_factor_have_no_sign_and_sums_begin_again() {
        let words = |bytes: [u8; 4]| tile(|_, _| u32::from_le_bytes(bytes));
        let first = words([255, 1, 0, 128]);
        let second = words([129, 255, 77, 2]);
        let extent = Extent {
            rows: 3,
            words: 5,
            columns: 7,
        };
        let mut sums = tile(|row, _| row as u32);
        sums.add_products(Factors::Bytes, [&first, &second], extent);
        let expected = 5 * (255 * -127 - 1 + 128 * 2);
        for row in 0..16 {
            for column in 0..16 {
                let expected = match row < 3 && column < 7 {
                    true => expected + row as i32,
                    false => 0,
                };
                assert_eq!(sums.rows[row][column] as i32, expected, "{row} {column}");
            }
        }
        let mut sums = tile(|_, _| i32::MAX as u32);
        let one = words([1, 0, 0, 0]);
        let extent = Extent {
            words: 1,
            ..Extent::WHOLE
        };
        sums.add_products(Factors::Bytes, [&one, &one], extent);
        assert_eq!(sums.rows[15][15] as i32, i32::MIN);
    }

    #[test]
    fn rows_lie_a_stride_apart() {
        let bytes: Vec<u8> = (0..2048_u32).map(|index| (index % 251) as u8).collect();
        // SAFETY: 3 rows of 8 bytes, 100 bytes apart, lie in both.
        unsafe {
            let tile = Tile::read(bytes.as_ptr(), 100, [3, 8]);
            assert_eq!(tile.rows[2][1].to_le_bytes(), bytes[204..208]);
            assert_eq!(tile.rows[2][2..], [0; 14]);
            assert_eq!(tile.rows[3], [0; 16]);
            let mut copy = vec![7; 2048];
            tile.write(copy.as_mut_ptr(), 50, [3, 8]);
            assert_eq!(copy[100..108], bytes[200..208]);
            assert_eq!(copy[108], 7);
        }
    }
}

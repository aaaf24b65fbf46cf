//! Which kernels have a transform, and the tiles of their results.

use crate::conv::toom::filter_matrix;
use crate::window::Window;

/// Pixels of a small map, or of small maps together.
const SMALL_MAP: usize = 256;

/// The kernels that have a transform, rows times columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Row3,
    Column3,
    Square3,
    /// For small maps: 16 weights for 9 where [`Self::Square3`] has 36.
    SmallSquare3,
    Row7,
    Column7,
}

impl Shape {
    /// The transform of a kernel for results of so many pixels, of all images together.
    pub(super) fn of(window: Window, pixels: usize) -> Option<Self> {
        if window.stride != [1, 1] {
            return None;
        }
        match window.kernel {
            [1, 3] => Some(Self::Row3),
            [3, 1] => Some(Self::Column3),
            [3, 3] if pixels <= SMALL_MAP => Some(Self::SmallSquare3),
            [3, 3] => Some(Self::Square3),
            [1, 7] => Some(Self::Row7),
            [7, 1] => Some(Self::Column7),
            _ => None,
        }
    }

    /// Pairs and outputs of the transform of each axis; no pairs where there is none.
    pub(super) fn axes(self) -> [(usize, usize); 2] {
        let (one, small_three, three, seven) = ((0, 1), (1, 2), (2, 4), (4, 4));
        match self {
            Self::Row3 => [one, three],
            Self::Column3 => [three, one],
            Self::Square3 => [three, three],
            Self::SmallSquare3 => [small_three, small_three],
            Self::Row7 => [one, seven],
            Self::Column7 => [seven, one],
        }
    }

    /// Outputs of a tile, rows and columns.
    pub(super) fn outputs(self) -> [usize; 2] {
        self.axes().map(|(_, outputs)| outputs)
    }

    /// Products of a tile.
    pub(super) fn points(self) -> usize {
        let points = |(pairs, _): (usize, usize)| if pairs == 0 { 1 } else { 2 * pairs + 2 };
        self.axes().map(points).iter().product()
    }

    /// For each point the factor of each tap of a kernel: `G`.
    pub(super) fn factors(self, kernel: [usize; 2]) -> Vec<Vec<f32>> {
        let [by_row, by_column] = [0, 1].map(|axis| {
            let (pairs, _) = self.axes()[axis];
            filter_matrix(pairs, kernel[axis])
        });
        let of_point = |row: &[f64], column: &[f64]| -> Vec<f32> {
            let products = row.iter().flat_map(|r| column.iter().map(move |c| r * c));
            products.map(|factor| factor as f32).collect()
        };
        let rows = by_row.iter();
        let points = rows.flat_map(|row| by_column.iter().map(move |column| of_point(row, column)));
        points.collect()
    }

    /// The tiles of a map of results.
    pub(super) fn grid(self, size: [usize; 2]) -> TileGrid {
        let outputs = self.outputs();
        TileGrid([0, 1].map(|axis| size[axis].div_ceil(outputs[axis])))
    }
}

/// Rows and columns of tiles of a map.
#[derive(Clone, Copy, Debug)]
pub(super) struct TileGrid([usize; 2]);

impl TileGrid {
    /// Tiles of an image.
    pub(super) fn count(self) -> usize {
        self.0[0] * self.0[1]
    }

    /// Image, row and column of a tile's first output.
    pub(super) fn place(self, tile: usize, outputs: [usize; 2]) -> [usize; 3] {
        let [rows, columns] = self.0;
        let (line, column) = (tile / columns, tile % columns);
        let (image, row) = (line / rows, line % rows);
        [image, row * outputs[0], column * outputs[1]]
    }
}

//! Where the tiles of a pair of 16 pixels lie, for every step of their sums.
//!
//! In a map whose rows follow each other, any 16 pixels are 16 rows of a tile as they lie. Others are gathered: pixels at
//! both sides of a halo, of two images, with a stride, or some of which a tap finds outside the map.

use super::kernel::{ROW_BYTES, Step};
use super::pack::{Depth, STEP_BYTES, step_of};
use crate::amx::{TILE_ROWS, Tile};
use crate::dispatch::dispatch;
use crate::element::Number;
use crate::layout::{Arena, Shared, View};
use crate::simd::{Isa, Simd};
use crate::window::Window;

/// Pixels of a pair of tiles.
pub(super) const PAIR: usize = 2 * TILE_ROWS;

/// A row and a column of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) image: usize,
    pub(super) row: usize,
    pub(super) column: usize,
}

impl Place {
    /// Of a pixel among those of all images, of rows and columns.
    pub(super) fn of(pixel: usize, [rows, columns]: [usize; 2]) -> Self {
        let line = pixel / columns;
        Self {
            image: line / rows,
            row: line % rows,
            column: pixel % columns,
        }
    }

    /// The pixel behind it.
    pub(super) fn next(self, [rows, columns]: [usize; 2]) -> Self {
        let Self { image, row, column } = self;
        if column + 1 < columns {
            Self {
                column: column + 1,
                ..self
            }
        } else if row + 1 < rows {
            Self {
                image,
                row: row + 1,
                column: 0,
            }
        } else {
            Self {
                image: image + 1,
                row: 0,
                column: 0,
            }
        }
    }
}

/// The inputs of a convolution, which were checked: they lie in the memory and their halos are wide enough.
pub(super) struct Inputs<'a, E> {
    pub(super) isa: Isa,
    pub(super) memory: Shared<'a, E>,
    pub(super) views: &'a [View],
    pub(super) window: Window,
    /// Rows and columns of the result.
    pub(super) size: [usize; 2],
    pub(super) depth: Depth,
    /// Of all sums.
    pub(super) steps: usize,
}

/// The steps of a pair of tiles, and room for what is gathered.
#[derive(Debug, Default)]
pub(super) struct Pair {
    pub(super) steps: Vec<Step>,
    /// Bytes between rows.
    pub(super) row_bytes: usize,
    /// Of whatever elements.
    gathered: Arena<u8>,
}

/// The rows of a tile that no tap finds.
static NOTHING: Tile = Tile::ZERO;

/// The pixels of a tile in a map.
struct Rows {
    count: usize,
    /// Row of the image under the first tap's row; it may lie outside.
    tops: [isize; TILE_ROWS],
    /// The first and the last of them.
    range: [isize; 2],
    /// Bytes from the map's first pixel to the one under the first tap.
    offsets: [isize; TILE_ROWS],
    /// Whether the pixels are 16 that lie side by side.
    are_neighbours: bool,
}

/// What a tap finds of a tile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Part,
    All,
}

impl Rows {
    /// Under row `tap_row` of the kernel, in a map of a height.
    fn found(&self, tap_row: isize, height: usize) -> Found {
        let [first, last] = self.range.map(|top| top + tap_row);
        let height = height as isize;
        if last < 0 || first >= height {
            Found::Nothing
        } else if first < 0 || last >= height {
            Found::Part
        } else {
            Found::All
        }
    }
}

impl<E: Number> Inputs<'_, E> {
    /// The steps of `count` pixels from one on.
    pub(super) fn prepare(&self, first: usize, count: usize, pair: &mut Pair) {
        let mut places = [Place::default(); PAIR];
        let mut place = Place::of(first, self.size);
        for to in &mut places[..count] {
            *to = place;
            place = place.next(self.size);
        }
        pair.steps.clear();
        // Two tiles a step, and a pixel behind them for what is copied a little at a time.
        let room = (self.steps * PAIR + 1) * ROW_BYTES;
        if pair.gathered.len() < room {
            pair.gathered = Arena::new(room);
        }
        match self.depth {
            Depth::Blocks => self.steps_of_blocks(&places[..count], pair),
            Depth::Taps { channels } => self.steps_of_taps(&places[..count], channels, pair),
        }
    }

    fn rows(&self, view: &View, places: &[Place]) -> Rows {
        let Window {
            stride, padding, ..
        } = self.window;
        let (mut tops, mut offsets) = ([0; TILE_ROWS], [0; TILE_ROWS]);
        for (index, place) in places.iter().enumerate() {
            let top = (place.row * stride[0]) as isize - padding[0] as isize;
            let left = (place.column * stride[1]) as isize - padding[1] as isize;
            tops[index] = top;
            let elements = (place.image * view.image_stride) as isize
                + top * view.row_stride() as isize
                + left * view.pixel_stride() as isize;
            offsets[index] = elements * size_of::<E>() as isize;
        }
        let of_pixels = &tops[..places.len()];
        let first = of_pixels.iter().copied().min().unwrap_or(0);
        let last = of_pixels.iter().copied().max().unwrap_or(0);
        let step = (view.pixel_stride() * size_of::<E>()) as isize;
        let are_neighbours =
            places.len() == TILE_ROWS && offsets.windows(2).all(|pair| pair[1] - pair[0] == step);
        Rows {
            count: places.len(),
            tops,
            range: [first, last],
            offsets,
            are_neighbours,
        }
    }

    /// Of a pixel's channels under a tap each.
    fn steps_of_blocks(&self, places: &[Place], pair: &mut Pair) {
        let Window { kernel, .. } = self.window;
        let nothing = (&raw const NOTHING).cast::<u8>();
        pair.row_bytes = ROW_BYTES;
        let mut to = pair.gathered.as_mut_slice().as_mut_ptr();
        let mut weights = 0;
        for view in self.views {
            let tiles = [0, 1].map(|tile| {
                let [first, end] = [tile, tile + 1].map(|t| (t * TILE_ROWS).min(places.len()));
                self.rows(view, &places[first..end])
            });
            let in_pixel = view.pixel().blocks();
            for first_block in (0..view.blocks()).step_by(in_pixel) {
                // SAFETY: the view lies in the memory.
                let plane = unsafe { self.memory.plane(view, 0, first_block).cast_const() };
                for tap in 0..self.window.taps() {
                    let (row, column) = (tap / kernel[1], tap % kernel[1]);
                    let shift = row * view.row_stride() + column * view.pixel_stride();
                    let from = plane.wrapping_add(shift);
                    let mut step = Step {
                        tiles: [nothing; 2],
                        weights,
                    };
                    weights += STEP_BYTES;
                    for (rows, tile) in tiles.iter().zip(&mut step.tiles) {
                        let found = match rows.count {
                            0 => Found::Nothing,
                            _ => rows.found(row as isize, view.height),
                        };
                        if found == Found::Nothing {
                            continue;
                        }
                        if found == Found::All && rows.are_neighbours {
                            let first = from.wrapping_byte_offset(rows.offsets[0]);
                            debug_assert!(self.memory.holds(first, TILE_ROWS * step_of::<E>()));
                            *tile = first.cast();
                            continue;
                        }
                        let gathering = &Gathering {
                            from: from.cast(),
                            rows,
                            tap_row: row as isize,
                            height: view.height as isize,
                            to,
                        };
                        debug_assert!(gathering.lies_in(self.memory));
                        // SAFETY: rows of the map and columns of its halo lie in the memory, and there is room
                        // for all tiles.
                        unsafe {
                            dispatch!(self.isa, gather(gathering: &Gathering<'_>));
                            *tile = to.cast_const();
                            to = to.add(TILE_ROWS * ROW_BYTES);
                        }
                    }
                    if step.tiles != [nothing; 2] {
                        pair.steps.push(step);
                    }
                }
            }
        }
    }

    /// Of few channels under all taps.
    fn steps_of_taps(&self, places: &[Place], channels: usize, pair: &mut Pair) {
        let view = &self.views[0];
        let row_elements = self.steps * step_of::<E>();
        pair.row_bytes = size_of::<E>() * row_elements;
        let to = pair.gathered.as_mut_slice().as_mut_ptr().cast::<E>();
        // SAFETY: the view lies in the memory.
        let plane = unsafe { self.memory.plane(view, 0, 0).cast_const() };
        for (tile, places) in places.chunks(TILE_ROWS).enumerate() {
            let rows = self.rows(view, places);
            for index in 0..rows.count {
                let thin = &ThinPixel {
                    from: plane.wrapping_byte_offset(rows.offsets[index]),
                    top: rows.tops[index],
                    view,
                    kernel: self.window.kernel,
                    channels,
                    to: to.wrapping_add((tile * TILE_ROWS + index) * row_elements),
                    row_elements,
                };
                // SAFETY: rows of the map and columns of its halo lie in the memory, and there is room for a
                // pixel more than all; pixels are written in order.
                unsafe { thin.gather() }
            }
        }
        for step in 0..self.steps {
            let first = to.cast_const().wrapping_add(step * step_of::<E>());
            pair.steps.push(Step {
                tiles: [first, first.wrapping_add(TILE_ROWS * row_elements)].map(<*const E>::cast),
                weights: step * STEP_BYTES,
            });
        }
    }
}

/// Rows of a tile on their way to where they lie side by side.
struct Gathering<'a> {
    /// The map's first pixel, under the tap.
    from: *const u8,
    rows: &'a Rows,
    tap_row: isize,
    height: isize,
    /// Room for a tile.
    to: *mut u8,
}

impl Gathering<'_> {
    fn is_inside(&self, index: usize) -> bool {
        (0..self.height).contains(&(self.rows.tops[index] + self.tap_row))
    }

    fn lies_in<E: Number>(&self, memory: Shared<'_, E>) -> bool {
        let mut rows = (0..self.rows.count).filter(|&index| self.is_inside(index));
        rows.all(|index| {
            let row = self.from.wrapping_offset(self.rows.offsets[index]);
            memory.holds(row.cast(), step_of::<E>())
        })
    }
}

/// Copies the pixels that the tap finds; the others of the tile are zeros, and rows behind them stay what they were.
///
/// # Safety
/// The processor has the instruction set; pixels inside the map are valid, and so is the room.
#[inline(always)]
unsafe fn gather<S: Simd>(gathering: &Gathering<'_>) {
    type Line = [u8; ROW_BYTES];
    for index in 0..gathering.rows.count {
        let line = match gathering.is_inside(index) {
            // SAFETY: by the contract.
            true => unsafe {
                let from = gathering.from.offset(gathering.rows.offsets[index]);
                from.cast::<Line>().read_unaligned()
            },
            false => [0; ROW_BYTES],
        };
        // SAFETY: by the contract.
        unsafe {
            let to = gathering.to.add(index * ROW_BYTES);
            to.cast::<Line>().write_unaligned(line);
        }
    }
}

/// Elements that are copied at once.
const CHUNK: usize = 4;

/// A pixel of few channels under all taps, on its way to a row.
struct ThinPixel<'a, E> {
    /// Under the first tap.
    from: *const E,
    /// Its row of the image.
    top: isize,
    view: &'a View,
    kernel: [usize; 2],
    channels: usize,
    to: *mut E,
    row_elements: usize,
}

impl<E: Number> ThinPixel<'_, E> {
    /// Writes the numbers of the row, and up to three behind it.
    ///
    /// # Safety
    /// Pixels inside the map are valid, whose blocks hold whole chunks, and so is the room.
    unsafe fn gather(&self) {
        let Self {
            from,
            top,
            view,
            kernel: [rows, columns],
            channels,
            to,
            row_elements,
        } = *self;
        let mut at = 0;
        for row in 0..rows {
            let is_inside = (0..view.height as isize).contains(&(top + row as isize));
            for column in 0..columns {
                for chunk in (0..channels).step_by(CHUNK) {
                    // SAFETY: by the contract.
                    unsafe {
                        let numbers = match is_inside {
                            true => {
                                let pixel = row * view.row_stride() + column * view.pixel_stride();
                                from.add(pixel + chunk)
                                    .cast::<[E; CHUNK]>()
                                    .read_unaligned()
                            }
                            false => [E::default(); CHUNK],
                        };
                        to.add(at + chunk)
                            .cast::<[E; CHUNK]>()
                            .write_unaligned(numbers);
                    }
                }
                at += channels;
            }
        }
        for at in at..row_elements {
            // SAFETY: by the contract.
            unsafe { to.add(at).write(E::default()) }
        }
    }
}

//! The tiles of a thread and what instructions do to them.

use super::decode::{Address, Instruction};
use crate::amx::{Extent, TILE_ROWS, Tile};

/// An instruction that a processor with tiles refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

/// Rows and bytes of a row.
type Shape = [usize; 2];

/// The tiles of a thread.
pub(super) struct State {
    /// Where there are no rows there is no tile.
    shapes: Option<[Shape; 8]>,
    tiles: [Tile; 8],
}

impl State {
    pub(super) const INITIAL: Self = Self {
        shapes: None,
        tiles: [Tile::ZERO; 8],
    };

    fn shape(&self, tile: usize) -> Result<Shape, Refused> {
        let shape = self.shapes.ok_or(Refused)?[tile];
        (!shape.contains(&0)).then_some(shape).ok_or(Refused)
    }

    /// Does what an instruction does, by the values of the thread's registers.
    ///
    /// # Safety
    /// What it reads and writes is valid.
    pub(super) unsafe fn execute(
        &mut self,
        instruction: Instruction,
        register: impl Fn(usize) -> usize,
    ) -> Result<(), Refused> {
        let place = |address: Address| {
            let base = address.base.map_or(0, &register);
            let stride = index_of(address, &register);
            (
                base.wrapping_add_signed(address.displacement as isize),
                stride,
            )
        };
        match instruction {
            Instruction::Configure(address) => {
                let (start, index) = place(address);
                let start = start.wrapping_add_signed(index) as *const [u8; 64];
                // SAFETY: by the contract; it may have any alignment.
                let config = unsafe { start.read_unaligned() };
                *self = Self::INITIAL;
                self.shapes = shapes(&config)?;
            }
            Instruction::Release => *self = Self::INITIAL,
            Instruction::Zero(tile) => {
                self.shape(tile)?;
                self.tiles[tile] = Tile::ZERO;
            }
            Instruction::Load { to, from } => {
                let ((start, stride), shape) = (place(from), self.shape(to)?);
                // SAFETY: by the contract.
                self.tiles[to] = unsafe { Tile::read(start as *const u8, stride, shape) };
            }
            Instruction::Store { from, to } => {
                let ((start, stride), shape) = (place(to), self.shape(from)?);
                // SAFETY: by the contract.
                unsafe { self.tiles[from].write(start as *mut u8, stride, shape) }
            }
            Instruction::AddProducts {
                of,
                to,
                factors: [first, second],
            } => {
                let [sums, of_first, of_second] =
                    [self.shape(to)?, self.shape(first)?, self.shape(second)?];
                let is_whole = [sums, of_first, of_second]
                    .iter()
                    .all(|[_, bytes]| bytes % 4 == 0);
                let fits = of_first[0] == sums[0]
                    && of_first[1] / 4 == of_second[0]
                    && of_second[1] == sums[1];
                if !is_whole || !fits {
                    return Err(Refused);
                }
                let extent = Extent {
                    rows: sums[0],
                    words: of_second[0],
                    columns: sums[1] / 4,
                };
                let mut tile = self.tiles[to].clone();
                tile.add_products(of, [&self.tiles[first], &self.tiles[second]], extent);
                self.tiles[to] = tile;
            }
        }
        Ok(())
    }
}

/// What is added for each row: the index, scaled; nothing without one.
fn index_of(address: Address, register: impl Fn(usize) -> usize) -> isize {
    let index = address.index.map_or(0, register);
    index.wrapping_mul(usize::from(address.scale)) as isize
}

/// The shapes of a configuration; none of the palette without tiles.
fn shapes(config: &[u8; 64]) -> Result<Option<[Shape; 8]>, Refused> {
    match config[0] {
        0 => return Ok(None),
        1 => {}
        _ => return Err(Refused),
    }
    let reserved = config[2..16]
        .iter()
        .chain(&config[32..48])
        .chain(&config[56..]);
    if reserved.copied().any(|byte| byte != 0) {
        return Err(Refused);
    }
    let shape = |tile: usize| {
        let bytes = u16::from_le_bytes([config[16 + 2 * tile], config[17 + 2 * tile]]);
        [usize::from(config[48 + tile]), usize::from(bytes)]
    };
    let shapes = [0, 1, 2, 3, 4, 5, 6, 7].map(shape);
    let is_possible =
        |[rows, bytes]: &Shape| *rows <= TILE_ROWS && *bytes <= 64 && (*rows == 0) == (*bytes == 0);
    match shapes.iter().all(is_possible) {
        true => Ok(Some(shapes)),
        false => Err(Refused),
    }
}

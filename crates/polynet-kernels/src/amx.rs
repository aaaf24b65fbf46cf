//! Tiles: registers of 16 rows of 64 bytes, and their products of bf16 and of bytes, by Intel's AMX.
//!
//! One instruction multiplies 16 rows of 32 numbers by 32 rows of 16, which is 8,192 products; of bytes it is twice as
//! many. What it gives is defined to the bit, and [`Tile`] gives the same in plain Rust.

mod plain;
mod registers;

pub(crate) use plain::{Extent, Factors, TILE_ROWS, Tile};
pub(crate) use registers::Registers;
#[cfg(target_arch = "x86_64")]
pub(crate) use registers::{multiply_zeros, multiply_zeros_of_bytes};

/// Operations of a product of whole tiles of bf16: two for every product of numbers. Of bytes they are twice as many.
#[cfg(target_arch = "x86_64")]
pub(crate) const TILE_OPERATIONS: usize = 2 * TILE_ROWS * TILE_ROWS * 2 * TILE_ROWS;

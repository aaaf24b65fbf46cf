#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! Each uses those above it alone.
//!
//! | module | holds |
//! |---|---|
//! | `simd` | instruction sets and the vectors of each |
//! | `amx` | tiles: a product in plain Rust, and registers |
//! | `emulator` | (feature `emulation`) instructions of tiles where the processor has none, for tests |
//! | `element` | the numbers that maps are made of |
//! | `dispatch` | functions compiled for every instruction set and element |
//! | [`layout`] | arenas, views of maps in them, and what tasks share of one |
//! | [`file`](mod@file) | numbers read from files |
//! | `window` | kernel, step and border |
//! | `planes` | work divided by a map's planes, and checks of what is written while it is read |
//! | [`map`] | sums, gates, copies and roundings of maps |
//! | [`norm`] | batch norm |
//! | [`pool`] | pools |
//! | [`conv`] | convolutions, direct, transformed and of bytes, and their gradients |
//! | [`matrix`] | dense matrices and their products |
//! | [`resample`] | RGB pictures of another size |
//! | [`plan`] | where maps lie in an arena |
//! | [`memory`] | the allocator |
//! | [`peak`] | what a core can do at most |

mod amx;
pub mod conv;
mod dispatch;
mod element;
#[cfg(any(test, feature = "emulation"))]
pub mod emulator;
pub mod file;
pub mod layout;
pub mod map;
pub mod matrix;
pub mod memory;
pub mod norm;
pub mod peak;
pub mod plan;
mod planes;
pub mod pool;
pub mod resample;
mod simd;
mod window;

pub use element::{Element, Number};
pub use half::bf16;
pub use memory::CachingAllocator;
pub use simd::{Isa, UnknownIsa};

/// Whether a call is refused by a panic.
#[cfg(test)]
fn is_refused<T>(call: impl FnOnce() -> T) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err()
}

//! CPU kernels and memory of polynet: the only crate with `unsafe`, free of any framework.

pub mod conv;
pub mod file;
pub mod layout;
pub mod map;
pub mod memory;
pub mod norm;
pub mod plan;
pub mod pool;
mod simd;

pub use memory::CachingAllocator;
pub use simd::{Isa, UnknownIsa};

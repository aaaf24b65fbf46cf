//! CPU kernels and memory of polynet: the only crate with `unsafe`, free of any framework.

pub mod conv;
mod element;
pub mod file;
pub mod layout;
pub mod map;
pub mod memory;
pub mod norm;
pub mod peak;
pub mod plan;
pub mod pool;
mod simd;

pub use element::Element;
pub use half::bf16;
pub use memory::CachingAllocator;
pub use simd::{Isa, UnknownIsa};

//! CPU kernels and memory of polynet: the only crate with `unsafe`, free of any framework.

pub mod memory;

pub use memory::CachingAllocator;

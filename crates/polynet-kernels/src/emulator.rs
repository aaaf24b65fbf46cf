//! Instructions of tiles where the processor has none, so that tests execute the code that one with tiles will.
//!
//! Such a processor raises an illegal instruction. A handler of that signal decodes it, does to tiles of the
//! thread what the instruction does, steps over it and returns. Any other illegal instruction, and one that a
//! processor with tiles would refuse, ends the process as it would without a handler.
//!
//! It is for tests alone: each instruction takes microseconds.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod decode;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod signal;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod state;

#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod tests;

use crate::simd::Isa;

/// An instruction set with tiles: the processor's own, or one whose tiles are emulated from now on. None
/// where the rest of such a set is missing, too.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub fn tiles() -> Option<Isa> {
    let mut available = Isa::available();
    let best = available.next()?;
    if best.multiplies_tiles() {
        return Some(best);
    }
    best.multiplies_bf16().then(|| {
        signal::install();
        Isa::with_tiles()
    })
}

/// An instruction set with tiles: none here.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub fn tiles() -> Option<Isa> {
    None
}

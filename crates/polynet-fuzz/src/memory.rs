//! How much memory an input may take.

use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The most bytes that reading an input may have allocated at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Whatever the input.
    pub fixed: usize,
    /// For each of its bytes.
    pub per_byte: usize,
}

/// Reads an input.
///
/// # Panics
/// If that takes more memory than allowed. What other threads take counts.
pub(crate) fn within(allowance: Allowance, input: &[u8], read: fn(&[u8])) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    read(input);
    let taken = ALLOCATOR.peak_usage().saturating_sub(before);
    let allowed = allowance.fixed + allowance.per_byte * input.len();
    assert!(
        taken <= allowed,
        "{taken} bytes of memory for an input of {}, {allowed} are allowed",
        input.len()
    );
}

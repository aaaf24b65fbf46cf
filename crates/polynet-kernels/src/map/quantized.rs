//! Maps rounded to bytes.

use crate::element::Element;
use crate::layout::{Arena, BLOCK, Pixel, Shared, View, clear_halo, flat};
use crate::planes::{check_single_blocks, for_planes};
use crate::simd::{ByteProducts, Bytes, Isa};

/// Rounds a map to whole numbers of 0…255 that stand for `step ·` themselves. Their pixels may have four blocks; those
/// of the numbers have one.
///
/// # Panics
/// If a map leaves its arena, they differ in images, channels or size, pixels have other blocks, or the step is not above 0.
pub fn quantize<E: Element>(
    isa: Isa,
    (numbers, from): (&Arena<E>, &View),
    (bytes, to): (&mut Arena<u8>, &View),
    step: f32,
) {
    assert!(from.end() <= numbers.len(), "the map lies in its arena");
    assert!(to.end() <= bytes.len(), "the result lies in its arena");
    let shape = |view: &View| (view.images, view.channels, view.size());
    assert_eq!(shape(from), shape(to), "shape");
    assert!(step > 0.0, "a step above 0");
    check_single_blocks(&[from]);
    assert!(to.pixel() != Pixel::TwoBlocks, "one block or four");
    clear_halo(to, bytes);
    let (from_memory, to_memory) = (Shared::read_only(numbers), Shared::of(bytes));
    let [rows, columns] = flat([from, to]);
    let products = ByteProducts::of(isa);
    for_planes(from, |image, block| {
        // SAFETY: the views lie in their arenas.
        let (source, target) = unsafe {
            (
                from_memory.plane(from, image, block).cast_const(),
                to_memory.plane(to, image, block),
            )
        };
        for row in 0..rows {
            // SAFETY: rows lie in the planes; the set is this processor's, and the plane one task's alone.
            unsafe {
                let (from, to) = (
                    source.add(row * from.row_stride()),
                    Row {
                        first: target.add(row * to.row_stride()),
                        pixels: columns,
                        stride: to.pixel_stride(),
                    },
                );
                round_row(products, from, to, 1.0 / step);
            }
        }
    });
}

/// A block of each of a row's pixels.
#[derive(Clone, Copy)]
struct Row {
    first: *mut u8,
    pixels: usize,
    /// Bytes between neighbouring pixels.
    stride: usize,
}

/// Rounds the numbers of a row.
///
/// # Safety
/// The processor has the instruction set, and the pointers are valid for the row's pixels.
unsafe fn round_row<E: Element>(products: ByteProducts, from: *const E, to: Row, factor: f32) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn avx512_bf16<E: Element>(from: *const E, to: Row, factor: f32) {
        // SAFETY: the caller's contract is the same.
        unsafe { round::<crate::simd::Avx512Bf16, E>(from, to, factor) }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn avx512<E: Element>(from: *const E, to: Row, factor: f32) {
        // SAFETY: the caller's contract is the same.
        unsafe { round::<crate::simd::Avx512, E>(from, to, factor) }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2<E: Element>(from: *const E, to: Row, factor: f32) {
        // SAFETY: the caller's contract is the same.
        unsafe { round::<crate::simd::Avx2, E>(from, to, factor) }
    }
    // SAFETY: by the contract.
    unsafe {
        match products {
            #[cfg(target_arch = "x86_64")]
            ByteProducts::Avx512VnniBf16 => avx512_bf16(from, to, factor),
            #[cfg(target_arch = "x86_64")]
            ByteProducts::Avx512Vnni | ByteProducts::Avx512 => avx512(from, to, factor),
            #[cfg(target_arch = "x86_64")]
            ByteProducts::AvxVnni | ByteProducts::Avx2 => avx2(from, to, factor),
            ByteProducts::Portable => round::<crate::simd::Portable, E>(from, to, factor),
        }
    }
}

/// # Safety
/// As [`round_row`].
#[inline(always)]
unsafe fn round<S: Bytes, E: Element>(from: *const E, to: Row, factor: f32) {
    // SAFETY: by the contract.
    unsafe {
        let factor = S::splat(factor);
        for pixel in 0..to.pixels {
            for lane in (0..BLOCK).step_by(S::LANES) {
                let number = E::load::<S>(from.add(pixel * BLOCK + lane));
                let place = to.first.add(pixel * to.stride + lane);
                S::store_bytes(place, S::mul(number, factor));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_the_nearest_bytes_and_halos_zeros() {
        for pixel in [Pixel::Block, Pixel::FourBlocks] {
            check::<f32>(pixel);
            check::<half::bf16>(pixel);
        }
    }

    fn check<E: Element>(pixel: Pixel) {
        for isa in Isa::available() {
            let (from, to) = (
                View::new(0, 2, 20, [3, 5], 0),
                View::of(pixel, 64, 2, 20, [3, 5], 1),
            );
            let mut floats = Arena::<E>::new(from.end());
            let values: Vec<f32> = (0..600).map(|index| index as f32 * 0.25 - 20.0).collect();
            from.write_nchw(&mut floats, &values);
            floats.as_mut_slice()[0] = E::from_f32(f32::NAN);
            let mut bytes = Arena::<u8>::new(to.end());
            bytes.as_mut_slice().fill(9);
            quantize(isa, (&floats, &from), (&mut bytes, &to), 0.5);
            for (index, value) in values.iter().enumerate().skip(1) {
                let (image, rest) = (index / 300, index % 300);
                let (channel, row, column) = (rest / 15, rest / 5 % 3, rest % 5);
                let place = to.at(image, channel / BLOCK, row, column) + channel % BLOCK;
                let expected = (E::from_f32(*value).to_f32() / 0.5)
                    .clamp(0.0, 255.0)
                    .round_ties_even();
                assert_eq!(
                    f32::from(bytes.as_slice()[place]),
                    expected,
                    "{isa} {index}"
                );
            }
            assert_eq!(bytes.as_slice()[to.at(0, 0, 0, 0)], 0, "what is no number");
            let row = &bytes.as_slice()[to.start()..];
            assert!(
                row[..pixel.channels()].iter().all(|&byte| byte == 0),
                "{isa}"
            );
        }
    }
}

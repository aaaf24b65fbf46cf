//! Feature maps in blocks of 16 channels.
//!
//! A map `[images, channels, height, width]` is stored as `[images, blocks, height, width, 16]`: the
//! 16 channels of a block lie side by side at each pixel, so that every kernel reads and writes
//! whole vectors whatever the size of the map. Rows may have a halo of zeros on both sides, which
//! stands for a convolution's padding. Missing channels of a last block are zeros.
//!
//! A [`Pixel`] may have two blocks side by side instead of one: `[images, pairs of blocks, height, width, 32]`. Then it is
//! a cache line of bf16 and a row of a tile; of bytes it has four for that. Prediction has such maps where tiles are multiplied;
//! training, whose narrow networks would be half empty, has none. Blocks without channels at the end of a pixel of four hold
//! whatever was there before: all that reads them multiplies by zeros.
//!
//! All maps of a network lie in one [`Arena`]. A [`View`] says where; a concatenation is a list of
//! views, and never a copy.

mod arena;
mod shared;
mod view;

pub use crate::simd::BLOCK;
pub use arena::Arena;
pub(crate) use shared::Shared;
pub use view::{Pixel, View, blocks_of};
pub(crate) use view::{clear_halo, flat};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::is_refused;

    #[test]
    fn what_is_written_is_read_back_and_the_rest_is_zero() {
        let pixels = [Pixel::Block, Pixel::TwoBlocks, Pixel::FourBlocks];
        let cases = [(3, 0), (16, 1), (40, 3), (64, 2)];
        for (pixel, (channels, halo)) in pixels.into_iter().flat_map(|p| cases.map(|c| (p, c))) {
            let (images, size) = (2, [3, 5]);
            let view = View::of(pixel, 64, images, channels, size, halo);
            let mut arena = Arena::new(view.end());
            arena.as_mut_slice().fill(7.0);
            let values: Vec<f32> = (1..=images * channels * 15).map(|i| i as f32).collect();
            view.write_nchw(&mut arena, &values);
            assert_eq!(view.read_nchw(&arena), values);
            let sum: f32 = arena.as_slice()[64..].iter().sum();
            assert_eq!(sum, values.iter().sum::<f32>());
        }
    }

    #[test]
    fn maps_beyond_an_address_space_are_refused() {
        let huge = 1 << (usize::BITS / 2);
        let size = [3, 5];
        for make in [
            || View::new(0, 1 << (usize::BITS - 4), 16, [1, 1], 0),
            || View::new(usize::MAX - 15, 1, 16, [1, 1], 0),
            || View::new(0, 1, 16, [1, 1], usize::MAX / 2),
            || View::new(8, 1, 16, [1, 1], 0),
            || View::of(Pixel::TwoBlocks, 16, 1, 16, [1, 1], 0),
            || View::of(Pixel::FourBlocks, 32, 1, 16, [1, 1], 0),
            || View::new(0, 1, 0, [1, 1], 0),
        ] {
            assert!(is_refused(make));
        }
        assert!(is_refused(|| View::new(0, huge, huge, size, 0)));
        assert!(is_refused(|| View::elements(huge, huge, size, 0)));
        assert!(is_refused(|| Arena::<f32>::new(usize::MAX)));
    }

    #[test]
    fn a_pixel_of_two_blocks_has_them_side_by_side() {
        let view = View::of(Pixel::TwoBlocks, 0, 1, 40, [2, 2], 0);
        let mut arena = Arena::<f32>::new(view.end());
        view.write_nchw(&mut arena, &[1.0; 160]);
        assert_eq!((view.blocks(), view.end()), (4, 4 * 64));
        let of = |block, row, column| view.at(0, block, row, column);
        assert_eq!(
            [of(1, 0, 0), of(0, 0, 1), of(0, 1, 0), of(3, 0, 0)],
            [16, 32, 64, 144]
        );
        let used = |block| {
            arena.as_slice()[of(block, 1, 1)..][..16]
                .iter()
                .sum::<f32>()
        };
        assert_eq!([0, 1, 2, 3].map(used), [16.0, 16.0, 8.0, 0.0]);
    }

    #[test]
    fn a_map_outside_its_arena_is_neither_read_nor_written() {
        let view = View::new(16, 1, 16, [1, 2], 0);
        let mut arena = Arena::<f32>::new(view.end() - 16);
        assert!(is_refused(|| view.write_nchw(&mut arena, &[0.0; 32])));
        assert!(is_refused(|| view.read_nchw(&arena)));
        assert!(is_refused(|| {
            clear_halo(&View::new(16, 1, 16, [1, 2], 1), &mut arena)
        }));
    }

    #[test]
    #[cfg_attr(not(debug_assertions), ignore = "bounds are compared in debug builds")]
    fn places_outside_an_arena_are_found() {
        let view = View::new(0, 2, 16, [1, 2], 1);
        let mut arena = Arena::<f32>::new(view.end());
        let len = arena.len();
        let shared = Shared::of(&mut arena);
        // SAFETY: the places are in the arena, or the assertion is hit first.
        unsafe {
            let last = shared.at(len - 16, 16);
            assert!(shared.holds(last, 16) && !shared.holds(last, 17));
            assert!(!shared.holds(last.wrapping_sub(len), 1));
            assert!(is_refused(|| shared.at(len - 16, 17)));
            assert!(is_refused(|| shared.at(len + 1, 0)));
            assert!(is_refused(|| shared.plane(&view, 2, 0)));
        }
    }
}

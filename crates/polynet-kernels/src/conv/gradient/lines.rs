//! The pixels that a task of a weight gradient goes through, a cacheful at a time.

use crate::conv::pack::steps;
use crate::element::Element;

/// Pixels whose maps a task goes through before the next tap, about.
const CHUNK_PIXELS: usize = 256;
/// Pixels that it goes through at most.
const MOST_PIXELS: usize = CHUNK_PIXELS / 4 * 5;

/// Neighbouring pixels of a row of the result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) image: usize,
    pub(super) row: usize,
    pub(super) first_pixel: usize,
    pub(super) pixels: usize,
}

/// The lines of a result of so many images, one image after the other.
pub(super) fn lines<E: Element>(images: usize, [rows, columns]: [usize; 2]) -> Vec<Line> {
    let steps = steps::<E>(columns);
    let parts = columns.div_ceil(CHUNK_PIXELS);
    let rows = (0..images).flat_map(|image| (0..rows).map(move |row| (image, row)));
    let lines = rows.flat_map(|(image, row)| {
        (0..parts).map(move |part| {
            let [first, end] = [part, part + 1].map(|part| part * steps / parts * E::DEPTH);
            Line {
                image,
                row,
                first_pixel: first,
                pixels: end.min(columns) - first,
            }
        })
    });
    lines.collect()
}

/// Lines in groups of as many pixels as a task goes through before the next tap.
pub(super) fn chunks(mut lines: &[Line]) -> impl Iterator<Item = &[Line]> {
    std::iter::from_fn(move || {
        let mut pixels = 0;
        let fits = |line: &&Line| {
            pixels += line.pixels;
            pixels <= MOST_PIXELS
        };
        let count = lines.iter().take_while(fits).count().max(1);
        let chunk;
        (chunk, lines) = lines.split_at_checked(count)?;
        Some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    fn check<E: Element>() {
        for (images, [rows, columns]) in
            [(3, [1, 289]), (9, [1, 64]), (2, [17, 17]), (1, [2, 1000])]
        {
            let lines = lines::<E>(images, [rows, columns]);
            let mut next = 0;
            for chunk in chunks(&lines) {
                let pixels: usize = chunk.iter().map(|line| line.pixels).sum();
                assert!(pixels <= MOST_PIXELS && !chunk.is_empty());
                for line in chunk {
                    let first = (line.image * rows + line.row) * columns + line.first_pixel;
                    assert_eq!(first, next, "every pixel is there once, in order");
                    assert!(line.first_pixel.is_multiple_of(E::DEPTH), "whole steps");
                    next += line.pixels;
                }
            }
            assert_eq!(next, images * rows * columns);
        }
    }

    #[test]
    fn chunks_are_all_pixels_in_order() {
        check::<f32>();
        check::<bf16>();
    }
}

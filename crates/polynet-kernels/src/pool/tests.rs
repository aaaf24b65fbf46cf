use super::*;
use crate::is_refused;
use crate::layout::Pixel;
use crate::map::tests::map;
use crate::map::{clear, gate};
use half::bf16;

/// Runs a check for maps of either element; its numbers are few bits, so that only quotients are rounded.
macro_rules! for_elements {
    ($($test:ident: $check:ident;)*) => {
        $(
            #[test]
            fn $test() {
                $check::<f32>(0.0);
                // Rounded to 8 bits.
                $check::<bf16>(1.0 / 256.0);
            }
        )*
    };
}

for_elements! {
    pools_agree_with_their_definitions: check_pools;
    gradients_of_pools_and_gates_agree_with_their_definitions: check_gradients;
    local_means_leave_the_border_out_forward_and_backward: check_local_means;
}

fn check_pools<E: Element>(_: f32) {
    for isa in Isa::available() {
        for padding in [0, 1] {
            let window = Window {
                kernel: [3, 3],
                stride: [2, 2],
                padding: [padding; 2],
            };
            let from = View::new(0, 2, 20, [7, 6], 0);
            let [height, width] = window.output_size([7, 6]);
            let to = View::new(from.end(), 2, 20, [height, width], 1);
            let mean = View::new(0, 1, 20, [1, 2], 0);
            let (mut arena, mut rows) = (Arena::<E>::new(to.end()), Arena::new(mean.end()));
            let x = map(&mut arena, &from, |i| ((i * 37) % 101) as f32 - 50.0);
            pool(isa, Pool::Max, window, &mut arena, &from, &to);
            let mut expected = Vec::new();
            for plane in x.chunks_exact(42) {
                for row in 0..height as isize {
                    for column in 0..width as isize {
                        let taps = (0..9).filter_map(|tap| {
                            let y = 2 * row + tap / 3 - padding as isize;
                            let x = 2 * column + tap % 3 - padding as isize;
                            let inside = (0..7).contains(&y) && (0..6).contains(&x);
                            inside.then(|| plane[(y * 6 + x) as usize])
                        });
                        expected.push(taps.fold(f32::MIN, f32::max));
                    }
                }
            }
            assert_eq!(to.read_nchw(&arena), expected, "{isa} {padding}");
            average_pool_into(isa, (&arena, &from), (&mut rows, &mean));
            for (index, mean) in mean.read_nchw(&rows).iter().enumerate() {
                // One channel after the other, and in it one image after the other.
                let plane = index % 2 * 20 + index / 2;
                let expected = x[plane * 42..(plane + 1) * 42].iter().sum::<f32>() / 42.0;
                assert!(
                    (mean - expected).abs() < 1e-4,
                    "{isa}: {mean} for {expected}"
                );
            }
        }
    }
}

fn check_gradients<E: Element>(rounding: f32) {
    for isa in Isa::available() {
        let window = Window {
            kernel: [3, 3],
            stride: [2, 2],
            padding: [1, 1],
        };
        let from = View::new(0, 2, 20, [7, 6], 1);
        let [height, width] = window.output_size([7, 6]);
        let g_view = View::new(from.end(), 2, 20, [height, width], 0);
        let to = View::new(g_view.end(), 2, 20, [7, 6], 2);
        let row = View::new(0, 1, 20, [1, 2], 0);
        let (mut arena, mut rows) = (Arena::<E>::new(to.end()), Arena::new(row.end()));
        // Few numbers, so that windows have several of the largest.
        let x = map(&mut arena, &from, |i| ((i * 37) % 101 / 20) as f32 - 2.0);
        let g = map(&mut arena, &g_view, |i| (i % 13) as f32 - 4.0);
        clear(&mut arena, &to);
        max_pool_gradient(isa, window, &mut arena, (&from, &g_view), &to);
        let mut expected = vec![0.0; x.len()];
        for (plane, g) in g.chunks_exact(height * width).enumerate() {
            for (index, g) in g.iter().enumerate() {
                let (row, column) = ((index / width) as isize, (index % width) as isize);
                let mut best: Option<usize> = None;
                for tap in 0..9 {
                    let (y, x_at) = (2 * row + tap / 3 - 1, 2 * column + tap % 3 - 1);
                    if (0..7).contains(&y) && (0..6).contains(&x_at) {
                        let at = plane * 42 + (y * 6 + x_at) as usize;
                        if best.is_none_or(|best| x[at] > x[best]) {
                            best = Some(at);
                        }
                    }
                }
                expected[best.unwrap()] += g;
            }
        }
        assert_eq!(to.read_nchw(&arena), expected, "{isa}");
        let before = to.read_nchw(&arena);
        gate(isa, &mut arena, (0.5, &from), Some(&to), &to, false);
        let expected: Vec<f32> = (x.iter().zip(&before))
            .map(|(x, open)| if *open > 0.0 { 0.5 * x } else { 0.0 })
            .collect();
        assert_eq!(to.read_nchw(&arena), expected, "{isa}");
        gate(isa, &mut arena, (2.0, &from), None, &to, true);
        let expected: Vec<f32> = expected.iter().zip(&x).map(|(y, x)| y + 2.0 * x).collect();
        assert_eq!(to.read_nchw(&arena), expected, "{isa}");
        let g = map(&mut rows, &row, |i| i as f32);
        for times in [1.0, 2.0] {
            average_pool_gradient(isa, (&rows, &row), (&mut arena, &to), times > 1.0);
            for (index, value) in to.read_nchw(&arena).iter().enumerate() {
                let (image, channel) = (index / 840, index / 42 % 20);
                let expected = times * g[channel * 2 + image] / 42.0;
                // What was rounded before is doubled.
                let allowed = 1e-5 + 2.0 * rounding * expected;
                assert!((value - expected).abs() < allowed, "{isa}");
            }
        }
    }
}

fn check_local_means<E: Element>(rounding: f32) {
    for isa in Isa::available() {
        let window = Window {
            kernel: [3, 3],
            stride: [1, 1],
            padding: [1, 1],
        };
        let from = View::new(0, 1, 17, [2, 3], 1);
        let to = View::new(from.end(), 1, 17, [2, 3], 0);
        let mut arena = Arena::<E>::new(to.end());
        let x = map(&mut arena, &from, |i| (i % 11) as f32);
        pool(isa, Pool::Mean, window, &mut arena, &from, &to);
        let means = to.read_nchw(&arena);
        for (index, mean) in means.iter().enumerate() {
            let (plane, column) = (index / 6, index % 3);
            let columns = column.saturating_sub(1)..(column + 2).min(3);
            let seen: Vec<f32> = (0..2)
                .flat_map(|row| columns.clone().map(move |column| (row, column)))
                .map(|(row, column)| x[plane * 6 + row * 3 + column])
                .collect();
            let expected = seen.iter().sum::<f32>() / seen.len() as f32;
            assert!(
                (mean - expected).abs() < 1e-5 + rounding * expected,
                "{isa}: {mean} for {expected}"
            );
        }
        // ⟨g, mean(x)⟩ = ⟨gradient(g), x⟩, as the mean is linear.
        let g = map(&mut arena, &to, |i| (i % 7) as f32 - 3.0);
        clear(&mut arena, &from);
        mean_pool_gradient(isa, window, &mut arena, &to, &from);
        let product = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
        let (left, right) = (product(&g, &means), product(&from.read_nchw(&arena), &x));
        let size = product(&g.iter().map(|g| g.abs()).collect::<Vec<_>>(), &means);
        let allowed = 1e-3 + 2.0 * rounding * size;
        assert!((left - right).abs() < allowed, "{isa}: {left} and {right}");
    }
}

#[test]
fn pools_of_pixels_of_two_blocks_are_those_of_one() {
    let pixels = [Pixel::Block, Pixel::TwoBlocks];
    for (isa, channels) in Isa::available().flat_map(|isa| [(isa, 20), (isa, 40)]) {
        for (of, stride) in [(Pool::Max, 2), (Pool::Mean, 1)] {
            let window = Window {
                kernel: [3, 3],
                stride: [stride; 2],
                padding: [1, 1],
            };
            let [found, expected] = pixels.map(|pixel| {
                let from = View::of(pixel, 0, 2, channels, [7, 6], 1);
                let size = window.output_size([7, 6]);
                let to = View::of(pixel, from.end(), 2, channels, size, 2);
                let mean = View::new(0, 1, channels, [1, 2], 0);
                let (mut arena, mut rows) = (Arena::<bf16>::new(to.end()), Arena::new(mean.end()));
                map(&mut arena, &from, |i| ((i * 37) % 101) as f32 - 50.0);
                pool(isa, of, window, &mut arena, &from, &to);
                average_pool_into(isa, (&arena, &to), (&mut rows, &mean));
                (to.read_nchw(&arena), mean.read_nchw(&rows))
            });
            assert_eq!(found, expected, "{isa} {of:?} {channels}");
        }
    }
}

#[test]
fn maps_that_do_not_fit_a_pool_are_refused() {
    let isa = Isa::best();
    let window = |padding| Window {
        kernel: [3, 3],
        stride: [2, 2],
        padding: [padding; 2],
    };
    let view = |start, images, channels, size| View::new(start, images, channels, [size; 2], 0);
    let large = view(0, 2, 16, 7);
    let small = view(large.end(), 2, 16, 4);
    let target = view(small.end(), 2, 16, 7);
    let row = View::new(0, 1, 16, [1, 2], 0);
    let mut arena = Arena::<f32>::new(target.end());
    let outside = |view: &View| View {
        offset: target.end(),
        ..*view
    };
    for (from, to, target, padding, fits) in [
        (large, small, target, 1, true),
        (outside(&large), small, target, 1, false),
        (large, outside(&small), target, 1, false),
        (large, view(0, 2, 16, 4), view(0, 2, 16, 7), 1, false),
        (large, view(large.end(), 1, 16, 4), target, 1, false),
        (large, view(large.end(), 2, 17, 4), target, 1, false),
        (large, view(large.end(), 2, 16, 3), target, 1, false),
        (large, view(large.end(), 2, 16, 6), target, 3, false),
        (
            large,
            View::of(Pixel::TwoBlocks, 0, 2, 16, [4; 2], 0),
            target,
            1,
            false,
        ),
        (large, small, outside(&target), usize::MAX / 2 + 2, false),
    ] {
        let window = window(padding);
        let arena = &mut arena;
        let refused = [
            is_refused(|| pool(isa, Pool::Max, window, arena, &from, &to)),
            is_refused(|| pool(isa, Pool::Mean, window, arena, &from, &to)),
            is_refused(|| mean_pool_gradient(isa, window, arena, &to, &from)),
            is_refused(|| max_pool_gradient(isa, window, arena, (&from, &to), &target)),
        ];
        assert_eq!(refused, [!fits; 4], "{to:?}");
    }
    for (from, to, fits) in [
        (large, row, true),
        (outside(&large), row, false),
        (large, outside(&row), false),
        (large, View::new(0, 1, 16, [1, 1], 0), false),
        (large, View::new(16, 1, 16, [1, 2], 0), false),
        (large, View::new(0, 1, 17, [1, 2], 0), false),
    ] {
        let (arena, rows) = (&mut arena, &mut Arena::new(row.end()));
        let refused = [
            is_refused(|| average_pool_into(isa, (arena, &from), (rows, &to))),
            is_refused(|| average_pool_gradient(isa, (rows, &to), (arena, &from), false)),
        ];
        assert_eq!(refused, [!fits; 2], "{to:?}");
    }
}

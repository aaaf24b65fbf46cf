use super::places::Tiles;
use super::*;
use crate::element::Element;
use crate::layout::{Arena, View};
use crate::simd::Isa;
use half::bf16;

/// Numbers in −1…1 that look random.
pub(crate) fn noise(seed: usize, count: usize) -> Vec<f32> {
    let mut state = seed as u64 + 1;
    (0..count)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// Views for segments, one after the other from `start`.
pub(super) fn place(
    start: &mut usize,
    segments: &[usize],
    images: usize,
    size: [usize; 2],
    halo: usize,
) -> Vec<View> {
    segments
        .iter()
        .map(|&channels| {
            let view = View::new(*start, images, channels, size, halo);
            *start = view.end();
            view
        })
        .collect()
}

pub(super) fn write<E: Element>(arena: &mut Arena<E>, views: &[View], values: &[f32]) {
    let channels: usize = views.iter().map(View::channels).sum();
    let pixels = views[0].height * views[0].width;
    let mut first = 0;
    for view in views {
        let part: Vec<f32> = values
            .chunks_exact(channels * pixels)
            .flat_map(|image| &image[first * pixels..(first + view.channels) * pixels])
            .copied()
            .collect();
        view.write_nchw(arena, &part);
        first += view.channels;
    }
}

pub(super) fn read<E: Element>(arena: &Arena<E>, views: &[View]) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = views.iter().map(|view| view.read_nchw(arena)).collect();
    let images = views[0].images;
    (0..images)
        .flat_map(|image| {
            parts.iter().flat_map(move |part| {
                let len = part.len() / images;
                part[image * len..(image + 1) * len].iter().copied()
            })
        })
        .collect()
}

/// The error of a sum in `f32` of exact products, beside the largest of many.
const SUMMED: f32 = 1e-5;
/// The error of a result that is rounded to 8 bits once or, as a part of a sum, twice.
const ROUNDED: f32 = 1.0 / 256.0;

fn assert_near(tolerance: f32, case: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{case}");
    let largest = expected.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(
            error <= tolerance * largest,
            "{case}, element {index}: {found} for {expected}"
        );
    }
}

pub(super) struct Case {
    pub(super) window: Window,
    pub(super) inputs: &'static [usize],
    pub(super) outputs: &'static [usize],
    pub(super) images: usize,
    pub(super) size: [usize; 2],
    pub(super) out_halo: usize,
}

fn window(kernel: [usize; 2], stride: usize, padding: [usize; 2]) -> Window {
    Window {
        kernel,
        stride: [stride; 2],
        padding,
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |window, inputs, outputs, images, size| Case {
        window,
        inputs,
        outputs,
        images,
        size,
        out_halo: 0,
    };
    vec![
        case(Window::POINT, &[32], &[32], 1, [9, 9]),
        case(Window::POINT, &[16, 8, 40], &[48], 2, [3, 5]),
        case(Window::POINT, &[3], &[5, 20], 1, [1, 1]),
        case(window([3, 3], 1, [1, 1]), &[24], &[33], 2, [7, 6]),
        case(window([3, 3], 2, [0, 0]), &[3], &[32], 1, [15, 17]),
        case(window([3, 3], 2, [1, 1]), &[16], &[16], 1, [8, 8]),
        case(window([1, 7], 1, [0, 3]), &[16], &[40], 1, [4, 18]),
        case(window([7, 1], 1, [3, 0]), &[48], &[16], 2, [18, 4]),
        case(window([1, 3], 1, [0, 1]), &[8, 8], &[8, 8], 1, [2, 2]),
        case(window([7, 7], 2, [3, 3]), &[3], &[64], 1, [20, 19]),
        case(window([1, 1], 2, [0, 0]), &[32], &[32], 1, [9, 9]),
        case(window([1, 1], 1, [1, 2]), &[16], &[20], 2, [3, 4]),
        case(window([2, 1], 1, [4, 3]), &[16], &[16], 1, [2, 3]),
        case(window([1, 2], 3, [0, 0]), &[4], &[16], 1, [7, 8]),
        // Gradients that are divided by images.
        case(window([3, 3], 1, [1, 1]), &[8, 20], &[6], 5, [14, 14]),
        Case {
            out_halo: 3,
            ..case(Window::POINT, &[32], &[32], 1, [5, 9])
        },
        Case {
            out_halo: 1,
            ..case(window([3, 3], 1, [1, 1]), &[32], &[32], 1, [5, 30])
        },
    ]
}

#[test]
fn tiles_are_all_pixels_of_a_row_once() {
    for (pixels, count) in [(1, 1), (13, 3), (12, 2), (6, 1), (29, 5)] {
        for from in 0..=count {
            let tiles = |range| Tiles::of(pixels, count, range).flat_map(|tiles| tiles.at_most(2));
            let places = tiles([0, from]).chain(tiles([from, count]));
            let mut next = 0;
            for tiles in places {
                assert_eq!(tiles.first_pixel, next);
                assert!(tiles.count <= 2 && tiles.pixels.abs_diff(pixels / count) <= 1);
                next += tiles.all_pixels();
            }
            assert_eq!(next, pixels);
        }
    }
}

/// Numbers in −1…1 that are elements exactly.
fn elements<E: Element>(seed: usize, count: usize) -> Vec<f32> {
    let exact = |value: f32| E::from_f32(value).to_f32();
    noise(seed, count).into_iter().map(exact).collect()
}

/// Convolutions whose weights and inputs are elements exactly, with results to `tolerance`.
fn check_every_kernel<E: Element>(tolerance: f32) {
    let noise = elements::<E>;
    for isa in Isa::available() {
        for case in cases() {
            let Case {
                window,
                inputs,
                outputs,
                images,
                size,
                out_halo,
            } = case;
            let name = format!("{isa} {window:?} {inputs:?} {outputs:?} {size:?}");
            let (in_channels, out_channels): (usize, usize) =
                (inputs.iter().sum(), outputs.iter().sum());
            let x = noise(1, images * in_channels * size[0] * size[1]);
            let weights = noise(2, out_channels * in_channels * window.taps());
            let bias = noise(3, out_channels);
            let out_size = window.output_size(size);
            let addend = noise(4, images * out_channels * out_size[0] * out_size[1]);
            let mut end = 0;
            let from = place(&mut end, inputs, images, size, window.padding[1]);
            let value = place(&mut end, outputs, images, out_size, out_halo);
            let sum = place(&mut end, outputs, images, out_size, out_halo);
            let mut arena = Arena::<E>::new(end);
            arena.as_mut_slice().fill(E::from_f32(f32::NAN));
            write(&mut arena, &from, &x);
            write(&mut arena, &sum, &addend);
            let conv = Conv::pack(isa, window, [inputs, outputs], &weights, &bias);
            let stores = Stores {
                value: Some(Value {
                    to: &value,
                    relu: true,
                }),
                sum: Some(Sum {
                    addend: &sum,
                    to: &sum,
                    scale: 0.3,
                    relu: false,
                }),
            };
            conv.run(&mut arena, &from, stores);
            let shape = [images, in_channels, size[0], size[1]];
            let expected = convolve(window, &x, shape, &weights, &bias);
            let rectified: Vec<f32> = expected.iter().map(|y| y.max(0.0)).collect();
            assert_near(tolerance, &name, &read(&arena, &value), &rectified);
            let total: Vec<f32> = expected
                .iter()
                .zip(&addend)
                .map(|(y, a)| 0.3 * y + a)
                .collect();
            assert_near(tolerance, &name, &read(&arena, &sum), &total);
            for view in value.iter().chain(&sum) {
                let all = &arena.as_slice()[view.start()..view.end()];
                let all: f32 = all.iter().map(|element| element.to_f32()).sum();
                assert!(all.is_finite(), "{name}: halo and unused lanes are zero");
            }
        }
    }
}

#[test]
fn every_kernel_agrees_with_the_definition() {
    check_every_kernel::<f32>(SUMMED);
}

#[test]
fn every_kernel_of_bf16_agrees_with_the_definition() {
    check_every_kernel::<bf16>(ROUNDED);
}

/// Windows with a transform, images and a size.
fn transformed_cases() -> [(Window, usize, [usize; 2]); 7] {
    [
        (window([3, 3], 1, [1, 1]), 2, [9, 6]),
        (window([3, 3], 1, [0, 0]), 1, [21, 19]),
        (window([1, 7], 1, [0, 3]), 2, [5, 18]),
        (window([7, 1], 1, [3, 0]), 1, [18, 5]),
        (window([1, 3], 1, [0, 1]), 1, [3, 8]),
        (window([3, 1], 1, [1, 0]), 1, [9, 2]),
        (window([7, 1], 1, [3, 0]), 1, [1, 1]),
    ]
}

/// Segments of inputs and outputs.
fn transformed_segments() -> [[&'static [usize]; 2]; 4] {
    [
        [&[24, 16], &[40]],
        [&[3], &[16, 8]],
        [&[64], &[64]],
        [&[48], &[48]],
    ]
}

#[test]
fn transformed_convolutions_agree_with_the_definition() {
    check_transformed::<f32>(SUMMED);
}

#[test]
fn transformed_convolutions_of_bf16_agree_with_the_definition() {
    check_transformed::<bf16>(ROUNDED);
}

/// Transformed convolutions of inputs that are elements exactly, with results to `tolerance`.
fn check_transformed<E: Element>(tolerance: f32) {
    for isa in Isa::available() {
        for (window, images, size) in transformed_cases() {
            for [inputs, outputs] in transformed_segments() {
                let name = format!("{isa} {window:?} {inputs:?} {outputs:?} {size:?}");
                let in_channels: usize = inputs.iter().sum();
                let out_channels: usize = outputs.iter().sum();
                let x = elements::<E>(1, images * in_channels * size[0] * size[1]);
                let weights = noise(2, out_channels * in_channels * window.taps());
                let bias = noise(3, out_channels);
                let out_size = window.output_size(size);
                let pixels = images * out_size[0] * out_size[1];
                let addend = elements::<E>(4, out_channels * pixels);
                let mut end = 0;
                let from = place(&mut end, inputs, images, size, 1);
                let to = place(&mut end, outputs, images, out_size, 2);
                let sum = place(&mut end, outputs, images, out_size, 0);
                let mut arena = Arena::<E>::new(end);
                arena.as_mut_slice().fill(E::from_f32(f32::NAN));
                write(&mut arena, &from, &x);
                write(&mut arena, &sum, &addend);
                let conv =
                    Winograd::pack(isa, (window, pixels), [inputs, outputs], &weights, &bias);
                let stores = Stores {
                    value: Some(Value {
                        to: &to,
                        relu: true,
                    }),
                    sum: Some(Sum {
                        addend: &sum,
                        to: &sum,
                        scale: 0.3,
                        relu: true,
                    }),
                };
                conv.run(&mut arena, &from, stores);
                let shape = [images, in_channels, size[0], size[1]];
                let expected = convolve(window, &x, shape, &weights, &bias);
                let rectified: Vec<f32> = expected.iter().map(|y| y.max(0.0)).collect();
                assert_near(tolerance, &name, &read(&arena, &to), &rectified);
                let total = expected.iter().zip(&addend);
                let total: Vec<f32> = total.map(|(y, a)| (0.3 * y + a).max(0.0)).collect();
                assert_near(tolerance, &name, &read(&arena, &sum), &total);
                for view in to.iter().chain(&sum) {
                    let all = &arena.as_slice()[view.start()..view.end()];
                    let all: f32 = all.iter().map(|element| element.to_f32()).sum();
                    assert!(all.is_finite(), "{name}: halo and unused lanes are zero");
                }
            }
        }
    }
}

#[test]
fn transformed_gradients_agree_with_the_definition() {
    check_transformed_gradients::<f32>(SUMMED);
}

#[test]
fn transformed_gradients_of_bf16_agree_with_the_definition() {
    check_transformed_gradients::<bf16>(ROUNDED);
}

/// Gradients whose weights and maps are elements exactly; those of the inputs to `tolerance`.
fn check_transformed_gradients<E: Element>(tolerance: f32) {
    for isa in Isa::available() {
        for (window, images, size) in transformed_cases() {
            for segments @ [inputs, outputs] in transformed_segments() {
                let name = format!("{isa} {window:?} {inputs:?} {outputs:?} {size:?}");
                let case = GradientCase::new::<E>(window, segments, images, size);
                let mut end = 0;
                let x = place(&mut end, inputs, images, size, 2);
                let dy = place(&mut end, outputs, images, window.output_size(size), 0);
                let dx = place(&mut end, inputs, images, size, 1);
                let mut arena = Arena::<E>::new(end);
                arena.as_mut_slice().fill(E::from_f32(f32::NAN));
                write(&mut arena, &x, &case.x);
                write(&mut arena, &dy, &case.dy);
                let expected = case.weight_gradient();
                let found = Winograd::weight_gradient(isa, window, &arena, &x, &dy);
                assert_near(SUMMED, &name, &found, &expected);
                let maps = [&x[..], &dy];
                let found = winograd::gradient::weight_gradient(isa, window, &arena, maps, 0);
                assert_near(SUMMED, &name, &found, &expected);
                let layer = (window, images * size[0] * size[1]);
                let weights = vec![f32::NAN; case.weights.len()];
                let make = |memory, weights: &[f32]| {
                    InputGradient::<E>::transformed_in(memory, isa, layer, segments, weights)
                };
                let used = make(GradientMemory::default(), &weights).into_memory();
                let conv = make(used, &case.weights);
                conv.run(&mut arena, &dy, &dx, false);
                conv.run(&mut arena, &dy, &dx, true);
                let twice: Vec<f32> = case.input_gradient().iter().map(|dx| 2.0 * dx).collect();
                assert_near(tolerance, &name, &read(&arena, &dx), &twice);
            }
        }
    }
}

/// A convolution's inputs, weights and gradients of its outputs.
struct GradientCase {
    window: Window,
    /// Input and output channels.
    channels: [usize; 2],
    size: [usize; 2],
    x: Vec<f32>,
    weights: Vec<f32>,
    dy: Vec<f32>,
}

impl GradientCase {
    fn new<E: Element>(
        window: Window,
        segments: [&[usize]; 2],
        images: usize,
        size: [usize; 2],
    ) -> Self {
        let noise = elements::<E>;
        let channels = segments.map(|segments| segments.iter().sum());
        let [inputs, outputs] = channels;
        let [rows, columns] = window.output_size(size);
        Self {
            window,
            channels,
            size,
            x: noise(1, images * inputs * size[0] * size[1]),
            weights: noise(2, outputs * inputs * window.taps()),
            dy: noise(5, images * outputs * rows * columns),
        }
    }

    /// Every product of the definition: the elements of `dy`, of `x` and of the weights that meet.
    fn products(&self, mut meet: impl FnMut(usize, usize, usize)) {
        let [inputs, outputs] = self.channels;
        let [rows, columns] = self.window.output_size(self.size);
        let Window {
            kernel,
            stride,
            padding,
        } = self.window;
        for dy in 0..self.dy.len() {
            let (column, rest) = (dy % columns, dy / columns);
            let (row, rest) = (rest % rows, rest / rows);
            let (output, image) = (rest % outputs, rest / outputs);
            for tap in 0..self.window.taps() {
                let y = (row * stride[0] + tap / kernel[1]).checked_sub(padding[0]);
                let x = (column * stride[1] + tap % kernel[1]).checked_sub(padding[1]);
                let (Some(y), Some(x)) = (y, x) else { continue };
                if y >= self.size[0] || x >= self.size[1] {
                    continue;
                }
                for input in 0..inputs {
                    let weight = (output * inputs + input) * self.window.taps() + tap;
                    let x = ((image * inputs + input) * self.size[0] + y) * self.size[1] + x;
                    meet(dy, x, weight);
                }
            }
        }
    }

    fn weight_gradient(&self) -> Vec<f32> {
        let mut sums = vec![0.0_f64; self.weights.len()];
        self.products(|dy, x, weight| {
            sums[weight] += f64::from(self.dy[dy]) * f64::from(self.x[x]);
        });
        sums.into_iter().map(|sum| sum as f32).collect()
    }

    fn input_gradient(&self) -> Vec<f32> {
        let mut sums = vec![0.0_f64; self.x.len()];
        self.products(|dy, x, weight| {
            sums[x] += f64::from(self.dy[dy]) * f64::from(self.weights[weight]);
        });
        sums.into_iter().map(|sum| sum as f32).collect()
    }
}

#[test]
fn gradients_agree_with_the_definition() {
    check_gradients::<f32>(SUMMED);
}

#[test]
fn gradients_of_bf16_agree_with_the_definition() {
    check_gradients::<bf16>(ROUNDED);
}

/// As [`check_transformed_gradients`], without transforms.
fn check_gradients<E: Element>(tolerance: f32) {
    for isa in Isa::available() {
        for case in cases() {
            let Case {
                window,
                inputs,
                outputs,
                images,
                size,
                out_halo,
            } = case;
            let name = format!("{isa} {window:?} {inputs:?} {outputs:?} {size:?}");
            let case = GradientCase::new::<E>(window, [inputs, outputs], images, size);
            let out_size = window.output_size(size);
            let mut end = 0;
            let x = place(&mut end, inputs, images, size, window.padding[1]);
            let halo = InputGradient::halo(window).max(out_halo);
            let dy = place(&mut end, outputs, images, out_size, halo);
            let dx = place(&mut end, inputs, images, size, out_halo);
            let mut arena = Arena::<E>::new(end);
            arena.as_mut_slice().fill(E::from_f32(f32::NAN));
            write(&mut arena, &x, &case.x);
            write(&mut arena, &dy, &case.dy);
            let found = weight_gradient(isa, window, &arena, &x, &dy);
            assert_near(SUMMED, &name, &found, &case.weight_gradient());
            let conv = InputGradient::<E>::pack(isa, window, [inputs, outputs], &case.weights);
            conv.run(&mut arena, &dy, &dx, false);
            conv.run(&mut arena, &dy, &dx, true);
            let twice: Vec<f32> = case.input_gradient().iter().map(|dx| 2.0 * dx).collect();
            assert_near(tolerance, &name, &read(&arena, &dx), &twice);
        }
    }
}

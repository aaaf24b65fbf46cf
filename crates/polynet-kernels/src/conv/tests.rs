use super::*;
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
fn place(
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

fn write<E: Element>(arena: &mut Arena<E>, views: &[View], values: &[f32]) {
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

fn read<E: Element>(arena: &Arena<E>, views: &[View]) -> Vec<f32> {
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

fn assert_close(case: &str, found: &[f32], expected: &[f32]) {
    assert_near(1e-5, case, found, expected);
}

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

struct Case {
    window: Window,
    inputs: &'static [usize],
    outputs: &'static [usize],
    images: usize,
    size: [usize; 2],
    out_halo: usize,
}

fn window(kernel: [usize; 2], stride: usize, padding: [usize; 2]) -> Window {
    Window {
        kernel,
        stride: [stride; 2],
        padding,
    }
}

fn cases() -> Vec<Case> {
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

/// Convolutions whose weights and inputs are elements exactly, with results to `tolerance`.
fn check_every_kernel<E: Element>(tolerance: f32) {
    let noise = |seed, count| -> Vec<f32> {
        let exact = |value: f32| E::from_f32(value).to_f32();
        noise(seed, count).into_iter().map(exact).collect()
    };
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
    check_every_kernel::<f32>(1e-5);
}

#[test]
fn every_kernel_of_bf16_agrees_with_the_definition() {
    // A result is rounded to 8 bits.
    check_every_kernel::<bf16>(1.0 / 256.0);
}

#[test]
fn transformed_convolutions_agree_with_the_definition() {
    let cases = [
        (window([3, 3], 1, [1, 1]), 2, [9, 6]),
        (window([3, 3], 1, [0, 0]), 1, [21, 19]),
        (window([1, 7], 1, [0, 3]), 2, [5, 18]),
        (window([7, 1], 1, [3, 0]), 1, [18, 5]),
        (window([1, 3], 1, [0, 1]), 1, [3, 8]),
        (window([3, 1], 1, [1, 0]), 1, [9, 2]),
    ];
    for isa in Isa::available() {
        for (window, images, size) in cases {
            for (inputs, outputs) in [(&[24, 16][..], &[40][..]), (&[3], &[16, 8]), (&[64], &[64])]
            {
                let name = format!("{isa} {window:?} {inputs:?} {outputs:?} {size:?}");
                let in_channels: usize = inputs.iter().sum();
                let out_channels: usize = outputs.iter().sum();
                let x = noise(1, images * in_channels * size[0] * size[1]);
                let weights = noise(2, out_channels * in_channels * window.taps());
                let bias = noise(3, out_channels);
                let out_size = window.output_size(size);
                let mut end = 0;
                let from = place(&mut end, inputs, images, size, 1);
                let to = place(&mut end, outputs, images, out_size, 2);
                let mut arena = Arena::new(end);
                arena.as_mut_slice().fill(f32::NAN);
                write(&mut arena, &from, &x);
                let conv =
                    Winograd::pack(isa, (window, out_size), [inputs, outputs], &weights, &bias);
                conv.run(
                    &mut arena,
                    &from,
                    Value {
                        to: &to,
                        relu: true,
                    },
                );
                let shape = [images, in_channels, size[0], size[1]];
                let expected: Vec<f32> = convolve(window, &x, shape, &weights, &bias)
                    .into_iter()
                    .map(|y| y.max(0.0))
                    .collect();
                assert_close(&name, &read(&arena, &to), &expected);
                for view in &to {
                    let all: f32 = arena.as_slice()[view.start()..view.end()].iter().sum();
                    assert!(all.is_finite(), "{name}: halo and unused lanes are zero");
                }
            }
        }
    }
}

#[test]
fn a_result_on_top_of_its_input_is_refused() {
    let view = View::new(0, 1, 16, [2, 2], 0);
    let mut arena = Arena::<f32>::new(view.end());
    let conv = Conv::pack(
        Isa::best(),
        Window::POINT,
        [&[16], &[16]],
        &[0.0; 256],
        &[0.0; 16],
    );
    let run = std::panic::AssertUnwindSafe(|| {
        let value = Value {
            to: &[view],
            relu: false,
        };
        conv.run(
            &mut arena,
            &[view],
            Stores {
                value: Some(value),
                ..Stores::default()
            },
        );
    });
    assert!(std::panic::catch_unwind(run).is_err());
}

#[test]
fn weight_gradients_agree_with_the_definition() {
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
            let [rows, columns] = window.output_size(size);
            let x = noise(1, images * in_channels * size[0] * size[1]);
            let dy = noise(5, images * out_channels * rows * columns);
            let mut end = 0;
            let from = place(&mut end, inputs, images, size, window.padding[1]);
            let to = place(&mut end, outputs, images, [rows, columns], out_halo);
            let mut arena = Arena::new(end);
            arena.as_mut_slice().fill(f32::NAN);
            write(&mut arena, &from, &x);
            write(&mut arena, &to, &dy);
            let found = weight_gradient(isa, window, &arena, &from, &to);
            // y is linear in w: dw[o, i, tap] = Σ dy · y for the weight that is 1 there alone.
            let mut expected = Vec::with_capacity(found.len());
            for index in 0..out_channels * in_channels * window.taps() {
                let (output, rest) = (
                    index / (in_channels * window.taps()),
                    index % (in_channels * window.taps()),
                );
                let mut weights = vec![0.0; in_channels * window.taps()];
                weights[rest] = 1.0;
                let shape = [images, in_channels, size[0], size[1]];
                if index % 97 != 0 && found.len() > 400 {
                    expected.push(found[index]);
                    continue;
                }
                let y = convolve(window, &x, shape, &weights, &[0.0]);
                let pixels = rows * columns;
                let sum: f64 = (0..images * pixels)
                    .map(|p| {
                        let (image, pixel) = (p / pixels, p % pixels);
                        let dy = dy[(image * out_channels + output) * pixels + pixel];
                        f64::from(dy) * f64::from(y[p])
                    })
                    .sum();
                expected.push(sum as f32);
            }
            assert_close(&name, &found, &expected);
        }
    }
}

#[test]
fn input_gradients_agree_with_the_definition() {
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
            let [rows, columns] = window.output_size(size);
            let weights = noise(2, out_channels * in_channels * window.taps());
            let dy = noise(5, images * out_channels * rows * columns);
            let mut end = 0;
            let from = place(
                &mut end,
                outputs,
                images,
                [rows, columns],
                InputGradient::halo(window),
            );
            let to = place(&mut end, inputs, images, size, out_halo);
            let mut arena = Arena::new(end);
            arena.as_mut_slice().fill(f32::NAN);
            write(&mut arena, &from, &dy);
            let conv = InputGradient::pack(isa, window, [inputs, outputs], &weights);
            conv.run(&mut arena, &from, &to, false);
            conv.run(&mut arena, &from, &to, true);
            // The definition, scattered: every output gives to the pixels that it read.
            let mut expected = vec![0.0_f64; images * in_channels * size[0] * size[1]];
            for (index, dy) in dy.iter().enumerate() {
                let (column, rest) = (index % columns, index / columns);
                let (row, rest) = (rest % rows, rest / rows);
                let (output, image) = (rest % out_channels, rest / out_channels);
                for tap in 0..window.taps() {
                    let y = (row * window.stride[0] + tap / window.kernel[1])
                        .checked_sub(window.padding[0]);
                    let x = (column * window.stride[1] + tap % window.kernel[1])
                        .checked_sub(window.padding[1]);
                    let (Some(y), Some(x)) = (y, x) else { continue };
                    if y >= size[0] || x >= size[1] {
                        continue;
                    }
                    for input in 0..in_channels {
                        let weight = weights[(output * in_channels + input) * window.taps() + tap];
                        let at = ((image * in_channels + input) * size[0] + y) * size[1] + x;
                        expected[at] += 2.0 * f64::from(weight) * f64::from(*dy);
                    }
                }
            }
            let expected: Vec<f32> = expected.into_iter().map(|x| x as f32).collect();
            assert_close(&name, &read(&arena, &to), &expected);
        }
    }
}

use super::*;
use crate::conv::naive::convolve_exactly;
use crate::conv::tests::{Case, cases, noise, place, read, write};
use crate::simd::ByteProducts;

/// Whole numbers that look random.
pub(in crate::conv) fn whole<T: TryFrom<i64>>(
    seed: usize,
    count: usize,
    [from, to]: [i64; 2],
) -> Vec<T> {
    let width = (to - from + 1) as f32;
    let number = |x: f32| from + ((x + 1.0) / 2.0 * width) as i64;
    let numbers = noise(seed, count).into_iter().map(number);
    let fits = |number: i64| {
        T::try_from(number.min(to))
            .ok()
            .expect("a number that fits")
    };
    numbers.map(fits).collect()
}

fn ways() -> Vec<ByteProducts> {
    let mut ways: Vec<ByteProducts> = Vec::new();
    for way in Isa::available().flat_map(ByteProducts::available) {
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    ways
}

/// Writes bytes `[images, channels, height, width]` into a map of bytes.
pub(in crate::conv) fn write_bytes(arena: &mut Arena<u8>, views: &[View], values: &[u8]) {
    let floats: Vec<f32> = values.iter().map(|&value| f32::from(value)).collect();
    let end = views.iter().map(View::end).max().unwrap();
    let mut wide = Arena::<f32>::new(end);
    write(&mut wide, views, &floats);
    for view in views {
        for place in view.start()..view.end() {
            arena.as_mut_slice()[place] = wide.as_slice()[place] as u8;
        }
    }
}

pub(in crate::conv) fn read_bytes(arena: &Arena<u8>, views: &[View]) -> Vec<f32> {
    let mut wide = Arena::<f32>::new(arena.len());
    for (to, from) in wide.as_mut_slice().iter_mut().zip(arena.as_slice()) {
        *to = f32::from(*from);
    }
    read(&wide, views)
}

/// The exact sums of products.
fn sums(case: &Case, x: &[u8], weights: &[i8]) -> Vec<f64> {
    let channels: usize = case.inputs.iter().sum();
    let shape = [case.images, channels, case.size[0], case.size[1]];
    let x: Vec<f32> = x.iter().map(|&x| f32::from(x)).collect();
    let weights: Vec<f32> = weights.iter().map(|&weight| f32::from(weight)).collect();
    let bias = vec![0.0; case.outputs.iter().sum()];
    convolve_exactly(case.window, &x, shape, &weights, &bias)
}

/// Values, sums and both of them rounded, of every way to multiply, against the definition: whole sums are
/// exact, and what follows differs by the roundings of an `f32` at most.
#[test]
fn every_way_to_multiply_is_the_definition() {
    check::<f32>(f64::from(f32::EPSILON));
    check::<half::bf16>(1.0 / 256.0);
}

/// Results are stored with a relative error of `rounding` at most.
fn check<E: Element>(rounding: f64) {
    for way in ways() {
        for case in cases() {
            let Case {
                window,
                inputs,
                outputs,
                images,
                size,
                out_halo,
            } = case;
            let name = format!("{way:?} {window:?} {inputs:?} {outputs:?} {size:?}");
            let (in_channels, out_channels): (usize, usize) =
                (inputs.iter().sum(), outputs.iter().sum());
            let x: Vec<u8> = whole(1, images * in_channels * size[0] * size[1], [0, 255]);
            let weights: Vec<i8> =
                whole(2, out_channels * in_channels * window.taps(), [-127, 127]);
            let scales: Vec<f32> = noise(3, out_channels)
                .iter()
                .map(|x| 1e-4 * (1.5 + x))
                .collect();
            let bias = noise(5, out_channels);
            let out_size = window.output_size(size);
            let pixels = out_size[0] * out_size[1];
            let addend: Vec<f32> = noise(4, images * out_channels * pixels)
                .into_iter()
                .map(|x| E::from_f32(x).to_f32())
                .collect();
            let (mut end, mut bytes_end) = (0, 0);
            let from = place(&mut bytes_end, inputs, images, size, window.padding[1]);
            let [value_bytes, sum_bytes] =
                [(); 2].map(|()| place(&mut bytes_end, outputs, images, out_size, out_halo));
            let [value, sum] =
                [(); 2].map(|()| place(&mut end, outputs, images, out_size, out_halo));
            let (mut bytes, mut floats) = (Arena::<u8>::new(bytes_end), Arena::<E>::new(end));
            bytes.as_mut_slice().fill(77);
            floats.as_mut_slice().fill(E::from_f32(f32::NAN));
            write_bytes(&mut bytes, &from, &x);
            write(&mut floats, &sum, &addend);
            let conv = QuantizedConv::pack_for(
                way,
                window,
                [inputs, outputs],
                QuantizedWeights {
                    values: &weights,
                    scales: &scales,
                    bias: &bias,
                },
            );
            let stores = QuantizedStores {
                value: Some(QuantizedValue {
                    floats: Some(&value),
                    bytes: Some(Rounded {
                        to: &value_bytes,
                        steps: &[0.01; 2][..outputs.len()],
                    }),
                    relu: true,
                }),
                sum: Some(QuantizedSum {
                    addend: &sum,
                    scale: 0.3,
                    to: QuantizedValue {
                        floats: Some(&sum),
                        bytes: Some(Rounded {
                            to: &sum_bytes,
                            steps: &[0.02; 2][..outputs.len()],
                        }),
                        relu: false,
                    },
                }),
            };
            conv.run_ahead((&mut bytes, &mut floats), &from, stores, None);
            let found = [read(&floats, &value), read(&floats, &sum)];
            let rounded = [
                read_bytes(&bytes, &value_bytes),
                read_bytes(&bytes, &sum_bytes),
            ];
            for (index, sum) in sums(&case, &x, &weights).into_iter().enumerate() {
                let output = index / pixels % out_channels;
                let scaled = sum * f64::from(scales[output]);
                let result = scaled + f64::from(bias[output]);
                let expected = [
                    result.max(0.0),
                    f64::from(addend[index]) + f64::from(0.3_f32) * result,
                ];
                // A few roundings, of which the first is the scaled sum's.
                let bound = 6.0 * f64::from(f32::EPSILON) * (scaled.abs() + result.abs() + 1.0);
                for (kind, step) in [0.01_f64, 0.02].into_iter().enumerate() {
                    let error = (f64::from(found[kind][index]) - expected[kind]).abs();
                    let stored = bound + rounding * expected[kind].abs();
                    assert!(
                        error <= stored,
                        "{name} element {index}: {error} > {stored}"
                    );
                    let whole = f64::from(rounded[kind][index]);
                    let wanted = (expected[kind] / step).clamp(0.0, 255.0);
                    let error = (whole - wanted).abs();
                    assert!(
                        error <= 0.5 + bound / step,
                        "{name} byte {index}: {whole} for {wanted}"
                    );
                }
            }
        }
    }
}

/// The largest inputs and weights, of as many channels as a deep layer has.
#[test]
fn the_largest_sums_are_exact() {
    for way in ways() {
        let channels = 4096;
        let weights: Vec<i8> = (0..2 * channels)
            .map(|index| if index < channels { 127 } else { -127 })
            .collect();
        let conv = QuantizedConv::pack_for(
            way,
            Window::POINT,
            [&[channels], &[2]],
            QuantizedWeights {
                values: &weights,
                scales: &[1.0; 2],
                bias: &[0.0; 2],
            },
        );
        let from = [View::new(0, 1, channels, [1, 3], 0)];
        let to = [View::new(0, 1, 2, [1, 3], 0)];
        let (mut bytes, mut floats) = (
            Arena::<u8>::new(from[0].end()),
            Arena::<f32>::new(to[0].end()),
        );
        bytes.as_mut_slice().fill(255);
        let value = QuantizedValue {
            floats: Some(&to),
            bytes: None,
            relu: false,
        };
        let stores = QuantizedStores {
            value: Some(value),
            sum: None,
        };
        conv.run_ahead((&mut bytes, &mut floats), &from, stores, None);
        let largest = (127 * 255 * channels) as f32;
        let expected = [largest, largest, largest, -largest, -largest, -largest];
        assert_eq!(read(&floats, &to), expected, "{way:?}");
    }
}

/// A job of many tasks gives the bits of one thread.
#[test]
fn threads_change_no_bit() {
    let case = Case {
        window: Window {
            kernel: [3, 3],
            stride: [1, 1],
            padding: [1, 1],
        },
        inputs: &[64],
        outputs: &[80],
        images: 2,
        size: [21, 20],
        out_halo: 0,
    };
    let x: Vec<u8> = whole(1, 2 * 64 * 420, [0, 255]);
    let weights: Vec<i8> = whole(2, 80 * 64 * 9, [-127, 127]);
    let from = [View::new(0, 2, 64, case.size, 1)];
    let to = [View::new(0, 2, 80, case.size, 0)];
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let mut bytes = Arena::<u8>::new(from[0].end());
        let mut floats = Arena::<f32>::new(to[0].end());
        write_bytes(&mut bytes, &from, &x);
        let weights = QuantizedWeights {
            values: &weights,
            scales: &[1e-3; 80],
            bias: &[0.5; 80],
        };
        let conv = QuantizedConv::pack(Isa::best(), case.window, [&[64], &[80]], weights);
        let value = QuantizedValue {
            floats: Some(&to),
            bytes: None,
            relu: false,
        };
        let stores = QuantizedStores {
            value: Some(value),
            sum: None,
        };
        pool.install(|| conv.run_ahead((&mut bytes, &mut floats), &from, stores, None));
        read(&floats, &to)
    };
    let one = run(1);
    let expected = sums(&case, &x, &weights);
    let is_right =
        |(found, sum): (&f32, &f64)| (f64::from(*found) - (sum * 1e-3 + 0.5)).abs() < 0.01;
    assert!(one.iter().zip(&expected).all(is_right));
    assert!(one == run(2) && one == run(3));
}

#[test]
fn a_map_that_is_written_lies_apart_from_the_others() {
    let conv = |outputs: &[usize]| {
        let count = outputs.iter().sum::<usize>();
        let weights = vec![1; 16 * count];
        let ones = vec![1.0; count];
        let weights = QuantizedWeights {
            values: &weights,
            scales: &ones,
            bias: &ones,
        };
        QuantizedConv::pack(Isa::best(), Window::POINT, [&[16], outputs], weights)
    };
    let at = |start: usize| View::new(start, 1, 16, [2, 2], 0);
    let refused = |conv: &QuantizedConv, stores: QuantizedStores<'_>| {
        let (mut bytes, mut floats) = (Arena::<u8>::new(128), Arena::<f32>::new(128));
        crate::is_refused(|| {
            conv.run_ahead((&mut bytes, &mut floats), &[at(0)], stores, None);
        })
    };
    let rounded = |outputs: &[usize], places: &[usize]| {
        let to: Vec<View> = places.iter().map(|&place| at(place)).collect();
        let value = QuantizedValue {
            floats: None,
            bytes: Some(Rounded {
                to: &to,
                steps: &vec![1.0; to.len()],
            }),
            relu: true,
        };
        let stores = QuantizedStores {
            value: Some(value),
            sum: None,
        };
        refused(&conv(outputs), stores)
    };
    assert!(!rounded(&[16], &[64]));
    assert!(rounded(&[16], &[48]));
    assert!(rounded(&[16], &[80]));
    assert!(rounded(&[16, 16], &[64, 64]));
    assert!(refused(&conv(&[16]), QuantizedStores::default()));
    let added = |addend: usize, to: usize| {
        let (addend, to) = ([at(addend)], [at(to)]);
        let to = QuantizedValue {
            floats: Some(&to),
            bytes: None,
            relu: false,
        };
        let sum = QuantizedSum {
            addend: &addend,
            scale: 1.0,
            to,
        };
        let stores = QuantizedStores {
            value: None,
            sum: Some(sum),
        };
        refused(&conv(&[16]), stores)
    };
    assert!(!added(0, 0));
    assert!(!added(0, 64));
    assert!(added(0, 16));
}

use super::*;
use crate::is_refused;
use half::bf16;

const EPSILON: f64 = 1e-3;

#[derive(Clone)]
struct Layer {
    weight: Vec<f64>,
    bias: Vec<f64>,
    relu: bool,
}

/// `Σ dy · y` by the definition, in f64; its derivatives are the gradients.
fn objective(layer: &Layer, z: &[f64], dy: &[f32], [images, pixels]: [usize; 2]) -> f64 {
    let channels = layer.weight.len();
    let at = |image: usize, channel: usize| (image * channels + channel) * pixels;
    let mut total = 0.0;
    for channel in 0..channels {
        let values = || (0..images).flat_map(|i| &z[at(i, channel)..][..pixels]);
        let count = (images * pixels) as f64;
        let mean = values().sum::<f64>() / count;
        let var = values().map(|z| (z - mean).powi(2)).sum::<f64>() / count;
        let gradients = (0..images).flat_map(|i| &dy[at(i, channel)..][..pixels]);
        for (z, dy) in values().zip(gradients) {
            let normal = (z - mean) / (var + EPSILON).sqrt();
            let y = layer.weight[channel] * normal + layer.bias[channel];
            let y = if layer.relu { y.max(0.0) } else { y };
            total += f64::from(*dy) * y;
        }
    }
    total
}

#[test]
fn gradients_agree_with_finite_differences() {
    check_gradients::<f32>(0.0);
}

#[test]
fn gradients_of_bf16_agree_with_finite_differences() {
    // A result is rounded to 8 bits.
    check_gradients::<bf16>(1.0 / 256.0);
}

/// Gradients of maps that are elements exactly. Each element of a map is rounded by up to `rounding` of itself.
fn check_gradients<E: Element>(rounding: f64) {
    let wave = |count: usize, speed: f32| -> Vec<f32> {
        (0..count)
            .map(|i| E::from_f32((i as f32 * speed).sin() * 1.5 + 0.2).to_f32())
            .collect()
    };
    let (images, channels, size) = (2, 19, [3, 4]);
    let count = images * channels * 12;
    for isa in Isa::available() {
        for relu in [false, true] {
            let (weight, bias) = (wave(channels, 0.7), wave(channels, 1.3));
            let wide =
                |values: &[f32]| -> Vec<f64> { values.iter().copied().map(f64::from).collect() };
            let layer = Layer {
                weight: wide(&weight),
                bias: wide(&bias),
                relu,
            };
            let (z, dy) = (wave(count, 2.1), wave(count, 3.7));
            let z_view = View::new(0, images, channels, size, 0);
            let dy_view = View::new(z_view.end(), images, channels, size, 1);
            let dz_view = View::new(dy_view.end(), images, channels, size, 3);
            let mut arena = Arena::<E>::new(dz_view.end());
            z_view.write_nchw(&mut arena, &z);
            dy_view.write_nchw(&mut arena, &dy);
            let (mean, var) = moments(isa, &arena, &z_view);
            let applied = Applied::new((&weight, &bias), (mean, &var), EPSILON, relu);
            let views = (&z_view, &dy_view, &dz_view);
            let found = applied.backward(isa, &mut arena, views, 0.5);
            let wide = wide(&z);
            let shape = [images, 12];
            let near = |found: f32, expected: f64, what: &str| {
                let error = (f64::from(found) - expected).abs();
                let allowed = 2e-3 + rounding * expected.abs();
                assert!(
                    error < allowed,
                    "{isa} {relu} {what}: {found} for {expected}"
                );
            };
            let dz = dz_view.read_nchw(&arena);
            for index in (0..count).step_by(17) {
                let moved = |step: f64| {
                    let mut z = wide.clone();
                    z[index] += step;
                    objective(&layer, &z, &dy, shape)
                };
                let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                near(dz[index], 0.5 * slope, "dz");
            }
            for channel in 0..channels {
                let slope = |change: fn(&mut Layer) -> &mut Vec<f64>| {
                    let moved = |step: f64| {
                        let mut layer = layer.clone();
                        change(&mut layer)[channel] += step;
                        objective(&layer, &wide, &dy, shape)
                    };
                    (moved(1e-6) - moved(-1e-6)) / 2e-6
                };
                near(
                    found.weight[channel],
                    0.5 * slope(|l| &mut l.weight),
                    "weight",
                );
                near(found.bias[channel], 0.5 * slope(|l| &mut l.bias), "bias");
            }
        }
    }
}

#[test]
fn moments_of_numbers_far_from_zero_do_not_cancel() {
    for isa in Isa::available() {
        let view = View::new(0, 3, 5, [7, 9], 2);
        let mut arena = Arena::<f32>::new(view.end());
        let values: Vec<f32> = (0..3 * 5 * 63)
            .map(|i| 1000.0 + (i % 63) as f32 * 0.125)
            .collect();
        view.write_nchw(&mut arena, &values);
        let (mean, var) = moments(isa, &arena, &view);
        assert_eq!(mean.len(), 5);
        for (mean, var) in mean.iter().zip(&var) {
            assert!(
                (mean - (1000.0 + 31.0 * 0.125)).abs() < 1e-4,
                "{isa}: {mean}"
            );
            let expected = (63.0 * 63.0 - 1.0) / 12.0 * 0.125 * 0.125;
            assert!((var / expected - 1.0).abs() < 1e-5, "{isa}: {var}");
        }
    }
}

#[test]
fn moments_of_many_images_are_those_of_all() {
    for isa in Isa::available() {
        for (size, halo) in [([7, 9], 0), ([40, 141], 0), ([40, 141], 1)] {
            let view = View::new(0, 5, 19, size, halo);
            let mut arena = Arena::<f32>::new(view.end());
            let pixels = size[0] * size[1];
            let value = |i: usize| ((i * i) % 1009) as f32 / 500.0 - (i / pixels % 19) as f32;
            let values: Vec<f32> = (0..5 * 19 * pixels).map(value).collect();
            view.write_nchw(&mut arena, &values);
            let (mean, var) = moments(isa, &arena, &view);
            for channel in 0..19 {
                let planes = values.chunks_exact(pixels).skip(channel).step_by(19);
                let all: Vec<f64> = planes.flatten().copied().map(f64::from).collect();
                let expected = all.iter().sum::<f64>() / all.len() as f64;
                assert!((mean[channel] - expected).abs() < 1e-6, "{isa} {size:?}");
                let apart = all.iter().map(|value| (value - expected).powi(2));
                let expected = apart.sum::<f64>() / all.len() as f64;
                assert!(
                    (var[channel] / expected - 1.0).abs() < 1e-6,
                    "{isa} {size:?}"
                );
            }
        }
    }
}

#[test]
fn maps_with_moments_in_common_are_one_map() {
    let images = [3, 1, 2];
    let (channels, size) = (19, [3, 5]);
    let pixels = channels * size[0] * size[1];
    let wave = |count: usize, speed: f32| -> Vec<f32> {
        let values = (0..count).map(|i| (i as f32 * speed).sin() * 1.5 + i as f32 * 1e-3);
        values.collect()
    };
    let total: usize = images.iter().sum();
    let (z, dy) = (wave(total * pixels, 2.1), wave(total * pixels, 3.7));
    let (weight, bias) = (wave(channels, 0.7), wave(channels, 1.3));
    let count = (total * size[0] * size[1]) as f64;
    /// A map and its gradients in an arena of their own.
    struct Map {
        arena: Arena,
        views: [View; 3],
    }
    let map = |first: usize, images: usize| {
        let z_view = View::new(0, images, channels, size, 0);
        let dy_view = View::new(z_view.end(), images, channels, size, 1);
        let dz_view = View::new(dy_view.end(), images, channels, size, 2);
        let mut arena = Arena::new(dz_view.end());
        let values = first * pixels..(first + images) * pixels;
        z_view.write_nchw(&mut arena, &z[values.clone()]);
        dy_view.write_nchw(&mut arena, &dy[values]);
        let views = [z_view, dy_view, dz_view];
        Map { arena, views }
    };
    let near = |found: f64, expected: f64, what: &str| {
        let error = (found - expected).abs();
        assert!(
            error < 1e-5 * (1.0 + expected.abs()),
            "{what}: {found} for {expected}"
        );
    };
    for isa in Isa::available() {
        for relu in [false, true] {
            let mut whole = map(0, total);
            let [z, dy, dz] = &whole.views;
            let (mean, var) = moments(isa, &whole.arena, z);
            let applied = Applied::new((&weight, &bias), (mean.clone(), &var), EPSILON, relu);
            let expected = applied.backward(isa, &mut whole.arena, (z, dy, dz), 0.5);
            let expected_dz = dz.read_nchw(&whole.arena);

            let firsts = [0, 3, 4];
            let mut maps: Vec<Map> = (0..3).map(|m| map(firsts[m], images[m])).collect();
            let each = maps
                .iter()
                .map(|map| moments(isa, &map.arena, &map.views[0]));
            let each: Vec<(Channels, Channels)> = each.collect();
            let rows: Vec<(usize, &[f64], &[f64])> = images
                .iter()
                .zip(&each)
                .map(|(&images, (mean, var))| (images, &mean[..], &var[..]))
                .collect();
            let (merged_mean, merged_var) = merge_moments(&rows);
            for channel in 0..channels {
                near(merged_mean[channel], mean[channel], "mean");
                near(merged_var[channel], var[channel], "variance");
            }
            let parameters = (&weight[..], &bias[..]);
            let applied = Applied::new(parameters, (merged_mean, &merged_var), EPSILON, relu);
            let sums = maps.iter().map(|map| {
                let [z, dy, _] = &map.views;
                applied.gradient_sums(isa, &map.arena, (z, dy), 0.5)
            });
            let sums: Vec<GradientSums> = sums.collect();
            let total_of = |of_map: fn(&GradientSums) -> &Vec<f64>| -> Vec<f64> {
                let channels = 0..channels;
                channels
                    .map(|c| sums.iter().map(|sums| of_map(sums)[c]).sum())
                    .collect()
            };
            let total = GradientSums {
                gradients: total_of(|sums| &sums.gradients),
                products: total_of(|sums| &sums.products),
            };
            let found = applied.parameter_gradients(&total);
            for channel in 0..channels {
                let pairs = [
                    (found.weight[channel], expected.weight[channel], "weight"),
                    (found.bias[channel], expected.bias[channel], "bias"),
                ];
                for (found, expected, what) in pairs {
                    near(f64::from(found), f64::from(expected), what);
                }
            }
            let mut found_dz = Vec::new();
            for map in &mut maps {
                let [z, dy, dz] = &map.views;
                let views = (z, dy, dz);
                applied.backward_from(isa, &mut map.arena, views, 0.5, (&total, count));
                found_dz.extend(dz.read_nchw(&map.arena));
            }
            for (found, expected) in found_dz.iter().zip(&expected_dz) {
                near(f64::from(*found), f64::from(*expected), "dz");
            }
        }
    }
}

#[test]
fn maps_that_do_not_fit_a_layer_are_refused() {
    let isa = Isa::best();
    let view = |start, channels| View::new(start, 1, channels, [2, 3], 0);
    let len = view(0, 16).end();
    let arena = &mut Arena::<f32>::new(4 * len);
    let layer = |channels: usize| {
        let (weight, bias) = (vec![1.0; channels], vec![0.0; channels]);
        let (mean, var) = (vec![0.0; channels], vec![1.0; channels]);
        Applied::new((&weight, &bias), (mean, &var), EPSILON, false)
    };
    let (z, dy, to) = (view(0, 16), view(len, 16), view(2 * len, 16));
    for (channels, z, to, fits) in [
        (16, z, to, true),
        (16, view(4 * len, 16), to, false),
        (16, z, view(4 * len, 16), false),
        (16, view(2 * len + 16, 16), to, false),
        (16, View::new(0, 1, 16, [3, 2], 0), to, false),
        (15, z, to, false),
        (17, z, to, false),
    ] {
        let layer = layer(channels);
        let sums = GradientSums {
            gradients: vec![0.0; 32],
            products: vec![0.0; 32],
        };
        let maps = (&z, &dy, &to);
        let refused = [
            is_refused(|| layer.forward(isa, arena, &z, &to)),
            is_refused(|| layer.add_forward(isa, arena, (1.0, &z), None, (&to, false))),
            is_refused(|| layer.add_forward(isa, arena, (1.0, &z), Some(&to), (&to, false))),
            is_refused(|| layer.backward(isa, arena, maps, 1.0)),
            is_refused(|| layer.backward_from(isa, arena, maps, 1.0, (&sums, 6.0))),
            is_refused(|| layer.backward_fixed(isa, arena, maps, 1.0)),
        ];
        assert_eq!(refused, [!fits; 6], "{channels}, {z:?}");
    }
    // More channels than the layer has, in maps that are inside the arena; and one in place outside.
    let (wide, wide_to) = (view(0, 32), view(2 * len, 32));
    let layer = layer(16);
    let outside = view(4 * len, 16);
    assert!(is_refused(|| layer.forward(isa, arena, &wide, &wide_to)));
    assert!(is_refused(|| layer.add_forward(
        isa,
        arena,
        (1.0, &wide),
        None,
        (&wide_to, false)
    )));
    assert!(is_refused(|| layer.forward(isa, arena, &outside, &outside)));
    assert!(is_refused(|| layer.gradient_sums(
        isa,
        arena,
        (&z, &outside),
        1.0
    )));
    assert!(is_refused(|| layer.gradient_sums(
        isa,
        arena,
        (&wide, &wide),
        1.0
    )));
    assert!(is_refused(|| moments(isa, arena, &outside)));
}

//! What would be undefined is refused at the edges.

use super::*;
use crate::is_refused;
use crate::layout::{Arena, View};
use crate::simd::Isa;

const SQUARE: Window = Window {
    kernel: [3, 3],
    stride: [1, 1],
    padding: [1, 1],
};

/// A map of one image and 4×4 pixels with a halo of 2.
fn map(start: usize, channels: usize) -> View {
    View::new(start, 1, channels, [4, 4], 2)
}

/// Whether a direct and a transformed convolution of 32 channels refuse maps in an arena of so many
/// elements.
fn are_refused(elements: usize, inputs: &[View], stores: Stores<'_>) -> [bool; 2] {
    let segments: [&[usize]; 2] = [&[16, 16], &[16, 16]];
    let (weights, bias) = (vec![0.0; 32 * 32 * 9], vec![0.0; 32]);
    let mut arena = Arena::<f32>::new(elements);
    let isa = Isa::best();
    let direct = Conv::pack(isa, SQUARE, segments, &weights, &bias);
    let transformed = Winograd::pack(isa, (SQUARE, 16), segments, &weights, &bias);
    [
        is_refused(|| direct.run(&mut arena, inputs, stores)),
        is_refused(|| transformed.run(&mut arena, inputs, stores)),
    ]
}

fn value(to: &[View]) -> Stores<'_> {
    Value { to, relu: false }.into()
}

fn sum<'a>(addend: &'a [View], to: &'a [View]) -> Sum<'a> {
    Sum {
        addend,
        to,
        scale: 1.0,
        relu: false,
    }
}

#[test]
fn maps_that_leave_the_arena_or_overlap_what_is_written_are_refused() {
    let len = map(0, 16).end();
    let at = |index: usize| map(index * len, 16);
    let inputs = [at(0), at(1)];
    let good = [at(2), at(3)];
    assert_eq!(are_refused(4 * len, &inputs, value(&good)), [false; 2]);
    // Inputs may be one map.
    let twice = [at(0), at(0)];
    assert_eq!(are_refused(4 * len, &twice, value(&good)), [false; 2]);
    let refused = |inputs: &[View], stores: Stores<'_>| {
        assert_eq!(are_refused(4 * len, inputs, stores), [true; 2]);
    };
    assert_eq!(are_refused(4 * len - 16, &inputs, value(&good)), [true; 2]);
    refused(&[at(0), at(4)], value(&good));
    refused(&inputs, value(&[at(2), at(1)]));
    refused(&inputs, value(&[at(2), at(2)]));
    refused(&inputs, value(&[at(2), map(2 * len + 16, 16)]));
    refused(&inputs, value(&[at(2)]));
    refused(&[], value(&good));
    refused(&[at(0)], value(&good));
    refused(&inputs, value(&[]));
    refused(&inputs, Stores::default());
    let small = View::new(len, 1, 16, [3, 4], 2);
    refused(&[at(0), small], value(&good));
    refused(
        &inputs,
        value(&[at(2), View::new(3 * len, 1, 16, [3, 4], 2)]),
    );
    let in_place = Stores::from(sum(&good, &good));
    assert_eq!(are_refused(4 * len, &inputs, in_place), [false; 2]);
    refused(&inputs, sum(&[at(3), at(2)], &good).into());
    refused(&inputs, sum(&good, &[at(2), at(2)]).into());
    refused(&inputs, sum(&[at(0), at(4)], &good).into());
    let both = Stores {
        value: value(&good).value,
        ..in_place
    };
    refused(&inputs, both);
}

#[test]
fn a_halo_that_the_kernel_leaves_is_refused() {
    let from = View::new(0, 1, 16, [4, 4], 0);
    let to = View::new(from.end(), 1, 16, [4, 4], 0);
    let mut arena = Arena::<f32>::new(to.end());
    let segments: [&[usize]; 2] = [&[16], &[16]];
    let weights = vec![0.0; 256 * 9];
    let conv = Conv::pack(Isa::best(), SQUARE, segments, &weights, &[0.0; 16]);
    assert!(is_refused(|| conv.run(&mut arena, &[from], value(&[to]))));
    let gradient = InputGradient::pack(Isa::best(), SQUARE, segments, &weights);
    assert!(is_refused(|| gradient.run(
        &mut arena,
        &[from],
        &[to],
        false
    )));
    let (from, to) = ([from], [to]);
    assert!(is_refused(|| {
        weight_gradient(Isa::best(), SQUARE, &arena, &from, &to);
    }));
}

#[test]
fn gradients_of_maps_that_do_not_fit_are_refused() {
    let len = map(0, 16).end();
    let good = [map(0, 16), map(len, 16)];
    let arena = Arena::new(3 * len);
    let fits = |inputs: &[View], outputs: &[View]| {
        [
            weight_gradient as fn(_, _, &Arena, &[View], &[View]) -> _,
            Winograd::weight_gradient,
        ]
        .map(|gradient| !is_refused(|| gradient(Isa::best(), SQUARE, &arena, inputs, outputs)))
    };
    assert_eq!(fits(&good, &[map(2 * len, 16)]), [true; 2]);
    assert_eq!(fits(&good, &[map(3 * len, 16)]), [false; 2]);
    assert_eq!(fits(&[map(3 * len, 16)], &good), [false; 2]);
    assert_eq!(fits(&[], &good), [false; 2]);
    assert_eq!(fits(&good, &[]), [false; 2]);
    // The second input alone is too small, or has too few images.
    let small = View::new(len, 1, 16, [1, 4], 2);
    assert_eq!(fits(&[good[0], small], &good), [false; 2]);
    let images = |start, images| View::new(start, images, 16, [1, 1], 1);
    let first = images(0, 2);
    let few = [first, images(first.end(), 1)];
    assert_eq!(fits(&few, &[first]), [false; 2]);
    assert_eq!(fits(&[first], &few), [false; 2]);
}

#[test]
fn channels_that_no_gradient_holds_are_refused() {
    // Views may repeat, so that few elements have many channels.
    let view = View::new(0, 1, 1 << 20, [1, 1], 0);
    let arena = Arena::<f32>::new(view.end());
    let views = vec![view; 1 << 12];
    assert!(is_refused(|| {
        weight_gradient(Isa::best(), Window::POINT, &arena, &views, &views);
    }));
}

#[test]
fn windows_without_a_meaning_are_refused() {
    let with = |change: fn(&mut Window)| {
        let mut window = SQUARE;
        change(&mut window);
        window
    };
    let map = map(0, 16);
    let arena = Arena::new(map.end());
    let segments: [&[usize]; 2] = [&[16], &[16]];
    for window in [
        with(|window| window.kernel[0] = 0),
        with(|window| window.kernel = [1 << (usize::BITS / 2); 2]),
        with(|window| window.stride[1] = 0),
        with(|window| window.stride[0] = usize::MAX),
        with(|window| window.padding[1] = usize::MAX / 2 + 1),
        with(|window| window.padding[0] = Window::LARGEST + 1),
    ] {
        let isa = Isa::best();
        for weights in [&[][..], &[0.0; 256 * 9]] {
            let bias = [0.0; 16];
            let made = [
                is_refused(|| Conv::<f32>::pack(isa, window, segments, weights, &bias)),
                is_refused(|| Winograd::pack(isa, (window, 16), segments, weights, &bias)),
                is_refused(|| InputGradient::<f32>::pack(isa, window, segments, weights)),
                is_refused(|| weight_gradient::<f32>(isa, window, &arena, &[map], &[map])),
            ];
            assert_eq!(made, [true; 4], "{window:?}");
        }
    }
    let wide = with(|window| window.padding[1] = 3);
    let weights = [0.0; 256 * 9];
    assert!(is_refused(|| {
        let memory = GradientMemory::default();
        InputGradient::<f32>::transformed_in(memory, Isa::best(), (wide, 16), segments, &weights);
    }));
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let isa = Isa::best();
    let pack = |segments: [&[usize]; 2], weights: usize, bias: usize| {
        let (weights, bias) = (vec![0.0; weights], vec![0.0; bias]);
        let conv = || Conv::<f32>::pack(isa, SQUARE, segments, &weights, &bias);
        let place = (SQUARE, 16);
        let transformed = || Winograd::pack(isa, place, segments, &weights, &bias);
        [is_refused(conv), is_refused(transformed)]
    };
    assert_eq!(pack([&[16], &[5]], 16 * 5 * 9, 5), [false; 2]);
    assert_eq!(pack([&[16], &[5]], 16 * 5 * 9 - 1, 5), [true; 2]);
    assert_eq!(pack([&[16], &[5]], 16 * 5 * 9, 4), [true; 2]);
    // Sums and products that wrap around.
    let half = usize::MAX / 2 + 1;
    assert_eq!(pack([&[16], &[half, half]], 0, 0), [true; 2]);
    assert_eq!(pack([&[half], &[16]], 0, 16), [true; 2]);
}

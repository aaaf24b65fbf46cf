use super::*;
use crate::conv::naive::convolve;
use crate::conv::tests::{Case, cases, noise, read, write};
use crate::conv::{Sum, Value};
use crate::emulator;
use crate::is_refused;
use half::bf16;

/// Numbers in −1…1 that are bf16 exactly.
fn elements(seed: usize, count: usize) -> Vec<f32> {
    let exact = |value: f32| bf16::from_f32(value).to_f32();
    noise(seed, count).into_iter().map(exact).collect()
}

fn case(
    window: Window,
    inputs: &'static [usize],
    outputs: &'static [usize],
    images: usize,
    size: [usize; 2],
) -> Case {
    Case {
        window,
        inputs,
        outputs,
        images,
        size,
        out_halo: 0,
    }
}

/// Those of other convolutions, and what tiles make a difference for.
pub(super) fn all_cases() -> Vec<Case> {
    let square = |stride| Window {
        kernel: [3, 3],
        stride: [stride; 2],
        padding: [1, 1],
    };
    let mut all = cases();
    all.extend([
        // Small maps of several images, in tiles of pixels of two.
        case(Window::POINT, &[64], &[96], 5, [3, 3]),
        case(square(1), &[64], &[64], 5, [5, 5]),
        // Sums in parts, a last panel with half of its channels, and more pairs of tiles than one.
        case(Window::POINT, &[512, 320], &[64, 16], 1, [9, 9]),
        case(square(1), &[96, 40], &[80], 1, [9, 8]),
        // Many pairs of tiles that follow each other.
        case(Window::POINT, &[32], &[32, 32], 1, [40, 41]),
        // Taps that share steps: of few channels, of a whole block, of one pixel.
        case(square(2), &[16], &[64], 2, [11, 9]),
        case(square(1), &[5], &[24], 1, [1, 1]),
    ]);
    all
}

/// A convolution's maps in an arena of bits that are no numbers where none was written.
struct Maps {
    arena: Arena<bf16>,
    inputs: Vec<View>,
    value: Vec<View>,
    sum: Vec<View>,
    x: Vec<f32>,
    addend: Vec<f32>,
}

impl Maps {
    fn new(case: &Case, input_pixel: Pixel) -> Self {
        let Case {
            window,
            inputs,
            outputs,
            images,
            size,
            out_halo,
        } = *case;
        let mut end = 0;
        let mut place = |pixel, segments: &[usize], size, halo| {
            let place = |&channels: &usize| {
                let view = View::of(pixel, end, images, channels, size, halo);
                end = view.end().next_multiple_of(32);
                view
            };
            segments.iter().map(place).collect::<Vec<View>>()
        };
        let out_size = window.output_size(size);
        let from = place(input_pixel, inputs, size, window.padding[1]);
        let value = place(Pixel::TwoBlocks, outputs, out_size, out_halo);
        let sum = place(Pixel::TwoBlocks, outputs, out_size, out_halo);
        let mut arena = Arena::new(end);
        arena.as_mut_slice().fill(bf16::NAN);
        let [in_channels, out_channels] = [inputs, outputs].map(|s| s.iter().sum::<usize>());
        let x = elements(1, images * in_channels * size[0] * size[1]);
        let addend = elements(4, images * out_channels * out_size[0] * out_size[1]);
        write(&mut arena, &from, &x);
        write(&mut arena, &sum, &addend);
        Self {
            arena,
            inputs: from,
            value,
            sum,
            x,
            addend,
        }
    }

    fn run(&mut self, conv: &AmxConv<bf16>) {
        let stores = Stores {
            value: Some(Value {
                to: &self.value,
                relu: true,
            }),
            sum: Some(Sum {
                addend: &self.sum,
                to: &self.sum,
                scale: 0.3,
                relu: false,
            }),
        };
        let next = conv.weights();
        conv.run_ahead(&mut self.arena, &self.inputs, stores, Some(next));
    }

    fn bits(&self) -> Vec<u16> {
        self.arena.as_slice().iter().map(|x| x.to_bits()).collect()
    }
}

fn weights(case: &Case) -> [Vec<f32>; 2] {
    let [inputs, outputs] = [case.inputs, case.outputs].map(|s| s.iter().sum::<usize>());
    let weights = elements(2, outputs * inputs * case.window.taps());
    [weights, elements(3, outputs)]
}

fn pack(products: (Products, Isa), case: &Case) -> AmxConv<bf16> {
    let [weights, bias] = weights(case);
    let segments = [case.inputs, case.outputs];
    AmxConv::pack_for(products, case.window, segments, &weights, &bias)
}

pub(super) fn name(case: &Case) -> String {
    let Case {
        window,
        inputs,
        outputs,
        images,
        size,
        ..
    } = case;
    format!("{window:?} {inputs:?} {outputs:?} {images} of {size:?}")
}

/// What a map's numbers are, but for being rounded to bf16 once, or twice as a part of a sum.
fn assert_rounded(case: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{case}");
    let largest = expected.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let allowed = expected.abs() / 256.0 + 1e-5 * largest;
        let error = (found - expected).abs();
        assert!(
            error <= allowed,
            "{case}, element {index}: {found} for {expected}"
        );
    }
}

/// Maps whose lanes without channels and halos are zeros have the sum of their channels.
fn assert_clean(case: &str, arena: &Arena<bf16>, views: &[View]) {
    let size = |values: &mut dyn Iterator<Item = f32>| values.map(f32::abs).sum::<f32>();
    for view in views {
        let all = &arena.as_slice()[view.start()..view.end()];
        let all = size(&mut all.iter().map(|x| x.to_f32()));
        let of_channels = size(&mut view.read_nchw(arena).into_iter());
        assert!(
            (all - of_channels).abs() <= 1e-4 * all,
            "{case}: {all}, {of_channels}"
        );
    }
}

#[test]
fn plain_tiles_agree_with_the_definition() {
    for case in all_cases() {
        let name = name(&case);
        let mut maps = Maps::new(&case, Pixel::TwoBlocks);
        maps.run(&pack((Products::Plain, Isa::best()), &case));
        let [weights, bias] = weights(&case);
        let channels = case.inputs.iter().sum();
        let shape = [case.images, channels, case.size[0], case.size[1]];
        let expected = convolve(case.window, &maps.x, shape, &weights, &bias);
        let rectified: Vec<f32> = expected.iter().map(|y| y.max(0.0)).collect();
        assert_rounded(&name, &read(&maps.arena, &maps.value), &rectified);
        let total = expected.iter().zip(&maps.addend);
        let total: Vec<f32> = total.map(|(y, a)| 0.3 * y + a).collect();
        assert_rounded(&name, &read(&maps.arena, &maps.sum), &total);
        assert_clean(&name, &maps.arena, &maps.value);
        assert_clean(&name, &maps.arena, &maps.sum);
    }
}

#[test]
fn every_instruction_set_stores_the_same() {
    for case in all_cases() {
        let stored = Isa::available().map(|isa| {
            let mut maps = Maps::new(&case, Pixel::TwoBlocks);
            maps.run(&pack((Products::Plain, isa), &case));
            // But for a scaled sum, which plain Rust rounds twice.
            read(&maps.arena, &maps.value)
        });
        let stored: Vec<Vec<f32>> = stored.collect();
        assert!(
            stored.iter().all(|value| *value == stored[0]),
            "{}",
            name(&case)
        );
    }
}

#[test]
fn the_processors_tiles_give_what_plain_ones_do_to_the_bit() {
    let Some(isa) = emulator::tiles() else { return };
    for case in all_cases() {
        let [found, expected] = [Products::of(isa), Products::Plain].map(|products| {
            let mut maps = Maps::new(&case, Pixel::TwoBlocks);
            maps.run(&pack((products, isa), &case));
            maps.bits()
        });
        assert!(found == expected, "{}", name(&case));
    }
}

#[test]
fn any_number_of_threads_gives_the_same() {
    let isa = emulator::tiles().unwrap_or_else(Isa::best);
    for case in all_cases() {
        let conv = pack((Products::of(isa), isa), &case);
        let [one, two, three] = [1, 2, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let mut maps = Maps::new(&case, Pixel::TwoBlocks);
            pool.build().expect("threads").install(|| maps.run(&conv));
            maps.bits()
        });
        assert!(one == two && one == three, "{}", name(&case));
    }
}

#[test]
fn images_of_a_batch_are_what_they_are_alone() {
    let isa = Isa::best();
    for case in all_cases().into_iter().filter(|case| case.images > 1) {
        let conv = pack((Products::Plain, isa), &case);
        let mut maps = Maps::new(&case, Pixel::TwoBlocks);
        maps.run(&conv);
        let all = read(&maps.arena, &maps.value);
        for image in 0..case.images {
            let alone = Case { images: 1, ..case };
            let mut one = Maps::new(&alone, Pixel::TwoBlocks);
            let part = |values: &[f32]| {
                let length = values.len() / case.images;
                values[image * length..][..length].to_vec()
            };
            let Maps {
                arena, inputs, sum, ..
            } = &mut one;
            write(arena, inputs, &part(&maps.x));
            write(arena, sum, &part(&maps.addend));
            one.run(&conv);
            assert_eq!(read(&one.arena, &one.value), part(&all), "{}", name(&case));
        }
    }
}

#[test]
fn taps_of_few_channels_are_read_from_pixels_of_one_block_too() {
    for case in all_cases() {
        let conv = pack((Products::Plain, Isa::best()), &case);
        if !conv.layer.packed.depth.is_of_taps() {
            continue;
        }
        let [found, expected] = [Pixel::Block, Pixel::TwoBlocks].map(|pixel| {
            let mut maps = Maps::new(&case, pixel);
            maps.run(&conv);
            read(&maps.arena, &maps.value)
        });
        assert_eq!(found, expected, "{}", name(&case));
    }
}

#[test]
fn maps_that_do_not_fit_are_refused() {
    let window = Window {
        kernel: [3, 3],
        stride: [1, 1],
        padding: [1, 1],
    };
    let (weights, bias) = (vec![0.0; 32 * 32 * 9], vec![0.0; 32]);
    let isa = Isa::best();
    let segments: [&[usize]; 2] = [&[32], &[32]];
    let conv = AmxConv::<bf16>::pack(isa, window, segments, &weights, &bias);
    let map = |pixel, start, channels, halo| View::of(pixel, start, 1, channels, [4, 4], halo);
    let len = map(Pixel::TwoBlocks, 0, 32, 1).end();
    let is_run = |elements: usize, from: View, to: View| {
        let mut arena = Arena::<bf16>::new(elements);
        let value = Value {
            to: &[to],
            relu: false,
        };
        !is_refused(|| conv.run_ahead(&mut arena, &[from], value.into(), None))
    };
    let (two, one) = (Pixel::TwoBlocks, Pixel::Block);
    let (from, to) = (map(two, 0, 32, 1), map(two, len, 32, 1));
    assert!(is_run(2 * len, from, to));
    assert!(
        !is_run(2 * len - 32, from, to),
        "a result that leaves the arena"
    );
    assert!(
        !is_run(2 * len, map(two, 2 * len, 32, 1), to),
        "an input that does"
    );
    assert!(
        !is_run(2 * len, from, map(two, len - 32, 32, 1)),
        "an overlap"
    );
    assert!(!is_run(2 * len, map(two, 0, 32, 0), to), "no halo");
    assert!(!is_run(2 * len, map(two, 0, 16, 1), to), "too few channels");
    assert!(!is_run(2 * len, map(one, 0, 32, 1), to), "single blocks");
    assert!(
        !is_run(2 * len, from, map(one, len, 32, 1)),
        "single blocks of results"
    );
    let of_f32 = || AmxConv::<f32>::pack(isa, window, segments, &weights, &bias);
    assert!(is_refused(of_f32), "no tiles multiply f32");
    let short = || AmxConv::<bf16>::pack(isa, window, segments, &weights, &bias[1..]);
    assert!(is_refused(short), "a bias too short");
}

use super::*;
use crate::conv::amx::tests::{all_cases, name};
use crate::conv::quantized::tests::{read_bytes, whole, write_bytes};
use crate::conv::tests::{Case, noise, write};
use crate::conv::{QuantizedConv, QuantizedSum, QuantizedValue, Rounded};
use crate::emulator;
use crate::is_refused;
use half::bf16;

/// What is stored of a convolution.
#[derive(Clone, Copy, Debug)]
enum Kept {
    /// Value and sum, each as numbers and as bytes.
    All,
    /// The value as bytes.
    Bytes,
    /// The sum, where its addend was.
    Sum,
}

/// A convolution's maps, in arenas of what is nothing's.
struct Maps<E: Element> {
    bytes: Arena<u8>,
    floats: Arena<E>,
    from: Vec<View>,
    /// Of bytes: value and sum.
    rounded: [Vec<View>; 2],
    /// Of numbers: value and sum.
    results: [Vec<View>; 2],
}

fn place(
    end: &mut usize,
    pixel: Pixel,
    segments: &[usize],
    (images, size, halo): (usize, [usize; 2], usize),
) -> Vec<View> {
    let place = |&channels: &usize| {
        let view = View::of(pixel, *end, images, channels, size, halo);
        *end = view.end();
        view
    };
    segments.iter().map(place).collect()
}

impl<E: Element> Maps<E> {
    /// With maps of bytes that have pixels of a kind.
    fn new(case: &Case, [input, output]: [Pixel; 2]) -> Self {
        let Case {
            window,
            inputs,
            outputs,
            images,
            size,
            out_halo,
        } = *case;
        let (mut end, mut bytes_end) = (0, 0);
        let of_inputs = (images, size, window.padding[1]);
        let from = place(&mut bytes_end, input, inputs, of_inputs);
        let out_size = window.output_size(size);
        let of_outputs = (images, out_size, out_halo);
        bytes_end = bytes_end.next_multiple_of(64);
        let rounded = [(); 2].map(|()| place(&mut bytes_end, output, outputs, of_outputs));
        let results = [(); 2].map(|()| place(&mut end, Pixel::Block, outputs, of_outputs));
        let (mut bytes, mut floats) = (Arena::new(bytes_end), Arena::new(end));
        bytes.as_mut_slice().fill(77);
        floats.as_mut_slice().fill(E::from_f32(f32::NAN));
        let [in_channels, out_channels] = [inputs, outputs].map(|s| s.iter().sum::<usize>());
        let x: Vec<u8> = whole(1, images * in_channels * size[0] * size[1], [0, 255]);
        let addend = noise(4, images * out_channels * out_size[0] * out_size[1]);
        write_bytes(&mut bytes, &from, &x);
        write(&mut floats, &results[1], &addend);
        Self {
            bytes,
            floats,
            from,
            rounded,
            results,
        }
    }

    /// Runs `convolve` with what is to be kept.
    fn run(
        &mut self,
        kept: Kept,
        convolve: impl Fn((&mut Arena<u8>, &mut Arena<E>), &[View], QuantizedStores<'_>),
    ) {
        let steps = [0.01, 0.02];
        let is_all = matches!(kept, Kept::All);
        let rounded = |index: usize| Rounded {
            to: &self.rounded[index],
            steps: &steps[..self.rounded[index].len()],
        };
        let value = QuantizedValue {
            floats: is_all.then_some(&self.results[0]),
            bytes: Some(rounded(0)),
            relu: true,
        };
        let sum = QuantizedSum {
            addend: &self.results[1],
            scale: 0.3,
            to: QuantizedValue {
                floats: Some(&self.results[1]),
                bytes: is_all.then(|| rounded(1)),
                relu: false,
            },
        };
        let stores = QuantizedStores {
            value: (!matches!(kept, Kept::Sum)).then_some(value),
            sum: (!matches!(kept, Kept::Bytes)).then_some(sum),
        };
        convolve((&mut self.bytes, &mut self.floats), &self.from, stores);
    }

    /// The bits of all numbers, and all bytes that the maps hold.
    fn results(&self) -> (Vec<u32>, [Vec<f32>; 2]) {
        let numbers = self.floats.as_slice().iter();
        let bits = numbers.map(|number| number.to_f32().to_bits());
        let bytes = self
            .rounded
            .each_ref()
            .map(|to| read_bytes(&self.bytes, to));
        (bits.collect(), bytes)
    }

    /// Whether what lies beside the rows of the value's bytes is zero.
    fn are_halos_clear(&self) -> bool {
        self.rounded[0].iter().all(|view| {
            let memory = &self.bytes.as_slice()[view.start()..view.end()];
            let halo = view.halo() * view.pixel_stride();
            memory.chunks_exact(view.row_stride()).all(|row| {
                let (first, last) = (&row[..halo], &row[row.len() - halo..]);
                first.iter().chain(last).all(|&byte| byte == 0)
            })
        })
    }
}

/// Weights, scales and bias.
fn weights(case: &Case) -> (Vec<i8>, [Vec<f32>; 2]) {
    let [inputs, outputs] = [case.inputs, case.outputs].map(|s| s.iter().sum::<usize>());
    let values = whole(2, outputs * inputs * case.window.taps(), [-127, 127]);
    let scales = noise(3, outputs).iter().map(|x| 1e-4 * (1.5 + x)).collect();
    (values, [scales, noise(5, outputs)])
}

fn packed<C>(case: &Case, pack: impl Fn(Window, [&[usize]; 2], QuantizedWeights<'_>) -> C) -> C {
    let (values, [scales, bias]) = weights(case);
    let weights = QuantizedWeights {
        values: &values,
        scales: &scales,
        bias: &bias,
    };
    pack(case.window, [case.inputs, case.outputs], weights)
}

/// What vectors give from and to maps of single blocks.
fn by_vectors<E: Element>(case: &Case, isa: Isa, kept: Kept) -> Maps<E> {
    let conv = packed(case, |window, segments, weights| {
        QuantizedConv::pack(isa, window, segments, weights)
    });
    let mut maps = Maps::new(case, [Pixel::Block; 2]);
    maps.run(kept, |arenas, from, stores| {
        conv.run_ahead(arenas, from, stores, None);
    });
    maps
}

fn pack(case: &Case, products: (Products, Isa)) -> QuantizedAmxConv {
    packed(case, |window, segments, weights| {
        QuantizedAmxConv::pack_for(products, window, segments, weights)
    })
}

fn by_tiles<E: Element>(case: &Case, conv: &QuantizedAmxConv, kept: Kept) -> Maps<E> {
    let mut maps = Maps::new(case, [Pixel::FourBlocks; 2]);
    maps.run(kept, |arenas, from, stores| {
        conv.run_ahead(arenas, from, stores, Some(conv.weights()));
    });
    maps
}

fn check<E: Element>(products: Products, isa: Isa, kept: Kept) {
    for case in all_cases() {
        let found = by_tiles::<E>(&case, &pack(&case, (products, isa)), kept);
        let expected = by_vectors::<E>(&case, isa, kept);
        let is_same = found.results() == expected.results();
        assert!(is_same, "{} {kept:?} {isa}", name(&case));
        let is_kept = !matches!(kept, Kept::Sum);
        assert!(!is_kept || found.are_halos_clear(), "{}", name(&case));
    }
}

#[test]
fn tiles_in_plain_rust_give_the_bits_of_vectors() {
    for isa in Isa::available() {
        check::<f32>(Products::Plain, isa, Kept::All);
    }
    for kept in [Kept::All, Kept::Bytes, Kept::Sum] {
        check::<bf16>(Products::Plain, Isa::best(), kept);
    }
}

#[test]
fn the_processors_tiles_give_the_bits_of_vectors() {
    let Some(isa) = emulator::tiles() else { return };
    check::<f32>(Products::of(isa), isa, Kept::Bytes);
    check::<bf16>(Products::of(isa), isa, Kept::All);
}

#[test]
fn any_number_of_threads_gives_the_same() {
    let isa = emulator::tiles().unwrap_or_else(Isa::best);
    for case in all_cases() {
        let conv = pack(&case, (Products::of(isa), isa));
        let [one, two, three] = [1, 2, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let run = || by_tiles::<bf16>(&case, &conv, Kept::All).results();
            pool.build().expect("threads").install(run)
        });
        assert!(one == two && one == three, "{}", name(&case));
    }
}

#[test]
fn taps_of_few_channels_are_read_from_pixels_of_any_kind() {
    for case in all_cases() {
        let conv = pack(&case, (Products::Plain, Isa::best()));
        if !conv.is_of_taps() {
            continue;
        }
        let [found, expected] = [Pixel::Block, Pixel::FourBlocks].map(|pixel| {
            let mut maps = Maps::<f32>::new(&case, [pixel, Pixel::FourBlocks]);
            maps.run(Kept::All, |arenas, from, stores| {
                conv.run_ahead(arenas, from, stores, None);
            });
            maps.results()
        });
        assert!(found == expected, "{}", name(&case));
    }
}

#[test]
fn maps_that_do_not_fit_are_refused() {
    let (values, one) = (vec![1; 32 * 32], vec![1.0; 32]);
    let weights = QuantizedWeights {
        values: &values,
        scales: &one,
        bias: &one,
    };
    let isa = Isa::best();
    let segments: [&[usize]; 2] = [&[32], &[32]];
    let conv = QuantizedAmxConv::pack(isa, Window::POINT, segments, weights);
    let map = |pixel, start, channels| View::of(pixel, start, 1, channels, [4, 4], 0);
    let (four, one_block) = (Pixel::FourBlocks, Pixel::Block);
    let len = map(four, 0, 32).end();
    let is_run = |elements: usize, from: View, to: View| {
        let (mut bytes, mut floats) = (Arena::<u8>::new(elements), Arena::<f32>::new(0));
        let value = QuantizedValue {
            floats: None,
            bytes: Some(Rounded {
                to: &[to],
                steps: &[1.0],
            }),
            relu: true,
        };
        let stores = QuantizedStores {
            value: Some(value),
            sum: None,
        };
        !is_refused(|| conv.run_ahead((&mut bytes, &mut floats), &[from], stores, None))
    };
    let (from, to) = (map(four, 0, 32), map(four, len, 32));
    assert!(is_run(2 * len, from, to));
    assert!(!is_run(2 * len - 64, from, to), "a result that leaves");
    assert!(!is_run(2 * len, map(four, 2 * len, 32), to), "an input");
    assert!(!is_run(2 * len, from, map(four, len - 64, 32)), "overlaps");
    assert!(!is_run(2 * len, map(four, 0, 16), to), "too few channels");
    assert!(!is_run(2 * len, map(one_block, 0, 32), to), "single blocks");
    let single = map(one_block, len, 32);
    assert!(!is_run(2 * len, from, single), "single blocks of results");
    let short = QuantizedWeights {
        bias: &one[1..],
        ..weights
    };
    let pack = || QuantizedAmxConv::pack(isa, Window::POINT, segments, short);
    assert!(is_refused(pack), "a bias too short");
}

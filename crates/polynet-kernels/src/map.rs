//! Affine maps, sums, gates and copies of feature maps: what costs memory traffic and little
//! arithmetic.

mod combined;
mod quantized;

use crate::dispatch::dispatch;
use crate::element::Element;
use crate::layout::{Arena, BLOCK, Shared, View, clear_halo, flat};
use crate::planes::{check_replacing, check_single_blocks, for_planes};
use crate::simd::{Isa, Simd};

pub(crate) use combined::Combined;
pub use combined::{Affine, add};
pub use quantized::quantize;

/// Writes `scale · g` where `gate` is positive (everywhere without one) and 0 elsewhere to `to`, or
/// adds it to what is there if `add`. The result may replace `g`: the backward pass of ReLU, of a
/// scale, and of a term that is read twice.
///
/// # Panics
/// If a view leaves the arena, or channels or sizes do not fit.
pub fn gate<E: Element>(
    isa: Isa,
    arena: &mut Arena<E>,
    (scale, g): (f32, &View),
    gate: Option<&View>,
    to: &View,
    add: bool,
) {
    let open = gate.unwrap_or(g);
    check_replacing(arena, &[g, open], to);
    check_single_blocks(&[to]);
    assert!(g.size() == to.size() && open.size() == to.size(), "size");
    clear_halo(to, arena);
    let memory = Shared::of(arena);
    for_planes(to, |image, block| {
        // SAFETY: the views lie in the arena.
        let [g_plane, open_plane, target] =
            [g, open, to].map(|view| unsafe { memory.plane(view, image, block) });
        let plane = Gate {
            g: g_plane,
            g_row: g.row_stride(),
            gate: gate.map_or(std::ptr::null(), |_| open_plane.cast_const()),
            gate_row: open.row_stride(),
            scale,
            target,
            to_row: to.row_stride(),
            size: flat([g, open, to]),
            add,
        };
        let plane = &plane;
        // SAFETY: the planes lie in the arena; what is written is one task's alone.
        unsafe { dispatch!(isa, gate_plane<E: Element>(plane: &Gate<E>)) }
    });
}

/// A plane of a gradient, of a gate and of a result.
struct Gate<E> {
    g: *const E,
    g_row: usize,
    gate: *const E,
    gate_row: usize,
    scale: f32,
    target: *mut E,
    to_row: usize,
    size: [usize; 2],
    add: bool,
}

/// # Safety
/// The processor has the instruction set and the planes are valid.
#[inline(always)]
unsafe fn gate_plane<S: Simd, E: Element>(p: &Gate<E>) {
    // SAFETY: by the contract.
    unsafe {
        match (p.gate.is_null(), p.add) {
            (true, true) => gate_pixels::<S, E, false, true>(p),
            (true, false) => gate_pixels::<S, E, false, false>(p),
            (false, true) => gate_pixels::<S, E, true, true>(p),
            (false, false) => gate_pixels::<S, E, true, false>(p),
        }
    }
}

/// # Safety
/// As [`gate_plane`].
#[inline(always)]
unsafe fn gate_pixels<S: Simd, E: Element, const GATE: bool, const ADD: bool>(p: &Gate<E>) {
    let &Gate {
        g,
        gate,
        target,
        size,
        ..
    } = p;
    let [g_row, gate_row, to_row] = [p.g_row, p.gate_row, p.to_row];
    // SAFETY: by the contract.
    unsafe {
        let scale = S::splat(p.scale);
        for row in 0..size[0] {
            let (g, to) = (g.add(row * g_row), target.add(row * to_row));
            let gate = gate.wrapping_add(row * gate_row);
            for at in (0..size[1] * BLOCK).step_by(S::LANES) {
                let mut g = E::load::<S>(g.add(at));
                if GATE {
                    g = S::where_positive(E::load::<S>(gate.add(at)), g);
                }
                let to = to.add(at);
                let before = match ADD {
                    true => E::load::<S>(to),
                    false => S::splat(0.0),
                };
                E::store::<S>(to, S::fma(scale, g, before));
            }
        }
    }
}

/// Copies a map whose channels lie in some views to views that divide them otherwise.
///
/// # Panics
/// If a view leaves the arena, or channels or sizes do not fit.
pub fn regroup<E: Element>(arena: &mut Arena<E>, from: &[View], to: &[View]) {
    let channels = |views: &[View]| views.iter().map(View::channels).sum::<usize>();
    assert_eq!(channels(from), channels(to), "channels");
    let first = *from.first().expect("a map has a view");
    for view in from.iter().chain(to) {
        assert!(view.end() <= arena.len(), "views in the arena");
        assert_eq!(
            (view.size(), view.images),
            (first.size(), first.images),
            "size"
        );
    }
    let overlap = to.iter().any(|w| from.iter().any(|r| w.overlaps(r)));
    assert!(!overlap, "a map is written while it is read");
    // Where each channel comes from: its view and its channel there.
    let sources: Vec<(View, usize)> = from
        .iter()
        .flat_map(|view| (0..view.channels).map(|channel| (*view, channel)))
        .collect();
    let mut first_channel = 0;
    for view in to {
        clear(arena, view);
        let memory = Shared::of(arena);
        let sources = &sources[first_channel..first_channel + view.channels];
        for_planes(view, |image, block| {
            let lanes = sources.iter().skip(block * BLOCK).take(BLOCK).enumerate();
            for (lane, (source, channel)) in lanes {
                for row in 0..view.height {
                    for column in 0..view.width {
                        let place = source.at(image, channel / BLOCK, row, column);
                        let target = view.at(image, block, row, column) + lane;
                        // SAFETY: the views lie in the arena, and the plane is this task's alone.
                        unsafe {
                            let from = memory.at(place + channel % BLOCK, 1);
                            *memory.at(target, 1) = *from;
                        }
                    }
                }
            }
        });
        first_channel += view.channels;
    }
}

/// Writes zeros, halo included.
///
/// # Panics
/// If the view leaves the arena.
pub fn clear<E: Element>(arena: &mut Arena<E>, view: &View) {
    arena.as_mut_slice()[view.start()..view.end()].fill(E::default());
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::is_refused;
    use crate::layout::Pixel;

    /// A map of the numbers `f(0), f(1), …` in row-major order, at `start`.
    pub(crate) fn map<E: Element>(
        arena: &mut Arena<E>,
        view: &View,
        f: impl Fn(usize) -> f32,
    ) -> Vec<f32> {
        let count = view.images * view.channels * view.height * view.width;
        let values: Vec<f32> = (0..count).map(f).collect();
        view.write_nchw(arena, &values);
        values
    }

    #[test]
    fn a_regrouped_map_has_the_same_channels() {
        let views = |start: usize, channels: &[usize]| {
            let mut start = start;
            let place = |&channels: &usize| {
                let view = View::new(start, 1, channels, [2, 3], 1);
                start = view.end();
                view
            };
            channels.iter().map(place).collect::<Vec<View>>()
        };
        let from = views(0, &[8, 24, 5]);
        let to = views(from[2].end(), &[20, 17]);
        let mut arena = Arena::<f32>::new(to[1].end());
        let mut values = Vec::new();
        for (index, view) in from.iter().enumerate() {
            values.extend(map(&mut arena, view, |i| (100 * index + i) as f32));
        }
        regroup(&mut arena, &from, &to);
        let found: Vec<f32> = to.iter().flat_map(|view| view.read_nchw(&arena)).collect();
        assert_eq!(found, values);
    }

    #[test]
    fn sums_and_affine_maps_agree_with_their_definitions() {
        for isa in Isa::available() {
            let a = View::new(0, 1, 20, [3, 5], 1);
            let b = View::new(a.end(), 1, 20, [3, 5], 0);
            let to = View::new(b.end(), 1, 20, [3, 5], 2);
            let mut arena = Arena::<f32>::new(to.end());
            let x = map(&mut arena, &a, |i| i as f32 - 90.0);
            let y = map(&mut arena, &b, |i| 30.0 - i as f32);
            add(isa, &mut arena, (0.5, &a), &b, &to, true);
            let expected: Vec<f32> = x
                .iter()
                .zip(&y)
                .map(|(x, y)| (0.5 * x + y).max(0.0))
                .collect();
            assert_eq!(to.read_nchw(&arena), expected, "{isa}");
            let scale: Vec<f32> = (0..20).map(|c| c as f32 * 0.5).collect();
            let shift: Vec<f32> = (0..20).map(|c| 7.0 - c as f32).collect();
            let affine = Affine::new(&scale, &shift);
            affine.apply(isa, &mut arena, &a, &to, false);
            let expected: Vec<f32> = x
                .iter()
                .enumerate()
                .map(|(i, x)| scale[i / 15] * x + shift[i / 15])
                .collect();
            assert_eq!(to.read_nchw(&arena), expected, "{isa}");
        }
    }

    #[test]
    fn maps_of_pixels_of_several_blocks_are_summed_and_divided_as_those_of_one() {
        let pixels = [Pixel::Block, Pixel::TwoBlocks, Pixel::FourBlocks];
        let scale: Vec<f32> = (0..40).map(|c| c as f32 * 0.5).collect();
        for isa in Isa::available() {
            let [expected, two, four] = pixels.map(|pixel| {
                let view =
                    |start, channels, halo| View::of(pixel, start, 2, channels, [3, 5], halo);
                let a = view(0, 40, 1);
                let b = view(a.end(), 40, 0);
                let first = view(b.end(), 8, 1);
                let second = view(first.end(), 32, 1);
                let mut arena = Arena::<half::bf16>::new(second.end());
                map(&mut arena, &a, |i| i as f32 - 90.0);
                map(&mut arena, &b, |i| 30.0 - i as f32);
                add(isa, &mut arena, (0.5, &a), &b, &b, true);
                Affine::new(&scale, &scale).apply(isa, &mut arena, &b, &a, false);
                regroup(&mut arena, &[a], &[first, second]);
                [a, first, second].map(|view| view.read_nchw(&arena))
            });
            assert!(two == expected && four == expected, "{isa}");
        }
    }

    #[test]
    fn maps_outside_their_arena_or_on_top_of_each_other_are_refused() {
        let isa = Isa::best();
        let view = |start, channels| View::new(start, 1, channels, [2, 3], 0);
        let len = view(0, 16).end();
        let mut arena = Arena::<f32>::new(3 * len);
        let (a, b, to) = (view(0, 16), view(len, 16), view(2 * len, 16));
        let affine = Affine::new(&[1.0; 16], &[0.0; 16]);
        for (a, b, to, fits) in [
            (a, b, to, true),
            (view(3 * len, 16), b, to, false),
            (a, b, view(3 * len, 16), false),
            (view(2 * len + 16, 16), b, to, false),
            (view(0, 17), b, to, false),
            (View::new(0, 1, 16, [2, 2], 0), b, to, false),
            (
                View::of(Pixel::TwoBlocks, 0, 1, 16, [2, 3], 0),
                b,
                View::new(2 * len, 1, 16, [2, 2], 0),
                false,
            ),
        ] {
            let arena = &mut arena;
            let refused = [
                is_refused(|| affine.apply(isa, arena, &a, &to, false)),
                is_refused(|| add(isa, arena, (1.0, &a), &b, &to, false)),
                is_refused(|| add(isa, arena, (1.0, &b), &a, &to, false)),
                is_refused(|| gate(isa, arena, (1.0, &a), Some(&b), &to, false)),
                is_refused(|| gate(isa, arena, (1.0, &b), Some(&a), &to, false)),
                is_refused(|| gate(isa, arena, (1.0, &a), None, &to, false)),
                is_refused(|| regroup(arena, &[a], &[to])),
            ];
            assert_eq!(refused, [!fits; 7], "{a:?} {to:?}");
        }
        // In place nothing is read from elsewhere, but the map is still written.
        let arena = &mut arena;
        let outside = view(3 * len, 16);
        gate(isa, arena, (1.0, &to), Some(&to), &to, false);
        assert!(is_refused(|| gate(
            isa,
            arena,
            (1.0, &outside),
            None,
            &outside,
            false
        )));
        assert!(is_refused(|| {
            gate(isa, arena, (1.0, &outside), Some(&outside), &outside, true);
        }));
        assert!(is_refused(|| add(
            isa,
            arena,
            (1.0, &a),
            &outside,
            &outside,
            false
        )));
        assert!(is_refused(|| clear(arena, &outside)));
    }

    #[test]
    fn factors_and_terms_are_as_many_as_channels() {
        assert!(is_refused(|| Affine::new(&[1.0; 32], &[0.0; 16])));
        let view = |start| View::new(start, 1, 32, [1, 1], 0);
        let mut arena = Arena::<f32>::new(64);
        for channels in [16, 31, 48] {
            let affine = Affine::new(&vec![1.0; channels], &vec![0.0; channels]);
            let (from, to) = (view(0), view(32));
            assert!(is_refused(|| affine.apply(
                Isa::best(),
                &mut arena,
                &from,
                &to,
                false
            )));
        }
    }
}

//! Sums of a map times factors, of terms for every channel, and of another map.

use crate::dispatch::dispatch;
use crate::element::Element;
use crate::layout::{Arena, BLOCK, Pixel, Shared, View, clear_halo, flat};
use crate::planes::{check_apart, check_replacing, for_planes};
use crate::simd::{Isa, Simd, block_vectors};

/// `factor · a + shift + b`, then `max(·, 0)` if `relu`; without the parts that are not there.
pub(crate) struct Combined<'a> {
    pub(crate) a: &'a View,
    /// A number for every channel of every block, as the shift.
    pub(crate) factor: &'a Arena,
    pub(crate) shift: Option<&'a Arena>,
    /// The result may replace it, as it may replace `a`.
    pub(crate) b: Option<&'a View>,
    pub(crate) to: &'a View,
    pub(crate) relu: bool,
}

impl Combined<'_> {
    /// Writes it.
    ///
    /// # Panics
    /// If a view leaves the arena, channels or sizes do not fit, or there is neither shift nor `b`.
    pub(crate) fn write<E: Element>(&self, isa: Isa, arena: &mut Arena<E>) {
        let &Self { a, to, .. } = self;
        assert!(
            self.shift.is_some() || self.b.is_some(),
            "something is added"
        );
        let b = self.b.unwrap_or(a);
        check_replacing(arena, &[a, b], to);
        assert!(a.size() == to.size() && b.size() == to.size(), "size");
        clear_halo(to, arena);
        let memory = Shared::of(arena);
        for_planes(to, |image, block| {
            let of_block = |numbers: &Arena| numbers.as_slice()[block * BLOCK..][..BLOCK].as_ptr();
            // SAFETY: the views lie in the arena.
            let [a_plane, b_plane, target] =
                [a, b, to].map(|view| unsafe { memory.plane(view, image, block) });
            let planes = Planes {
                a: a_plane,
                a_row: a.row_stride(),
                factor: of_block(self.factor),
                shift: self.shift.map_or(std::ptr::null(), of_block),
                b: self.b.map_or(std::ptr::null(), |_| b_plane.cast_const()),
                b_row: b.row_stride(),
                target,
                to_row: to.row_stride(),
                size: flat([a, b, to]),
                pixel: to.pixel_stride(),
                relu: self.relu,
            };
            let planes = &planes;
            // SAFETY: the planes lie in the arena; what is written is one task's alone.
            unsafe { dispatch!(isa, combine<E: Element>(planes: &Planes<E>)) }
        });
    }
}

/// A factor and a term for every channel, padded to whole pixels of any kind.
#[derive(Debug)]
pub struct Affine {
    channels: usize,
    scale: Arena,
    shift: Arena,
}

impl Affine {
    /// `[channels]` each.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn new(scale: &[f32], shift: &[f32]) -> Self {
        assert_eq!(scale.len(), shift.len(), "a factor and a term each");
        let padded = |values: &[f32]| {
            let mut padded =
                Arena::new(values.len().next_multiple_of(Pixel::FourBlocks.channels()));
            padded.as_mut_slice()[..values.len()].copy_from_slice(values);
            padded
        };
        Self {
            channels: scale.len(),
            scale: padded(scale),
            shift: padded(shift),
        }
    }

    /// `scale · x + shift`, then `max(·, 0)` if `relu`.
    ///
    /// # Panics
    /// If a view leaves the arena, or channels or sizes do not fit.
    pub fn apply<E: Element>(
        &self,
        isa: Isa,
        arena: &mut Arena<E>,
        from: &View,
        to: &View,
        relu: bool,
    ) {
        assert_eq!(to.channels, self.channels, "a factor for every channel");
        check_apart(arena, &[from], to);
        let combined = Combined {
            a: from,
            factor: &self.scale,
            shift: Some(&self.shift),
            b: None,
            to,
            relu,
        };
        combined.write(isa, arena);
    }
}

/// `scale · a + b`, then `max(·, 0)` if `relu`. The result may replace `b`.
///
/// # Panics
/// If a view leaves the arena, or channels or sizes do not fit.
pub fn add<E: Element>(
    isa: Isa,
    arena: &mut Arena<E>,
    (scale, a): (f32, &View),
    b: &View,
    to: &View,
    relu: bool,
) {
    check_apart(arena, &[a], to);
    let mut factor = Arena::new(a.blocks() * BLOCK);
    factor.as_mut_slice().fill(scale);
    let combined = Combined {
        a,
        factor: &factor,
        shift: None,
        b: Some(b),
        to,
        relu,
    };
    combined.write(isa, arena);
}

/// Planes of the maps, and the numbers of their channels. What is not there is null.
struct Planes<E> {
    a: *const E,
    a_row: usize,
    factor: *const f32,
    shift: *const f32,
    b: *const E,
    b_row: usize,
    target: *mut E,
    to_row: usize,
    size: [usize; 2],
    /// Elements between neighbouring pixels.
    pixel: usize,
    relu: bool,
}

/// # Safety
/// The processor has the instruction set and the planes are valid.
#[inline(always)]
unsafe fn combine<S: Simd, E: Element>(p: &Planes<E>) {
    // SAFETY: by the contract.
    unsafe {
        match (p.relu, p.shift.is_null(), p.b.is_null()) {
            (true, false, true) => pixels::<S, E, true, true, false>(p),
            (true, false, false) => pixels::<S, E, true, true, true>(p),
            (true, true, _) => pixels::<S, E, true, false, true>(p),
            (false, false, true) => pixels::<S, E, false, true, false>(p),
            (false, false, false) => pixels::<S, E, false, true, true>(p),
            (false, true, _) => pixels::<S, E, false, false, true>(p),
        }
    }
}

/// # Safety
/// As [`combine`]; there are the shift and the map that `SHIFT` and `ADD` speak of, at least one.
#[inline(always)]
unsafe fn pixels<S: Simd, E: Element, const RELU: bool, const SHIFT: bool, const ADD: bool>(
    p: &Planes<E>,
) {
    let &Planes {
        a, b, target, size, ..
    } = p;
    let [a_row, b_row, to_row] = [p.a_row, p.b_row, p.to_row];
    // SAFETY: by the contract.
    unsafe {
        let factor = block_vectors::<S>(p.factor);
        let shift = match SHIFT {
            true => block_vectors::<S>(p.shift),
            false => factor,
        };
        for row in 0..size[0] {
            let (a, to) = (a.add(row * a_row), target.add(row * to_row));
            let b = b.wrapping_add(row * b_row);
            for column in 0..size[1] {
                for v in 0..BLOCK / S::LANES {
                    let at = column * p.pixel + v * S::LANES;
                    let x = E::load::<S>(a.add(at));
                    let mut y = match (SHIFT, ADD) {
                        (true, true) => {
                            S::add(S::fma(factor[v], x, shift[v]), E::load::<S>(b.add(at)))
                        }
                        (true, false) => S::fma(factor[v], x, shift[v]),
                        (false, _) => S::fma(factor[v], x, E::load::<S>(b.add(at))),
                    };
                    if RELU {
                        y = S::max(S::splat(0.0), y);
                    }
                    E::store::<S>(to.add(at), y);
                }
            }
        }
    }
}

//! Batch norm with the statistics of a batch, forward and backward, fused with ReLU.
//!
//! A layer is `y = max(scale · z + shift, 0)` with `scale = γ / √(var + ε)` and
//! `shift = β − mean · scale`; the maximum is left out where no ReLU follows. Sums over a channel are
//! made along a row in `f32` and over rows and images in `f64`, in one order whatever the number of
//! threads.

use crate::layout::{Arena, BLOCK, View, blocks_of, clear_halo};
use crate::map::{Memory, check_apart, for_planes};
use crate::simd::{Isa, Simd, dispatch};
use rayon::prelude::*;

mod moments;

pub use moments::{merge_moments, moments};

/// A number for every channel.
type Channels = Vec<f64>;

/// Two numbers for every channel out of those of every block.
fn channels(blocks: &[[[f64; BLOCK]; 2]], count: usize) -> [Channels; 2] {
    [0, 1].map(|part| {
        let all = blocks.iter().flat_map(|block| block[part]);
        all.take(count).collect()
    })
}

/// An arena that tasks read.
#[derive(Clone, Copy)]
struct Reader(*const f32);

// SAFETY: nothing is written through it.
unsafe impl Sync for Reader {}

impl Reader {
    /// Pixel (0, 0) of a view that lies in the arena.
    fn plane(&self, view: &View, image: usize, block: usize) -> *const f32 {
        // SAFETY: the view lies in the arena.
        unsafe { self.0.add(view.at(image, block, 0, 0)) }
    }
}

/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn add_lanes<S: Simd>(sums: &mut [f64; BLOCK], first: usize, v: S::V) {
    let mut lanes = [0.0_f32; BLOCK];
    // SAFETY: 16 lanes hold a vector.
    unsafe { S::store(lanes.as_mut_ptr(), v) };
    for (sum, lane) in sums[first..].iter_mut().zip(&lanes[..S::LANES]) {
        *sum += f64::from(*lane);
    }
}

/// A batch norm as it was applied, for its backward pass.
#[derive(Debug)]
pub struct Applied {
    mean: Channels,
    inverse_std: Channels,
    weight: Channels,
    scale: Arena,
    shift: Arena,
    relu: bool,
}

/// Sums over the images and pixels of a batch norm's backward pass, for each channel. `g` is the
/// gradient of the result where the ReLU let through.
#[derive(Clone, Debug, PartialEq)]
pub struct GradientSums {
    /// `Σ g`.
    pub gradients: Vec<f64>,
    /// `Σ g · (z − mean)`.
    pub products: Vec<f64>,
}

/// What a batch norm's backward pass gives for its parameters, each `[channels]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterGradients {
    /// Of γ.
    pub weight: Vec<f32>,
    /// Of β.
    pub bias: Vec<f32>,
}

impl Applied {
    /// A layer with parameters γ and β and the moments of its input.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn new(
        (weight, bias): (&[f32], &[f32]),
        (mean, var): (Channels, &[f64]),
        epsilon: f64,
        relu: bool,
    ) -> Self {
        assert!(
            weight.len() == bias.len() && mean.len() == weight.len() && var.len() == weight.len()
        );
        let inverse_std: Channels = var.iter().map(|var| 1.0 / (var + epsilon).sqrt()).collect();
        let weight: Channels = weight.iter().copied().map(f64::from).collect();
        let elements = blocks_of(weight.len()) * BLOCK;
        let (mut scale, mut shift) = (Arena::new(elements), Arena::new(elements));
        for (channel, &bias) in bias.iter().enumerate() {
            let factor = weight[channel] * inverse_std[channel];
            scale.as_mut_slice()[channel] = factor as f32;
            shift.as_mut_slice()[channel] = (f64::from(bias) - mean[channel] * factor) as f32;
        }
        Self {
            mean,
            inverse_std,
            weight,
            scale,
            shift,
            relu,
        }
    }

    /// Writes `y` of `z`. It may replace `z`.
    ///
    /// # Panics
    /// If a view leaves the arena, or channels or sizes do not fit.
    pub fn forward(&self, isa: Isa, arena: &mut Arena, z: &View, y: &View) {
        if z != y {
            check_apart(arena, &[z], y);
        }
        assert!(
            z.size() == y.size() && z.channels == self.mean.len(),
            "size"
        );
        clear_halo(y, arena);
        let memory = Memory(arena.as_mut_slice().as_mut_ptr());
        for_planes(y, |image, block| {
            let plane = MapPlane {
                // SAFETY: the views lie in the arena.
                z: unsafe { memory.at(z, image, block) },
                z_row: z.row_stride(),
                dy: std::ptr::null(),
                dy_row: 0,
                // SAFETY: as above.
                to: unsafe { memory.at(y, image, block) },
                to_row: y.row_stride(),
                size: y.size(),
                factors: Factors {
                    scale: self.scale.as_slice()[block * BLOCK..].as_ptr(),
                    shift: self.shift.as_slice()[block * BLOCK..].as_ptr(),
                    terms: [std::ptr::null(); 3],
                    relu: self.relu,
                },
            };
            let plane = &plane;
            dispatch!(isa, apply_plane(plane: &MapPlane));
        });
    }

    /// Writes `addend + factor · y` of `z`, then `max(·, 0)` if `relu`; without an addend
    /// `factor · y`. The result may replace the addend. The layer itself must be without ReLU.
    ///
    /// # Panics
    /// As [`Applied::forward`], and if the layer has a ReLU.
    pub fn add_forward(
        &self,
        isa: Isa,
        arena: &mut Arena,
        (factor, z): (f32, &View),
        addend: Option<&View>,
        (to, relu): (&View, bool),
    ) {
        assert!(!self.relu, "a term of a sum has no ReLU of its own");
        check_apart(arena, &[z], to);
        if let Some(addend) = addend.filter(|addend| *addend != to) {
            check_apart(arena, &[addend], to);
        }
        let size = addend.map_or(z.size(), View::size);
        assert!(z.size() == to.size() && size == to.size(), "size");
        let scaled = |arena: &Arena| {
            let values: Vec<f32> = arena
                .as_slice()
                .iter()
                .map(|value| factor * value)
                .collect();
            Arena::from(&values[..])
        };
        let (scale, shift) = (scaled(&self.scale), scaled(&self.shift));
        clear_halo(to, arena);
        let memory = Memory(arena.as_mut_slice().as_mut_ptr());
        for_planes(to, |image, block| {
            let plane = MapPlane {
                // SAFETY: the views lie in the arena.
                z: unsafe { memory.at(z, image, block) },
                z_row: z.row_stride(),
                dy: addend.map_or(std::ptr::null(), |addend| {
                    // SAFETY: as above.
                    unsafe { memory.at(addend, image, block) }.cast_const()
                }),
                dy_row: addend.map_or(0, View::row_stride),
                // SAFETY: as above.
                to: unsafe { memory.at(to, image, block) },
                to_row: to.row_stride(),
                size: to.size(),
                factors: Factors {
                    scale: scale.as_slice()[block * BLOCK..].as_ptr(),
                    shift: shift.as_slice()[block * BLOCK..].as_ptr(),
                    terms: [std::ptr::null(); 3],
                    relu,
                },
            };
            let plane = &plane;
            dispatch!(isa, apply_plane(plane: &MapPlane));
        });
    }

    /// The gradients of γ, β and, written to `dz`, of `z`, from the gradient `dy` of `y` times
    /// `factor`. `dz` may replace `dy`.
    ///
    /// # Panics
    /// If a view leaves the arena, or channels or sizes do not fit.
    pub fn backward(
        &self,
        isa: Isa,
        arena: &mut Arena,
        (z, dy, dz): (&View, &View, &View),
        factor: f64,
    ) -> ParameterGradients {
        let sums = self.gradient_sums(isa, arena, (z, dy), factor);
        let count = (z.images * z.height * z.width) as f64;
        self.backward_from(isa, arena, (z, dy, dz), factor, (&sums, count));
        self.parameter_gradients(&sums)
    }

    /// The sums over images and pixels that the gradients follow from, of the gradient `dy` of `y`
    /// times `factor`.
    ///
    /// # Panics
    /// As [`Applied::backward`].
    pub fn gradient_sums(
        &self,
        isa: Isa,
        arena: &Arena,
        (z, dy): (&View, &View),
        factor: f64,
    ) -> GradientSums {
        for view in [z, dy] {
            assert!(view.end() <= arena.len(), "the map lies in the arena");
            assert_eq!(view.channels, self.mean.len(), "channels");
        }
        assert!(z.images == dy.images && z.size() == dy.size(), "size");
        let [gradients, products] = self.sums(isa, arena, z, dy);
        let scaled = |sums: Channels| sums.into_iter().map(|sum| factor * sum).collect();
        GradientSums {
            gradients: scaled(gradients),
            products: scaled(products),
        }
    }

    /// The gradients of γ and β.
    pub fn parameter_gradients(&self, sums: &GradientSums) -> ParameterGradients {
        let products = sums.products.iter().zip(&self.inverse_std);
        ParameterGradients {
            weight: products
                .map(|(product, inverse_std)| (product * inverse_std) as f32)
                .collect(),
            bias: sums.gradients.iter().map(|sum| *sum as f32).collect(),
        }
    }

    /// Writes the gradient of `z` to `dz`, as [`Applied::backward`] does, from sums over all `count`
    /// values of a channel that the moments are of; `z` may be some of their images.
    ///
    /// # Panics
    /// As [`Applied::backward`].
    pub fn backward_from(
        &self,
        isa: Isa,
        arena: &mut Arena,
        (z, dy, dz): (&View, &View, &View),
        factor: f64,
        (sums, count): (&GradientSums, f64),
    ) {
        check_apart(arena, &[z], dz);
        if dy != dz {
            check_apart(arena, &[dy], dz);
        }
        assert!(z.size() == dy.size() && z.size() == dz.size(), "size");
        let elements = self.scale.len();
        let mut terms = [(); 3].map(|()| Arena::new(elements));
        for channel in 0..z.channels {
            let (sum, product) = (sums.gradients[channel], sums.products[channel]);
            let inverse_std = self.inverse_std[channel];
            let scale = self.weight[channel] * inverse_std;
            // dz = scale · (g − Σg / n − (z − mean) / std² · Σ(g · (z − mean)) / n)
            let slope = -scale * inverse_std * inverse_std * product / count;
            terms[0].as_mut_slice()[channel] = (scale * factor) as f32;
            terms[1].as_mut_slice()[channel] = slope as f32;
            terms[2].as_mut_slice()[channel] =
                (-scale * sum / count - self.mean[channel] * slope) as f32;
        }
        self.write_gradient(isa, arena, (z, dy, dz), &terms);
    }

    /// The gradient of `z` alone, where the moments are fixed numbers and not those of `z`: it is
    /// `scale · factor · dy` where the ReLU let through. `dz` may replace `dy`.
    ///
    /// # Panics
    /// As [`Applied::backward`].
    pub fn backward_fixed(
        &self,
        isa: Isa,
        arena: &mut Arena,
        (z, dy, dz): (&View, &View, &View),
        factor: f64,
    ) {
        check_apart(arena, &[z], dz);
        if dy != dz {
            check_apart(arena, &[dy], dz);
        }
        assert!(z.size() == dy.size() && z.size() == dz.size(), "size");
        let elements = self.scale.len();
        let mut terms = [(); 3].map(|()| Arena::new(elements));
        for channel in 0..z.channels {
            let scale = self.weight[channel] * self.inverse_std[channel];
            terms[0].as_mut_slice()[channel] = (scale * factor) as f32;
        }
        self.write_gradient(isa, arena, (z, dy, dz), &terms);
    }

    /// Writes `terms[0] · g + terms[1] · z + terms[2]`, where `g` is `dy` where the ReLU let through.
    fn write_gradient(
        &self,
        isa: Isa,
        arena: &mut Arena,
        (z, dy, dz): (&View, &View, &View),
        terms: &[Arena; 3],
    ) {
        clear_halo(dz, arena);
        let memory = Memory(arena.as_mut_slice().as_mut_ptr());
        for_planes(dz, |image, block| {
            let plane = MapPlane {
                // SAFETY: the views lie in the arena.
                z: unsafe { memory.at(z, image, block) },
                z_row: z.row_stride(),
                // SAFETY: as above.
                dy: unsafe { memory.at(dy, image, block) },
                dy_row: dy.row_stride(),
                // SAFETY: as above.
                to: unsafe { memory.at(dz, image, block) },
                to_row: dz.row_stride(),
                size: dz.size(),
                factors: self.factors(block, terms),
            };
            let plane = &plane;
            dispatch!(isa, gradient_plane(plane: &MapPlane));
        });
    }

    /// `Σ g` and `Σ g · (z − mean)` of every channel, where `g` is `dy` where the ReLU let through.
    fn sums(&self, isa: Isa, arena: &Arena, z: &View, dy: &View) -> [Channels; 2] {
        let memory = Reader(arena.as_slice().as_ptr());
        let blocks: Vec<[[f64; BLOCK]; 2]> = (0..z.blocks())
            .into_par_iter()
            .map(|block| {
                let mut sums = [[0.0; BLOCK]; 2];
                let mean = std::array::from_fn::<f32, BLOCK, _>(|c| {
                    let mean = self.mean.get(block * BLOCK + c);
                    mean.map_or(0.0, |mean| *mean as f32)
                });
                for image in 0..z.images {
                    let plane = MapPlane {
                        z: memory.plane(z, image, block),
                        z_row: z.row_stride(),
                        dy: memory.plane(dy, image, block),
                        dy_row: dy.row_stride(),
                        to: std::ptr::null_mut(),
                        to_row: 0,
                        size: z.size(),
                        factors: Factors {
                            terms: [mean.as_ptr(); 3],
                            ..self.factors(block, &[])
                        },
                    };
                    let (plane, sums) = (&plane, &mut sums);
                    dispatch!(isa, gradient_sums(plane: &MapPlane, sums: &mut [[f64; BLOCK]; 2]));
                }
                sums
            })
            .collect();
        channels(&blocks, z.channels)
    }

    fn factors(&self, block: usize, terms: &[Arena]) -> Factors {
        let at = |arena: &Arena| arena.as_slice()[block * BLOCK..].as_ptr();
        let mut pointers = [std::ptr::null(); 3];
        for (pointer, arena) in pointers.iter_mut().zip(terms) {
            *pointer = at(arena);
        }
        Factors {
            scale: at(&self.scale),
            shift: at(&self.shift),
            terms: pointers,
            relu: self.relu,
        }
    }
}

/// Numbers for the 16 channels of a block.
struct Factors {
    scale: *const f32,
    shift: *const f32,
    terms: [*const f32; 3],
    relu: bool,
}

/// A plane of `z`, of `dy` and of a result.
struct MapPlane {
    z: *const f32,
    z_row: usize,
    dy: *const f32,
    dy_row: usize,
    to: *mut f32,
    to_row: usize,
    size: [usize; 2],
    factors: Factors,
}

/// # Safety
/// The processor has the instruction set and the planes are valid.
#[inline(always)]
unsafe fn apply_plane<S: Simd>(plane: &MapPlane) {
    for lane in (0..BLOCK).step_by(S::LANES) {
        // SAFETY: by the contract.
        unsafe {
            let scale = S::load(plane.factors.scale.add(lane));
            let shift = S::load(plane.factors.shift.add(lane));
            for row in 0..plane.size[0] {
                let z = plane.z.add(row * plane.z_row + lane);
                let to = plane.to.add(row * plane.to_row + lane);
                for column in 0..plane.size[1] {
                    let mut y = S::fma(scale, S::load(z.add(column * BLOCK)), shift);
                    if !plane.dy.is_null() {
                        let addend = plane.dy.add(row * plane.dy_row + lane);
                        y = S::add(y, S::load(addend.add(column * BLOCK)));
                    }
                    if plane.factors.relu {
                        y = S::max(S::splat(0.0), y);
                    }
                    S::store(to.add(column * BLOCK), y);
                }
            }
        }
    }
}

/// `dy` where the ReLU let through.
///
/// # Safety
/// As [`apply_plane`].
#[inline(always)]
unsafe fn passed<S: Simd>(relu: bool, scale: S::V, shift: S::V, z: S::V, dy: S::V) -> S::V {
    if relu {
        // SAFETY: by the contract.
        unsafe { S::where_positive(S::fma(scale, z, shift), dy) }
    } else {
        dy
    }
}

/// # Safety
/// As [`apply_plane`].
#[inline(always)]
unsafe fn gradient_sums<S: Simd>(plane: &MapPlane, sums: &mut [[f64; BLOCK]; 2]) {
    for lane in (0..BLOCK).step_by(S::LANES) {
        // SAFETY: by the contract.
        unsafe {
            let scale = S::load(plane.factors.scale.add(lane));
            let shift = S::load(plane.factors.shift.add(lane));
            let mean = S::load(plane.factors.terms[0].add(lane));
            let minus = S::splat(-1.0);
            for row in 0..plane.size[0] {
                let from = plane.z.add(row * plane.z_row + lane);
                let dy = plane.dy.add(row * plane.dy_row + lane);
                let (mut sum, mut products) = (S::splat(0.0), S::splat(0.0));
                for column in 0..plane.size[1] {
                    let z = S::load(from.add(column * BLOCK));
                    let g = S::load(dy.add(column * BLOCK));
                    let g = passed::<S>(plane.factors.relu, scale, shift, z, g);
                    sum = S::add(sum, g);
                    products = S::fma(g, S::fma(minus, mean, z), products);
                }
                add_lanes::<S>(&mut sums[0], lane, sum);
                add_lanes::<S>(&mut sums[1], lane, products);
            }
        }
    }
}

/// # Safety
/// As [`apply_plane`].
#[inline(always)]
unsafe fn gradient_plane<S: Simd>(plane: &MapPlane) {
    for lane in (0..BLOCK).step_by(S::LANES) {
        // SAFETY: by the contract.
        unsafe {
            let scale = S::load(plane.factors.scale.add(lane));
            let shift = S::load(plane.factors.shift.add(lane));
            let [of_g, of_z, constant] = plane.factors.terms.map(|term| S::load(term.add(lane)));
            for row in 0..plane.size[0] {
                let from = plane.z.add(row * plane.z_row + lane);
                let dy = plane.dy.add(row * plane.dy_row + lane);
                let to = plane.to.add(row * plane.to_row + lane);
                for column in 0..plane.size[1] {
                    let z = S::load(from.add(column * BLOCK));
                    let g = S::load(dy.add(column * BLOCK));
                    let g = passed::<S>(plane.factors.relu, scale, shift, z, g);
                    let dz = S::fma(of_g, g, S::fma(of_z, z, constant));
                    S::store(to.add(column * BLOCK), dz);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

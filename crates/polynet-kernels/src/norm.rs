//! Batch norm with the statistics of a batch, forward and backward, fused with ReLU.
//!
//! A layer is `y = max(scale · z + shift, 0)` with `scale = γ / √(var + ε)` and
//! `shift = β − mean · scale`; the maximum is left out where no ReLU follows. Sums over a channel are
//! made of up to 128 pixels of a row in `f32` and of these in `f64`, in one order whatever the number of
//! threads; the rows of a map without a halo are one.

mod moments;
mod planes;
mod sums;

use crate::dispatch::dispatch;
use crate::element::Element;
use crate::layout::{Arena, BLOCK, Shared, View, blocks_of, clear_halo, flat};
use crate::map::Combined;
use crate::planes::{check_apart, check_replacing, check_single_blocks, for_planes};
use crate::simd::Isa;
use planes::{Factors, MapPlane, gradient_plane, gradient_sums};
use sums::{Channels, Sums, channels, over_images};

pub use moments::{merge_moments, moments};

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
    pub fn forward<E: Element>(&self, isa: Isa, arena: &mut Arena<E>, z: &View, y: &View) {
        self.check(&[z, y]);
        let combined = Combined {
            a: z,
            factor: &self.scale,
            shift: Some(&self.shift),
            b: None,
            to: y,
            relu: self.relu,
        };
        combined.write(isa, arena);
    }

    /// Writes `addend + factor · y` of `z`, then `max(·, 0)` if `relu`; without an addend
    /// `factor · y`. The result may replace the addend. The layer itself must be without ReLU.
    ///
    /// # Panics
    /// As [`Applied::forward`], and if the layer has a ReLU.
    pub fn add_forward<E: Element>(
        &self,
        isa: Isa,
        arena: &mut Arena<E>,
        (factor, z): (f32, &View),
        addend: Option<&View>,
        (to, relu): (&View, bool),
    ) {
        assert!(!self.relu, "a term of a sum has no ReLU of its own");
        check_apart(arena, &[z], to);
        self.check(&[z, to, addend.unwrap_or(to)]);
        let scaled = |arena: &Arena| {
            let values: Vec<f32> = arena
                .as_slice()
                .iter()
                .map(|value| factor * value)
                .collect();
            Arena::from(&values[..])
        };
        let combined = Combined {
            a: z,
            factor: &scaled(&self.scale),
            shift: Some(&scaled(&self.shift)),
            b: addend,
            to,
            relu,
        };
        combined.write(isa, arena);
    }

    /// The gradients of γ, β and, written to `dz`, of `z`, from the gradient `dy` of `y` times
    /// `factor`. `dz` may replace `dy`.
    ///
    /// # Panics
    /// If a view leaves the arena, or channels or sizes do not fit.
    pub fn backward<E: Element>(
        &self,
        isa: Isa,
        arena: &mut Arena<E>,
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
    pub fn gradient_sums<E: Element>(
        &self,
        isa: Isa,
        arena: &Arena<E>,
        (z, dy): (&View, &View),
        factor: f64,
    ) -> GradientSums {
        for view in [z, dy] {
            assert!(view.end() <= arena.len(), "the map lies in the arena");
        }
        assert_eq!(z.images, dy.images, "images");
        self.check(&[z, dy]);
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
    pub fn backward_from<E: Element>(
        &self,
        isa: Isa,
        arena: &mut Arena<E>,
        (z, dy, dz): (&View, &View, &View),
        factor: f64,
        (sums, count): (&GradientSums, f64),
    ) {
        check_apart(arena, &[z], dz);
        check_replacing(arena, &[dy], dz);
        self.check(&[z, dy, dz]);
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
    pub fn backward_fixed<E: Element>(
        &self,
        isa: Isa,
        arena: &mut Arena<E>,
        (z, dy, dz): (&View, &View, &View),
        factor: f64,
    ) {
        check_apart(arena, &[z], dz);
        check_replacing(arena, &[dy], dz);
        self.check(&[z, dy, dz]);
        let elements = self.scale.len();
        let mut terms = [(); 3].map(|()| Arena::new(elements));
        for channel in 0..z.channels {
            let scale = self.weight[channel] * self.inverse_std[channel];
            terms[0].as_mut_slice()[channel] = (scale * factor) as f32;
        }
        self.write_gradient(isa, arena, (z, dy, dz), &terms);
    }

    /// Writes `terms[0] · g + terms[1] · z + terms[2]`, where `g` is `dy` where the ReLU let through.
    fn write_gradient<E: Element>(
        &self,
        isa: Isa,
        arena: &mut Arena<E>,
        (z, dy, dz): (&View, &View, &View),
        terms: &[Arena; 3],
    ) {
        clear_halo(dz, arena);
        let memory = Shared::of(arena);
        for_planes(dz, |image, block| {
            let plane = MapPlane {
                // SAFETY: the views lie in the arena.
                z: unsafe { memory.plane(z, image, block) },
                z_row: z.row_stride(),
                // SAFETY: as above.
                dy: unsafe { memory.plane(dy, image, block) },
                dy_row: dy.row_stride(),
                // SAFETY: as above.
                to: unsafe { memory.plane(dz, image, block) },
                to_row: dz.row_stride(),
                size: flat([z, dy, dz]),
                factors: self.factors(block, terms),
            };
            let plane = &plane;
            // SAFETY: the planes lie in the arena; what is written is one task's alone.
            unsafe { dispatch!(isa, gradient_plane<E: Element>(plane: &MapPlane<E>)) }
        });
    }

    /// `Σ g` and `Σ g · (z − mean)` of every channel, where `g` is `dy` where the ReLU let through.
    fn sums<E: Element>(&self, isa: Isa, arena: &Arena<E>, z: &View, dy: &View) -> [Channels; 2] {
        let memory = Shared::read_only(arena);
        let size = flat([z, dy]);
        let blocks = over_images(z, |image, block, sums| {
            let mean = std::array::from_fn::<f32, BLOCK, _>(|c| {
                let mean = self.mean.get(block * BLOCK + c);
                mean.map_or(0.0, |mean| *mean as f32)
            });
            let plane = MapPlane {
                // SAFETY: the views lie in the arena.
                z: unsafe { memory.plane(z, image, block) },
                z_row: z.row_stride(),
                // SAFETY: as above.
                dy: unsafe { memory.plane(dy, image, block) },
                dy_row: dy.row_stride(),
                to: std::ptr::null_mut(),
                to_row: 0,
                size,
                factors: Factors {
                    terms: [mean.as_ptr(); 3],
                    ..self.factors(block, &[])
                },
            };
            let plane = &plane;
            // SAFETY: the planes lie in the arena, and nothing is written.
            unsafe {
                dispatch!(isa, gradient_sums<E: Element>(plane: &MapPlane<E>, sums: &mut Sums))
            }
        });
        channels(&blocks, z.channels)
    }

    /// Checks that maps have the layer's channels and one size.
    fn check(&self, maps: &[&View]) {
        check_single_blocks(maps);
        for view in maps {
            assert_eq!(view.channels, self.mean.len(), "channels");
            assert_eq!(view.size(), maps[0].size(), "size");
        }
    }

    fn factors(&self, block: usize, terms: &[Arena]) -> Factors {
        let at = |arena: &Arena| arena.as_slice()[block * BLOCK..][..BLOCK].as_ptr();
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

#[cfg(test)]
mod tests;

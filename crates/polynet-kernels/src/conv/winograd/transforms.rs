//! What goes to the points and comes back from them, compiled for every shape and instruction set.

use super::axis::{Identity, Seven, SmallThree, Three, Transform};
use super::lift::{self, Inputs, Lift, Lifting, OutputGradients};
use super::results::{self, Results};
use super::shape::Shape;
use crate::element::{Element, PerElement};
use crate::simd::{InstructionSet, Isa};
use half::bf16;

/// What lifts some tiles of a map.
pub(super) type LiftFn<E> = unsafe fn(&Lifting<'_, E>);
/// What makes results of products.
pub(super) type OutputFn<E> = unsafe fn(&Results<'_, E>);

/// The functions for a shape, on an instruction set.
pub(super) struct Transforms<E> {
    pub(super) inputs: LiftFn<E>,
    pub(super) outputs: OutputFn<E>,
    /// What lifts the gradients of a result's tiles.
    pub(super) output_gradients: LiftFn<E>,
}

/// Compiles the transforms of every shape for an instruction set.
macro_rules! transforms {
    ($name:ident, $simd:ty, $feature:meta) => {
        mod $name {
            use super::*;

            /// # Safety
            /// As [`lift::lift`].
            #[$feature]
            unsafe fn lift<E: Element, R: Lift, C: Lift>(job: &Lifting<'_, E>) {
                // SAFETY: the caller's contract is the same.
                unsafe { lift::lift::<$simd, E, R, C>(job) }
            }

            /// # Safety
            /// As [`results::store`].
            #[$feature]
            unsafe fn outputs<E: Element, R: Transform, C: Transform>(job: &Results<'_, E>) {
                // SAFETY: the caller's contract is the same.
                unsafe { results::store::<$simd, E, R, C>(job) }
            }

            fn by<E: Element, R: Transform, C: Transform>() -> Transforms<E> {
                Transforms {
                    inputs: lift::<E, Inputs<R>, Inputs<C>>,
                    outputs: outputs::<E, R, C>,
                    output_gradients: lift::<E, OutputGradients<R>, OutputGradients<C>>,
                }
            }

            pub(super) fn of<E: Element>(shape: Shape) -> Transforms<E> {
                match shape {
                    Shape::Row3 => by::<E, Identity, Three>(),
                    Shape::Column3 => by::<E, Three, Identity>(),
                    Shape::Square3 => by::<E, Three, Three>(),
                    Shape::SmallSquare3 => by::<E, SmallThree, SmallThree>(),
                    Shape::Row7 => by::<E, Identity, Seven>(),
                    Shape::Column7 => by::<E, Seven, Identity>(),
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
transforms!(
    avx512_bf16,
    crate::simd::Avx512Bf16,
    target_feature(enable = "avx512f,avx512bw,avx512bf16")
);
#[cfg(target_arch = "x86_64")]
transforms!(
    avx512,
    crate::simd::Avx512,
    target_feature(enable = "avx512f")
);
#[cfg(target_arch = "x86_64")]
transforms!(avx2, crate::simd::Avx2, target_feature(enable = "avx2,fma"));
#[cfg(target_arch = "aarch64")]
transforms!(neon, crate::simd::Neon, inline);
transforms!(portable, crate::simd::Portable, inline);

/// Calls a function of the module for an instruction set.
macro_rules! on {
    ($isa:expr, $function:ident($shape:expr)) => {
        match $isa.set() {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Bf16 | InstructionSet::Avx512 => avx512::$function($shape),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => avx2::$function($shape),
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon => neon::$function($shape),
            _ => portable::$function($shape),
        }
    };
}

/// The transforms of a shape on an instruction set.
pub(super) fn transforms<E: Element>(shape: Shape, isa: Isa) -> Transforms<E> {
    E::choose(On { shape, isa })
}

/// Names the elements here, so that this crate compiles the transforms and not each that uses it.
struct On {
    shape: Shape,
    isa: Isa,
}

impl PerElement for On {
    type Of<E: 'static> = Transforms<E>;

    fn of_f32(self) -> Transforms<f32> {
        on!(self.isa, of(self.shape))
    }

    fn of_bf16(self) -> Transforms<bf16> {
        match self.isa.set() {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Bf16 => avx512_bf16::of(self.shape),
            _ => on!(self.isa, of(self.shape)),
        }
    }
}

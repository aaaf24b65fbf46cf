//! The numbers that networks compute with.

use polynet_kernels::Isa;
use std::fmt;
use std::str::FromStr;

/// The numbers that feature maps and convolutions are computed in. Weights, batch norm, the
/// classifier, the loss and the gradients of the weights are `f32` in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the exponent of `f32`.
    Bf16,
}

impl Precision {
    /// Every precision with its name.
    pub const NAMES: [(&str, Self); 2] = [("f32", Self::F32), ("bf16", Self::Bf16)];
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter();
        let name = names.clone().find(|(_, precision)| precision == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

/// The name is no precision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown precision `{0}`: expected f32 or bf16")]
pub struct UnknownPrecision(String);

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(text: &str) -> Result<Self, UnknownPrecision> {
        let named = Self::NAMES.into_iter().find(|(name, _)| *name == text);
        named
            .map(|(_, precision)| precision)
            .ok_or_else(|| UnknownPrecision(text.to_owned()))
    }
}

/// The precision that is asked for.
///
/// ```
/// use polynet::{Isa, Precision, PrecisionChoice};
///
/// let isa: Isa = "portable".parse()?;
/// assert_eq!("auto".parse(), Ok(PrecisionChoice::Auto));
/// assert_eq!(PrecisionChoice::Auto.of(isa), Precision::F32);
/// assert_eq!(PrecisionChoice::Only(Precision::Bf16).of(isa), Precision::Bf16);
/// # Ok::<(), polynet::UnknownIsa>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrecisionChoice {
    /// The fastest that changes no logit by more than rounding to bf16 does: bf16 where whole networks
    /// are faster in it, else `f32`. It follows from the processor's kind, never from a measurement at
    /// run time.
    #[default]
    Auto,
    /// This one.
    Only(Precision),
}

impl PrecisionChoice {
    /// What it is by an instruction set of this processor.
    pub fn of(self, isa: Isa) -> Precision {
        match self {
            Self::Auto if isa.is_faster_in_bf16() => Precision::Bf16,
            Self::Auto => Precision::F32,
            Self::Only(precision) => precision,
        }
    }

    /// Why it is that.
    pub fn reason(self, isa: Isa) -> &'static str {
        match self {
            Self::Only(_) => "as asked",
            Self::Auto if isa.is_faster_in_bf16() => {
                "this processor's products of bf16 are twice as fast as those of f32"
            }
            Self::Auto if isa.multiplies_bf16() => {
                "this processor has products of bf16, but no faster ones than those of f32"
            }
            Self::Auto => "the instruction set has no products of bf16",
        }
    }
}

impl From<Precision> for PrecisionChoice {
    fn from(precision: Precision) -> Self {
        Self::Only(precision)
    }
}

impl fmt::Display for PrecisionChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Only(precision) => precision.fmt(f),
        }
    }
}

/// The name is neither `auto` nor a precision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown precision `{0}`: expected auto, f32 or bf16")]
pub struct UnknownPrecisionChoice(String);

impl FromStr for PrecisionChoice {
    type Err = UnknownPrecisionChoice;

    fn from_str(text: &str) -> Result<Self, UnknownPrecisionChoice> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            (_, Ok(precision)) => Ok(Self::Only(precision)),
            (_, Err(_)) => Err(UnknownPrecisionChoice(text.to_owned())),
        }
    }
}

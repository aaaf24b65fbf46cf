//! Which precision predicts.

use crate::step::Precision;
use polynet_kernels::Isa;
use std::fmt;
use std::str::FromStr;

/// The numbers that a model predicts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// Maps and weights of `f32`.
    F32,
    /// Of `bf16`.
    Bf16,
    /// Maps and weights of 8 bits where a [quantized model](crate::Quantization) has them; what remains is `f32`,
    /// or `bf16` where the instruction set multiplies it.
    Int8,
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}

/// The precision that is asked for.
///
/// ```
/// use polynet::{Isa, Numbers, Precision, PrecisionChoice};
///
/// let isa: Isa = "portable".parse()?;
/// assert_eq!("auto".parse(), Ok(PrecisionChoice::Auto));
/// assert_eq!(PrecisionChoice::Auto.of(isa, false), Numbers::F32);
/// assert_eq!(PrecisionChoice::Auto.of(isa, true), Numbers::Int8);
/// assert_eq!(PrecisionChoice::Only(Precision::Bf16).of(isa, false), Numbers::Bf16);
/// # Ok::<(), polynet::UnknownIsa>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrecisionChoice {
    /// The fastest that changes no logit by more than the model's own rounding and that to bf16 do: 8 bits
    /// where the model is quantized, bf16 where whole networks are faster in it, else `f32`. It follows
    /// from the model and the processor's kind, never from a measurement at run time.
    #[default]
    Auto,
    /// What is measured about a model: 8 bits where it is quantized, else `f32`.
    Own,
    /// This one.
    Only(Precision),
}

impl PrecisionChoice {
    /// What it is by an instruction set of this processor, of a model that is quantized or not.
    pub fn of(self, isa: Isa, is_quantized: bool) -> Numbers {
        match self {
            Self::Auto | Self::Own if is_quantized => Numbers::Int8,
            Self::Auto if isa.is_faster_in_bf16() => Numbers::Bf16,
            Self::Auto | Self::Own | Self::Only(Precision::F32) => Numbers::F32,
            Self::Only(Precision::Bf16) => Numbers::Bf16,
        }
    }

    /// Why it is that.
    pub fn reason(self, isa: Isa, is_quantized: bool) -> &'static str {
        match self {
            Self::Only(_) => "as asked",
            Self::Auto | Self::Own if is_quantized => "the model is quantized",
            Self::Own => "the model's own",
            Self::Auto if isa.multiplies_tiles() => {
                "this processor multiplies tiles of bf16, many times as fast as numbers of f32"
            }
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
            Self::Own => f.write_str("own"),
            Self::Only(precision) => precision.fmt(f),
        }
    }
}

/// The name is neither `auto` nor `own` nor a precision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown precision `{0}`: expected auto, own, f32 or bf16")]
pub struct UnknownPrecisionChoice(String);

impl FromStr for PrecisionChoice {
    type Err = UnknownPrecisionChoice;

    fn from_str(text: &str) -> Result<Self, UnknownPrecisionChoice> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            ("own", _) => Ok(Self::Own),
            (_, Ok(precision)) => Ok(Self::Only(precision)),
            (_, Err(_)) => Err(UnknownPrecisionChoice(text.to_owned())),
        }
    }
}

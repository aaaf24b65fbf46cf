//! Which precision predicts.

use crate::step::Precision;
use polynet_kernels::Isa;
use std::fmt;
use std::str::FromStr;

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

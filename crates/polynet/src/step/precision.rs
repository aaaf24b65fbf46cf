//! The numbers that networks compute with.

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

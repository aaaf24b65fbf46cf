//! Operator polynomials of PolyNet: text → canonical form → evaluation plan.
//!
//! A PolyInception module is a polynomial in *blocks*: `I + F + GF` is `x + F(x) + G(F(x))`
//! (Zhang et al., "PolyNet", arXiv 1611.05725, §3.1). Blocks are nonlinear, so exactly these
//! laws hold, and equality of [`Polynomial`]s is equality under them and under no others:
//!
//! - sums commute and associate: `F + G = G + F`; the same term twice is two terms;
//! - composition associates, `I` is its unit, and `GF` applies `F` first;
//! - `(A + B)C = AC + BC`. **Not** `C(A + B) = CA + CB`: `F(I + F)` stays as it is.
//!
//! ```
//! use polynet_algebra::{Block, Polynomial};
//!
//! let f = Polynomial::block(Block::nth(0));
//! let g = Polynomial::block(Block::nth(1));
//! let module = Polynomial::sum([Polynomial::identity(), f.clone(), g.compose(&f)?])?;
//! assert_eq!(module.to_string(), "I + F + GF");
//! assert_eq!(module.name().as_deref(), Some("mpoly-2"));
//!
//! let plan = module.plan();
//! assert_eq!(plan.to_string(), "y1 = F(x); y2 = G(y1); out = x + y1 + y2");
//! assert_eq!(plan.evaluations_saved(), 1);
//! # Ok::<(), polynet_algebra::Error>(())
//! ```

pub mod ast;
mod block;
mod display;
mod error;
mod name;
mod network;
mod parser;
mod plan;
mod polynomial;
mod scan;
mod space;
mod spelling;
mod syntax;

pub use block::Block;
pub use error::{Error, ErrorKind, Span, Spanned};
pub use network::{
    MAX_MODULES, MAX_TOTAL_SIZE, Module, Network, Setting, SettingValue, StageSyntax,
    parse_network, parse_polynomial, parse_sequence,
};
pub use parser::{MAX_DEPTH, MAX_TEXT};
pub use plan::{Evaluation, Plan, Sum, Value};
pub use polynomial::{MAX_ORDER, MAX_SIZE, Polynomial, Term};
pub use spelling::{edit_distance, nearest};

//! Image classifiers whose structure is written as algebra.
//!
//! Data flows `&str → Ast → Polynomial → Plan → Architecture → Graph → Network → Trainer`.

pub mod arch;
mod bytes;
pub mod classify;
pub mod data;
pub mod distributed;
pub mod eval;
pub mod files;
pub mod grow;
pub mod nn;
pub mod plot;
mod random;
pub mod train;
pub mod weights;

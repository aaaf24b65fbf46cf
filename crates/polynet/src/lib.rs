//! Image classifiers whose structure is written as algebra.
//!
//! Data flows `&str → Ast → Polynomial → Plan → Architecture → Graph → Network → Trainer`.

pub mod arch;
pub mod data;
mod files;
pub mod nn;
pub mod weights;

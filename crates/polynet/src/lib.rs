//! Image classifiers whose structure is written as algebra.
//!
//! Data flows `&str → Ast → Polynomial → Plan → Architecture → Graph → Network → Trainer`.

pub mod arch;

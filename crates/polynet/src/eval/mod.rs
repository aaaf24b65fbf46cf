//! Evaluation: from images, or logits and labels, to the numbers that are reported.

pub mod crops;
mod evaluate;
pub mod metrics;
pub mod pooling;

pub use evaluate::{EvalError, Ranked, count_correct, evaluate, ranked};
pub use metrics::{ClassReport, ConfusionMatrix, EvalReport, Scores, ScoresError};

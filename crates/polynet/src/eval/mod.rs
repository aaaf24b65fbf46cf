//! Evaluation: from images, or logits and labels, to the numbers that are reported.

mod evaluate;
pub mod metrics;

pub use evaluate::{EvalError, Ranked, count_correct, evaluate, ranked, score};
pub use metrics::{ClassReport, ConfusionMatrix, EvalReport, Scores, ScoresError};

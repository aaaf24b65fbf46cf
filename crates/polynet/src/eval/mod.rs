//! Evaluation: from images, or logits and labels, to the numbers that are reported.

mod crop_logits;
pub mod crops;
mod evaluate;
pub mod metrics;
mod multi_crop;
pub mod pooling;
mod predictions;
mod score_cache;
mod shared;

pub use crop_logits::{CropView, ImageLogits};
pub use evaluate::{EvalError, count_correct, evaluate, score};
pub use metrics::{Scores, ScoresError};
pub use multi_crop::{MultiCrop, MultiCropProgress};
pub use predictions::{PredictionFile, PredictionFileError, PredictionRequest, PredictionRow};
pub use score_cache::{CacheError, ScoreCache};
pub use shared::{PredictedRows, agree_on, all_rows, all_skipped, merged, share_of};

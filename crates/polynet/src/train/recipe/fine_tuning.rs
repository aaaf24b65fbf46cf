//! Keys of fine-tuning: what stays as it is, and what moves faster or slower.

use std::collections::BTreeMap;

use serde::Serialize;

/// `[fine_tuning]`: how the parts of the network are trained. A part is `stem`, a stage by its label
/// (`A`, all of its modules), what stands between stages by its name (`reduction_a`), or `head`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct FineTuningSection {
    /// Parts that stay as they are: no gradients, and batch norm uses its running statistics.
    /// Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub frozen: Vec<String>,
    /// Factors of the learning rate by part, above 0. Default: 1 for each.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rates: BTreeMap<String, f64>,
}

impl FineTuningSection {
    /// Whether all parts are trained alike.
    pub fn is_empty(&self) -> bool {
        self.frozen.is_empty() && self.rates.is_empty()
    }
}

//! What a run and an evaluation leave behind: records, reports and pictures, and the folder that
//! they lie in.
//!
//! This room is below those that train and evaluate: it has the types of what they find
//! ([`Record`], [`EvalReport`]), and they hand these over. Every file is written whole or not at
//! all ([`write_atomically`](crate::write_atomically)); only the metrics grow, by one line a record.
//!
//! Pictures are SVG, right on light and on dark paper. Their colours are told apart with any kind
//! of colour blindness (Okabe and Ito's), and text stays text.

mod axis;
mod bars;
mod canvas;
mod chart;
mod confusion;
mod curves;
pub mod drawing;
mod evaluation;
mod explanation;
mod machine;
mod metrics;
mod network;
mod run_folder;
mod scatter;
mod tensorboard;

pub(crate) use axis::grouped;
pub(crate) use bars::{Bar, bars};
pub(crate) use canvas::printable;
pub use confusion::confusion_matrix;
pub use curves::curves;
pub use evaluation::{ClassReport, ConfusionMatrix, EvalReport};
pub use explanation::explanation;
pub use machine::{forget_peak_memory, peak_memory, processor};
pub(crate) use metrics::quoted;
pub use metrics::{
    EventRecord, Metrics, MetricsError, MetricsLog, Record, TrainRecord, ValidationRecord,
    read_metrics,
};
pub use network::{ClaimReport, ModuleReport, NetworkReport, PartReport, graph_json};
pub use run_folder::{RunFolder, RunFolderError};
pub(crate) use scatter::{Lines, Mark, Marks, Scatter};
pub(crate) use tensorboard::EventFile;

/// Leaves a copy of a tested picture to look at where `POLYNET_PICTURES` names a folder.
#[cfg(test)]
fn look(name: &str, svg: &str) {
    if let Some(folder) = std::env::var_os("POLYNET_PICTURES") {
        let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let path = std::path::Path::new(&folder)
            .join(name)
            .with_extension("svg");
        std::fs::write(path, svg).unwrap();
    }
}

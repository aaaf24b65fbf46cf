//! Pictures of results, as SVG: [`curves`] of a run and the [`confusion_matrix`] of an evaluation.
//!
//! Text stays text, in whatever sans-serif font the viewer has; no font is needed to draw. The
//! colours are told apart with any kind of colour blindness (Okabe and Ito's palette, and one blue
//! from light to dark).

mod canvas;
mod confusion;
mod curves;

pub use canvas::PlotError;
pub use confusion::confusion_matrix;
pub use curves::curves;

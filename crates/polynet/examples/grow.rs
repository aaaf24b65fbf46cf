//! Grows a trained model: inserted blocks are zero at first, so that it computes what it computed.
//!
//! `cargo run --release --example grow -- runs/example/model "small-polynet; width = 0.125; A: 3-way" grown`

use polynet::grow::{GrowOptions, Start, grow};
use polynet::{Architecture, ModelFolder};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, out] = arguments.as_slice() else {
        return Err("expected a model folder, a structure and a folder for the grown model".into());
    };
    let model = ModelFolder::open(Path::new(from))?;
    let to: Architecture = to.parse()?;
    let options = GrowOptions {
        start: Start::SameFunction,
        ..GrowOptions::default()
    };
    let grown = grow(&model, from, &to, None, options)?;
    grown.save(Path::new(out))?;
    let difference = grown.report.difference;
    println!(
        "{from} was {}, {out} is {to}; largest difference of the logits {:.1e}",
        model.config.architecture, difference.logits
    );
    Ok(())
}

//! Trains a small PolyNet for a few steps from code, and says what it has learned.
//!
//! `cargo run --release --example train -- assets/cifar10-small.tar runs/example`

use polynet::train::progress::Silent;
use polynet::train::{Outcome, Recipe, Trainer};
use std::path::Path;
use std::sync::atomic::AtomicBool;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let [Some(data), Some(run)] = [arguments.next(), arguments.next()] else {
        return Err("expected a data set and a folder for the run".into());
    };
    let recipe = Recipe::parse(
        "
        name = 'example'
        [model]
        architecture = 'small-polynet; width = 0.125'
        [data]
        path = '.'
        [optimizer]
        kind = 'adamw'
        [schedule]
        kind = 'one-cycle'
        learning_rate = 0.004
        warm_up = '5 steps'
        [training]
        batch_size = 32
        duration = '40 steps'
        ",
        &[format!("data.path={data}")],
    )?;
    let mut trainer = Trainer::start(recipe, Path::new(&run), &[], &mut Silent)?;
    match trainer.run(&mut Silent, &AtomicBool::new(false))? {
        Outcome::Finished(report) => println!("{report}"),
        Outcome::Interrupted { step } => println!("stopped after step {step}"),
    }
    println!("model  {}", trainer.folder().model().display());
    Ok(())
}

//! Classifies photographs by a model folder.
//!
//! `cargo run --release --example classify -- runs/first/model photo.jpg`

use polynet::Model;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments
        .next()
        .ok_or("expected a model folder and photographs")?;
    let mut model = Model::open(folder)?;
    for path in arguments {
        println!("{path}");
        for class in model.classify_bytes(&std::fs::read(&path)?, 3)? {
            println!("  {:5.1} %  {}", 100.0 * class.probability, class.class);
        }
    }
    Ok(())
}

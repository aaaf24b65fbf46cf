//! Writes structures as algebra and prints what they cost.
//!
//! `cargo run --release --example structure`

use polynet::Architecture;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for text in [
        "ir-3-6-3",
        "ir-3-6-3; B: poly-3 x6",
        "ir-3-6-3; B: mpoly-3 x6",
        "ir-3-6-3; B: (3-way -> mpoly-3 -> poly-3) x2",
    ] {
        let architecture: Architecture = text.parse()?;
        let cost = architecture.cost()?;
        println!(
            "{text:<46} {:6.2} million parameters, {:5.2} GMAC",
            cost.parameters.total() as f64 / 1e6,
            cost.macs as f64 / 1e9
        );
    }
    Ok(())
}

//! One rank against two and four, and all against the cost model.

use super::launch;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;

/// Networks with many weights for their work, and with few; images of a rank.
const NETWORKS: [(&str, u32); 2] = [("small-polynet; width = 0.5", 16), ("ir-3-6-3", 4)];

/// Prints a table of `polynet bench ranks` on one, two and four ranks of one thread each.
pub(super) fn run(program: &Path) -> Result<()> {
    println!(
        "| network | batch norm | ranks | images/s | step | predicted | exchange alone | waited |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let norms = ["local", "synchronised"];
    let rows = NETWORKS
        .iter()
        .flat_map(|network| norms.map(|norm| (*network, norm)));
    for ((network, batch), norm) in rows {
        for ranks in [1, 2, 4] {
            let found = measure(program, (network, batch), norm, ranks)?;
            let number = |key: &str| {
                let value = found[key].as_f64();
                value.with_context(|| format!("`polynet bench ranks` gives no {key}"))
            };
            let ms = |key: &str| Ok::<_, anyhow::Error>(format!("{:.1} ms", 1e3 * number(key)?));
            let exchange = [ms("exchange_s")?, ms("waited_s")?];
            let [exchange, waited] = exchange.map(|t| if ranks == 1 { "-".to_owned() } else { t });
            let predicted = if ranks == 1 {
                "-".to_owned()
            } else {
                ms("predicted_step_s")?
            };
            let speed = number("images_per_s")?;
            println!(
                "| {network}, {batch} images a rank | {norm} | {ranks} | {speed:.1} | {} | {predicted} \
                 | {exchange} | {waited} |",
                ms("step_s")?
            );
        }
    }
    Ok(())
}

/// `polynet bench ranks`, as JSON.
fn measure(
    program: &Path,
    (network, batch): (&str, u32),
    norm: &str,
    ranks: usize,
) -> Result<Value> {
    let mut command = launch::mpirun(ranks);
    command
        .arg(program)
        .args(["bench", "ranks", "--preset", network]);
    command.args([
        "--batch",
        &batch.to_string(),
        "--threads",
        "1",
        "--repeat",
        "7",
        "--json",
    ]);
    if norm == "synchronised" {
        command.arg("--synchronised");
    }
    let output = command.output().context("cannot start mpirun")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "`polynet bench ranks` failed:\n{errors}"
    );
    serde_json::from_slice(&output.stdout).context("`polynet bench ranks` printed no JSON")
}

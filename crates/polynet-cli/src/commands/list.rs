//! `polynet list`

use crate::output;
use anyhow::Result;
use polynet::arch::{Architecture, presets};
use serde::Serialize;
use std::process::ExitCode;

/// List the presets with their size and cost
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    name: String,
    about: String,
    input_size: usize,
    parameters: u64,
    macs: u64,
    spec: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let rows = presets::all()
        .into_iter()
        .map(|preset| {
            let architecture: Architecture = preset.spec.parse()?;
            let cost = architecture.cost()?;
            Ok(Row {
                name: preset.name,
                about: preset.about,
                input_size: architecture.input_size,
                parameters: cost.parameters.total(),
                macs: cost.macs,
                spec: preset.spec,
            })
        })
        .collect::<Result<Vec<Row>>>()?;
    if arguments.json {
        output::json(&rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line(format_args!(
        "{:<22} {:>6} {:>11} {:>8}  what it is",
        "preset", "input", "parameters", "GMAC"
    ))?;
    for row in rows {
        output::line(format_args!(
            "{:<22} {:>6} {:>9.3} M {:>8.3}  {}",
            row.name,
            row.input_size,
            row.parameters as f64 / 1e6,
            row.macs as f64 / 1e9,
            row.about
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

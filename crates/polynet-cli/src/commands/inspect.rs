//! `polynet inspect SPEC-OR-PRESET`

use crate::output;
use anyhow::Result;
use polynet::report::{NetworkReport, drawing, graph_json};
use polynet::write_text;
use std::path::PathBuf;
use std::process::ExitCode;

/// Show a network's structure, size and cost
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A preset, or a network such as "A: 2-way x10; B: (poly-3 -> 2-way) x10; C: poly-3 x5"
    #[arg(value_name = "SPEC-OR-PRESET")]
    spec: String,
    /// Height and width of the input in pixels
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// Images at once, for the memory figures
    #[arg(long, value_name = "IMAGES", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Add every operation with its tensors to the JSON
    #[arg(long, requires = "json")]
    graph: bool,
    /// Draw the network and its modules
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let architecture = super::architecture(&arguments.spec, arguments.size)?;
    let report = NetworkReport::new(&arguments.spec, &architecture, arguments.batch)?;
    if let Some(path) = &arguments.svg {
        write_text(path, &drawing::network(&architecture)?)?;
    }
    if arguments.json {
        let mut value = serde_json::to_value(&report)?;
        if arguments.graph {
            value["graph"] = graph_json(&architecture.graph()?);
        }
        output::json(&value)?;
    } else {
        output::line(report)?;
    }
    Ok(ExitCode::SUCCESS)
}

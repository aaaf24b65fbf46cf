//! `polynet list`

use crate::output;
use anyhow::Result;
use polynet::Architecture;
use polynet::arch::presets;
use polynet::arch::published::{self, Errors};
use serde::Serialize;
use std::process::ExitCode;

/// List the presets with their size and cost
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print the paper's networks as a Markdown document, docs/networks.md
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
}

#[derive(Serialize)]
struct Row {
    name: String,
    about: String,
    input_size: usize,
    parameters: u64,
    macs: u64,
    published: Option<PublishedErrors>,
    spec: String,
}

/// Published errors in percent.
#[derive(Serialize)]
struct PublishedErrors {
    single_crop: Pair,
    multi_crop: Option<Pair>,
    source: &'static str,
}

#[derive(Serialize)]
struct Pair {
    top1: f64,
    top5: f64,
}

impl From<Errors> for Pair {
    fn from(Errors { top1, top5 }: Errors) -> Self {
        Self { top1, top5 }
    }
}

fn published(preset: &str) -> Option<PublishedErrors> {
    let published = published::network_of(preset)?.published?;
    Some(PublishedErrors {
        single_crop: published.single_crop.into(),
        multi_crop: published.multi_crop.map(Pair::from),
        source: published.source,
    })
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.markdown {
        output::line(published::markdown()?.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = presets::all()
        .into_iter()
        .map(|preset| {
            let architecture: Architecture = preset.spec.parse()?;
            let cost = architecture.cost()?;
            Ok(Row {
                published: published(&preset.name),
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
        "{:<22} {:>6} {:>11} {:>8} {:>13} {:>13}  what it is; published errors: top-1 / top-5 in %",
        "preset", "input", "parameters", "GMAC", "single crop", "multi-crop"
    ))?;
    for row in rows {
        let published = published::network_of(&row.name).and_then(|network| network.published);
        let [single, multi] = published.map_or_else(Default::default, |published| {
            [published.single_crop_text(), published.multi_crop_text()]
        });
        output::line(format_args!(
            "{:<22} {:>6} {:>9.3} M {:>8.3} {:>13} {:>13}  {}",
            row.name,
            row.input_size,
            row.parameters as f64 / 1e6,
            row.macs as f64 / 1e9,
            single,
            multi,
            row.about
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

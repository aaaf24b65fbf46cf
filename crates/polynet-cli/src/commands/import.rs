//! `polynet import FILE --preset NAME --out DIR`

use crate::output;
use anyhow::Result;
use polynet::{Imported, ModelConfig, Naming, default_class_names, import_weights};
use std::path::PathBuf;
use std::process::ExitCode;

/// Make a model folder from a public weight file
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A PyTorch file (.pth) of a public implementation, or .safetensors of the same names
    file: PathBuf,
    /// The network that the weights are for: a preset or a specification
    #[arg(long, value_name = "SPEC-OR-PRESET")]
    preset: String,
    /// The model folder to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Class names in the order of the logits, one a line; ImageNet's 1,000 by default
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let architecture = super::architecture(&arguments.preset, None)?;
    let classes = match &arguments.classes {
        Some(path) => super::class_names(path, architecture.num_classes)?,
        None => default_class_names(architecture.num_classes),
    };
    let imported = import_weights(&arguments.file, &architecture)?;
    if imported.background_dropped {
        eprintln!("note: the file's first class, a background, is left out");
    }
    if !imported.wrapper.is_empty() {
        let wrapper = imported.wrapper.trim_end_matches('.');
        eprintln!(
            "note: the weights taken are those in `{wrapper}`{}",
            besides(&imported)
        );
    }
    let preprocessing = imported.preprocessing(architecture.input_size);
    let file = arguments.file.file_name().unwrap_or_default();
    let naming = imported.naming.map(Naming::implementation);
    let origin = match naming {
        Some(naming) => format!(
            "Imported from {}, in the names of {naming}.",
            file.to_string_lossy()
        ),
        None => format!("Imported from {}.", file.to_string_lossy()),
    };
    let config = ModelConfig::new(&architecture, classes, preprocessing, origin);
    imported.save(&arguments.out, &config)?;
    output::line(format_args!(
        "{}: {} tensors imported, in {}",
        arguments.out.display(),
        imported.params.len(),
        match naming {
            Some(naming) => format!("the names of {naming}"),
            None => "our own names".to_owned(),
        }
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// The weights that were not taken.
fn besides(imported: &Imported) -> String {
    if imported.other_wrappers.is_empty() {
        return String::new();
    }
    let others = imported.other_wrappers.iter();
    let others: Vec<String> = others
        .map(|wrapper| match wrapper.trim_end_matches('.') {
            "" => "the bare names".to_owned(),
            wrapper => format!("`{wrapper}`"),
        })
        .collect();
    format!("; the file has others as well: {}", others.join(", "))
}

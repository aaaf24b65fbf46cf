//! `polynet completions SHELL`, `polynet man DIR`: what follows from the arguments of all commands, and what
//! `polynet --version` says.

use anyhow::{Context, Result};
use clap::Command;
use clap_complete::Shell;
use polynet::Isa;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

/// Write what a shell needs to complete commands
#[derive(clap::Args)]
pub(crate) struct CompletionArguments {
    /// The shell that is to complete
    shell: Shell,
}

/// Write manual pages
#[derive(clap::Args)]
pub(crate) struct ManArguments {
    /// The folder for them, one a command
    folder: PathBuf,
}

/// Version, features and instruction sets.
pub(crate) static VERSION: LazyLock<String> = LazyLock::new(|| {
    let features = [
        ("gpu", cfg!(feature = "gpu")),
        ("cuda", cfg!(feature = "cuda")),
        ("metal", cfg!(feature = "metal")),
        ("mpi", cfg!(feature = "mpi")),
        ("serve", cfg!(feature = "serve")),
        ("parquet", cfg!(feature = "parquet")),
    ];
    let features = features.into_iter().filter(|(_, is_there)| *is_there);
    let features: Vec<&str> = features.map(|(name, _)| name).collect();
    let features = match features.join(", ") {
        none if none.is_empty() => "none".to_owned(),
        features => features,
    };
    let sets: Vec<String> = Isa::available().map(|isa| isa.to_string()).collect();
    format!(
        "{}\nfeatures: {features}\ninstruction sets of this processor: {}",
        env!("CARGO_PKG_VERSION"),
        sets.join(", ")
    )
});

pub(crate) fn completions(
    arguments: &CompletionArguments,
    mut command: Command,
) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "polynet", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man(arguments: &ManArguments, command: Command) -> Result<ExitCode> {
    let folder = &arguments.folder;
    let cannot = || format!("cannot write manual pages into {}", folder.display());
    std::fs::create_dir_all(folder).with_context(cannot)?;
    clap_mangen::generate_to(command, folder).with_context(cannot)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, ValueEnum};

    #[test]
    fn every_shell_completes_every_command() {
        for shell in Shell::value_variants() {
            let (mut command, mut script) = (crate::Arguments::command(), Vec::new());
            clap_complete::generate(*shell, &mut command, "polynet", &mut script);
            let script = String::from_utf8(script).unwrap();
            for name in command.get_subcommands().map(Command::get_name) {
                assert!(script.contains(name), "{shell}: {name}");
            }
        }
    }
}

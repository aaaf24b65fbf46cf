//! The polynet command: inspect, train, evaluate and use PolyNets.
//!
//! Results go to standard output, progress and warnings to standard error. Exit status 0 is
//! success, 1 a failure, 2 wrong usage.

mod commands;
mod output;
mod progress;

use clap::{CommandFactory, Parser, Subcommand};
use commands::documents;
use polynet_kernels::CachingAllocator;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: CachingAllocator = CachingAllocator::advising(
    "lower training.batch_size (of `eval` and `bench` --batch), data.threads or the pictures' sizes; \
     training.activations = \"recomputed\" takes less, too. A run goes on from its last checkpoint with --resume",
);

/// Image classifiers whose structure is written as algebra.
#[derive(Parser)]
#[command(name = "polynet", version, long_version = documents::VERSION.as_str(), about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the presets with their size and cost
    List(commands::list::Arguments),
    /// Show a network's structure, size and cost
    Inspect(commands::inspect::Arguments),
    /// Train a network by a recipe
    Train(commands::train::Arguments),
    /// Train a grid of networks and gather what each gives
    Study(commands::study::Arguments),
    Search(commands::search::Arguments),
    /// Measure a model's accuracy on labelled images
    Eval(commands::eval::Arguments),
    /// Classify images
    Predict(commands::predict::Arguments),
    /// Serve models over HTTP
    #[cfg(feature = "serve")]
    Serve(commands::serve::Arguments),
    /// Look at a data set
    Data(commands::data::Arguments),
    /// Make the start of a larger network from a trained model
    Grow(commands::grow::Arguments),
    Quantize(commands::quantize::Arguments),
    /// Make a model folder from a public weight file
    Import(commands::import::Arguments),
    /// Write a model in the format of another program
    Export(commands::export::Arguments),
    /// Measure how fast a network runs here
    Bench(commands::bench::Arguments),
    /// Write what a shell needs to complete commands
    Completions(documents::CompletionArguments),
    /// Write manual pages
    Man(documents::ManArguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        Command::List(arguments) => commands::list::run(arguments),
        Command::Inspect(arguments) => commands::inspect::run(arguments),
        Command::Train(arguments) => commands::train::run(arguments),
        Command::Study(arguments) => commands::study::run(arguments),
        Command::Search(arguments) => commands::search::run(arguments),
        Command::Eval(arguments) => commands::eval::run(arguments),
        Command::Predict(arguments) => commands::predict::run(arguments),
        #[cfg(feature = "serve")]
        Command::Serve(arguments) => commands::serve::run(arguments),
        Command::Data(arguments) => commands::data::run(arguments),
        Command::Grow(arguments) => commands::grow::run(arguments),
        Command::Quantize(arguments) => commands::quantize::run(arguments),
        Command::Import(arguments) => commands::import::run(arguments),
        Command::Export(arguments) => commands::export::run(arguments),
        Command::Bench(arguments) => commands::bench::run(arguments),
        Command::Completions(arguments) => documents::completions(arguments, Arguments::command()),
        Command::Man(arguments) => documents::man(arguments, Arguments::command()),
    };
    match result {
        Ok(code) => code,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", output::explain(&error));
            ExitCode::FAILURE
        }
    }
}

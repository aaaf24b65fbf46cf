//! `polynet serve [NAME=]FOLDER…`

use super::compute::Compute;
use anyhow::Result;
use polynet::ModelOptions;
use polynet_serve::{
    Batching, Control, Limits, LogFormat, ModelSource, Options, Server, Token, start_logs,
};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Serve models over HTTP: the Open Inference Protocol, and photographs classified
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Model folders, or folders of numbered versions; each has the name that is given or its folder's
    #[arg(value_name = "[NAME=]FOLDER", required_unless_present_any = ["model", "repository", "runs"])]
    models: Vec<ModelSource>,
    /// One more model
    #[arg(long, value_name = "NAME=FOLDER")]
    model: Vec<ModelSource>,
    /// A folder of models; clients load them by name (with --control)
    #[arg(long, value_name = "FOLDER", requires = "control")]
    repository: Option<PathBuf>,
    /// A folder of training runs, which the page at /runs shows
    #[arg(long, value_name = "FOLDER")]
    runs: Option<PathBuf>,
    /// Let clients load, replace and unload models
    #[arg(long)]
    control: bool,
    /// Where to listen; other machines reach 0.0.0.0:8000
    #[arg(long, default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// A file with the token that clients must bring; also in the variable POLYNET_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Web pages of this origin may ask, such as https://example.org
    #[arg(long, value_name = "ORIGIN")]
    cors: Vec<String>,
    /// Log lines on standard error: text, json or off
    #[arg(long, default_value = "text")]
    log: LogFormat,
    #[command(flatten)]
    capacity: Capacity,
    #[command(flatten)]
    compute: Compute,
}

/// What is computed together, and what is refused.
#[derive(clap::Args)]
struct Capacity {
    /// The most images that are computed together
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Milliseconds that an image waits for others
    #[arg(long, default_value_t = 0, value_name = "MS")]
    delay: u32,
    /// Images that wait or are computed; more are answered 503
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    queue: u32,
    /// Seconds from a request to its answer; later is answered 504
    #[arg(long, default_value_t = 30, value_name = "S")]
    deadline: u32,
    /// MiB of a request's body
    #[arg(long, default_value_t = 32, value_name = "MIB", value_parser = clap::value_parser!(u16).range(1..))]
    body: u16,
    /// MiB that decoding one picture may take; a megapixel of a JPEG takes about three
    #[arg(long, default_value_t = 512, value_name = "MIB", value_parser = clap::value_parser!(u16).range(1..))]
    picture: u16,
    /// Connections at once; more wait
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Seconds that a client may take to send or take something
    #[arg(long, default_value_t = 30, value_name = "S", value_parser = clap::value_parser!(u32).range(1..))]
    patience: u32,
    /// Seconds that accepted requests may take to end when the server is stopped
    #[arg(long, default_value_t = 30, value_name = "S")]
    grace: u32,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let options = arguments.options()?;
    start_logs(arguments.log);
    let models = [arguments.models.as_slice(), &arguments.model].concat();
    let server = Server::bind(&models, options)?;
    eprintln!("serving on http://{}; Ctrl-C stops", server.address());
    server.run_until_signal()?;
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    fn options(&self) -> Result<Options> {
        let capacity = &self.capacity;
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let limits = Limits {
            queue: capacity.queue as usize,
            deadline: seconds(capacity.deadline),
            body: usize::from(capacity.body) << 20,
            picture: u64::from(capacity.picture) << 20,
            connections: capacity.connections.into(),
            patience: seconds(capacity.patience),
            grace: seconds(capacity.grace),
            ..Limits::default()
        };
        let ModelOptions {
            device, compile, ..
        } = self.compute.options()?;
        Ok(Options {
            address: self.listen,
            repository: self.repository.clone(),
            runs: self.runs.clone(),
            device,
            compile,
            batching: Batching {
                images: capacity.batch.into(),
                delay: Duration::from_millis(capacity.delay.into()),
            },
            limits,
            token: self.token()?,
            origins: self.cors.clone(),
            control: match self.control {
                true => Control::ByClients,
                false => Control::Fixed,
            },
        })
    }

    fn token(&self) -> Result<Option<Token>> {
        if let Some(path) = &self.token_file {
            return Ok(Some(Token::read(path)?));
        }
        match std::env::var("POLYNET_TOKEN") {
            Ok(text) => Ok(Some(Token::new(&text)?)),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

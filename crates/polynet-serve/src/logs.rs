//! Logs to standard error: a line for each request, and what befalls models and connections.

use std::str::FromStr;
use tracing::Level;

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: `name=value`.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
    /// Not at all.
    Off,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "off" => Ok(Self::Off),
            _ => Err(format!("expected text, json or off, got `{text}`")),
        }
    }
}

/// Starts the log of this process; where one was started already, that stays.
pub fn start_logs(format: LogFormat) {
    let lines = tracing_subscriber::fmt()
        .with_max_level(Level::INFO)
        .with_target(false)
        // Where nobody reads standard error any more, telling of that would be a panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    // An error says that there is a log already.
    let _ = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Off => Ok(()),
    };
}

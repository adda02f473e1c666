//! The log on standard error: its form and its filter.

use std::io::IsTerminal;

use broker::ConfigError;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use super::environment;

/// What is logged unless FIRN_LOG says otherwise; the AWS library warns of each place without credentials, the Raft library reports every heartbeat's state at `info`, and every
/// try to reach a node that is away as an error.
const DEFAULT_FILTER: &str = "info,aws_config=error,openraft=error,openraft::replication=off,openraft::raft=off";
const FILTER_VARIABLE: &str = "FIRN_LOG";
const FORMAT_VARIABLE: &str = "FIRN_LOG_FORMAT";

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// The form that the command line asks for, else the environment.
///
/// # Errors
/// [`ConfigError`] when the environment names another one.
pub(super) fn format(option: Option<LogFormat>) -> Result<LogFormat, ConfigError> {
    match (option, environment::value(FORMAT_VARIABLE)) {
        (Some(format), _) => Ok(format),
        (None, None) => Ok(LogFormat::Text),
        (None, Some(name)) => LogFormat::from_str(&name, true).map_err(|_| {
            let reason = format!("{name:?} is not text or json");
            ConfigError::Value { place: FORMAT_VARIABLE.to_owned(), reason }
        }),
    }
}

/// Logs to standard error from now on.
///
/// # Errors
/// [`ConfigError`] when the filter of the environment is not one.
pub(crate) fn start(format: LogFormat) -> Result<(), ConfigError> {
    let text = environment::value(FILTER_VARIABLE);
    let filter = EnvFilter::try_new(text.as_deref().unwrap_or(DEFAULT_FILTER))
        .map_err(|e| ConfigError::Value { place: FILTER_VARIABLE.to_owned(), reason: e.to_string() })?;
    // A failed write is not reported on the same standard error, which would end the thread that logs.
    let logs =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    match format {
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().init(),
    }
    Ok(())
}

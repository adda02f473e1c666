//! The arguments by which every command that talks to a cluster finds it.

use std::time::Duration;

use clap::Args;

use crate::client::{Client, Endpoint};

/// How to reach the cluster.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConnectArgs {
    /// Brokers to begin with, separated by commas.
    #[arg(
        long,
        env = "FIRN_BOOTSTRAP",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9092",
        value_delimiter = ','
    )]
    pub(crate) bootstrap: Vec<Endpoint>,
    /// Seconds after which an operation is given up.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

impl ConnectArgs {
    /// A client that has not connected yet.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.bootstrap.clone(), self.timeout)
    }
}

/// The arguments of a command that asks the cluster for something and prints it.
#[derive(Debug, Args)]
pub(crate) struct ViewArgs {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// A time in seconds, with a fraction or without, for clap.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.001..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "expected seconds from 0.001 to 86400".to_owned())
}

/// `NAME=VALUE`, for clap.
pub(crate) fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

//! The command `firn`: runs a broker, and talks to one.
//!
//! Exit status: 0 done; 1 it failed, the reason is the last line on standard error; 2 the command line, the environment
//! or the configuration file is wrong; 70 a broker has ended itself because one of its tasks ended too early.

#![deny(clippy::print_stderr, reason = "it panics where standard error is closed; output::tell does not")]

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

mod client;
mod connect;
mod output;
mod progress;

mod archive;
mod cluster;
mod consume;
mod group;
mod inspect;
mod json_object;
mod json_record;
mod produce;
mod server;
mod settings;
#[cfg(feature = "sql")]
mod sql;
#[cfg(feature = "sql")]
mod sql_process;
mod topic;

use output::tell;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the process waits at its end for work that blocks.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);
const WRONG_USE: u8 = 2;

/// Kafka's log on local disk, settling into Parquet on object storage.
#[derive(Debug, Parser)]
#[command(name = "firn", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker.
    Server(server::ServerArgs),
    /// Create, list, describe, alter and delete topics.
    Topic(topic::TopicArgs),
    /// List and describe consumer groups.
    Group(group::GroupArgs),
    /// Send lines from standard input to a topic.
    Produce(produce::ProduceArgs),
    /// Print a topic's records.
    Consume(consume::ConsumeArgs),
    /// Show how partitions settle into the archive, and what it holds.
    Archive(archive::ArchiveArgs),
    /// Show the state of the cluster and what is wrong with it, and change it.
    Cluster(cluster::ClusterArgs),
    /// Look into a segment, an index, a Parquet object or a manifest, without a broker.
    Inspect(inspect::InspectArgs),
    /// Query topics, in both tiers.
    #[cfg(feature = "sql")]
    Sql(sql::SqlArgs),
    /// Answer SQL for a broker, which starts this by itself.
    #[cfg(feature = "sql")]
    #[command(hide = true)]
    SqlProcess,
    /// Print all settings of brokers and topics with their defaults and meanings.
    Settings(settings::SettingsArgs),
}

fn main() -> ExitCode {
    // Fails only when a provider is installed already, and then there is one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = Cli::parse();
    #[cfg(feature = "sql")]
    if matches!(cli.command, Command::SqlProcess) {
        // Limits itself before it has a second thread.
        return sql_process::run().map_or_else(|error| complain(&error), |()| ExitCode::SUCCESS);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&anyhow::Error::new(error).context("cannot start the runtime")),
    };
    let result = runtime.block_on(Box::pin(run(cli.command)));
    runtime.shutdown_timeout(EXIT_TIMEOUT);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Server(args) => server::run(args).await,
        Command::Topic(args) => topic::run(args).await,
        Command::Group(args) => group::run(args).await,
        Command::Produce(args) => produce::run(args).await,
        Command::Consume(args) => consume::run(args).await,
        Command::Archive(args) => archive::run(args).await,
        Command::Cluster(args) => cluster::run(args).await,
        Command::Inspect(args) => inspect::run(args).await,
        #[cfg(feature = "sql")]
        Command::Sql(args) => Box::pin(sql::run(args)).await,
        #[cfg(feature = "sql")]
        Command::SqlProcess => Ok(()),
        Command::Settings(args) => settings::run(&args),
    }
}

/// The reader of our output has seen enough: `firn consume t | head`.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_pipe = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        io.or_else(|| cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind))
            == Some(io::ErrorKind::BrokenPipe)
    };
    // Only our own writes: a connection that broke is wrapped in a client's error, which is another type.
    error.chain().next().is_some_and(is_pipe)
}

fn complain(error: &anyhow::Error) -> ExitCode {
    tell(format_args!("firn: {}", reason(error)));
    let is_wrong_url = |cause: &(dyn std::error::Error + 'static)| {
        let opened = cause.downcast_ref::<cold_tier::OpenError>();
        let started = cause.downcast_ref::<broker::StartError>();
        opened.is_some_and(cold_tier::OpenError::is_wrong_use)
            || matches!(started, Some(broker::StartError::Cold(error)) if error.is_wrong_use())
    };
    let is_wrong_use =
        error.chain().any(|cause| cause.is::<broker::ConfigError>() || cause.is::<WrongUse>() || is_wrong_url(cause));
    if is_wrong_use { ExitCode::from(WRONG_USE) } else { ExitCode::FAILURE }
}

/// The error and its causes, without those that the error before names in its own words.
fn reason(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |text, cause| {
        let cause = cause.to_string();
        match text.as_str() {
            "" => cause,
            said if said.contains(&cause) => text,
            said => format!("{said}: {cause}"),
        }
    })
}

/// A command that contradicts itself in a way that clap does not see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct WrongUse(String);

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Every command and option, as it is written in `docs/cli.md`.
    fn spellings(command: &clap::Command, path: &str) -> Vec<String> {
        if command.is_hide_set() {
            return Vec::new();
        }
        let mut all = vec![path.to_owned()];
        let options = command.get_arguments().filter_map(|argument| argument.get_long());
        all.extend(options.filter(|name| !["help", "version"].contains(name)).map(|name| format!("--{name}")));
        for inner in command.get_subcommands() {
            all.extend(spellings(inner, &format!("{path} {}", inner.get_name())));
        }
        all
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_page_about_the_command_line_names_every_command_and_option() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
        let page = std::fs::read_to_string(path).unwrap();
        let missing: Vec<_> = spellings(&Cli::command(), "firn")
            .into_iter()
            .filter(|spelling| !page.contains(spelling.as_str()))
            .collect();
        assert!(missing.is_empty(), "docs/cli.md does not mention {missing:?}");
    }

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow::anyhow!("disk full").context("cannot write: disk full").context("archiving");
        assert_eq!(reason(&error), "archiving: cannot write: disk full");
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let pipe = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&pipe().into()));
        assert!(!is_broken_pipe(&io::Error::from(io::ErrorKind::NotFound).into()));
        assert!(!is_broken_pipe(&anyhow::Error::new(pipe()).context("connection")));
    }
}

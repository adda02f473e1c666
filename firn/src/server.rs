//! `firn server`: a broker in this process, until a signal ends it.
//!
//! The configuration is composed from file, environment and command line, the last the strongest. Logs go to standard
//! error. SIGTERM or SIGINT stops: connections finish what they began, the log is flushed, the status is 0. A second
//! signal ends the process at once; nothing that was acknowledged is lost then either, the next start recovers. A task
//! of the broker that ends too early ends the process, too, with status 70: a supervisor starts it again.

use std::path::PathBuf;

use anyhow::Context;
use broker::config::MemberList;
use broker::{Config, ConfigError, HostPort, Overrides, Server};
use clap::Args;
use model::NodeId;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::settings;

mod environment;
mod extras;
#[cfg(feature = "sql")]
mod lake;
pub(crate) mod logs;
#[cfg(feature = "sql")]
mod sql;

use logs::LogFormat;

/// Status of a process that was told to stop.
const STOPPED: i32 = 0;
/// Status of a process that a second signal ended.
const ENDED_BY_SIGNAL: i32 = 130;
/// Status of a process in whose place another one was registered.
const REPLACED: i32 = 1;
/// Status of a process that ends because a task of the broker has: `EX_SOFTWARE` of sysexits.h.
const LOST_A_TASK: i32 = 70;

/// Arguments of `firn server`.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// A TOML file with the long names of these options and a table [settings] [env: FIRN_CONFIG].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Id of this node [default: 1, FIRN_NODE_ID].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    node_id: Option<NodeId>,
    /// Folder of the log and the metadata [default: firn-data, FIRN_DATA_DIR].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where Kafka clients connect to [default: 127.0.0.1:9092, FIRN_LISTEN].
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<HostPort>,
    /// Address that clients connect to [default: the listening address, FIRN_ADVERTISE].
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<HostPort>,
    /// Where metrics, health and the archive's state are served [default: 127.0.0.1:9644, FIRN_ADMIN].
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<HostPort>,
    /// Where the other nodes of the cluster connect to [default: this node's entry in --peers, else the port after that of
    /// --listen; FIRN_INTERNAL].
    #[arg(long, value_name = "HOST:PORT")]
    internal: Option<HostPort>,
    /// Rack of this node; replicas are spread over racks [default: none, FIRN_RACK].
    #[arg(long, value_name = "NAME")]
    rack: Option<String>,
    /// The first voters of a new cluster by their internal listeners, the same list on each of them [default: none, FIRN_PEERS].
    #[arg(long, value_name = "ID@HOST:PORT,…")]
    peers: Option<MemberList>,
    /// Joins the cluster of which this is the internal listener of any node [default: none, FIRN_JOIN].
    #[arg(long, value_name = "HOST:PORT")]
    join: Option<HostPort>,
    /// Where the archive lies: a path, file://, s3://, gs:// or az:// [default: DATA_DIR/archive, FIRN_OBJECT_STORE].
    #[arg(long, value_name = "URL")]
    object_store: Option<String>,
    /// Take the object store for the cluster's, whatever its identity and its contents are: once, on each node, after the
    /// archive was moved (FIRN_ACCEPT_OBJECT_STORE).
    #[arg(long)]
    accept_object_store: bool,
    /// A broker setting or topic default, see `firn settings` [FIRN_SETTING_SEGMENT_BYTES and so on].
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// Form of the log on standard error [default: text, FIRN_LOG_FORMAT].
    #[arg(long, value_name = "FORMAT", value_enum)]
    log_format: Option<LogFormat>,
    /// Print all settings and exit, as `firn settings` does.
    #[arg(long)]
    help_settings: bool,
}

/// Runs the command.
pub(crate) async fn run(args: ServerArgs) -> anyhow::Result<()> {
    if args.help_settings {
        return settings::run(&settings::SettingsArgs { json: false });
    }
    let log_format = logs::format(args.log_format)?;
    let config = compose(args)?;
    logs::start(log_format)?;
    broker::exit_when_a_task_is_lost(LOST_A_TASK);
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    info!(
        version = env!("CARGO_PKG_VERSION"), node_id = config.node_id, data_dir = %config.data_dir.display(),
        object_store = cold_tier::redacted(&config.object_store_url()), "starting"
    );
    // What a signal interrupts is not dropped: the tasks of half a broker would end, and count as lost.
    let mut starting = Box::pin(Server::start_with(config, extras::extras(log_format)));
    let server = tokio::select! {
        server = &mut starting => server?,
        name = signals.next() => {
            info!(signal = name, "stopping before the start was complete");
            std::process::exit(STOPPED)
        }
    };
    let name = tokio::select! {
        name = signals.next() => name,
        () = server.replaced() => {
            // Not in good order: what it led is another process's by now.
            error!("another process was registered under this node id: this one ends; never run two with one node id");
            std::process::exit(REPLACED)
        }
    };
    info!(signal = name, "stopping");
    let mut stopping = Box::pin(server.stop());
    tokio::select! {
        () = &mut stopping => Ok(()),
        name = signals.next() => {
            warn!(signal = name, "ending at once; the next start recovers the log");
            std::process::exit(ENDED_BY_SIGNAL)
        }
    }
}

fn compose(args: ServerArgs) -> Result<Config, ConfigError> {
    let path = args.config.or_else(|| environment::value("FIRN_CONFIG").map(PathBuf::from));
    let file = path.as_deref().map(Overrides::from_file).transpose()?.unwrap_or_default();
    let environment = environment::overrides(std::env::vars_os())?;
    let mut line = Overrides {
        node_id: args.node_id,
        data_dir: args.data_dir,
        listen: args.listen,
        advertise: args.advertise,
        admin: args.admin,
        internal: args.internal,
        rack: args.rack,
        peers: args.peers,
        join: args.join,
        object_store: args.object_store,
        accept_object_store: args.accept_object_store.then_some(true),
        ..Overrides::default()
    };
    for assignment in &args.settings {
        line.set(assignment)?;
    }
    Config::compose([file, environment, line])
}

/// The two signals that stop us.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
